"""Multi-scale structural similarity of axial slices, with torchmetrics.

After Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment" (Asilomar 2003): five
scales, Gaussian window of 11 pixels. Slices, not cubes: a volume of thick slices cannot be halved four times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, installing
from imputer.report.masks import extent
from imputer.report.metrics import Mask

LEAST_SIDE = 176  # pixels: 11 at the coarsest of five scales
_BATCH = 2  # slices: on a CPU a convolution in double precision unfolds its windows, 121 values a pixel


def ms_ssim(
    reference: NDArray[np.float64], estimate: NDArray[np.float64], mask: Mask, *, data_range: float, floor: float
) -> float:
    """Mean over the axial slices that a mask touches; in [0, 1].

    Outside the mask both images are `floor`, and the slices are cut to the box of the mask, but to no less than
    `LEAST_SIDE`.

    Parameters
    ----------
    reference, estimate : (I, J, K), axial slices along K.
    mask : (I, J, K), not empty.

    Raises
    ------
    InputError
        Where a slice is smaller than `LEAST_SIDE`, or torchmetrics is not installed: one figure of several is left out.
    """
    if min(reference.shape[:2]) < LEAST_SIDE:
        size = " x ".join(map(str, reference.shape[:2]))
        raise InputError(f"MS-SSIM needs axial slices of {LEAST_SIDE} x {LEAST_SIDE} pixels or more, not {size}.")
    try:
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure
    except ImportError as error:
        raise InputError("MS-SSIM needs torchmetrics.", remedy=installing("evaluate")) from error
    import torch  # here: most of an evaluation does without

    box = _box(mask)
    masked = (np.where(mask, image, floor)[box].transpose(2, 0, 1)[:, None] for image in (estimate, reference))
    guess, truth = (torch.from_numpy(np.ascontiguousarray(stack)) for stack in masked)
    with torch.inference_mode():
        scores: list[torch.Tensor] = [
            measure(*pair, data_range=data_range, reduction="none").reshape(-1)
            for pair in zip(torch.split(guess, _BATCH), torch.split(truth, _BATCH), strict=True)
        ]
    return float(torch.cat(scores).mean())


def _box(mask: Mask) -> tuple[slice | NDArray[np.intp], ...]:
    sides: list[slice | NDArray[np.intp]] = []
    for axis in (0, 1):
        first, stop = extent(mask, axis)
        length = max(stop - first, LEAST_SIDE)
        start = min(max((first + stop) // 2 - length // 2, 0), mask.shape[axis] - length)
        sides.append(slice(start, start + length))
    return (*sides, np.flatnonzero(mask.any(axis=(0, 1))))
