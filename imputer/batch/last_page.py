"""The page at the end of a batch: written where all parts ended, and never the reason why a batch fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imputer.batch.jobs import OPEN
from imputer.batch.report import NAME, Progress, make_report
from imputer.batch.results import Result, inside
from imputer.batch.summary import Summary
from imputer.errors import ImputerError


class _Left(Exception):
    """The page is given up because the user asked to stop."""


def report_batch(out: Path, summary: Summary, stop: Callable[[], bool], progress: Progress) -> str:
    """Write the page at the end of a batch, where all of its parts ended; one that is there is replaced.

    `stop` is asked between cases whether to leave it. Returns why there is no page, as a sentence for the user; ""
    where there is one, or where another part will write it.
    """
    if summary.ended_by != "all" or not summary.rows or any(row.status == OPEN for row in summary.rows):
        return ""

    def go_on(done: int, total: int) -> None:
        if stop():
            raise _Left
        progress(done, total)

    results = [
        Result(row.case, row.target, row.status, row.seconds, row.message, inside(out, row.output))
        for row in summary.rows
    ]
    again = "Write it with 'imputer report'."
    try:
        make_report(out, overwrite=True, results=results, progress=go_on)
    except _Left:
        return f"{NAME} was left out. {again}"
    except ImputerError as error:
        return f"{NAME} was not written: {error.message}"
    except Exception as error:  # the results are there, and whole: no page shall make a failure of them
        return f"{NAME} was not written ({type(error).__name__}). {again}"
    return ""
