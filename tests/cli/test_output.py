"""Errors become one sentence and an exit code; notes and progress stay on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from imputer import errors
from imputer.cli.output import Reporter, refuse_existing, reports_errors


def run_raising(error: BaseException, *arguments: str) -> Result:
    app = typer.Typer()

    @app.command()
    @reports_errors
    def fail(log_json: bool = False) -> None:
        """Fail."""
        raise error

    return CliRunner().invoke(app, list(arguments))


class OutOfMemoryError(RuntimeError):
    """Of the name that torch's has, on a device."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("Wrong."), 2),
        (errors.InputError("Wrong."), 3),
        (errors.ModelError("Wrong."), 4),
        (errors.DeviceError("Wrong."), 5),
        (errors.OutputError("Wrong."), 6),
    ],
)
def test_each_error_has_its_code_and_one_line(error: errors.ImputerError, code: int) -> None:
    result = run_raising(error)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "imputer: error: Wrong.\n")


def test_the_remedy_is_said() -> None:
    assert (
        run_raising(errors.InputError("It broke.", remedy="Mend it.")).stderr == "imputer: error: It broke. Mend it.\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_lack_of_memory_is_five(error: Exception) -> None:
    result = run_raising(error)
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.startswith("imputer: error: There is not enough memory.")
    assert len(result.stderr.splitlines()) == 1


def test_an_interrupt_is_130() -> None:
    result = run_raising(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "imputer: error: interrupted\n")


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no"), KeyError("k")])
def test_a_fault_of_ours_keeps_its_traceback(error: Exception) -> None:
    result = run_raising(error)
    assert result.exit_code == 1
    assert result.exception is error


def test_an_error_can_be_json() -> None:
    result = run_raising(errors.InputError("It broke."), "--log-json")
    assert json.loads(result.stderr) == {"event": "error", "message": "It broke.", "exit_code": 3}


def test_existing_outputs_are_refused_unless_told(tmp_path: Path) -> None:
    there = tmp_path / "there.nii.gz"
    there.touch()
    refuse_existing([tmp_path / "absent", there], overwrite=True)
    with pytest.raises(errors.OutputError, match=r"there\.nii\.gz exists already"):
        refuse_existing([tmp_path / "absent", there], overwrite=False)


def say_all(report: Reporter) -> None:
    with report.running():
        report.note("note")
        report.note("detail", level=1)
        report.step("slices", 1, 2)
        report.warning("careful")


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (Reporter(), ["note", "imputer: warning: careful"]),
        (Reporter(verbose=1), ["note", "detail", "imputer: warning: careful"]),
        (Reporter(quiet=True), ["imputer: warning: careful"]),
    ],
    ids=["normal", "verbose", "quiet"],
)
def test_a_report_goes_to_stderr(report: Reporter, said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    say_all(report)
    captured = capsys.readouterr()
    assert (captured.out, captured.err.splitlines()) == ("", said)


def test_a_report_as_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say_all(Reporter(log_json=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line) for line in captured.err.splitlines()] == [
        {"event": "note", "message": "note"},
        {"event": "progress", "stage": "slices", "done": 1, "total": 2},
        {"event": "warning", "message": "careful"},
    ]


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for keep_still in (Reporter(progress=False), Reporter(quiet=True)):
        with keep_still.running():
            keep_still.step("slices", 1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich then takes the captured stream for a terminal
    report = Reporter()
    with report.running():
        report.step("slices", 1, 2)
        report.step("slices", 2, 2)
    captured = capsys.readouterr()
    assert "slices" in captured.err
    assert captured.out == ""
