"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "generate_cli_docs.py"
PAGE = ROOT / "docs" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"run python tools/generate_cli_docs.py {done.stderr}"


def test_the_page_has_every_command() -> None:
    headings = {line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("## imputer")}
    names = ("synth", "models list", "models info", "models verify", "models path", "models import", "inspect")
    assert {f"## imputer {name}" for name in (*names, "train syndiff", "train disdiff", "demo", "doctor")} <= headings
