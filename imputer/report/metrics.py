"""Scores of an estimate against a reference. The data range is always given, never taken from the estimate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, UsageError

Array = NDArray[np.floating]

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


def ssim(reference: Array, estimate: Array, *, data_range: float) -> float:
    """Mean structural similarity of two images (H, W), scikit-image's default window (7 x 7, uniform); in [-1, 1].

    Raises
    ------
    InputError
        Where the shapes differ, a value is not finite or a side is below 7 pixels.
    UsageError
        Where scikit-image is not installed.
    """
    _check(reference, estimate, data_range)
    if min(reference.shape) < 7:
        raise InputError(f"SSIM needs images of at least 7 x 7 pixels, not {reference.shape}.")
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise UsageError("SSIM needs scikit-image.", remedy="Install it with: pip install 'imputer[train]'.") from error
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    score: Any = structural_similarity(reference, estimate, data_range=data_range)  # type: ignore[no-untyped-call]
    return float(score)


def slices_with_content(reference: Array) -> NDArray[np.bool_]:
    """Which slices along the last axis of (I, J, K) show something; (K,)."""
    above: NDArray[np.bool_] = np.mean(reference > np.mean(reference), axis=(0, 1)) >= CONTENT_SHARE
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
    if np.ndim(reference) != 3:
        raise InputError(f"A volume has three axes, not {np.ndim(reference)}.")
    _check(reference, estimate, 1.0)
    reference, estimate = _over_mean(reference), _over_mean(estimate)
    shown = np.flatnonzero(slices_with_content(reference))
    if shown.size == 0:
        raise InputError("The reference shows nothing: all its voxels are equal, or next to all.")
    psnrs, ssims = [], []
    for k in shown:
        peak = reference[..., k].max()
        pair = reference[..., k] / peak, estimate[..., k] / peak
        psnrs.append(psnr(*pair, data_range=1.0))
        ssims.append(ssim(*pair, data_range=1.0))
    return {"psnr": float(np.mean(psnrs)), "ssim": float(np.mean(ssims))}


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
