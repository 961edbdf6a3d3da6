"""What about an input is outside of what a model was made for: told in the sidecar, refused where it is hopeless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from imputer.errors import InputError
from imputer.methods.base import Method
from imputer.modality import Modality
from imputer.preprocess.isotropic import Isotropic
from imputer.preprocess.likeness import Finding, unlike
from imputer.preprocess.orient import Orient
from imputer.preprocess.survey import survey
from imputer.volume import Volume

HEAD_MM = (100.0, 500.0)  # in-plane extent that can be a head; beyond it the affine or the body part is another
HEAD_PARTS = ("HEAD", "BRAIN", "SKULL", "HEADNECK", "FACE", "EYE", "ORBIT", "PITUITARY", "IAC")  # terms of DICOM
ROUNDING = 0.01  # share by which a size may pass a limit: headers round
# How much each weighs in the score of risk, from 0 to 1; those of what `imputer.preprocess.likeness` finds are there.
HOPELESS, ODD_SIZE, MADE_UP = 0.9, 0.2, 0.5
LEAST_VOXELS = 16  # of a model in 3-D, along each axis: one voxel where its latents are smallest
COARSEST = 2.0  # voxels of a model in 3-D that a slice may be thick where the model does not state its limits


def scope_findings(
    volume: Volume, method: Method, others: Sequence[Volume] = (), *, force: bool, sizes_are_told: bool
) -> list[Finding]:
    """Tell what about the input, and the `others` that enter together with it, is outside the model's scope.

    `sizes_are_told` means that the choice of the model has compared the sizes of the voxels with those that it states.

    Raises
    ------
    InputError
        Where no result can be hoped for and `force` is off.
    """
    is_of_heads = method.identity.scope.get("body_part") == "head"
    hopeless = [*(_no_head(volume) if is_of_heads else []), *_too_thin(volume, method)]
    if is_of_heads:
        hopeless += [f"{other.modality}: {text}" for other in others for text in _no_head(other)]
    if hopeless and not force:
        raise InputError(" ".join(hopeless), remedy="Check the input, or add --force.")
    sizes = _sizes(volume, method, are_told=sizes_are_told)
    unknown = [each for one in (volume, *others) for each in _unlike(one, method, named=one is not volume)]
    return [*(Finding(text, HOPELESS) for text in hopeless), *(Finding(text, ODD_SIZE) for text in sizes), *unknown]


def cautions(texts: Iterable[str]) -> list[Finding]:
    """What was said of a case before its model was at hand, e.g. by the choice of it."""
    return [Finding(text, ODD_SIZE) for text in texts]


def _unlike(volume: Volume, method: Method, *, named: bool) -> list[Finding]:
    """Tell in what a volume looks otherwise than those that the model was trained on; `named` says which one it is."""
    scope = method.identity.scope
    measured, skull = scope.get("measured", ()), str(scope.get("skull_stripped", "either"))
    if volume.modality is None or not (measured or skull != "either"):
        return []
    surveyed = survey(volume)
    found = unlike(surveyed, volume.modality, measured, skull) if surveyed is not None else []
    return [replace(each, text=f"{volume.modality}: {each.text}") for each in found] if named else found


def target_findings(target: Modality) -> list[Finding]:
    """Tell what a target promises that no model can keep, whatever it was trained on."""
    if target is Modality.T1CE:
        text = "Where contrast agent goes cannot be known from images without it: enhancement in the T1CE is made up."
        return [Finding(text, MADE_UP)]
    return []


def _no_head(volume: Volume) -> list[str]:
    warnings = []
    extents = sorted(size * step for size, step in zip(volume.shape, volume.spacing, strict=True))
    low, high = HEAD_MM
    if not (low <= extents[1] and extents[2] <= high):
        said = " x ".join(f"{extent:.0f}" for extent in extents)
        warnings.append(f"The volume measures {said} mm, which no head does; the model was trained on heads.")
    is_dicom = volume.origin is not None and volume.origin.format == "dicom"
    body_part = volume.origin.header.body_part if volume.origin is not None and is_dicom else ""
    if body_part and body_part not in HEAD_PARTS:
        warnings.append(f"The series shows the body part {body_part}; the model was trained on heads.")
    return warnings


def _too_thin(volume: Volume, method: Method) -> list[str]:
    """Tell where a model of whole volumes gets next to none: what it does not see it takes for background."""
    thin = min(size * step for size, step in zip(volume.shape, volume.spacing, strict=True))
    return [
        f"The volume is only {_mm(thin)} mm thick; the model works on whole volumes of at least {least:g} mm."
        for step in method.recipe.steps
        if isinstance(step, Isotropic) and thin < (least := LEAST_VOXELS * step.mm)
    ]


def _sizes(volume: Volume, method: Method, *, are_told: bool) -> list[str]:
    """Tell where pixels, or the distance of slices, are others than the model was trained on."""
    row, column, between = Orient().spacing(volume.affine)
    warnings = []
    for name, text, sizes in (
        ("pixel_mm", f"pixels of {_mm(row)} x {_mm(column)} mm", (row, column)),
        ("slice_mm", f"slices every {_mm(between)} mm", (between,)),
    ):
        limits = _span(method.identity.scope.get(name))
        if limits is not None:
            low, high = limits
            if not are_told and not all(low * (1 - ROUNDING) <= size <= high * (1 + ROUNDING) for size in sizes):
                warnings.append(f"{text} are outside the {_mm(low)} to {_mm(high)} mm that the model was trained on")
            continue
        for step in method.recipe.steps:
            if isinstance(step, Isotropic) and max(sizes) > COARSEST * step.mm:
                warnings.append(f"{text} are coarse for a model that works in voxels of {_mm(step.mm)} mm")
    return warnings


def _span(stated: Any) -> tuple[float, float] | None:
    """Two sizes in mm of a model's header, which may be a foreign one; None where it states none."""
    if isinstance(stated, Sequence) and len(stated) == 2 and all(isinstance(each, int | float) for each in stated):
        low, high = stated
        return (float(low), float(high)) if 0 < low <= high else None
    return None


def _mm(size: float) -> str:
    """A length with at most two digits behind the point."""
    return f"{size:.2f}".rstrip("0").rstrip(".")
