"""What an image of a head looks like, in a few numbers that can be compared with those of training volumes.

All is measured on blocks of a few millimetres, so that noise and the size of the voxels hardly count, and relative to
the mean of the tissue, so that the unit does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imputer.modality import Modality
from imputer.preprocess.orient import Orient
from imputer.volume import Volume

LEVELS = (0.25, 0.5, 0.75, 0.95)  # below them lies what is nearly air, and depends on the noise there
BLOCK_MM = 4.0
COARSEST_MM = 8.0  # voxels beyond it mix what the numbers tell apart
SOLID_ABOVE = 0.2  # of the bright tissue's mean: what is brighter belongs to the head
DARK_BELOW = 0.3  # of the bright tissue's mean: bone and air within a head; in T1 and FLAIR fluid too
CLOSING_MM = 8.0  # dark gaps in a head up to twice this wide are closed
SHELL_MM = (4.0, 14.0)  # depth below the surface where a whole head has its skull
STRIPPED_BELOW = 0.045  # share of that shell that is dark: see docs/uncertainty.md for what real volumes have
STRIPPED_BELOW_FLAIR = 0.17  # there the fluid around a stripped brain is dark too
SLICE_CM2 = 20.0  # area of a slice that shows the head, not an ear or its top alone
INNER_MM = 25.0  # depth below the surface where brain and ventricles are
HEAD_BELOW_TOP_MM = 100.0  # below the highest point: the head without jaw, neck and shoulders
INNER_BELOW_TOP_MM = (25.0, 85.0)  # below the highest point of the head: above the sinuses of the skull's base

_Array = NDArray[np.float32]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Survey:
    """The numbers of one volume.

    Attributes
    ----------
    quantiles : tuple of float
        Those of `LEVELS` of the tissue, in units of its mean.
    coverage_mm : float
        From the lowest to the highest axial slice that shows the head, both ends included.
    area_cm2 : float
        Of the head in the axial slice that shows most of it, among the upper ones (`HEAD_BELOW_TOP_MM`).
    cut_cm2 : float
        Area of the head on the worst of the four sides of the field of view within these slices; 0 where air is all
        around it.
    dark_shell : float
        Share of the shell of `SHELL_MM` below the surface that is dark, in these slices: high where there is a skull.
    balance : float
        In the inner brain, whether what differs from its middle is darker (-1) or brighter (1): the ventricles.
    """

    quantiles: tuple[float, ...]
    coverage_mm: float
    area_cm2: float
    cut_cm2: float
    dark_shell: float
    balance: float


def is_stripped(surveyed: Survey, modality: Modality) -> bool:
    """Whether the skull was taken away from an image of that contrast."""
    return surveyed.dark_shell < (STRIPPED_BELOW_FLAIR if modality is Modality.FLAIR else STRIPPED_BELOW)


def survey(volume: Volume) -> Survey | None:
    """Measure a volume of a head; None where nothing is above 0, or voxels are too coarse to tell anything."""
    if max(volume.spacing) > COARSEST_MM:
        return None
    turned, _ = Orient("LPS").forward(volume)
    blocks, steps = _blocks(turned.array, turned.spacing)
    np.maximum(blocks, 0, out=blocks)
    tissue = blocks[blocks > blocks.mean(dtype=np.float64) / 8]
    if tissue.size == 0:
        return None
    bright = blocks[blocks > blocks.mean(dtype=np.float64)]  # also where air is not black
    relative = blocks / np.float32(bright.mean(dtype=np.float64) if bright.size else tissue.mean(dtype=np.float64))
    head = _solid(relative, steps)
    depth = _depth(head, steps)
    area_cm2 = head.sum(axis=(0, 1)) * steps[0] * steps[1] / 100
    shown = np.flatnonzero(area_cm2 > SLICE_CM2)
    lowest = max(int(shown[-1]) + 1 - round(HEAD_BELOW_TOP_MM / steps[2]), 0) if shown.size else 0
    upper = slice(lowest, None)
    shell = (head & (depth > SHELL_MM[0]) & (depth <= SHELL_MM[1]))[:, :, upper]
    return Survey(
        tuple(round(float(each), 4) for each in np.quantile(tissue / tissue.mean(dtype=np.float64), LEVELS)),
        round(float(shown[-1] - shown[0] + 1) * steps[2], 1) if shown.size else 0.0,
        round(float(area_cm2[upper].max()), 1),
        round(_cut(head[:, :, upper], steps), 1),
        round(float(np.mean(relative[:, :, upper][shell] < DARK_BELOW)), 4) if shell.any() else 0.0,
        round(_balance(relative, head & (depth > INNER_MM), steps[2]), 4),
    )


def _blocks(array: _Array, spacing: tuple[float, float, float]) -> tuple[_Array, tuple[float, float, float]]:
    """Means of blocks of about `BLOCK_MM` and their sizes; what is left over at the far ends is dropped."""
    factors = [min(size, max(1, round(BLOCK_MM / step))) for size, step in zip(array.shape, spacing, strict=True)]
    for axis in (2, 1, 0):  # of column-major voxels the last axis is the quickest to reduce
        count = array.shape[axis] // factors[axis]
        total = None
        for offset in range(factors[axis]):
            index = [slice(None)] * 3
            index[axis] = slice(offset, count * factors[axis], factors[axis])
            total = array[tuple(index)].copy() if total is None else np.add(total, array[tuple(index)], out=total)
        assert total is not None
        array = np.divide(total, np.float32(factors[axis]), out=total)
    i, j, k = (step * factor for step, factor in zip(spacing, factors, strict=True))
    return array, (i, j, k)


def _solid(relative: _Array, steps: tuple[float, float, float]) -> _Mask:
    """The largest connected piece of what is no air, its dark gaps within axial slices filled."""
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(_image(relative > SOLID_ABOVE)), sortByObjectSize=True)
    largest = sitk.Cast(pieces == 1, sitk.sitkUInt8)
    times = max(1, round(CLOSING_MM / max(steps[:2])))
    closed = sitk.BinaryMorphologicalClosing(largest, [times, times, 0], sitk.sitkBox)
    filled = [sitk.BinaryFillhole(closed[:, :, k]) for k in range(relative.shape[2])]
    return np.stack([sitk.GetArrayFromImage(each).T > 0 for each in filled], axis=2)


def _depth(head: _Mask, steps: tuple[float, float, float]) -> NDArray[np.floating[Any]]:
    """Distance in mm of the voxels of a head to the nearest voxel beside it; the field of view ends in air to all sides
    within axial slices. 0 outside.
    """
    beside = _image(~np.pad(head, ((1, 1), (1, 1), (0, 0))))
    beside.SetSpacing(steps)
    distance = sitk.SignedMaurerDistanceMap(beside, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    found: NDArray[np.floating[Any]] = np.maximum(sitk.GetArrayFromImage(distance).T[1:-1, 1:-1], 0)
    return found


def _image(mask: _Mask) -> sitk.Image:
    return sitk.GetImageFromArray(mask.T.astype(np.uint8))


def _cut(head: _Mask, steps: tuple[float, float, float]) -> float:
    """Area in cm2 of the head on the worst of the four sides within axial slices."""
    sides = ((head[0], 1), (head[-1], 1), (head[:, 0], 0), (head[:, -1], 0))
    return max(float(side.sum()) * steps[along] * steps[2] / 100 for side, along in sides)


def _balance(relative: _Array, inner: _Mask, step: float) -> float:
    """(q95 + q5 - 2 q50) / (q95 - q5) of the inner brain; 0 where there is none, or all of it is alike."""
    rows = np.flatnonzero(inner.any(axis=(0, 1)))
    if rows.size == 0:
        return 0.0
    top = rows[-1] + round(INNER_MM / step)  # the head ends that much above its inner part
    low, high = (top - round(mm / step) for mm in reversed(INNER_BELOW_TOP_MM))
    values = relative[:, :, max(low, 0) : max(high, 0) + 1][inner[:, :, max(low, 0) : max(high, 0) + 1]]
    if values.size == 0:
        return 0.0
    least, middle, most = np.quantile(values, (0.05, 0.5, 0.95))
    return float((most + least - 2 * middle) / (most - least)) if most > least else 0.0
