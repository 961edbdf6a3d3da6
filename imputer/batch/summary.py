"""What came of a batch: counts, `cases.csv`, `run.json`, and how each failure can be looked at alone."""

from __future__ import annotations

import csv
import io
import os
import platform
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imputer import __version__
from imputer.batch.jobs import DONE, FAILED, OPEN, Job, Record
from imputer.batch.plan import Plan
from imputer.batch.request import Batch, part_of
from imputer.files import is_nifti_name, replacing
from imputer.report.provenance import write_json

COLUMNS = ("case", "status", "seconds", "message", "target", "output")


@dataclass(frozen=True)
class Row:
    """One line of `cases.csv`: a job, or a case of the input that no job could be made of."""

    case: str
    status: str
    seconds: float
    message: str
    target: str = ""
    output: str = ""
    command: str = ""
    mine: bool = True


@dataclass(frozen=True)
class Summary:
    """What came of every job, of all parts.

    Parameters
    ----------
    rows : in the order of the plan.
    ended_by : "all", "stopped" or "full" (no space left).
    started, seconds : of this process, Unix time and wall time.
    slices, waited : of all that is done: slices made, and seconds that devices stood idle.
    """

    rows: tuple[Row, ...]
    ended_by: str
    started: float
    seconds: float
    slices: int
    waited: float

    @classmethod
    def of(
        cls, batch: Batch, planned: Plan, records: Mapping[str, Record], *, started: float, ended_by: str
    ) -> Summary:
        """Join the plan with what the ledgers of all parts know."""
        mine = {job.id for job in part_of(planned.jobs, batch.part)}
        rows = [_row(job, records.get(job.id), batch, job.id in mine) for job in planned.jobs]
        rows += [Row(name, FAILED, 0.0, message) for name, message in planned.problems]
        known = [records[job.id] for job in planned.jobs if job.id in records]
        return cls(
            tuple(rows),
            ended_by,
            started,
            time.time() - started,
            slices=sum(record.slices for record in known),
            waited=sum(record.waited for record in known),
        )

    def count(self, status: str) -> int:
        """Number of rows of this part with a status."""
        return sum(row.mine and row.status == status for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 all done, 6 the disk is full, 8 some failed, 9 all failed, 130 stopped."""
        if self.ended_by == "stopped":
            return 130
        if self.ended_by == "full":
            return 6
        failed = self.count(FAILED)
        return 0 if failed == 0 else 8 if self.count(DONE) else 9


def write_summary(batch: Batch, summary: Summary) -> None:
    """Write `cases.csv` and `run.json` into the output folder; OutputError where that fails."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in summary.rows:
        table.writerow([row.case, row.status, f"{row.seconds:.3f}", row.message, row.target, row.output])
    with replacing(batch.out / "cases.csv", overwrite=True) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    write_json(batch.out / "run.json", _record(batch, summary), overwrite=True)


def _record(batch: Batch, summary: Summary) -> dict[str, Any]:
    rows = summary.rows
    return {
        "imputer": __version__,
        "notice": "Synthetic images, not for diagnosis.",
        "to": [str(target) for target in batch.targets],
        "complete": [str(modality) for modality in batch.complete],
        "part": {"number": batch.part.number, "count": batch.part.count},
        "ended_by": summary.ended_by,
        "exit_code": summary.exit_code,
        "cases": {status: sum(row.status == status for row in rows) for status in (DONE, FAILED, OPEN)},
        "slices": summary.slices,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(summary.started)),
        "seconds": round(summary.seconds, 3),
        "device_waited_seconds": round(summary.waited, 3),
        "machine": {"system": platform.system(), "processors": os.cpu_count(), "python": platform.python_version()},
        "failures": [
            {"case": row.case, "target": row.target, "message": row.message, "command": row.command}
            for row in rows
            if row.status == FAILED
        ],
    }


def _row(job: Job, record: Record | None, batch: Batch, mine: bool) -> Row:
    output = _relative(job.output, batch.out)
    if record is None:
        return Row(job.case, OPEN, 0.0, "", str(job.target), output, "", mine)
    command = command_of(job, batch) if record.status == FAILED else ""
    return Row(job.case, record.status, record.seconds, record.message, str(job.target), output, command, mine)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def command_of(job: Job, batch: Batch) -> str:
    """The command that makes one case alone, for a POSIX shell."""
    output = job.output if is_nifti_name(job.output) else job.output.parent  # of DICOM: where its folder lies
    sources = [f"{role}={path}" for role, path in ((job.role, job.source), *job.beside)]
    inputs = sources if job.beside else [str(job.source)]
    words = ["imputer", "synth", *inputs, "--to", str(job.target), "--output", str(output)]
    for name, value in (
        ("--from", None if job.beside else job.role),
        ("--series", job.series),
        ("--model", batch.model),
        ("--style-from", batch.case.style_from),
        ("--steps", batch.case.steps),
        ("--sampler", batch.case.sampler),
        ("--eta", batch.case.eta),
        ("--seed", batch.case.seed or None),
        ("--anatomy", batch.anatomy),
    ):
        if value is not None:
            words += [name, str(value)]
    for kind in batch.case.output_types:
        words += ["--output-type", kind]
    return shlex.join(words)
