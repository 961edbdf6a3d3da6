"""The source of a result, found again: where the batch noted it, beside the result, or in a folder that is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imputer.batch.places import Place
from imputer.errors import ImputerError
from imputer.files import sha256_of
from imputer.io.bids import below_pipeline
from imputer.io.dispatch import load
from imputer.volume import Volume


class SourceNotShown(Exception):
    """Why the page shows a synthetic volume alone, as a sentence."""


def find_source(
    run: Path, output: Path, record: Mapping[str, Any] | None, place: Place | None, folder: Path | None
) -> Volume:
    """Read the source that a result was made from; only the very file whose SHA-256 its sidecar has.

    Parameters
    ----------
    run : folder of the results.
    output : the result.
    record : its sidecar.
    place : where the batch noted the source.
    folder : where to look besides, by the tree and the name of the source.

    Raises
    ------
    SourceNotShown
        Where it is gone, or another file by now, or cannot be read.
    """
    told = record.get("source") if record is not None else None
    if not isinstance(told, Mapping):
        raise SourceNotShown("The sidecar names no source; the synthetic volume is shown alone.")
    name, sha256 = told.get("file"), told.get("sha256")
    places = [place] if place is not None else []
    if isinstance(name, str) and name and Path(name).name == name:
        places += [Place(each / name) for each in _folders(run, output, folder)]
    seen = False
    for each in places:
        if not each.path.exists():
            continue
        seen = True
        if each.path.is_file() and "dicom_files" not in told and not _has_hash(each.path, sha256):
            continue
        volume = _loaded(each, record or {})
        header = volume.origin.header if volume.origin is not None and volume.origin.format == "dicom" else None
        if header is None or header.sha256 == sha256:
            return volume
    if seen:
        raise SourceNotShown("The source is another file than the one that this was made from; it is not shown.")
    raise SourceNotShown("The source was not found; the synthetic volume is shown alone.")


def _folders(run: Path, output: Path, folder: Path | None) -> Iterator[Path]:
    yield output.parent
    if folder is None:
        return
    if output.is_relative_to(run):
        yield folder / below_pipeline(output.parent.relative_to(run))
    yield folder


def _has_hash(path: Path, sha256: Any) -> bool:
    try:
        return sha256_of(path) == str(sha256)
    except OSError:
        return False


def _loaded(place: Place, record: Mapping[str, Any]) -> Volume:
    try:
        return load(place.path, series=place.series, fits=lambda modality: str(modality) == record.get("from"))
    except (ImputerError, OSError, ValueError, MemoryError) as error:
        raise SourceNotShown("The source cannot be read any more; the synthetic volume is shown alone.") from error
