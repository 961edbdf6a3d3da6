"""Scores of an estimate against a reference. The data range is always given, never taken from the estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, UsageError, installing

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

SSIM_WINDOW = 7  # pixels along each axis

# Share of a slice's pixels that must be above the mean of the volume for the slice to count as one with content. The
# slices beyond the head hold noise only: divided by their own maximum they would be scored as if they were an image.
CONTENT_SHARE = 0.01


def psnr(reference: Array, estimate: Array, *, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(data_range^2 / mean squared error); inf where both are equal.

    Raises
    ------
    InputError
        Where the shapes differ or a value is not finite.
    """
    _check(reference, estimate, data_range)
    difference = np.asarray(reference, np.float64) - np.asarray(estimate, np.float64)
    error = float(np.mean(difference**2))
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim(reference: Array, estimate: Array, *, data_range: float, inside: Mask | None = None) -> float:
    """Mean structural similarity, scikit-image's default window (7 along each axis, uniform); in [-1, 1].

    Parameters
    ----------
    reference, estimate : images (H, W) or volumes (I, J, K); of a volume the window is a cube.
    inside : which pixels' values enter the mean; of all of them those less than 3 from a border never do, as in
        scikit-image.

    Raises
    ------
    InputError
        Where the shapes differ, a value is not finite, a side is below 7 pixels, or nothing is left to average.
    UsageError
        Where scikit-image is not installed.
    """
    _check(reference, estimate, data_range)
    if min(reference.shape) < SSIM_WINDOW:
        raise InputError(f"SSIM needs images of at least 7 x 7 pixels, not {reference.shape}.")
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise UsageError("SSIM needs scikit-image.", remedy=installing("train", "evaluate")) from error
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    score: Any
    if inside is None:
        score = structural_similarity(reference, estimate, data_range=data_range)  # type: ignore[no-untyped-call]
        return float(score)
    _, score = structural_similarity(reference, estimate, data_range=data_range, full=True)  # type: ignore[no-untyped-call]
    inner = (slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2)),) * reference.ndim
    values = score[inner][inside[inner]]
    if values.size == 0:
        raise InputError("SSIM needs a region that reaches 4 pixels or more from the border of the image.")
    return float(values.mean())


def mae(reference: Array, estimate: Array) -> float:
    """Mean absolute error, in the unit of the arrays. InputError as `psnr`."""
    _check(reference, estimate, 1.0)
    return float(np.mean(np.abs(np.asarray(reference, np.float64) - np.asarray(estimate, np.float64))))


def nmse(reference: Array, estimate: Array) -> float:
    """Normalised mean squared error, |reference - estimate|^2 / |reference|^2. InputError as `psnr`, or for all 0."""
    _check(reference, estimate, 1.0)
    truth = np.asarray(reference, np.float64)
    energy = float(np.sum(truth**2))
    if energy == 0:
        raise InputError("NMSE needs a reference that is not 0 everywhere.")
    return float(np.sum((truth - np.asarray(estimate, np.float64)) ** 2)) / energy


def slices_with_content(reference: Array) -> Mask:
    """Which slices along the last axis of (I, J, K) show something; (K,)."""
    above: Mask = np.mean(reference > np.mean(reference), axis=(0, 1)) >= CONTENT_SHARE
    return above


def paired_scores(reference: Array, estimate: Array) -> dict[str, float]:
    """PSNR and SSIM of a volume against its reference, after the SynDiff paper.

    Each volume is divided by its own mean, then each slice of both by the maximum of the reference's slice; peak and
    range are 1; the result is the mean over the slices of the reference with content.

    Parameters
    ----------
    reference, estimate : (I, J, K), the same grid, axial slices along K.

    Returns
    -------
    {"psnr": dB, "ssim": in [-1, 1]}

    Raises
    ------
    InputError
        Where the shapes differ, a value is not finite, a volume's mean is not positive or no slice has content.
    UsageError
        Where scikit-image is not installed.
    """
    psnrs, ssims = [], []
    for _, truth, guess in slice_pairs(reference, estimate):
        psnrs.append(psnr(truth, guess, data_range=1.0))
        ssims.append(ssim(truth, guess, data_range=1.0))
    return {"psnr": float(np.mean(psnrs)), "ssim": float(np.mean(ssims))}


def slice_pairs(reference: Array, estimate: Array) -> Iterator[tuple[int, Array, Array]]:
    """Yield (k, slice of the reference, slice of the estimate) for each slice with content, as `paired_scores` has it.

    The arrays are (I, J, K); the reference's slices (I, J) reach 1. InputError as `paired_scores`.
    """
    if np.ndim(reference) != 3:
        raise InputError(f"A volume has three axes, not {np.ndim(reference)}.")
    _check(reference, estimate, 1.0)
    reference, estimate = _over_mean(reference), _over_mean(estimate)
    shown = np.flatnonzero(slices_with_content(reference))
    if shown.size == 0:
        raise InputError("The reference shows nothing: all its voxels are equal, or next to all.")
    for k in shown:
        peak = reference[..., k].max()
        yield int(k), reference[..., k] / peak, estimate[..., k] / peak


def _over_mean(volume: Array) -> NDArray[np.float64]:
    values = np.asarray(volume, np.float64)
    mean = float(values.mean())
    if mean <= 0:
        raise InputError("A volume whose mean is not positive cannot be scored.")
    return values / mean


def _check(reference: Array, estimate: Array, data_range: float) -> None:
    if np.shape(reference) != np.shape(estimate):
        raise InputError(f"The shapes differ: {np.shape(reference)} and {np.shape(estimate)}.")
    if not (np.isfinite(reference).all() and np.isfinite(estimate).all()):
        raise InputError("Volumes with NaN or infinite voxels cannot be scored.")
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}, not a positive number")
