"""What lies in the folder of a run: its cases from cases.csv, or from the sidecars of the volumes in any folder."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imputer.batch.jobs import DONE, FAILED, OPEN
from imputer.errors import InputError
from imputer.files import NIFTI, SYNTHETIC_ENDING, is_nifti_name, json_object, std_beside, strip_suffixes
from imputer.io.bids import below_pipeline

_LARGEST_SIDECAR = 4 << 20  # bytes; a larger JSON file is something else


@dataclass(frozen=True)
class Result:
    """One volume of a run, made or not.

    Parameters
    ----------
    case, target, status, seconds, message : as in `cases.csv`; `seconds` None: not told.
    output : NIfTI file or folder of a DICOM series, inside the folder of the run; None: there is none to be.
    """

    case: str
    target: str
    status: str
    seconds: float | None
    message: str
    output: Path | None

    @property
    def sidecar(self) -> Path | None:
        """The JSON file beside the volume."""
        if self.output is None:
            return None
        stem = strip_suffixes(self.output) if is_nifti_name(self.output) else self.output.name
        return self.output.with_name(stem + ".json")

    @property
    def deviation(self) -> Path | None:
        """The standard deviation of several samples beside the volume."""
        return None if self.sidecar is None else std_beside(self.sidecar)


def find_results(run: Path) -> list[Result]:
    """The volumes of a folder: those of `cases.csv`, or, without one, all that have a sidecar.

    Raises
    ------
    InputError
        Where it is no folder, cannot be read, or holds neither.
    """
    if not run.is_dir():
        raise InputError(f"{run.name} is no folder.", remedy="Give the folder that 'imputer batch' wrote.")
    found = _of_table(run) or list(_of_sidecars(run))
    if not found:
        raise InputError(
            f"{run.resolve().name} holds no results of imputer: no cases.csv, no volume with its sidecar.",
            remedy="Give the folder that 'imputer batch' wrote.",
        )
    return found


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """What the JSON beside a synthetic volume says; None where it cannot be read or is of something else."""
    try:
        if path.stat().st_size > _LARGEST_SIDECAR:
            return None
    except OSError:
        return None
    record = json_object(path)
    return record if record.get("synthetic") is True else None


def inside(run: Path, relative: str) -> Path | None:
    """A path of `cases.csv`, where it is one below the folder of the run."""
    if not relative:
        return None
    try:
        path = run / relative
        return path if path.resolve().is_relative_to(run.resolve()) else None
    except (OSError, ValueError):
        return None


def _of_table(run: Path) -> list[Result]:
    try:
        with (run / "cases.csv").open(encoding="utf-8", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error):
        return []
    found = []
    for row in rows:
        case, status = row.get("case"), row.get("status")
        if not case or status not in (DONE, FAILED, OPEN):
            continue
        seconds = _seconds(row.get("seconds"))
        output = inside(run, row.get("output") or "")
        found.append(Result(case, row.get("target") or "", status, seconds, row.get("message") or "", output))
    return found


def _of_sidecars(run: Path) -> Iterator[Result]:
    for folder, folders, names in os.walk(run):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.suffix != ".json":
                continue
            record = read_sidecar(path)
            if record is None:
                continue
            stem = path.with_suffix("")
            beside = [stem.with_name(stem.name + suffix) for suffix in NIFTI]
            volume = next((each for each in (*beside, stem) if each.exists()), beside[0])
            case = SYNTHETIC_ENDING.sub("", below_pipeline(stem.relative_to(run)).as_posix())
            seconds = _seconds(record.get("seconds"))
            yield Result(case, str(record.get("to") or ""), DONE, seconds, "", volume)


def _seconds(told: Any) -> float | None:
    with suppress(ValueError, TypeError, OverflowError):
        seconds = float(told)
        return seconds if math.isfinite(seconds) else None
    return None
