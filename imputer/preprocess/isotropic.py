"""Resampling of all three axes to the voxel size of a model in 3-D, and back on the exact former grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imputer.preprocess.resample import check_spacing, put_back, same_extent, shrink_or_grow
from imputer.preprocess.step import Undo, affine_from_json, affine_to_json, index_affine
from imputer.volume import Volume

_Array = NDArray[np.float32]


@dataclass(frozen=True)
class Isotropic:
    """Bring all three axes to one spacing.

    Linear interpolation, Gaussians and B-splines are separable: i and j are done slice by slice, then k in planes of
    constant j. So ITK, which holds several copies of what it is given, is given a plane at a time.

    Attributes
    ----------
    mm : float
        Spacing along i, j and k afterwards.
    tolerance : float
        Nothing is done where all spacings differ by no more than this from `mm` (relative).
    """

    mm: float = 1.0
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        check_spacing(self.mm, self.tolerance)

    def forward(self, volume: Volume) -> tuple[Volume, Undo]:
        """Volume with the wanted spacing, on a grid with the same centre and, to half a voxel, the same extent.

        Raises
        ------
        InputError
            Where the grid would become absurdly large.
        """
        if all(abs(size / self.mm - 1) <= self.tolerance for size in volume.spacing):
            return volume, {"done": False, "lossy": False}
        sizes, ratios, offsets = same_extent(volume.shape, volume.spacing, self.mm)
        array = shrink_or_grow(volume.array, sizes[:2], ratios[:2], offsets[:2])
        array = shrink_or_grow(_k_first(array), [sizes[2], sizes[0]], [ratios[2], 1.0], [offsets[2], 0.0])
        undo = {
            "done": True,
            "lossy": True,
            "shape": list(volume.shape),
            "affine": affine_to_json(volume.affine),
            "ratios": ratios,
            "offsets": offsets,
        }
        return volume.with_grid(_k_last(array), volume.affine @ index_affine(ratios, offsets)), undo

    def inverse(self, volume: Volume, undo: Undo) -> Volume:
        """Volume on the former grid, by cubic B-splines, within the range of the given values."""
        if not undo["done"]:
            return volume
        (width, height, depth), ratios, offsets = undo["shape"], undo["ratios"], undo["offsets"]
        array = _k_first(volume.array)
        across, along = array.shape[1:]
        array = put_back(array, [depth, across, along], [ratios[2], 1.0], [offsets[2], 0.0])
        array = put_back(_k_last(array), [width, height, depth], ratios[:2], offsets[:2])
        np.clip(array, volume.array.min(), volume.array.max(), out=array)
        return volume.with_grid(array, affine_from_json(undo["affine"]))


def _k_first(array: _Array) -> _Array:
    return array.transpose(2, 0, 1)


def _k_last(array: _Array) -> _Array:
    return array.transpose(1, 2, 0)
