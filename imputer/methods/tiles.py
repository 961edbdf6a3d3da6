"""A volume in overlapping tiles that are blended, for volumes that a network's memory does not hold as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]
OVERLAP = 2  # multiples of the grid that neighbours share
# Multiples of the grid along a tile, at least: one of them is its own, at least in the middle of the volume.
SMALLEST = OVERLAP + 1


@dataclass(frozen=True)
class Tile:
    """One tile: where it starts and what it measures, voxels along i, j and k."""

    start: Shape
    size: Shape

    def window(self, factor: int = 1) -> tuple[slice, slice, slice]:
        """The tile as slices of the volume, or of a grid that is coarser by a factor that divides starts and sizes."""
        i, j, k = (
            slice(first // factor, (first + length) // factor)
            for first, length in zip(self.start, self.size, strict=True)
        )
        return i, j, k


@dataclass(frozen=True)
class Layout:
    """Tiles of one size that cover a volume.

    Parameters
    ----------
    shape : of the volume.
    size : of each tile.
    starts : along each axis, ascending; every combination is a tile.
    """

    shape: Shape
    size: Shape
    starts: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """Number of tiles; 1 is the volume as a whole."""
        return prod(len(starts) for starts in self.starts)

    def tiles(self) -> Iterator[Tile]:
        """Yield all tiles, the last axis first."""
        for i, j, k in product(*self.starts):
            yield Tile((i, j, k), self.size)

    def weights(self, tile: Tile) -> NDArray[np.float32]:
        """Return the share of a tile in each of its voxels, of its size: over all tiles the shares add up to 1.

        They fall linearly to the tile's border where another tile is beyond it.
        """
        i, j, k = (
            _shares(starts, size)[starts.index(start)]
            for starts, size, start in zip(self.starts, self.size, tile.start, strict=True)
        )
        return np.asarray(i[:, None, None] * j[:, None] * k, dtype=np.float32)


def layouts(shape: Shape, multiple: int) -> Iterator[Layout]:
    """Yield ways to tile a volume, each with smaller tiles than the one before; the first is the volume as a whole.

    Parameters
    ----------
    shape : of the volume; multiples of `multiple`.
    multiple : sizes and starts of tiles are multiples of this; neighbours share `OVERLAP` of it, at least.
    """
    counts = [1, 1, 1]
    sizes = list(shape)
    while True:
        yield _layout(shape, counts, sizes, multiple)
        axis = max(range(3), key=lambda each: sizes[each])
        if sizes[axis] <= SMALLEST * multiple:
            return
        before = sizes[axis]
        while sizes[axis] == before:
            counts[axis] += 1
            sizes[axis] = _size(shape[axis], counts[axis], multiple)


def _size(length: int, count: int, multiple: int) -> int:
    """Length of so many equal tiles that cover an axis and share enough."""
    return -(-(length + (count - 1) * OVERLAP * multiple) // (count * multiple)) * multiple


def _layout(shape: Shape, counts: list[int], sizes: list[int], multiple: int) -> Layout:
    starts = [
        tuple((length - size) * number // max(count - 1, 1) // multiple * multiple for number in range(count))
        for length, size, count in zip(shape, sizes, counts, strict=True)
    ]
    i, j, k = sizes
    return Layout(shape, (i, j, k), tuple(starts))


def _shares(starts: tuple[int, ...], size: int) -> list[NDArray[np.float64]]:
    """Share of each tile along one axis, (size,): linear ramps where neighbours overlap, scaled to add up to 1."""
    places = np.arange(size) + 0.5
    ramps = []
    for number, start in enumerate(starts):
        rise = places / (starts[number - 1] + size - start) if number else np.ones(size)
        is_last = number == len(starts) - 1
        fall = np.ones(size) if is_last else places[::-1] / (start + size - starts[number + 1])
        ramps.append(np.minimum(np.minimum(rise, fall), 1.0))
    total = np.zeros(starts[-1] + size)
    for start, ramp in zip(starts, ramps, strict=True):
        total[start : start + size] += ramp
    return [ramp / total[start : start + size] for start, ramp in zip(starts, ramps, strict=True)]


class Meter:
    """Tells of units of work so that they add up to the total, however many tiles they fall apart into.

    After a lack of memory it is silent until the work has come as far again.
    """

    def __init__(self, total: int, on_units: Callable[[int], None] | None) -> None:
        self._total = total
        self._said = 0
        self._on_units = on_units

    def part(self, number: int, count: int) -> Callable[[int], None]:
        """Return what is told the units done of one of `count` tiles, each of which is the whole work."""
        done = number * self._total

        def tell(units: int) -> None:
            nonlocal done
            done += units
            fresh = done // count - self._said
            if fresh > 0:
                self._said += fresh
                if self._on_units is not None:
                    self._on_units(fresh)

        return tell
