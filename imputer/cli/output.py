"""What a command says and where: results on stdout, all else on stderr, an error as one sentence and an exit code."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from imputer.errors import DeviceError, ImputerError, ModelError, OutputError, is_out_of_memory
from imputer.files import make_folder

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn ImputerError, lack of memory, Ctrl-C and SIGTERM in a command into a sentence on stderr and an exit code.

    Any other exception keeps its traceback (exit code 1): it is a fault of ours and should be seen. A command with a
    `log_json` option that is on gets the sentence as a JSON line.
    """

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _terminable():
                return command(*args, **kwargs)
        except KeyboardInterrupt:
            code, message = INTERRUPTED, "interrupted"
        except ImputerError as error:
            code, message = error.exit_code, str(error)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            code = DeviceError.exit_code
            message = "There is not enough memory. Try --batch-size 1, or --device cpu."
        _say_error(message, code, as_json=bool(kwargs.get("log_json")))
        raise typer.Exit(code)

    guarded.__dict__["reports_errors"] = True
    return guarded


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM, by which schedulers end a process, for a Ctrl-C: what is half made is cleared away."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_error(message: str, code: int, *, as_json: bool) -> None:
    if as_json:
        _json_line("error", message=message, exit_code=code)
    else:
        typer.echo(f"imputer: error: {message}", err=True)


def _json_line(event: str, **fields: object) -> None:
    typer.echo(json.dumps({"event": event, **fields}), err=True)


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """OutputError where one of the files exists; asked before any work, so that nothing is left half done."""
    for path in paths:
        if path.exists() and not overwrite:
            raise OutputError(f"{path.name} exists already.", remedy="Use --overwrite to replace it.")


def refuse_damaged(faults: Iterable[tuple[str, str | None]]) -> None:
    """ModelError where one of the models, by name, has something wrong with its file."""
    damaged = [name for name, problem in faults if problem is not None]
    if damaged:
        raise ModelError(f"Not usable: {', '.join(damaged)}.", remedy="Pull, import or install it again.")


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the outputs where it is missing; one that stays empty, because all failed, goes again."""
    new = not folder.exists()
    make_folder(folder)
    try:
        yield
    finally:
        if new and not any(folder.iterdir()):
            folder.rmdir()


def show_json(data: Any) -> None:
    """Print a result as JSON on stdout."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def show_table(rows: list[list[str]]) -> None:
    """Print rows on stdout as aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show_fields(fields: dict[str, object]) -> None:
    """Print a record on stdout, one aligned ``name  value`` a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        typer.echo(f"{name.ljust(width)}  {value}")


class Reporter:
    """Notes, warnings and progress of one command, all on stderr, as text or as one JSON object a line."""

    def __init__(self, *, quiet: bool = False, verbose: int = 0, log_json: bool = False, progress: bool = True) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.log_json = log_json
        self._show_progress = progress and not quiet and not log_json and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    @property
    def has_bar(self) -> bool:
        """Whether a progress bar is on the screen."""
        return self._bar is not None

    def note(self, message: str, *, level: int = 0) -> None:
        """Say what is being done; notes of a higher level need as many ``-v``."""
        if level > self.verbose:
            return
        if self.log_json:
            _json_line("note", message=message)
        elif not self.quiet:
            typer.echo(message, err=True)

    def warning(self, message: str) -> None:
        """Say what the user has to know about the result; not silenced by ``--quiet``."""
        if self.log_json:
            _json_line("warning", message=message)
        else:
            typer.echo(f"imputer: warning: {message}", err=True)

    def result(self, path: Path) -> None:
        """Print the path of a result on stdout; on a terminal with a progress bar above the bar."""
        if self._bar is not None and sys.stdout.isatty():
            self._bar.console.print(str(path), markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(str(path))

    def event(self, name: str, **fields: object) -> None:
        """A record for programs; nothing is said without ``--log-json``."""
        if self.log_json:
            _json_line(name, **fields)

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Progress: `done` of `total` units of a stage are finished; `note` stands behind the bar."""
        self.event("progress", stage=stage, done=done, total=total)
        if self._bar is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, note=note)
        self._bar.update(self._tasks[stage], completed=done, total=total, note=note)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show a progress bar meanwhile, where stderr is a terminal and nobody switched it off."""
        if not self._show_progress:
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        named, noted = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
        columns = (named, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), noted)
        # Without redirection: rich would send what goes to stdout, the paths of results, to stderr.
        console = Console(stderr=True)
        with Progress(
            *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as self._bar:
            yield
        self._bar = None
        self._tasks.clear()
