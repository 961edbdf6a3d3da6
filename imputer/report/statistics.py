"""Many cases in few numbers: mean, standard deviation, a bootstrap interval, and two methods against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from imputer.errors import UsageError, installing

CONFIDENCE = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Summary:
    """A figure over the cases that have one.

    Attributes
    ----------
    count : number of cases.
    mean : over the cases.
    std : of the cases, with count - 1; None of one case.
    low, high : interval of the mean that holds it with `CONFIDENCE`, by the bootstrap's percentiles; None of one case.
    """

    count: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A figure of two methods on the same cases.

    Attributes
    ----------
    count : number of cases that both have.
    difference : mean of first minus second.
    low, high : bootstrap interval of it, as in `Summary`.
    p : of the two-sided Wilcoxon signed-rank test; 1 where no case differs, None of one case.
    least_p : the smallest that so many cases can give, 2 / 2^count.
    """

    count: int
    difference: float
    low: float | None
    high: float | None
    p: float | None
    least_p: float


def summarise(values: Sequence[float], *, seed: int = 0) -> Summary | None:
    """Mean of finite values with its interval; None where there is none. UsageError where SciPy is not installed."""
    finite = np.array([value for value in values if np.isfinite(value)], np.float64)
    if finite.size == 0:
        return None
    if finite.size == 1:
        return Summary(1, float(finite[0]))
    low, high = _interval(finite, seed)
    return Summary(int(finite.size), float(finite.mean()), float(finite.std(ddof=1)), low, high)


def compare(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Comparison | None:
    """Two methods case by case: mean difference and paired Wilcoxon test; None where no case has both.

    Parameters
    ----------
    first, second : the same cases in the same order; a case with a value that is not finite is left out.

    Raises
    ------
    UsageError
        Where SciPy is not installed.
    """
    differences = np.array(first, np.float64) - np.array(second, np.float64)
    differences = differences[np.isfinite(differences)]
    count = int(differences.size)
    if count == 0:
        return None
    mean, least = float(differences.mean()), min(1.0, 2.0 / 2.0**count)
    if count == 1:
        return Comparison(1, mean, None, None, None, least)
    low, high = _interval(differences, seed)
    if not differences.any():
        return Comparison(count, mean, low, high, 1.0, least)
    p = float(scipy_stats().wilcoxon(differences).pvalue)
    return Comparison(count, mean, low, high, p, least)


def scipy_stats() -> ModuleType:
    """SciPy's statistics; UsageError where SciPy is not installed."""
    try:
        from scipy import stats
    except ImportError as error:
        raise UsageError("Statistics need SciPy.", remedy=installing("evaluate")) from error
    return stats  # type: ignore[no-any-return]


def _interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = scipy_stats().bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
