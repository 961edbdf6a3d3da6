"""``imputer report``: one page to look through the results of a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imputer.cli import options
from imputer.cli.output import Reporter, refuse_existing, reports_errors

app = typer.Typer()


@app.command()
@reports_errors
def report(
    run_dir: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="Folder that batch wrote, or any with synthetic volumes and sidecars."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="HTML file; without: report.html in the folder."),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Look for the sources here too: the same tree, or one folder."),
    ] = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Write one HTML page of a run: thumbnails, flags, a table that sorts, slices of source and result, histograms.

    The page holds all that it shows: it opens from disk, without a network. Of the patients it holds the names of the
    cases and the reduced pictures, and no file name, tag or path.

    Example: imputer report results
    """
    from imputer.batch.report import NAME, make_report

    refuse_existing([output or run_dir / NAME], overwrite=overwrite)
    talk = Reporter(quiet=quiet, progress=not no_progress)
    with talk.running():
        made = make_report(
            run_dir,
            output,
            sources=sources,
            overwrite=overwrite,
            progress=lambda done, total: talk.step("cases", done, total),
        )
    talk.result(made.path)
    volumes = "1 volume" if made.cases == 1 else f"{made.cases} volumes"
    lacking = f", {made.without_source} of them without their source" if made.without_source else ""
    talk.note(f"{volumes}{lacking}; {made.size / 1e6:.1f} MB. Open it in a browser.")
