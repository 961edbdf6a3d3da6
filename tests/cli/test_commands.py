"""All commands alike: guarded, explained, complete; the root and the shell completion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.models import CommandInfo

import imputer
from imputer.cli import options
from imputer.cli.app import app

from .conftest import Run


def commands(group: typer.Typer) -> Iterator[CommandInfo]:
    yield from group.registered_commands
    for sub in group.registered_groups:
        assert sub.typer_instance is not None
        yield from commands(sub.typer_instance)


COMMANDS = list(commands(app))


def name_of(command: CommandInfo) -> str:
    return command.name or getattr(command.callback, "__name__", "?")


def test_all_commands_are_there() -> None:
    assert {name_of(command) for command in COMMANDS} == {
        *("synth", "batch", "inspect", "evaluate", "report", "demo", "doctor", "syndiff", "disdiff", "aldm"),
        *("list", "info", "pull", "verify", "import", "export", "push", "path", "rm"),
    }


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_every_command_reports_its_errors_and_says_what_it_does(command: CommandInfo) -> None:
    assert getattr(command.callback, "reports_errors", False) is True
    assert command.callback is not None
    assert (command.callback.__doc__ or "").strip()


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"imputer {imputer.__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("synth", "--nonsense"), ("models",), ("models", "pull")])
def test_a_wrong_command_line_is_two(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_on_stdout(run: Run, flag: str) -> None:
    result = run(flag)
    assert result.exit_code == 0
    assert "synth" in result.stdout
    assert "not for diagnosis" in result.stdout
    assert result.stderr == ""


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imputer", "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"imputer {imputer.__version__}\n", "")


def test_locals_of_a_traceback_are_not_shown() -> None:
    assert app.pretty_exceptions_show_locals is False


def test_completion_knows_modalities_and_models() -> None:
    assert options.complete_modality("T1") == ["t1", "t1ce"]
    assert options.complete_modality("") == ["t1", "t1ce", "t2", "flair", "pd", "ct"]
    assert options.complete_model("syndiff-t1") == ["syndiff-t1-t2", "syndiff-t1-flair"]


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("imputer synth --to fl", "flair"),
        ("imputer synth -m syndiff-t2-f", "syndiff-t2-flair"),
        ("imputer ins", "inspect"),
    ],
)
def test_the_shell_gets_its_completions(run: Run, typed: str, wanted: str) -> None:
    words = typed.split()
    env = {
        "_IMPUTER_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": typed,
    }
    assert wanted in run(env=env).stdout.split()
