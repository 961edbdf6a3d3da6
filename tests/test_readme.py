"""README says only what exists: its commands parse, its Python names and its files are there."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import imputer
from imputer.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def imputer_commands() -> list[list[str]]:
    """Arguments of every call of imputer in the shell blocks."""
    found = []
    for line in "".join(blocks("sh")).splitlines():
        for part in line.split("&&"):
            words = shlex.split(part)
            if words and Path(words[0]).name == "imputer":
                found.append(words[1:])
    return found


COMMANDS = imputer_commands()


def command_help(arguments: list[str]) -> str:
    """Help of the deepest command that the arguments name; fails where the first word is none."""
    depth = 2 if arguments[0] in ("models", "train") else 1
    answer = CliRunner().invoke(app, [*arguments[:depth], "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert answer.exit_code == 0, f"imputer {' '.join(arguments[:depth])} is no command: {answer.output}"
    return answer.stdout


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 10
    assert {arguments[0] for arguments in COMMANDS} >= {"demo", "synth", "inspect", "models", "doctor", "train"}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_each_command_and_option_exists(arguments: list[str]) -> None:
    text = command_help(arguments)
    for option in (word for word in arguments if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{option} is not in the help"


def test_the_first_two_blocks_install_and_run() -> None:
    first, second = blocks("sh")[:2]
    assert "pip install -c constraints.txt . " in first
    assert first.strip().endswith("imputer demo")
    assert "pip install -c constraints.txt -e '.[train,dev]'" in second
    assert second.strip().endswith("python -m pytest")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (
        (ROOT / ".ci" / "run")
        .read_text(encoding="utf-8")
        .replace('"$venv/bin/', ".venv/bin/")
        .replace('"$venv"', ".venv")
    )
    install, test = (part.strip() for part in blocks("sh")[1].rsplit("&&", 1))
    assert install in script.replace('"', "")
    assert test in script.replace('"', "")


def test_python_names_exist() -> None:
    used = {
        node.attr
        for block in blocks("python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "imputer"
    }
    assert {"synthesise", "load_model", "load_generator"} <= used <= set(imputer.__all__)


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert "docs/demo.png" in links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_no_gap_is_left() -> None:
    assert "TODO" not in TEXT
