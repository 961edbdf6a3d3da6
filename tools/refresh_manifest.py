"""Write the SHA-256 and the size of each embedded weights file into weights_manifest.toml.

python tools/refresh_manifest.py            rewrite the manifest
python tools/refresh_manifest.py --check    change nothing; exit 1 where the manifest is not true
"""

from __future__ import annotations

import hashlib
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "weights_manifest.toml"


def with_hashes(text: str, root: Path) -> str:
    """The manifest text with each `sha256` and `bytes` line taken from the file of its entry; all else stays."""
    head, *blocks = re.split(r"(?m)^(?=\[\[model\]\])", text)
    return head + "".join(_refreshed(block, root) for block in blocks)


def _refreshed(block: str, root: Path) -> str:
    file = root / tomllib.loads(block)["model"][0]["file"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    block = re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{digest}"', block)
    return re.sub(r"(?m)^bytes = \d+$", f"bytes = {file.stat().st_size}", block)


def main() -> int:
    """Refresh, or with ``--check`` compare."""
    before = MANIFEST.read_text(encoding="utf-8")
    after = with_hashes(before, ROOT)
    if "--check" in sys.argv[1:]:
        return int(after != before)
    MANIFEST.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
