"""How far a volume is like those that a model was trained on, by a survey of each; and a score of all that is unlike.

What a model was trained on is a table for each kind of volume, JSON-safe: ``modality``, ``stripped`` (without skull),
``volumes`` (how many), and least and greatest values of what `imputer.preprocess.survey` measures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imputer.modality import Modality
from imputer.preprocess.survey import LEVELS, Survey, is_stripped

SPANS = ("coverage_mm", "area_cm2", "balance")
# How far beyond the training volumes a value is still taken for alike: they are few. See docs/uncertainty.md.
GREY_FACTOR, GREY_OFFSET = 1.25, 0.05
COVERAGE_FACTOR = 0.75
AREA_FACTOR = 1.35
BALANCE_OFFSET = 0.5
CUT_CM2 = 25.0  # noses and necks touch the border with less


@dataclass(frozen=True)
class Finding:
    """What speaks against a result: one sentence, and how much it weighs, from 0 to 1."""

    text: str
    weight: float


def risk(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return the score of all findings, 1 minus the product of (1 - weight), and their texts.

    The score is a heuristic that sorts cases by how much is unlike the training data. It is no probability of an error.
    """
    told = list(findings)
    left = math.prod(1 - each.weight for each in told)
    return {"score": round(1 - left, 3), "reasons": [each.text for each in told]}


def spans_of(surveys: Iterable[tuple[Modality, Survey]]) -> list[dict[str, Any]]:
    """Return the tables of training volumes, each given with its contrast."""
    kinds: dict[tuple[Modality, bool], list[Survey]] = {}
    for modality, each in surveys:
        kinds.setdefault((modality, is_stripped(each, modality)), []).append(each)
    return [
        {
            "modality": str(modality),
            "stripped": stripped,
            "volumes": len(members),
            "quantiles": [_span(values) for values in zip(*(each.quantiles for each in members), strict=True)],
            **{name: _span([getattr(each, name) for each in members]) for name in SPANS},
        }
        for (modality, stripped), members in sorted(kinds.items())
    ]


def _span(values: Sequence[float]) -> list[float]:
    return [round(min(values), 3), round(max(values), 3)]


def unlike(
    surveyed: Survey, modality: Modality, measured: Sequence[Mapping[str, Any]], skull_stripped: str = "either"
) -> list[Finding]:
    """Tell in what a volume is unlike the training volumes of its contrast.

    Parameters
    ----------
    measured : tables as of `spans_of`; without one of that contrast only the skull is looked at.
    skull_stripped : "yes", "no" or "either", where a model states it without tables.
    """
    tables = [each for each in measured if each["modality"] == modality]
    kinds = {bool(each["stripped"]) for each in tables} or {
        kind for kind in (True, False) if skull_stripped in ("yes" if kind else "no", "either")
    }
    stripped = is_stripped(surveyed, modality)
    findings = [] if stripped in kinds else [_skull(surveyed, stripped=stripped)]
    alike = [each for each in tables if each["stripped"] == stripped] or tables
    for table in alike[:1]:
        findings += [*_balance(surveyed, table, modality), *_greys(surveyed, table), *_extent(surveyed, table)]
    return findings


def _skull(surveyed: Survey, *, stripped: bool) -> Finding:
    share = f"{surveyed.dark_shell:.1%} of the layer where the skull lies is dark"
    if stripped:
        return Finding(f"The skull seems to be stripped ({share}); the model was trained on whole heads.", 0.4)
    return Finding(f"The skull seems to be there ({share}); the model was trained on stripped brains.", 0.4)


def _balance(surveyed: Survey, table: Mapping[str, Any], modality: Modality) -> list[Finding]:
    low, high = table["balance"]
    if low - BALANCE_OFFSET <= surveyed.balance <= high + BALANCE_OFFSET:
        return []
    how = "brighter" if surveyed.balance > high else "darker"  # the ventricles, in a brain
    said = f"{surveyed.balance:+.2f} on a scale from -1 to 1, {_to(low, high, '+.2f')} in training"
    text = f"This may be no {modality.upper()}, or be shaded much: what stands out in the inner brain is {how} than the"
    return [Finding(f"{text} rest ({said}).", 0.6)]


def _greys(surveyed: Survey, table: Mapping[str, Any]) -> list[Finding]:
    excess = [
        max((low - GREY_OFFSET) / (GREY_FACTOR * max(value, 1e-6)), value / (GREY_FACTOR * high + GREY_OFFSET))
        for value, (low, high) in zip(surveyed.quantiles, table["quantiles"], strict=True)
    ]
    worst = excess.index(max(excess))
    if excess[worst] <= 1:
        return []
    low, high = table["quantiles"][worst]
    return [
        Finding(
            f"The grey values are spread otherwise than in training: {LEVELS[worst]:.0%} of the tissue is below "
            f"{surveyed.quantiles[worst]:.2f} of its mean, there below {_to(low, high, '.2f')}.",
            0.3,
        )
    ]


def _extent(surveyed: Survey, table: Mapping[str, Any]) -> list[Finding]:
    findings = []
    least, _ = table["coverage_mm"]
    if surveyed.coverage_mm < COVERAGE_FACTOR * least:
        text = f"The slices show {surveyed.coverage_mm:.0f} mm of the head from bottom to top, {least:.0f} mm or more"
        findings.append(Finding(f"{text} in training.", 0.2))
    low, high = table["area_cm2"]
    if not low / AREA_FACTOR <= surveyed.area_cm2 <= high * AREA_FACTOR:
        text = f"The largest slice shows {surveyed.area_cm2:.0f} cm2 of tissue, {_to(low, high, '.0f')} in training"
        findings.append(Finding(f"{text}: the size is no adult head's, or the volume shows something else.", 0.5))
    if surveyed.cut_cm2 > CUT_CM2:
        text = f"The head is cut off at a side of the field of view: {surveyed.cut_cm2:.0f} cm2 of it lie on the border"
        findings.append(Finding(f"{text}.", 0.3))
    return findings


def _to(low: float, high: float, form: str) -> str:
    texts = dict.fromkeys((f"{low:{form}}", f"{high:{form}}"))
    return " to ".join(texts)
