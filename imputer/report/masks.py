"""Regions that an evaluation works out for itself: the body in a CT, what is no air in MR, a box to crop to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, UsageError, installing
from imputer.report.metrics import Mask

BODY_ABOVE_HU = -500.0  # halfway between air and water
FOREGROUND_SHARE = 1 / 8  # of the mean, as in SPM's global mean: what is brighter is no air


def body_mask(reference: NDArray[np.floating]) -> Mask:
    """Body in a CT (I, J, K) in HU, axial slices along K: the largest part above -500 HU, filled slice by slice.

    One voxel is taken off and put on again first, which parts the body from a thin couch.

    Raises
    ------
    InputError
        Where nothing is left.
    UsageError
        Where SciPy is not installed.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise UsageError("A body mask needs SciPy.", remedy=f"{installing('evaluate')} Or give --mask.") from error
    # Beyond the first and last slice the body goes on, so that nothing is taken off there.
    solid = np.pad(reference > BODY_ABOVE_HU, [(0, 0), (0, 0), (1, 1)], mode="edge")
    opened: Any = ndimage.binary_opening(solid)[..., 1:-1]
    labels, count = ndimage.label(opened)
    if count == 0:
        raise InputError("The reference shows no body above -500 HU.", remedy="Is it in HU? Else give --mask.")
    body = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    for k in range(body.shape[2]):
        body[..., k] = ndimage.binary_fill_holes(body[..., k])
    return np.asarray(body, bool)


def foreground(reference: NDArray[np.floating]) -> Mask:
    """Voxels brighter than an eighth of the mean: an MR image without its air."""
    return np.asarray(reference > float(np.mean(reference, dtype=np.float64)) * FOREGROUND_SHARE)


def extent(mask: Mask, axis: int) -> tuple[int, int]:
    """First index along an axis at which a mask (I, J, K), not empty, holds something, and the one after the last."""
    held = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
    return int(held[0]), int(held[-1]) + 1


def box_around(mask: Mask, shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Box of this size around the middle of a mask's bounding box; it may go beyond the array at either end.

    InputError where the mask is empty.
    """
    if not mask.any():
        raise InputError("The mask is empty.")
    sides = []
    for axis, size in enumerate(shape):
        start = (sum(extent(mask, axis)) - size) // 2
        sides.append(slice(start, start + size))
    return sides[0], sides[1], sides[2]


def take(array: NDArray[Any], box: tuple[slice, slice, slice], fill: float) -> NDArray[Any]:
    """Part of an array (I, J, K) in a box, with `fill` where the box goes beyond it."""
    inside = tuple(slice(max(side.start, 0), min(side.stop, size)) for side, size in zip(box, array.shape, strict=True))
    beyond = [(own.start - side.start, side.stop - own.stop) for side, own in zip(box, inside, strict=True)]
    return np.pad(array[inside], beyond, constant_values=fill)
