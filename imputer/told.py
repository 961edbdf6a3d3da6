"""What a case's outputs say of how they were made: its sidecar record, and what a DICOM series tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from imputer import __version__
from imputer.methods.base import Method
from imputer.modality import Modality
from imputer.preprocess.likeness import Finding, risk
from imputer.report.provenance import ModelRecord, RunRecord, sidecar, software_versions, source_record
from imputer.sources import Companion
from imputer.volume import Volume

if TYPE_CHECKING:
    from imputer.io.dicom.write import Synthesis


def record_of(
    volume: Volume,
    beside: Sequence[Companion],
    target: Modality,
    method: Method,
    run: RunRecord,
    scope: Sequence[Finding],
    undo: list[dict[str, Any]],
    style: Volume | None = None,
) -> dict[str, Any]:
    """Content of the sidecar; `scope` tells what about the sources, or the reference scan `style`, is outside of it."""
    assert volume.modality is not None
    identity = method.identity
    return sidecar(
        source=_source_record(volume),
        sources=_sources(volume, beside) if method.joint else None,
        style=None if style is None else _source_record(style),
        from_=volume.modality,
        to=target,
        model=ModelRecord(
            identity.id,
            identity.version,
            identity.sha256,
            identity.licence,
            identity.citation,
            identity.origin,
            identity.non_commercial,
        ),
        run=run,
        intensity_scale={
            "unit": "arbitrary; 0 is background, a tissue has about the same value in every volume of this model",
            "white": method.output_scale,
        },
        scope_warnings=[each.text for each in scope],
        risk=risk(scope),
        recipe=method.recipe.to_json(),
        undo=undo,
        outside=next((step["outside"] for step in undo if "outside" in step), None),
        versions=software_versions(),
        notes=notes_of(volume, beside),
    )


def notes_of(volume: Volume, beside: Sequence[Companion] = ()) -> tuple[str, ...]:
    """What was changed on reading; of sources beside the first one with their contrast before it."""
    own = volume.origin.notes if volume.origin else ()
    return *own, *(f"{each.role}: {note}" for each in beside for note in notes_of(each.volume))


def _sources(volume: Volume, beside: Sequence[Companion]) -> list[dict[str, Any]]:
    """What entered together, the first one first: contrast, file, and how far it shows what the first one shows."""
    first = {"modality": str(volume.modality), **(_source_record(volume) or {})}
    others = [
        {
            "modality": str(each.role),
            **(_source_record(each.volume) or {}),
            "covered": round(each.overlap.covered, 4),
            "dice": round(each.overlap.dice, 4),
        }
        for each in beside
    ]
    return [first, *others]


def _source_record(volume: Volume) -> dict[str, Any] | None:
    """Name and hash the input; None for a volume that only existed in memory. Nothing of a header goes in."""
    origin = volume.origin
    if origin is None:
        return None
    if origin.format == "dicom":
        return {**source_record(origin.path, origin.header.sha256), "dicom_files": origin.header.files}
    return source_record(origin.path)


def synthesis_of(sources: Sequence[Modality], target: Modality, method: Method, run: RunRecord) -> Synthesis:
    """Say what a DICOM series has to tell of how it was made, from the first source and those beside it."""
    from imputer.io.dicom.write import Synthesis  # here: who writes NIfTI needs no DICOM library

    identity = method.identity
    return Synthesis(
        source=sources[0],
        target=target,
        model_id=identity.id,
        model_version=identity.version,
        weights_sha256=identity.sha256,
        steps=run.steps,
        seed=run.seed,
        imputer_version=__version__,
        licence=identity.licence,
        beside=tuple(sources[1:]),
    )
