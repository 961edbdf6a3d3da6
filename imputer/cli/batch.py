"""``imputer batch``: many cases, once begun always resumable."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imputer.cli import options
from imputer.cli.output import Reporter, reports_errors, show_json, show_table
from imputer.errors import UsageError
from imputer.modality import parse_modality

if TYPE_CHECKING:
    from imputer.batch.jobs import Job, Record
    from imputer.batch.request import Batch
    from imputer.batch.summary import Summary

app = typer.Typer()

_COHORT = "Which cases"
_SCALE = "Where it runs"

InDir = Annotated[
    Path,
    typer.Argument(
        metavar="IN_DIR", help="BIDS dataset, subject folders, flat folder of NIfTI, or tree of DICOM studies."
    ),
]
OutDir = Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder for the results; run again to go on.")]
Complete = Annotated[
    str | None,
    typer.Option(
        metavar="MOD,MOD,...",
        rich_help_panel=_COHORT,
        help="Contrasts that every case shall have: makes those that it lacks, from the best one at hand.",
    ),
]
Layout = Annotated[
    str,
    typer.Option(
        metavar="auto|bids|subjects|flat|dicom", rich_help_panel=_COHORT, help="How the input folder is laid out."
    ),
]
Participants = Annotated[
    list[str] | None,
    typer.Option(
        "--participant", metavar="LABEL", rich_help_panel=_COHORT, help="BIDS: only this subject. Repeatable."
    ),
]
BratsNames = Annotated[
    bool, typer.Option("--brats-names", rich_help_panel=_COHORT, help="Name results as in BraTS, like the sources.")
]
Devices = Annotated[
    str | None,
    typer.Option(metavar="LIST", rich_help_panel=_SCALE, help="Several devices at once, e.g. 0,1 or cuda:0,cuda:1."),
]
NumParts = Annotated[
    str, typer.Option(metavar="N|auto", rich_help_panel=_SCALE, help="Split the cases; auto: size of a SLURM array.")
]
PartId = Annotated[
    str,
    typer.Option(metavar="K|auto", rich_help_panel=_SCALE, help="Which part, from 1; auto: the task of a SLURM array."),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", rich_help_panel=_SCALE, help="Dask scheduler (tcp://host:port), or local, or local:WORKERS."
    ),
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.html at the end.")]


@app.command()
@reports_errors
def batch(
    in_dir: InDir,
    out_dir: OutDir,
    to: options.TargetModalities = [],  # noqa: B006 - Typer never changes it
    complete: Complete = None,
    from_: options.SourceModality = None,
    layout: Layout = "auto",
    participants: Participants = None,
    brats_names: BratsNames = False,
    model: options.Model = None,
    style_from: options.StyleFrom = None,
    device: options.Device = "auto",
    devices: Devices = None,
    num_parts: NumParts = "1",
    part_id: PartId = "1",
    dask: Dask = None,
    steps: options.Steps = None,
    fast: options.Fast = False,
    sampler: options.Sampler = None,
    eta: options.Eta = None,
    batch_size: options.BatchSize = "auto",
    precision: options.Precision = "auto",
    seed: options.Seed = 0,
    samples: options.Samples = 1,
    output_type: options.OutputTypes = None,
    select: options.Select = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
    preview: options.Preview = False,
    no_report: NoReport = False,
    force: options.Force = False,
    anatomy: options.Anatomy = None,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    log_json: options.LogJson = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Make missing contrasts of many cases; a case that fails does not stop the others.

    Results keep the tree of the input; cases.csv and run.json say what came of each case, report.html shows it. Run
    the same command again after an interruption: what is done is not done again. Ctrl-C and SIGTERM drop the case at
    hand and end cleanly.

    Example: imputer batch dataset results --to t2
    """
    given = locals()
    wanted = _batch(given)
    if dry_run:
        _show_plan(wanted, as_json=as_json)
        return
    report = Reporter(quiet=quiet, verbose=verbose, log_json=log_json, progress=not no_progress)
    summary = _run(wanted, report, with_page=not no_report)
    if as_json:
        show_json({"exit_code": summary.exit_code, "rows": [row.__dict__ for row in summary.rows]})
    raise typer.Exit(summary.exit_code)


def _batch(given: dict[str, Any]) -> Batch:
    """The batch that the options ask for; UsageError where they make no sense together."""
    from imputer.batch.request import Batch
    from imputer.case import Settings

    complete = tuple(dict.fromkeys(parse_modality(text) for text in (given["complete"] or "").split(",") if text))
    targets = tuple(options.chosen_targets(given["to"])) if given["to"] or not complete else ()
    if targets and complete:
        raise UsageError("--to and --complete exclude each other.", remedy="Give one of them.")
    if given["devices"] is not None and given["dask"] is not None:
        raise UsageError("--devices and --dask exclude each other.", remedy="Give one of them.")
    source = parse_modality(given["from_"]) if given["from_"] is not None else None
    case = Settings(
        to=(targets or complete)[0],
        style_from=options.absolute_style(given["style_from"]),
        steps=options.chosen_steps(given["steps"], fast=given["fast"]),
        sampler=options.checked_sampler(given["sampler"]),
        eta=given["eta"],
        batch_size=options.checked_batch_size(given["batch_size"]),
        precision=options.checked_precision(given["precision"]),
        seed=given["seed"],
        samples=given["samples"],
        output_types=tuple(dict.fromkeys(given["output_type"] or ())),
        select=tuple(given["select"] or ()),
        overwrite=given["overwrite"],
        preview=given["preview"],
        force=given["force"],
    )
    return Batch(
        root=given["in_dir"],
        out=given["out_dir"].absolute(),
        case=case,
        targets=targets,
        complete=complete,
        from_=source,
        model=given["model"],
        anatomy=given["anatomy"],
        offline=given["offline"],
        layout=given["layout"],
        participants=tuple(given["participants"] or ()),
        brats_names=given["brats_names"],
        devices=_devices(given["devices"], given["device"]),
        dask=given["dask"],
        part=_part(given["num_parts"], given["part_id"]),
    )


def _devices(several: str | None, one: str) -> tuple[str, ...]:
    """Devices to run on; bare numbers are CUDA devices."""
    if several is None:
        return (options.checked_device(one),)
    words = [word.strip() for word in several.split(",") if word.strip()]
    return tuple(options.checked_device(f"cuda:{word}" if word.isdecimal() else word) for word in words or [""])


def _part(count: str, number: str) -> Any:
    """Which part of how many, where asked for from the environment of a SLURM array."""
    from imputer.batch.ledger import Part

    slurm = {name: os.environ.get(f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT", "MIN", "STEP")}
    if "auto" in (count, number) and not (slurm["ID"] and slurm["COUNT"]):
        raise UsageError("auto needs the environment of a SLURM array.", remedy="Give numbers.")
    try:
        parts = int(slurm["COUNT"] or 0) if count == "auto" else int(count)
        # Arrays may begin at 0 or at 1 (or elsewhere), and go on in steps: the first task is part 1.
        task = (int(slurm["ID"] or 0) - int(slurm["MIN"] or 0)) // int(slurm["STEP"] or 1)
        part = task + 1 if number == "auto" else int(number)
        if number == "auto" and parts != int(slurm["COUNT"] or 0):
            raise UsageError(
                f"The array has {int(slurm['COUNT'] or 0)} tasks, but there are {parts} parts.",
                remedy="Say --part-id in numbers to run some of the parts again.",
            )
    except ValueError:
        raise UsageError("--num-parts and --part-id take numbers or auto.") from None
    if not 1 <= part <= parts:
        raise UsageError(f"There is no part {part} of {parts}.", remedy="Parts count from 1.")
    return Part(part, parts)


def _show_plan(wanted: Batch, *, as_json: bool) -> None:
    """Print who lacks what and what would be made."""
    from imputer.batch.request import part_of
    from imputer.batch.run import plan_batch

    planned = plan_batch(wanted)
    if as_json:
        show_json(planned.to_json())
        return
    if planned.lacking:
        show_table(planned.table())
    for of, message in (*planned.problems, *planned.notes):
        typer.echo(f"{of}: {message}", err=True)
    mine = len(part_of(planned.jobs, wanted.part))
    of_part = f", {mine} of them in this part" if mine != len(planned.jobs) else ""
    cases = f"{planned.complete + len(planned.lacking)} cases ({planned.layout}), {planned.complete} lack nothing"
    typer.echo(f"{cases}; {len(planned.jobs)} volumes to make{of_part}. Nothing was written.", err=True)


def _run(wanted: Batch, report: Reporter, *, with_page: bool) -> Summary:
    from imputer.batch.last_page import report_batch
    from imputer.batch.run import Watcher, run_batch

    talk = _Talk(report)
    with _stoppable() as stop, report.running():
        summary = run_batch(wanted, Watcher(talk.started, talk.ended, stop))
        no_page = report_batch(wanted.out, summary, stop, talk.paged) if with_page else ""
    if no_page:
        report.warning(no_page)
    for row in summary.rows:
        if row.mine and row.status == "failed":
            report.warning(f"{row.case}: {row.message}")
            if row.command:
                report.note(f"  {row.command}")
    if summary.ended_by == "full":
        report.warning("No space is left, so the run stopped. Free some and run the same command again: it goes on.")
    done, failed = summary.count("done"), summary.count("failed")
    left = summary.count("open")
    rest = f", {left} left (run the same command again to go on)" if left else ""
    report.note(
        f"{done} done, {failed} failed{rest}, in {_clock(summary.seconds)}. See {_near(wanted.out / 'cases.csv')}."
    )
    report.event("summary", done=done, failed=failed, open=left, seconds=round(summary.seconds, 3))
    return summary


class _Talk:
    """Tells of a run: a bar on a terminal, else a line for each case."""

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.count = self.before = self.ended_now = self.slices = 0
        self.since = time.monotonic()

    def started(self, count: int, done: int) -> None:
        self.count, self.before, self.since = count, done, time.monotonic()
        volumes = "1 volume" if count == 1 else f"{count} volumes"
        self.report.note(f"{volumes} to make" + (f", {done} of them done before." if done else "."))
        self.report.step("cases", done, count)

    def paged(self, done: int, count: int) -> None:
        self.report.step("report", done, count)

    def ended(self, job: Job, record: Record) -> None:
        self.ended_now += 1
        self.slices += record.slices
        passed = time.monotonic() - self.since
        at = self.before + self.ended_now
        left = passed / self.ended_now * (self.count - at)
        rate = f"{self.slices / passed:.1f} slices/s" if passed > 0 else ""
        self.report.step("cases", at, self.count, f"{self.slices} slices, {rate}")
        self.report.event("case", **record.to_json(), source=str(job.source), output=str(job.output))
        for warning in record.warnings:
            self.report.note(f"{job.case}: {warning}", level=1)
        if record.status == "done":
            self.report.result(job.output)
        if not self.report.has_bar and not self.report.log_json:
            what = f"{record.seconds:.1f} s" if record.status == "done" else f"failed: {record.message}"
            self.report.note(f"[{at}/{self.count}] {job.case} -> {job.target}: {what} ({rate}, {_clock(left)} left)")


def _near(path: Path) -> str:
    """A path as short as it can be said from the working folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop, which is yielded; a second one interrupts at once."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
