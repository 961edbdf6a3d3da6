"""What a series is in short, and which series of an input is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.modality import Modality

LISTED = 6  # series that a message names
REASONS = 3  # series of which a message says why they cannot be used

Fits = Callable[[Modality | None], bool]


@dataclass(frozen=True, eq=False)
class SeriesSummary:
    """A series of an input, as far as its headers tell.

    Attributes
    ----------
    uid : str
        SeriesInstanceUID; shown by `inspect` only.
    number : int or None
        SeriesNumber.
    description : str
        SeriesDescription, printable characters only. Free text: for lists that the user asks for, never for messages.
    modality : Modality or None
        Contrast that its sequence parameters tell.
    sop_class : str
        What its instances are, by the name of the standard.
    frames : int
        Number of image planes.
    shape : tuple of int or None
        Columns, rows, slices of the volume; None where it is none.
    spacing : tuple of float or None
        Of the voxels, mm.
    affine : NDArray or None
        (4, 4) float64, voxel index to RAS mm.
    axis_codes : tuple of str or None
        Direction that the axes grow to: three of L, R, P, A, I, S.
    problem : str
        Why it cannot be used, and what to do; "" where it can.
    groups : tuple of str
        Choices for --select, where the series holds several volumes.
    synthetic : bool
        Whether it says of itself that it was not acquired.
    body_part : str
        BodyPartExamined, where that is a term of the standard; upper case.
    timing : Mapping
        EchoTime, RepetitionTime, InversionTime (ms), FlipAngle (degrees), MagneticFieldStrength (T), as far as known.
    is_damage : bool
        No series, but files that could not be read and may belong to any.
    """

    uid: str = field(repr=False)
    number: int | None
    description: str = field(repr=False)
    modality: Modality | None
    sop_class: str
    frames: int
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    affine: NDArray[np.float64] | None = None
    axis_codes: tuple[str, str, str] | None = None
    problem: str = ""
    groups: tuple[str, ...] = ()
    synthetic: bool = False
    body_part: str = ""
    timing: Mapping[str, float] = field(default_factory=dict)
    is_damage: bool = False


def named(summaries: Sequence[SeriesSummary], series: str) -> SeriesSummary:
    """The series that a user calls by its UID, its number, or its description (in any case, or a part of it).

    Of several the only one that can be used.

    Raises
    ------
    InputError
        Where none is called so, or several are.
    """
    wanted = series.strip()
    folded = wanted.casefold()
    rules: tuple[Callable[[SeriesSummary], bool], ...] = (
        lambda one: one.uid == wanted,
        lambda one: wanted.isdecimal() and one.number == int(wanted),
        lambda one: one.description.casefold() == folded,
        lambda one: folded in one.description.casefold(),
    )
    known = [one for one in summaries if not one.is_damage]
    for rule in rules:
        found = [one for one in known if wanted and rule(one)]
        usable = [one for one in found if not one.problem]
        if len(found) == 1 or len(usable) == 1:
            return (usable or found)[0]
        if found:
            raise InputError(
                f"{len(found)} series are called like that: {_listed(found)}.",
                remedy="Give the UID of one, which imputer inspect shows.",
            )
    raise InputError(f"No series is called like that; there {_are(len(known))}: {_listed(known)}.", remedy=_INSPECT)


def choose(
    summaries: Sequence[SeriesSummary], *, series: str | None = None, fits: Fits | None = None, name: str = "The input"
) -> SeriesSummary:
    """The series to read.

    Parameters
    ----------
    summaries : sequence of SeriesSummary
        All of the input.
    series : str or None
        What the user calls it, see `named`. None: the only one that can be used and fits, or the only one that can be
        used at all. Synthetic series count only where there is nothing else.
    fits : callable
        Whether a series of a modality (None: unknown) is what is wanted; None: each is.
    name : str
        Of the input, for messages.

    Raises
    ------
    InputError
        Where there is no such series, or several, or it cannot be used.
    """
    if series is not None:
        chosen = named(summaries, series)
        if chosen.problem:
            raise InputError(chosen.problem)
        return chosen
    damage = [one for one in summaries if one.is_damage]
    if damage:
        raise InputError(damage[0].problem)
    usable = [one for one in summaries if not one.problem]
    usable = [one for one in usable if not one.synthetic] or usable
    fitting = [one for one in usable if fits is None or fits(one.modality)]
    if len(fitting) == 1:
        return fitting[0]
    if len(usable) == 1:
        return usable[0]
    if not usable:
        raise _none_usable(summaries, name)
    what = f"{len(fitting)} series that fit" if fitting else f"{len(usable)} series, none of which is known to fit"
    raise InputError(f"{name} holds {what}: {_listed(fitting or usable)}.", remedy=_INSPECT)


_INSPECT = "Choose with --series; imputer inspect lists them."


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


def _listed(summaries: Sequence[SeriesSummary]) -> str:
    shown = [
        f"{_number(one)} ({one.modality or 'unknown contrast'}, {one.frames} {'image' if one.problem else 'slice'}s)"
        for one in summaries[:LISTED]
    ]
    return ", ".join(shown) + (f" and {len(summaries) - LISTED} more" if len(summaries) > LISTED else "")


def _number(one: SeriesSummary) -> str:
    return "without number" if one.number is None else str(one.number)


def _none_usable(summaries: Sequence[SeriesSummary], name: str) -> InputError:
    if len(summaries) == 1:
        return InputError(summaries[0].problem)
    reasons = " ".join(f"Series {_number(one)}: {one.problem}" for one in summaries[:REASONS])
    more = f" And {len(summaries) - REASONS} more." if len(summaries) > REASONS else ""
    return InputError(f"{name} holds {len(summaries)} series, none of which can be used. {reasons}{more}")
