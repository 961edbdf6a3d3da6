"""One volume out of the planes of a series: what is none is refused, and of several --select says which one.

Planes at one place are told apart by their traits (`imputer.io.dicom.planes.TRAITS`): echoes, magnitude and phase,
points in time, stacks. Planes that differ in a trait, but each lie at a place of their own, are one volume.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations

from imputer.errors import InputError, UsageError
from imputer.io.dicom.frames import Frame
from imputer.io.dicom.geometry import Crowded, Grid, Ragged, arrange
from imputer.io.dicom.planes import TRAITS

LISTED = 8  # choices that a message names
MOST_CLASSES = 1000
TRAITS_AT_ONCE = 3  # that are needed to tell planes at one place apart
SAME_NUMBER = 5e-6  # relative; traits are texts of six digits
MAGNITUDE = "MAGNITUDE"

_ALIASES = {
    "effectiveechotime": "EchoTime",
    "echonumber": "EchoNumbers",
    "frametype": "ImageType",
    "inversiontimes": "InversionTime",
    "frameacquisitionnumber": "AcquisitionNumber",
    "nominalcardiactriggerdelaytime": "TriggerTime",
    **{trait.lower(): trait for trait in TRAITS},
}
# Values of ImageType (PS3.3 C.7.6.1.1.2 and C.8.3.1.1.1, and what vendors write) for parts of complex images.
_COMPONENTS = {
    "P": "PHASE",
    "PHASE": "PHASE",
    "PHASE MAP": "PHASE",
    "R": "REAL",
    "REAL": "REAL",
    "I": "IMAGINARY",
    "IMAGINARY": "IMAGINARY",
}
_SHOWN = re.compile(r"[A-Z0-9_ .+-]{1,16}")  # codes and numbers; anything else may be text about a patient

Condition = tuple[str, str]  # trait and wanted value


class Several(InputError):
    """A series of several volumes.

    Attributes
    ----------
    choices : tuple of str
        For --select, one for each volume.
    """

    def __init__(self, choices: tuple[str, ...]) -> None:
        shown = ", ".join(choices[:LISTED]) + (f" and {len(choices) - LISTED} more" if len(choices) > LISTED else "")
        which = f"several volumes, of which one can be chosen: {shown}" if len(choices) > 1 else "more than one volume"
        super().__init__(f"The series holds {which}.", remedy=f'Choose with --select, as in --select "{choices[0]}".')
        self.choices = choices


def conditions_of(select: Iterable[str]) -> list[Condition]:
    """What expressions such as "EchoTime=5.19", or several with commas between, ask for.

    Raises
    ------
    UsageError
        Where one is something else.
    """
    found = []
    for expression in select:
        for part in expression.split(","):
            keyword, sign, value = (piece.strip() for piece in part.partition("="))
            trait = _ALIASES.get(keyword.lower())
            if trait is None or not sign or not value:
                raise UsageError(
                    "--select wants KEYWORD=VALUE, as in EchoTime=5.19.", remedy=f"Keywords are {', '.join(TRAITS)}."
                )
            found.append((trait, value.upper()))
    return found


def volume_of(frames: Sequence[Frame], conditions: Sequence[Condition] = ()) -> Grid:
    """Grid of the planes that fulfil all conditions.

    Raises
    ------
    InputError
        Where there are none, or they are no volume of anatomy in magnitude; `Several` where they are several.
    """
    kept = [frame for frame in frames if all(_fulfils(frame, trait, value) for trait, value in conditions)]
    if not kept:
        raise _nothing(frames, conditions)
    _refuse_kinds(kept)
    try:
        grid = arrange(kept)
    except (Crowded, Ragged) as error:
        found = choices(kept, TRAITS if isinstance(error, Crowded) else ("StackID",))
        if found:
            raise Several(found) from error
        raise
    if not all(map(_is_anatomy, kept)):
        raise InputError("The series mixes volumes in magnitude with other images (localizers, phase, or the like).")
    return grid


def component(frame: Frame) -> str:
    """Part of the complex image that a plane shows: "MAGNITUDE", "PHASE", "REAL" or "IMAGINARY"."""
    said = frame.traits.get("ComplexImageComponent", "")
    if said in _COMPONENTS.values():
        return said
    for value in _image_type(frame)[2:]:
        if value in _COMPONENTS:
            return _COMPONENTS[value]
    return MAGNITUDE


def choices(frames: Sequence[Frame], traits: Iterable[str] = TRAITS) -> tuple[str, ...]:
    """Expressions for --select, each of which makes one volume of the planes; none where no traits do.

    The fewest traits are taken by which all planes (but localizers, phase images and the like) fall into volumes, else
    those by which some do.
    """
    varying = [trait for trait in traits if len({frame.traits.get(trait, "") for frame in frames}) > 1]
    some: tuple[str, ...] = ()
    for count in range(1, min(TRAITS_AT_ONCE, len(varying)) + 1):
        for keys in combinations(varying, count):
            found, is_all = _split(frames, keys)
            if found and is_all:
                return found
            some = some or found
    return some


def _split(frames: Sequence[Frame], keys: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Choices by the values of some traits, and whether no plane is left out of them that could be in one."""
    classes: dict[tuple[str, ...], list[Frame]] = {}
    for frame in frames:
        classes.setdefault(tuple(frame.traits.get(key, "") for key in keys), []).append(frame)
    if len(classes) > MOST_CLASSES:
        return (), False
    found, is_all = [], True
    for values, members in sorted(classes.items(), key=lambda pair: [_sort_key(value) for value in pair[0]]):
        if not all(map(_is_anatomy, members)):
            is_all = is_all and not any(map(_is_anatomy, members))
            continue
        shown = _expression(keys, values, classes)
        try:
            arrange(members)
        except InputError:
            shown = ""
        is_all = is_all and bool(shown)
        if shown:
            found.append(shown)
    return tuple(found), is_all


def _expression(keys: tuple[str, ...], values: tuple[str, ...], classes: Iterable[tuple[str, ...]]) -> str:
    """Expression for --select that fits these values of the traits; "" where one cannot be shown."""
    parts = []
    for place, (key, value) in enumerate(zip(keys, values, strict=True)):
        shown = value
        if key == "ImageType":
            others = {part for other in classes if other[place] != value for part in other[place].split("\\")}
            own = [part for part in value.split("\\") if part not in others]
            shown = own[0] if own else value.replace("\\", "/")
        if not all(_SHOWN.fullmatch(part) for part in shown.split("/")):
            return ""
        parts.append(f"{key}={shown}")
    return ",".join(parts)


def _sort_key(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _image_type(frame: Frame) -> list[str]:
    return frame.traits.get("ImageType", "").split("\\")


def _fulfils(frame: Frame, trait: str, wanted: str) -> bool:
    value = frame.traits.get(trait, "")
    if trait == "ImageType":
        return wanted in _image_type(frame) or wanted.replace("/", "\\") == value
    try:
        one, other = float(value), float(wanted)
    except ValueError:
        return value == wanted
    return abs(one - other) <= SAME_NUMBER * max(abs(one), abs(other))


def _nothing(frames: Sequence[Frame], conditions: Sequence[Condition]) -> InputError:
    """What there is instead of what was asked for."""
    there = []
    for trait in dict.fromkeys(trait for trait, _ in conditions):
        known = {value for frame in frames for value in frame.traits.get(trait, "").split("\\")}
        shown = sorted((value for value in known if _SHOWN.fullmatch(value)), key=_sort_key)[:LISTED]
        there.append(f"{trait} {', '.join(shown)}" if shown else f"no {trait}")
    return InputError("No image of the series has what --select asks for.", remedy=f"It has {'; '.join(there)}.")


def _is_anatomy(frame: Frame) -> bool:
    """Whether a plane can be one of a volume of anatomy in magnitude, by its ImageType."""
    return component(frame) == MAGNITUDE and not {"MOSAIC", "LOCALIZER"} & set(_image_type(frame))


def _refuse_kinds(frames: Sequence[Frame]) -> None:
    """InputError where no image is of a kind that makes a volume of anatomy, or one is a mosaic."""
    types = {value for frame in frames for value in _image_type(frame)}
    if "MOSAIC" in types:
        raise InputError(
            "The series is a mosaic: each of its images holds many slices as tiles.",
            remedy="Convert it with dcm2niix and give the NIfTI file.",
        )
    if any(map(_is_anatomy, frames)):
        return
    if "LOCALIZER" in types:
        raise InputError("The series is a localizer, and no volume.", remedy="Give an anatomical series.")
    shown = " and ".join(sorted({component(frame) for frame in frames})).lower()
    raise InputError(f"The series holds {shown} images.", remedy="Give the magnitude images.")
