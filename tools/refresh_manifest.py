"""Write hash, size and scores of each embedded model into weights_manifest.toml; all else stays as it is.

Hash and size come from the weights files, the scores from benchmarks/results/embedded_scores.json.

python tools/refresh_manifest.py            rewrite the manifest
python tools/refresh_manifest.py --check    change nothing; exit 1 where the manifest is not true
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "weights_manifest.toml"
SCORES = ROOT / "benchmarks" / "results" / "embedded_scores.json"

DATA = "MS patients of the Laboratory of Imaging Technologies, Ljubljana; case held out of training"
BASELINE = "best intensity mapping"
METRICS = (("psnr", "PSNR (dB)", 2), ("ssim", "SSIM", 3))  # column of the results, name, digits behind the point
# One [[model.score]] table, with the empty line after it.
SCORE = re.compile(r"(?m)^\[\[model\.score\]\]\n(?:\w+ = .*\n)*\n?")
NEXT_TABLE = re.compile(r"(?m)^(?=\[\[model\.measured\]\]|\[model\.licence\])")  # what the scores stand before


def refreshed(text: str, root: Path, rows: list[dict[str, Any]]) -> str:
    """The manifest's text with hash, size and scores of its embedded models made true.

    `root` holds the files that the manifest names; `rows` are those of the results file.
    """
    head, *blocks = re.split(r"(?m)^(?=\[\[model\]\])", text)
    return head + "".join(_block(block, root, rows) for block in blocks)


def _block(block: str, root: Path, rows: list[dict[str, Any]]) -> str:
    model = tomllib.loads(block)["model"][0]
    if model["home"]["kind"] != "embedded":
        return block
    file = root / model["home"]["file"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    block = re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{digest}"', block)
    block = re.sub(r"(?m)^bytes = \d+$", f"bytes = {file.stat().st_size}", block)
    scores = "".join(_scores(model, rows))
    return NEXT_TABLE.sub(lambda _: scores, SCORE.sub("", block), count=1)


def _scores(model: dict[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
    has_many = len(model["sources"]) * len(model["targets"]) > 1
    for row in rows:
        case = f"{row['case']}, {row['pair'].replace('-', ' to ')}" if has_many else row["case"]
        for column, metric, digits in METRICS if row["model"] == model["id"] else ():
            lines = ["[[model.score]]", f'data = "{DATA}"', f'case = "{case}"', f'metric = "{metric}"']
            lines.append(f"value = {row[column]:.{digits}f}")
            if f"mapping_{column}" in row:
                lines.append(f"baseline = {row[f'mapping_{column}']:.{digits}f}")
                lines.append(f'baseline_name = "{BASELINE}"')
            yield "\n".join(lines) + "\n\n"


def main() -> int:
    """Refresh, or with ``--check`` compare."""
    before = MANIFEST.read_text(encoding="utf-8")
    rows = json.loads(SCORES.read_text(encoding="utf-8"))["rows"]
    after = refreshed(before, ROOT, rows)
    if "--check" in sys.argv[1:]:
        return int(after != before)
    MANIFEST.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
