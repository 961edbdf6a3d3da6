"""Crop and pad along all three axes to a grid that a network in 3-D takes, and back; the anatomy is never cut."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, ModelError
from imputer.preprocess.box import overlap
from imputer.preprocess.step import LARGEST_VOXELS, Undo, affine_from_json, affine_to_json, index_affine, is_number
from imputer.volume import Volume

LARGEST_SIZE = 512  # voxels that a setting may ask for along an axis; a recipe may come with a foreign file


@dataclass(frozen=True)
class Box3d:
    """Cut the box out of a volume that holds all its voxels above a threshold; what it has beyond the volume is filled.

    Attributes
    ----------
    multiple : int
        The sizes of the box are multiples of this.
    margin : int
        Voxels kept on each side of what is above the threshold, as far as the volume has them.
    least : tuple of int or None
        (I, J, K): the box is this large at least; it grows by the same number of voxels on both sides.
    above : float
        The threshold, in the unit of the volume.
    background : float
        Value of what the box has beyond the volume and, on the way back, of what the volume has beyond the box.
    """

    multiple: int = 16
    margin: int = 0
    least: tuple[int, int, int] | None = None
    above: float = 0.0
    background: float = 0.0

    def __post_init__(self) -> None:
        if self.least is not None:
            i, j, k = self.least  # a list where it comes from JSON
            object.__setattr__(self, "least", (i, j, k))
        voxels = (self.multiple, self.margin, *(self.least or ()))
        if any(type(each) is not int or not 0 <= each <= LARGEST_SIZE for each in voxels) or self.multiple < 1:
            raise ModelError(f"The sizes of a box must be whole numbers up to {LARGEST_SIZE}.")
        limit = float(np.finfo(np.float32).max)
        if not is_number(self.background, -limit, limit) or not is_number(self.above, self.background, limit):
            raise ModelError("The threshold of a box must be a number, and not below its background.")

    def forward(self, volume: Volume) -> tuple[Volume, Undo]:
        """Volume of the box; the record counts the voxels of the given one that are `outside` of it.

        Raises
        ------
        InputError
            Where no voxel is above the threshold, or the box would become absurdly large.
        """
        shown = volume.array > self.above
        profiles: list[NDArray[np.bool_]] = [np.any(shown, axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
        if not profiles[0].any():
            raise InputError(f"The volume holds no voxel above {self.above:g}.")
        leasts = self.least or (1, 1, 1)
        boxes = [self._fitted(profile, least) for profile, least in zip(profiles, leasts, strict=True)]
        starts, sizes = [start for start, _ in boxes], [size for _, size in boxes]
        if math.prod(sizes) > LARGEST_VOXELS:
            raise InputError(f"The volume fills a box of {' x '.join(map(str, sizes))} voxels, which is too large.")
        inside, _ = overlap(volume.shape, starts, sizes)
        kept = math.prod(part.stop - part.start for part in inside)
        undo = {
            "shape": list(volume.shape),
            "start": starts,
            "affine": affine_to_json(volume.affine),
            "outside": volume.array.size - kept,
            "lossy": False,
        }
        return self.repeat(volume, starts, (sizes[0], sizes[1], sizes[2])), undo

    def repeat(self, volume: Volume, starts: list[int], shape: tuple[int, int, int]) -> Volume:
        """Volume of a box of that shape, which `forward` has fitted to another one of the same grid."""
        array = np.full(shape, self.background, dtype=np.float32)
        inside, outside = overlap(volume.shape, starts, list(shape))
        array[inside] = volume.array[outside]
        shift = index_affine([1.0, 1.0, 1.0], [float(start) for start in starts])
        return volume.with_grid(array, volume.affine @ shift)

    def inverse(self, volume: Volume, undo: Undo) -> Volume:
        """Volume of the former shape, background outside the box."""
        array = np.full(undo["shape"], self.background, dtype=np.float32, order="F")
        inside, outside = overlap(undo["shape"], undo["start"], list(volume.shape))
        array[outside] = volume.array[inside]
        return volume.with_grid(array, affine_from_json(undo["affine"]))

    def _fitted(self, profile: NDArray[np.bool_], least: int) -> tuple[int, int]:
        """Start and size of the box along one axis, from where the volume is above the threshold there."""
        shown = np.flatnonzero(profile)
        first, last = max(int(shown[0]) - self.margin, 0), min(int(shown[-1]) + self.margin, len(profile) - 1)
        wanted = last - first + 1
        size = -(-max(wanted, least) // self.multiple) * self.multiple
        return first - (size - wanted) // 2, size
