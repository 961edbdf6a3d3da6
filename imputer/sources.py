"""The sources of one case: which contrast each shows, and several of them on the grid of the first."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, ModelError, UsageError
from imputer.io.dispatch import is_dicom, load
from imputer.methods.base import Method
from imputer.modality import Modality
from imputer.preprocess.box import BACKGROUND
from imputer.preprocess.fingerprint import digest
from imputer.preprocess.regrid import Overlap, overlap, regrid
from imputer.volume import Volume

# 40 pairs of contrasts of one patient and session had 0.95 to 1.0, and at 10 mm of displacement 0.87 to 0.92.
LEAST_AGREEMENT = 0.9  # below it the sources are said not to match
LEAST_COVERED = 0.8  # of the first one's head, the same; the pairs had 0.9 to 1.0
LEAST_OVERLAP = 0.1  # below it they are refused
_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")  # of a BIDS name


@dataclass(frozen=True)
class Given:
    """An input as it was given; `role` None: told by its name or its sequence parameters."""

    source: Path | Volume
    role: Modality | None = None


@dataclass(frozen=True)
class Companion:
    """A source beside the first one.

    Parameters
    ----------
    volume : as it was read, its modality told.
    placed : on the grid of the first source, 0 outside its own field of view.
    overlap : how far it shows what the first one shows.
    cautions : what speaks against using the two together.
    """

    volume: Volume
    placed: Volume
    overlap: Overlap
    cautions: tuple[str, ...] = ()

    @property
    def role(self) -> Modality:
        """Which contrast it is."""
        assert self.volume.modality is not None
        return self.volume.modality


def holds_dicom(source: Path | Volume) -> bool:
    """Whether an input is DICOM, or was read from it."""
    if isinstance(source, Volume):
        return source.origin is not None and source.origin.format == "dicom"
    return is_dicom(source)


def modality_of(
    volume: Volume, said: Modality | None, targets: Sequence[Modality], *, hint: str = "--from t1"
) -> Modality:
    """Tell which contrast a source is, by what was said of it or by itself; `hint` shows how to say it.

    Raises
    ------
    InputError
        Where nothing tells it.
    UsageError
        Where it is one of the targets.
    """
    source = said if said is not None else volume.modality
    if source is None:
        by = "sequence parameters" if holds_dicom(volume) else "name"
        raise InputError(
            f"The modality of {_name(volume)} cannot be told from its {by}.", remedy=f"Say it, e.g. {hint}."
        )
    if source in targets:
        raise UsageError(f"Source and target are both {source}.", remedy="Ask for another modality with --to.")
    return source


def check_roles(roles: Iterable[Modality | None]) -> None:
    """Raise UsageError where two inputs are said to be the same contrast."""
    told = [role for role in roles if role is not None]
    for role in told:
        if told.count(role) > 1:
            raise UsageError(
                f"Two inputs are {role}.", remedy="Give each contrast once; write t1=PATH where names mislead."
            )


def read_companions(
    first: Volume, given: Sequence[Given], targets: Sequence[Modality], *, force: bool
) -> tuple[Companion, ...]:
    """Read the sources beside the first one and bring them onto its grid, by their affines alone.

    Raises
    ------
    ImputerError
        UsageError where two are the same contrast or one file; InputError where one cannot be read, does not
        overlap with the first one or, without `force`, is a DICOM series of another patient.
    """
    companions: list[Companion] = []
    for each in given:
        volume = each.source if isinstance(each.source, Volume) else _loaded(each, targets)
        volume = replace(volume, modality=modality_of(volume, each.role, targets, hint="t1=PATH"))
        check_roles([first.modality, *(companion.role for companion in companions), volume.modality])
        if any(_is_same(volume, known) for known in (first, *(companion.volume for companion in companions))):
            raise UsageError(f"{_name(volume)} is given twice, as two contrasts.", remedy="Give each its own file.")
        companions.append(_companion(first, volume, force=force))
    return tuple(companions)


def _is_same(one: Volume, other: Volume) -> bool:
    """Whether two volumes are one image of one place: a slip of who names the files."""
    if one.origin is None or other.origin is None or one.origin.path.resolve() != other.origin.path.resolve():
        return False
    return one.origin.format != "dicom" and np.array_equal(one.array, other.array)  # a study has several series


def _loaded(given: Given, targets: Sequence[Modality]) -> Volume:
    def fits(modality: Modality | None) -> bool:
        return modality == given.role if given.role is not None else modality is not None and modality not in targets

    assert isinstance(given.source, Path)
    return load(given.source, fits=fits)


def _companion(first: Volume, volume: Volume, *, force: bool) -> Companion:
    cautions = _of_other_patients(first, volume, force=force)
    placed = regrid(volume, first)
    found = overlap(first, volume, placed)
    what = f"{_name(volume)} shows {found.covered:.0%} of the head in {_name(first)}"
    within = f"and there the two agree by {found.dice:.0%} (Dice)"
    if min(found.covered, found.dice) < LEAST_OVERLAP:
        raise InputError(
            f"The sources do not overlap: {what}" + (f", {within}." if found.covered >= LEAST_OVERLAP else "."),
            remedy="Give scans of one session, or register them first.",
        )
    if found.covered < LEAST_COVERED or found.dice < LEAST_AGREEMENT:
        cautions.append(f"The sources do not match: {what}, {within}. They were not registered.")
    return Companion(volume, placed, found, tuple(cautions))


def _of_other_patients(first: Volume, volume: Volume, *, force: bool) -> list[str]:
    """What speaks against two sources being of one patient: headers of DICOM series, subjects in BIDS names."""
    if not (holds_dicom(first) and holds_dicom(volume)):
        named = [_SUBJECT.match(each.origin.path.name) for each in (first, volume) if each.origin is not None]
        subjects = {match.group() for match in named if match is not None}
        return ["The names of the inputs tell different subjects."] if len(subjects) > 1 else []
    headers = [each.origin.header.frames[0].dataset for each in (first, volume) if each.origin is not None]
    patients, places = (
        [str(header.get(tag) or "") for header in headers] for tag in ("PatientID", "FrameOfReferenceUID")
    )
    if all(patients) and len(set(patients)) > 1:
        text = "The inputs are DICOM series of different patients."
        if not force:
            raise InputError(text, remedy="Check the inputs, or add --force.")
        return [text]
    if all(places) and len(set(places)) > 1:
        return ["The inputs have different frames of reference: their positions may not be comparable."]
    return []


def _name(volume: Volume) -> str:
    """How a message calls a source: its contrast and its file."""
    named = [] if volume.modality is None else [str(volume.modality)]
    if volume.origin is not None:
        named.append(f"({volume.origin.path.name})" if named else volume.origin.path.name)
    return " ".join(named) or "the volume"


def check_sources(method: Method, roles: Sequence[Modality], target: Modality) -> None:
    """Raise ModelError unless a model makes a contrast of these sources, the first one and those beside it."""
    name, takes, makes = method.identity.id, method.sources, method.targets
    given = " + ".join(roles)
    if target not in makes or not (method.joint or (len(roles) == 1 and roles[0] in takes)):
        made = f"{(' + '.join(takes) if method.joint else _any_of(takes))} to {_any_of(makes)}"
        remedy = "" if len(roles) == 1 else "Give one input, or name a model that takes them together."
        raise ModelError(f"Model {name} goes from {made}, not from {given} to {target}.", remedy=remedy)
    foreign = [role for role in roles if role not in takes]
    if foreign:
        raise ModelError(
            f"Model {name} takes {' + '.join(takes)}, not {' + '.join(foreign)}.",
            remedy=f"Leave {' and '.join(foreign)} out, or name another model.",
        )
    missing = [role for role in method.required if role not in roles]
    if missing:
        raise ModelError(
            f"Model {name} needs {' and '.join(missing)} beside {given}.",
            remedy=f"Add {' '.join(f'{role}=PATH' for role in missing)}, or name another model.",
        )


def _any_of(modalities: Sequence[Modality]) -> str:
    *others, last = modalities
    return f"{', '.join(others)} or {last}" if others else str(last)


def stack_of(
    method: Method, first: Volume, beside: Sequence[Companion]
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Bring sources into the form that a model takes, with the records that undo it for a result on the first's grid.

    Of a joint model the stack has a channel for each of its sources, background throughout where that is not there.
    """
    if not method.joint:
        return method.recipe.forward(first)
    roles = [first.modality, *(each.role for each in beside)]
    stacks, undos = method.recipe.forward_together([first, *(each.placed for each in beside)])
    known = dict(zip(roles, stacks, strict=True))
    missing = np.full_like(stacks[0], BACKGROUND)
    return np.concatenate([known.get(role, missing) for role in method.sources], axis=1), undos[0]


def case_of(first: Volume, beside: Sequence[Companion]) -> str:
    """Identify a case by its voxels in a common order, so that renamed or converted files give the same result.

    Of several sources each counts with its role, whatever their order.
    """
    if not beside:
        return digest(first)
    digests = sorted(f"{each.modality}:{digest(each)}" for each in (first, *(each.volume for each in beside)))
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
