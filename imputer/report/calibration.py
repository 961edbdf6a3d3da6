"""Whether the deviation of several samples tells where the image is wrong.

Three questions: does it rank the error (Spearman's rank correlation, sparsification), and is it as large as the error
(coverage). Sparsification after Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow"
(ECCV 2018), section 4.2: the voxels with the largest deviation are taken away bit by bit, and the mean error of the
rest is compared with what is left when the largest errors themselves are taken away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.report.statistics import scipy_stats

FRACTIONS = np.arange(20) / 20  # share of the voxels taken away: 0, 5 % ... 95 %
SIGMAS = (1, 2, 3)
# Share of a Gaussian's values within 1, 2, 3 standard deviations: what coverage should be.
GAUSSIAN = (0.6827, 0.9545, 0.9973)


@dataclass(frozen=True)
class Calibration:
    """How a standard deviation and the absolute error go together within a region.

    Attributes
    ----------
    voxels : number of voxels of the region.
    mean_deviation, mean_error : in the unit of the arrays.
    spearman : rank correlation of deviation and absolute error, in [-1, 1]; None where the deviation is the same
        everywhere, or the error.
    ause : area between the sparsification curve and the ideal one, both divided by the mean error of all voxels; 0 is
        a perfect ranking.
    ause_random : the same of a ranking by chance, whose curve is flat: what `ause` has to stay below.
    curve, ideal : mean error of what is left, over that of all, after taking away each share of `FRACTIONS`.
    coverage : shares of the voxels whose error is at most 1, 2 and 3 deviations.
    """

    voxels: int
    mean_deviation: float
    mean_error: float
    spearman: float | None
    ause: float
    ause_random: float
    curve: tuple[float, ...]
    ideal: tuple[float, ...]
    coverage: tuple[float, ...]


def calibrate(error: NDArray[np.floating], deviation: NDArray[np.floating]) -> Calibration:
    """Compare the absolute errors of the voxels of a region with their standard deviations; both (N,), >= 0.

    Raises
    ------
    InputError
        Where there is no voxel, a value is not finite or negative, or there is no error at all.
    UsageError
        Where SciPy is not installed.
    """
    wrong, told = (np.asarray(values, np.float64).ravel() for values in (error, deviation))
    if wrong.size == 0 or wrong.shape != told.shape:
        raise InputError("Calibration needs as many deviations as errors, and at least one.")
    if not (np.isfinite(wrong).all() and np.isfinite(told).all()) or told.min() < 0 or wrong.min() < 0:
        raise InputError("A standard deviation has voxels that are negative, NaN or infinite.")
    if not wrong.any():
        raise InputError("There is no error that a deviation could tell of: both images are equal.")
    varies = np.ptp(wrong) > 0 and np.ptp(told) > 0
    curve, ideal = _sparsified(wrong, told), _sparsified(wrong, wrong)
    return Calibration(
        voxels=int(wrong.size),
        mean_deviation=float(told.mean()),
        mean_error=float(wrong.mean()),
        spearman=float(scipy_stats().spearmanr(told, wrong).statistic) if varies else None,
        ause=_area(curve - ideal),
        ause_random=_area(1 - ideal),
        curve=tuple(curve.tolist()),
        ideal=tuple(ideal.tolist()),
        coverage=tuple(float(np.mean(wrong <= count * told)) for count in SIGMAS),
    )


def _sparsified(error: NDArray[np.float64], order: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean error of what is left, over that of all, where the voxels that `order` calls largest go first.

    Of voxels that are equal in order each counts as their mean, so that no chance decides which of them go first.
    """
    _, place, counts = np.unique(order, return_inverse=True, return_counts=True)
    shared = np.bincount(place, weights=error) / counts
    sums = np.concatenate([[0.0], np.cumsum(np.repeat(shared, counts))])  # from the smallest order on
    left = np.maximum(error.size - np.floor(FRACTIONS * error.size).astype(int), 1)
    curve: NDArray[np.float64] = sums[left] / left / error.mean()
    return curve


def _area(heights: NDArray[np.float64]) -> float:
    return float(np.trapezoid(heights, FRACTIONS))
