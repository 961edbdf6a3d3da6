"""Which of several models fits a case best, and why, in words that a user reads."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from imputer.errors import ModelError
from imputer.modality import Modality
from imputer.weights.manifest import STYLED, Entry, ImportOnly, Scope
from imputer.weights.package import ANY_MM, NOT_STATED

_ROUNDING = 0.01  # share by which a size may pass a limit: headers and manifests round
# Misfit of a model that does not state its sizes: it comes after one that fits, before one that does not.
_UNSTATED = 1e-6
_HEAD = ("brain", "head")  # of images of heads some say this, some that


@dataclass(frozen=True)
class Choice:
    """A model, why it was taken, and in what the case is not like its training data."""

    entry: Entry
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]


def choose(
    candidates: Sequence[Entry],
    source: Modality,
    target: Modality,
    *,
    beside: Collection[Modality] = (),
    spacing_mm: tuple[float, float, float] | None = None,
    anatomy: str | None = None,
) -> Choice:
    """Choose the model that makes `target` from `source`, and those `beside` it, and fits the case best.

    One that lacks no source comes first, and one that is there for the look of a reference scan last. Then the sizes of
    the voxels count most, then the anatomy. Of those that fit equally well one that makes this pair alone comes before
    one that makes many, and then the first is taken.

    Parameters
    ----------
    candidates : models; those that are import-only are never chosen.
    beside : sources that enter together with the first one; a model that does not take them all is not chosen.
    spacing_mm : sizes of a voxel in mm, above 0: two within an axial slice, then from slice to slice; None: unknown.
    anatomy : what the case shows, e.g. "brain"; None: unknown.

    Raises
    ------
    ModelError
        Where no model makes the pair; says which pairs there are, or how to import one where it would have to be.
    """
    given = tuple(dict.fromkeys((source, *beside)))
    fitting = [entry for entry in candidates if makes(entry, source, target, beside)]
    runnable = [entry for entry in fitting if entry.is_runnable]
    if not runnable:
        raise _nothing(candidates, fitting, given, target)
    ranks = [
        (
            len(lacking(entry, given)),
            entry.method in STYLED,
            _spacing_misfit(entry.scope, spacing_mm),
            not _shows(entry, anatomy),
            _makes_many(entry),
        )
        for entry in runnable
    ]
    best = min(ranks)
    entry = runnable[ranks.index(best)]
    reasons, cautions = _sizes(entry.scope, spacing_mm)
    if anatomy is not None and entry.scope.anatomy == NOT_STATED:
        cautions.append("the model does not state which anatomy it was trained on")
    elif not _shows(entry, anatomy):
        cautions.append(f"the model was trained on {entry.scope.anatomy}, not on {anatomy}")
    elif anatomy is not None:
        reasons.append(f"it was trained on {entry.scope.anatomy}")
    if any(rank[:-1] == best[:-1] and rank != best for rank in ranks):
        reasons.append("it makes this pair alone")
    if lacking(entry, given):
        reasons.append(f"it can do without {' and '.join(each.upper() for each in lacking(entry, given))}")
    if len(runnable) > 1:
        equal = ranks.count(best)
        reasons.append(f"first of {equal} that fit equally well" if equal > 1 else f"fits best of {len(runnable)}")
    return Choice(entry, (f"{' + '.join(given).upper()} to {target.upper()}", *reasons), tuple(cautions))


def makes(entry: Entry, source: Modality | None, target: Modality | None, beside: Collection[Modality] = ()) -> bool:
    """Whether a model makes `target` from `source`, and those `beside` it, and nothing else; None stands for any."""
    if entry.any_one_source:
        return {*beside} <= {source} and any(
            given != made and source in (None, given) and target in (None, made)
            for given in entry.sources
            for made in entry.targets
        )
    if source is None:
        return target in (None, *entry.targets)
    given = {source, *beside}
    return {*entry.needed} <= given <= {*entry.sources} and (
        target in entry.targets if target is not None else not {*entry.targets} <= given
    )


def lacking(entry: Entry, given: Collection[Modality]) -> tuple[Modality, ...]:
    """Sources of a model that would enter together with those that are given, but are not there."""
    return () if entry.any_one_source else tuple(each for each in entry.sources if each not in given)


def _makes_many(entry: Entry) -> bool:
    return (len(entry.sources) if entry.any_one_source else 1) * len(entry.targets) > 1


def _nothing(
    candidates: Sequence[Entry], fitting: Sequence[Entry], sources: Sequence[Modality], target: Modality
) -> ModelError:
    runnable = [entry for entry in candidates if entry.is_runnable]
    pairs = dict.fromkeys(
        f"{given} to {made}"
        for entry in runnable
        for given in (entry.sources if entry.any_one_source else (entry.source_text,))
        for made in entry.targets
        if given != made
    )
    source = " + ".join(sources)
    there = f"There are: {', '.join(pairs)}." if pairs else "Get one with 'imputer models pull' or 'imputer train'."
    for entry in fitting:
        if isinstance(entry.home, ImportOnly):
            return ModelError(
                f"There is no model from {source} to {target} at hand, only what others offer as {entry.id}.",
                remedy=f"{there} For that one: {entry.home.instructions} {entry.home.url}",
            )
    return ModelError(f"There is no model from {source} to {target}.", remedy=there)


def _shows(entry: Entry, anatomy: str | None) -> bool:
    if anatomy is None:
        return True
    asked, known = anatomy.casefold(), entry.scope.anatomy.casefold()
    return asked == known or (asked in _HEAD and known in _HEAD)


def _spacing_misfit(scope: Scope, spacing_mm: tuple[float, float, float] | None) -> float:
    """How far the sizes lie outside of the ranges, as the sum of the logarithms of the factors; 0 within."""
    if spacing_mm is None:
        return 0.0
    row, column, between = spacing_mm
    sizes = ((row, scope.pixel_mm), (column, scope.pixel_mm), (between, scope.slice_mm))
    return sum(_UNSTATED if limits == ANY_MM else abs(math.log(_excess(size, limits))) for size, limits in sizes)


def _excess(size: float, limits: tuple[float, float]) -> float:
    """The size in units of the limit that it passes; 1 within the range."""
    low, high = limits
    if size < low * (1 - _ROUNDING):
        return size / low
    return size / high if size > high * (1 + _ROUNDING) else 1.0


def _sizes(scope: Scope, spacing_mm: tuple[float, float, float] | None) -> tuple[list[str], list[str]]:
    """What speaks for a model by the sizes of the voxels, and what against it."""
    reasons: list[str] = []
    cautions: list[str] = []
    if spacing_mm is None:
        return reasons, cautions
    row, column, between = spacing_mm
    shown = _mm(row) if _mm(row) == _mm(column) else f"{_mm(row)} x {_mm(column)}"
    for what, text, sizes, limits in (
        ("pixels", f"pixels of {shown} mm are", (row, column), scope.pixel_mm),
        ("slices", f"slices every {_mm(between)} mm are", (between,), scope.slice_mm),
    ):
        if limits == ANY_MM:
            cautions.append(f"the model does not state which sizes of {what} it was trained on")
            continue
        inside = all(_excess(size, limits) == 1 for size in sizes)
        low, high = (_mm(limit) for limit in limits)
        span = low if low == high else f"{low} to {high}"
        (reasons if inside else cautions).append(f"{text} {'within' if inside else 'outside'} its {span} mm")
    return reasons, cautions


def _mm(size: float) -> str:
    """A length with at most two digits behind the point."""
    return f"{size:.2f}".rstrip("0").rstrip(".")
