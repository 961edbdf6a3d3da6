"""Write into weights_manifest.toml what tells of the training volumes of each embedded model; all else stays as it is.

For developers, who have those volumes; a model that `imputer train` makes tells it in its own header.

python tools/describe_training.py --data ../shared/data/open_ms            rewrite the manifest
python tools/describe_training.py --data ../shared/data/open_ms --check    change nothing; exit 1 where it is not true
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imputer.modality import Modality, guess_modality
from imputer.train.seen import look_at

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "weights_manifest.toml"

# Beginnings of the paths of the cases that a model was trained on, as docs/cards tells them.
_BOTH = ("mni/patient07/", "native/patient01/study1_", "native/patient01/study2_", "native/patient03/study2_")
CASES = {
    "syndiff-t1-t2": _BOTH,
    "syndiff-t2-t1": _BOTH,
    "syndiff-t1-flair": (*_BOTH, "native/patient20/study2_"),
    "syndiff-t2-flair": (*_BOTH, "native/patient03/study1_"),
    "syndiff-t2-t1-flair": (*_BOTH, "native/patient03/study1_", "native/patient20/study2_"),
    "disdiff-t1-t2": _BOTH,
    "aldm-t1-t1ce-t2-flair": (
        *_BOTH, "native/patient03/study1_", "native/patient09/study2_", "native/patient20/study2_",
    ),
}  # fmt: skip

# One [[model.measured]] table, with the empty line after it.
MEASURED = re.compile(r"(?m)^\[\[model\.measured\]\]\n(?:\w+ = .*\n)*\n?")
NEXT_TABLE = "[model.licence]"  # what they stand before


def volumes_of(identifier: str, modalities: Iterable[str], data: Path) -> list[tuple[Modality, Path]]:
    """The volumes below `data` of those contrasts that a model was trained on, each with its contrast."""
    wanted = {*modalities}
    found = []
    for start in CASES[identifier]:
        paths = sorted(data.glob(f"{start}*.nii.gz"))
        told = [(modality, path) for path in paths if (modality := guess_modality(path)) in wanted]
        if not told:
            raise SystemExit(f"There is no volume {start}* in {data.name}, which {identifier} was trained on.")
        found += [(modality, path) for modality, path in told if modality is not None]
    return found


def described(text: str, data: Path) -> str:
    """The manifest's text with the training volumes of its embedded models made true."""
    head, *blocks = re.split(r"(?m)^(?=\[\[model\]\])", text)
    return head + "".join(_block(block, data) for block in blocks)


def _block(block: str, data: Path) -> str:
    model: dict[str, Any] = tomllib.loads(block)["model"][0]
    if model["home"]["kind"] != "embedded":
        return block
    volumes = volumes_of(model["id"], {*model["sources"], *model["targets"]}, data)
    seen = look_at(volumes)
    lines = "".join(f'  "{each}",\n' for each in seen.fingerprints)
    tables = "".join(_table(each) for each in seen.of(model["sources"]))
    block = MEASURED.sub("", block).replace(NEXT_TABLE, tables + NEXT_TABLE)
    block = re.sub(r"(?ms)^fingerprints = \[.*?^\]\n", "", block)
    return re.sub(r"(?m)^(bytes = \d+)\n", rf"\1\nfingerprints = [\n{lines}]\n", block, count=1)


def _table(measured: Mapping[str, Any]) -> str:
    values = (f"{name} = {json.dumps(value)}" for name, value in measured.items())
    return "\n".join(["[[model.measured]]", *values]) + "\n\n"


def main() -> int:
    """Describe, or with ``--check`` compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder open_ms, with native and mni in it")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = MANIFEST.read_text(encoding="utf-8")
    after = described(before, options.data)
    if options.check:
        return int(after != before)
    MANIFEST.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
