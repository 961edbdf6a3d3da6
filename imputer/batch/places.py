"""Where the sources of a run lie: noted in its folder, so that its page can show them later.

OUT/.imputer/sources.json    by the path of each result relative to OUT: case, first source, its series
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imputer.batch.jobs import Job
from imputer.batch.ledger import FOLDER
from imputer.files import json_object, replacing

_NAME = "sources.json"


@dataclass(frozen=True)
class Place:
    """The source that a result was made from: a file or DICOM folder, and which series of it; None: not told."""

    path: Path
    series: str | None = None


def note_places(out: Path, jobs: Sequence[Job]) -> None:
    """Add the sources of jobs to those that are noted; OutputError where that cannot be written."""
    noted = json_object(out / FOLDER / _NAME)
    for job in jobs:
        if job.output.is_relative_to(out):
            key = job.output.relative_to(out).as_posix()
            noted[key] = {"path": str(job.source.absolute()), "series": job.series}
    text = json.dumps(noted, indent=1, sort_keys=True) + "\n"  # as ASCII: names may be no UTF-8
    with replacing(out / FOLDER / _NAME, overwrite=True) as temporary:
        temporary.write_text(text, encoding="ascii")


def places_of(out: Path) -> dict[str, Place]:
    """The noted sources by the path of the result relative to the folder of the run; empty where none are."""
    places = {}
    for key, told in json_object(out / FOLDER / _NAME).items():
        if isinstance(told, dict) and isinstance(told.get("path"), str):
            series = told.get("series")
            places[key] = Place(Path(told["path"]), series if isinstance(series, str) else None)
    return places
