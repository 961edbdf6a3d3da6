"""The ``imputer`` command: joins the commands, and ``--version``."""

from __future__ import annotations

from typing import Annotated

import typer

from imputer import __version__
from imputer.allocator import keep_freed_memory
from imputer.cli import batch, demo, doctor, evaluate, inspect, models, report, synth, train
from imputer.garbage import collect_seldom
from imputer.processors import share_processors

app = typer.Typer(
    name="imputer",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # lets the paragraphs of a docstring flow
    pretty_exceptions_show_locals=False,  # locals hold patient data
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(synth.app)
app.add_typer(batch.app)
app.add_typer(models.app, name="models")
app.add_typer(inspect.app)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app)
app.add_typer(report.app)
app.add_typer(demo.app)
app.add_typer(doctor.app)


def set_up_process() -> None:
    """Tell the process, which is imputer's own, how to keep its memory and how many processors it has."""
    collect_seldom()
    keep_freed_memory()
    share_processors()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imputer {__version__}")
        raise typer.Exit


@app.callback()
def imputer(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Make a missing MRI contrast from the one you have. The images are synthetic: not for diagnosis.

    To begin: imputer demo, then imputer synth t1.nii.gz --to t2
    """
    set_up_process()
