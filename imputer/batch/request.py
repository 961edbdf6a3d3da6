"""What is asked of a batch, and which of its jobs a part of it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imputer.batch.jobs import Job
from imputer.batch.ledger import Part
from imputer.case import Settings
from imputer.modality import Modality


@dataclass(frozen=True)
class Batch:
    """What shall be made of a folder.

    Parameters
    ----------
    root, out : input and output folder.
    targets : modalities to make of every case that lacks them.
    complete : modalities that every case shall have in the end; what is missing is made.
    from_ : modality to start from; None: the best one at hand.
    case : settings of each case; its `to` and `from_` are not used.
    model, anatomy, offline : as in `imputer.synth.synthesise`.
    layout, participants, brats_names : how the input is read and outputs are named, see `imputer.io.cases`.
    devices : where to run; several: a process on each.
    dask : address of a Dask scheduler, "local" or "local:N"; None: none.
    part : which part of the cases.
    """

    root: Path
    out: Path
    case: Settings
    targets: tuple[Modality, ...] = ()
    complete: tuple[Modality, ...] = ()
    from_: Modality | None = None
    model: str | None = None
    anatomy: str | None = None
    offline: bool = False
    layout: str = "auto"
    participants: tuple[str, ...] = ()
    brats_names: bool = False
    devices: tuple[str, ...] = ("auto",)
    dask: str | None = None
    part: Part = field(default_factory=Part)


def part_of(jobs: Sequence[Job], part: Part) -> list[Job]:
    """The jobs of a part: all of a case together, cases dealt out in turn."""
    cases = {case: place for place, case in enumerate(dict.fromkeys(job.case for job in jobs))}
    return [job for job in jobs if cases[job.case] % part.count == part.number - 1]
