"""In-plane crop and pad to a size that a network takes, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imputer.errors import ModelError
from imputer.preprocess.step import Undo, affine_from_json, affine_to_json, index_affine
from imputer.volume import Volume

BACKGROUND = -1.0
LARGEST_SIZE = 4096  # pixels; a recipe may come with a foreign file
FOREGROUND_ABOVE = BACKGROUND + 0.06  # 3 % of the white of the intensity scale


@dataclass(frozen=True)
class Box:
    """Cut a box out of axes 0 and 1 of a volume in [-1, 1]; what the box has beyond the volume is -1.

    Attributes
    ----------
    multiple : int
        The sizes of the box are multiples of this.
    margin : int
        Pixels kept on each side of what is not background, as far as the volume has them.
    size : tuple of int or None
        (H, W) along j and i: this size, centred on the grid, whatever the volume shows. None: fitted to the volume.
    """

    multiple: int = 32
    margin: int = 8
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            height, width = self.size  # a list where it comes from JSON
            object.__setattr__(self, "size", (int(height), int(width)))
        if self.multiple < 1 or self.margin < 0 or (self.size is not None and min(self.size) < 1):
            raise ModelError("The sizes of a box must be above 0.")
        pixels = (self.multiple, self.margin, *(self.size or ()))
        if any(type(each) is not int or each > LARGEST_SIZE for each in pixels):
            raise ModelError(f"The sizes of a box must be whole numbers up to {LARGEST_SIZE}.")

    def forward(self, volume: Volume) -> tuple[Volume, Undo]:
        """Volume of (W, H, K); the record says whether anything but background was cut off (lossy)."""
        shape = volume.shape
        shown = volume.array > FOREGROUND_ABOVE
        profiles: list[NDArray[np.bool_]] = [np.any(shown, axis=axes) for axes in ((1, 2), (0, 2))]
        if self.size is None:
            boxes = [self._fitted(profile) for profile in profiles]
        else:
            boxes = [((old - new) // 2, new) for old, new in zip(shape[:2], reversed(self.size), strict=True)]
        starts, sizes = [start for start, _ in boxes], [size for _, size in boxes]
        outside = overlap(shape[:2], starts, sizes)[1]
        seen = [profile[part].sum() == profile.sum() for profile, part in zip(profiles, outside, strict=True)]
        undo = {"shape": list(shape), "start": starts, "affine": affine_to_json(volume.affine), "lossy": not all(seen)}
        return self.repeat(volume, starts, (sizes[0], sizes[1], shape[2])), undo

    def repeat(self, volume: Volume, starts: list[int], shape: tuple[int, int, int]) -> Volume:
        """Volume of a box of that shape, which `forward` has fitted to another one of the same grid."""
        sizes = list(shape[:2])
        array = np.full((*sizes, volume.shape[2]), BACKGROUND, dtype=np.float32, order="F")
        inside, outside = overlap(volume.shape[:2], starts, sizes)
        array[inside] = volume.array[outside]
        shift = index_affine([1.0, 1.0, 1.0], [*map(float, starts), 0.0])
        return volume.with_grid(array, volume.affine @ shift)

    def inverse(self, volume: Volume, undo: Undo) -> Volume:
        """Volume of the former shape, -1 outside the box."""
        array = np.full(undo["shape"], BACKGROUND, dtype=np.float32, order="F")
        inside, outside = overlap(undo["shape"][:2], undo["start"], list(volume.shape[:2]))
        array[outside] = volume.array[inside]
        return volume.with_grid(array, affine_from_json(undo["affine"]))

    def _fitted(self, profile: NDArray[np.bool_]) -> tuple[int, int]:
        """Start and size of the box along one axis, from where the volume shows anything there."""
        length = len(profile)
        shown = np.flatnonzero(profile)
        first, last = (int(shown[0]), int(shown[-1])) if len(shown) else (0, length - 1)
        first, last = max(first - self.margin, 0), min(last + self.margin, length - 1)
        wanted = last - first + 1
        size = -(-wanted // self.multiple) * self.multiple
        start = first - (size - wanted) // 2
        if size <= length:
            start = min(max(start, 0), length - size)  # pad only where the volume is too small
        return start, size


def overlap(
    shape: tuple[int, ...] | list[int], starts: list[int], sizes: list[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What a box and a grid share, as slices of the box and slices of the grid."""
    inside, outside = [], []
    for length, start, size in zip(shape, starts, sizes, strict=True):
        first, last = max(start, 0), min(start + size, length)
        inside.append(slice(first - start, last - start))
        outside.append(slice(first, last))
    return tuple(inside), tuple(outside)
