"""What the training volumes of a model looked like: spans of what `imputer.preprocess.survey` measures of a volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from imputer.modality import Modality
from imputer.weights.fields import Fields

LEVELS = 4  # quantiles of a table
LARGEST = 1e9
Span = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """Least and greatest values over the training volumes of one contrast, with the skull or without.

    Parameters
    ----------
    modality : of the volumes, a source of the model.
    stripped : whether their skulls were taken away.
    volumes : how many there were.
    quantiles : of the grey values of the tissue, in units of its mean, at the levels of the survey.
    coverage_mm : of the head, from its lowest to its highest slice.
    area_cm2 : of the head in its largest slice.
    balance : of dark and bright in the inner brain, from -1 to 1.
    """

    modality: Modality
    stripped: bool
    volumes: int
    quantiles: tuple[Span, ...]
    coverage_mm: Span
    area_cm2: Span
    balance: Span


def measured_of(fields: Fields) -> Measured:
    """Read a table; ModelError names the field where something is wrong."""
    found = Measured(
        modality=Modality(fields.choice("modality", tuple(Modality))),
        stripped=fields.take("stripped", bool),
        volumes=fields.size("volumes"),
        quantiles=tuple(_span(fields, "quantiles", each) for each in fields.take("quantiles", list)),
        coverage_mm=_span(fields, "coverage_mm", fields.take("coverage_mm", list)),
        area_cm2=_span(fields, "area_cm2", fields.take("area_cm2", list)),
        balance=_span(fields, "balance", fields.take("balance", list)),
    )
    if len(found.quantiles) != LEVELS:
        fields.refuse("quantiles", f"must be {LEVELS} pairs of numbers")
    fields.finish()
    return found


def _span(fields: Fields, name: str, value: Any) -> Span:
    is_pair = isinstance(value, list) and len(value) == 2 and all(type(each) in (int, float) for each in value)
    if not is_pair or not (math.isfinite(value[0]) and value[0] <= value[1] < LARGEST):
        fields.refuse(name, "must be two finite numbers, the smaller one first")
    return float(value[0]), float(value[1])
