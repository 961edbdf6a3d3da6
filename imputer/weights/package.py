"""The entry of a model package: what its own header says of it, for files that no manifest lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imputer.errors import ImputerError, ModelError
from imputer.files import sha256_of
from imputer.modality import Modality, parse_modality
from imputer.safetensors_header import check
from imputer.weights.fields import Fields
from imputer.weights.manifest import (
    FINGERPRINT,
    MOST_FINGERPRINTS,
    ONE_SOURCE,
    SKULL_STRIPPED,
    Entry,
    Home,
    Licence,
    Scope,
)
from imputer.weights.measured import Measured, measured_of

NOT_STATED = "not stated"
_NON_COMMERCIAL = re.compile(r"(?i)(^|[^a-z])nc([^a-z]|$)|non-?\s?commercial")
ANY_MM = (0.01, 100.0)  # where a header does not say on what sizes of voxels the model was trained


def entry_of(path: Path, home: Home) -> Entry:
    """Return the entry of a package file.

    Parameters
    ----------
    path : the package; its header is checked against the file.
    home : where the entry shall say that the file is.

    Raises
    ------
    ModelError
        Where the file is no sound package, its header lacks the method or the pair, or it makes no modality.
    """
    header = check(path)
    _check_makes(header, path.name)
    about = _table(header.get("about"))
    licence = _text(about, "licence")
    return Entry(
        id=_text(about, "id", path.stem),
        method=str(header.get("method")),
        sources=_modalities(header, "source", path.name),
        targets=_modalities(header, "target", path.name),
        title=_text(about, "title"),
        version=_text(about, "version", "1"),
        trained_on=_text(about, "trained_on"),
        citation=_text(about, "citation"),
        scope=_scope(_table(about.get("scope"))),
        home=home,
        licence=Licence(
            code=_text(about, "code_licence"),
            weights=licence,
            data=_text(about, "data_licence"),
            non_commercial=about.get("non_commercial") is True or forbids_commerce(licence),
        ),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        required=_required(header, path.name),
        fingerprints=fingerprints_of(header, path.name),
        measured=measured_in(header, path.name),
    )


def fingerprints_of(header: Mapping[str, Any], file: str) -> tuple[str, ...]:
    """Return the fingerprints of the volumes that a model was trained on; none where its header does not tell them.

    Raises ModelError, which names the file, where they are no fingerprints.
    """
    listed = _table(header.get("about")).get("fingerprints")
    if listed is None:
        return ()
    if not isinstance(listed, list) or len(listed) > MOST_FINGERPRINTS:
        raise ModelError(f"The header of {file} has no list of fingerprints, or too long a one.")
    if not all(isinstance(each, str) and FINGERPRINT.fullmatch(each) for each in listed):
        raise ModelError(f"The header of {file} lists fingerprints that are not 16 hexadecimal digits.")
    return tuple(dict.fromkeys(listed))


def measured_in(header: Mapping[str, Any], file: str) -> tuple[Measured, ...]:
    """Return what the training volumes looked like; nothing where the header does not tell it.

    Raises ModelError, which names the file and the field, where it is no such thing.
    """
    listed = _table(_table(header.get("about")).get("scope")).get("measured")
    fields = Fields({} if listed is None else {"measured": listed}, f"The header of {file}")
    return tuple(map(measured_of, fields.tables("measured", default=[])))


def forbids_commerce(licence: str) -> bool:
    """Whether the name of a licence says so itself, as CC-BY-NC-4.0 does."""
    return _NON_COMMERCIAL.search(licence) is not None


def non_commercial_notice(identifier: str, licence: str) -> str:
    """What is said of a model with such a licence whenever it is fetched or used."""
    return f"Model {identifier} is for non-commercial use only ({licence})."


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(about: Mapping[str, Any], name: str, otherwise: str = NOT_STATED) -> str:
    value = about.get(name)
    return value if isinstance(value, str) and value.strip() else otherwise


def _check_makes(header: Mapping[str, Any], file: str) -> None:
    """Refuse an autoencoder of ALDM that has no class to switch to: it gives back what went in."""
    first_stage = _table(_table(header.get("network")).get("first_stage"))
    if first_stage.get("classes") == 0:
        raise ModelError(
            f"{file} is an autoencoder without MS-SPADE (ALDM's stage 1), which makes no other contrast.",
            remedy="Take a model of stage 2, or one with the latent diffusion.",
        )


def _modalities(header: Mapping[str, Any], name: str, file: str) -> tuple[Modality, ...]:
    """The modalities of a header: a list under the name in the plural, or one under the name itself."""
    listed = header.get(f"{name}s")
    named = listed if isinstance(listed, list) else [header.get(name)]
    try:
        found = tuple(parse_modality(str(each)) for each in named)
    except ImputerError as error:
        raise ModelError(f"The header of {file} names no {name} modality that this version knows.") from error
    if not found or len(set(found)) < len(found):
        raise ModelError(f"The header of {file} names no {name} modality, or one twice.")
    return found


def _required(header: Mapping[str, Any], file: str) -> tuple[Modality, ...] | None:
    """The sources that several which enter together may not lack; None where the header does not say."""
    listed, sources = header.get("required"), header.get("sources")
    if header.get("method") in ONE_SOURCE or listed is None or not isinstance(sources, list) or len(sources) == 1:
        return None
    if not isinstance(listed, list) or not all(each in sources for each in listed):
        raise ModelError(f"The header of {file} requires sources that it does not list.")
    return tuple(parse_modality(str(each)) for each in dict.fromkeys(listed))


def _scope(scope: Mapping[str, Any]) -> Scope:
    said = scope.get("skull_stripped")
    known = "pixel_mm" in scope
    return Scope(
        anatomy=_text(scope, "anatomy", _text(scope, "body_part")),
        skull_stripped=said if said in SKULL_STRIPPED else "either",
        pixel_mm=_span(scope.get("pixel_mm")),
        slice_mm=_span(scope.get("slice_mm")),
        note="" if known else "The voxel sizes that it was trained on are not stated.",
    )


def _span(value: object) -> tuple[float, float]:
    """Two sizes in mm of a foreign header; those of no scanner count as not stated."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(each, int | float) for each in value):
        low, high = value
        if ANY_MM[0] <= low <= high <= ANY_MM[1]:
            return float(low), float(high)
    return ANY_MM
