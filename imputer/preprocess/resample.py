"""In-plane resampling to the pixel size of a model, and back on the exact former grid, with SimpleITK."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imputer.errors import InputError, ModelError
from imputer.preprocess.step import LARGEST_VOXELS, Undo, affine_from_json, affine_to_json, index_affine, is_number
from imputer.volume import Volume

LARGEST_SIZE = 2048  # pixels along an axis; only an affine in a wrong unit leads there
FINEST_MM, COARSEST_MM = 0.01, 100.0  # pixel size of a model; a recipe may come with a foreign file
# Full width at half maximum of a Gaussian with sigma 1. A pixel is taken as a Gaussian as wide as itself: widening it
# from 1 to r pixels needs sigma^2 = (r^2 - 1) / 2.355^2 (Cardoso et al., MICCAI 2015, "Scale factor point spread
# function matching").
FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))
SPLINE_MINIMUM = 4  # pixels along an axis that ITK's cubic B-spline needs
_Array = NDArray[np.float32]


@dataclass(frozen=True)
class Resample:
    """Bring axes 0 and 1 to one spacing; axis 2 stays as it is.

    Attributes
    ----------
    spacing_mm : float
        Spacing along i and j afterwards.
    tolerance : float
        Nothing is done where both spacings differ by no more than this from `spacing_mm` (relative).
    """

    spacing_mm: float = 0.9
    tolerance: float = 0.12

    def __post_init__(self) -> None:
        check_spacing(self.spacing_mm, self.tolerance)

    def forward(self, volume: Volume) -> tuple[Volume, Undo]:
        """Volume with the wanted spacing, on a grid with the same centre and, to half a pixel, the same extent.

        Raises
        ------
        InputError
            Where the grid would become absurdly large.
        """
        spacing = volume.spacing[:2]
        if all(abs(size / self.spacing_mm - 1) <= self.tolerance for size in spacing):
            return volume, {"done": False, "lossy": False}
        sizes, ratios, offsets = same_extent(volume.shape[:2], spacing, self.spacing_mm)
        array = shrink_or_grow(volume.array, sizes, ratios, offsets)
        undo = {
            "done": True,
            "lossy": True,
            "shape": list(volume.shape),
            "affine": affine_to_json(volume.affine),
            "ratios": ratios,
            "offsets": offsets,
        }
        return volume.with_grid(array, volume.affine @ index_affine([*ratios, 1.0], [*offsets, 0.0])), undo

    def inverse(self, volume: Volume, undo: Undo) -> Volume:
        """Volume on the former grid, by cubic B-splines, within the range of the given values."""
        if not undo["done"]:
            return volume
        array = put_back(volume.array, undo["shape"], undo["ratios"], undo["offsets"])
        np.clip(array, volume.array.min(), volume.array.max(), out=array)
        return volume.with_grid(array, affine_from_json(undo["affine"]))


def check_spacing(mm: float, tolerance: float) -> None:
    """Raise ModelError unless a model can have pixels of `mm` mm, and take others within a relative `tolerance`."""
    if not is_number(mm, FINEST_MM, COARSEST_MM) or not is_number(tolerance, 0, 1):
        raise ModelError(
            f"The pixel size of a model must be {FINEST_MM:g} to {COARSEST_MM:g} mm, its tolerance 0 to 1."
        )


def same_extent(
    shape: tuple[int, ...], spacing: tuple[float, ...], mm: float
) -> tuple[list[int], list[float], list[float]]:
    """Grid of spacing `mm` with the same centre and, to half a pixel, the same extent along the given axes.

    Returns its sizes, the width of its pixels in old ones, and where its first ones lie, as an index of the old grid.
    Raises InputError where it would be absurdly large.
    """
    extents = [size * step / mm for size, step in zip(shape, spacing, strict=True)]
    if not max(extents) <= LARGEST_SIZE or not math.prod(extents) <= LARGEST_VOXELS:
        said, made = (" x ".join(f"{value:.6g}" for value in values) for values in (spacing, extents))
        raise InputError(f"Pixels of {said} mm make a volume of {made} pixels of {mm:g} mm across.")
    ratios = [mm / step for step in spacing]
    sizes = [max(1, round(size / ratio)) for size, ratio in zip(shape, ratios, strict=True)]
    offsets = [(old - 1) / 2 - (new - 1) / 2 * ratio for old, new, ratio in zip(shape, sizes, ratios, strict=True)]
    return sizes, ratios, offsets


def shrink_or_grow(array: _Array, sizes: list[int], ratios: list[float], offsets: list[float]) -> _Array:
    """Axes 0 and 1 of an array (I, J, K) at the indices offset + n * ratio, linearly, smoothed against aliasing."""
    variances = [max(ratio**2 - 1, 0) / FWHM_OF_SIGMA**2 for ratio in ratios]  # in old pixels; against aliasing
    width = 2 * math.ceil(4 * math.sqrt(max(variances))) + 3
    result = np.empty((*sizes, array.shape[2]), dtype=np.float32, order="F")
    for k in range(array.shape[2]):  # one by one: ITK's filters hold several copies of what they are given
        image = sitk.GetImageFromArray(array[:, :, k].T)
        if max(variances) > 0:
            image = sitk.DiscreteGaussian(image, variances, width, 0.001, False)
        result[:, :, k] = _resampled(image, sitk.sitkLinear, sizes, offsets, ratios)
    return result


def put_back(array: _Array, shape: list[int], ratios: list[float], offsets: list[float]) -> _Array:
    """Undo `shrink_or_grow` to the former `shape` (I, J, K), by cubic B-splines, which overshoot a little at edges."""
    method = sitk.sitkBSpline if min(array.shape[:2]) >= SPLINE_MINIMUM else sitk.sitkLinear
    steps = [1 / ratio for ratio in ratios]
    starts = [-offset / ratio for offset, ratio in zip(offsets, ratios, strict=True)]
    result = np.empty(shape, dtype=np.float32, order="F")
    for k in range(shape[2]):
        image = sitk.GetImageFromArray(array[:, :, k].T)
        result[:, :, k] = _resampled(image, method, shape[:2], starts, steps)
    return result


def _resampled(image: sitk.Image, method: int, size: list[int], starts: list[float], steps: list[float]) -> _Array:
    """Values of a slice at the indices start + n * step along each axis; the outermost values go on outside it."""
    identity = [float(value) for value in np.eye(len(size)).ravel()]
    transform = cast(Any, sitk).Transform(len(size), sitk.sitkIdentity)  # SimpleITK types few of its names
    grid = sitk.Resample(image, size, transform, method, starts, steps, identity, 0.0, sitk.sitkFloat32, True)
    values: _Array = sitk.GetArrayFromImage(grid).T
    return values
