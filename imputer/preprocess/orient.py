"""Axes in a known order and direction, whatever order a scanner or a converter stored them in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from imputer.errors import ModelError
from imputer.preprocess.step import Undo, affine_from_json, affine_to_json, shown
from imputer.volume import Volume, spacing_of

# Letter of an axis: the axis of RAS space that it lies along, and its direction there.
_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Orient:
    """Permute and flip the axes so that they lie nearest to the named directions. Exact both ways.

    Attributes
    ----------
    codes : str
        Where i, j and k grow to. With "LPS" the planes of constant k are axial by the affine, and a slice shown with
        j downwards has the front of the head at its top and the patient's right at its left.
    """

    codes: str = "LPS"

    def __post_init__(self) -> None:
        known = isinstance(self.codes, str) and len(self.codes) == 3
        if not known or {_DIRECTIONS.get(code, (-1, 0))[0] for code in self.codes} != {0, 1, 2}:
            raise ModelError(f"Axis codes are three letters such as LPS, not {shown(self.codes)}.")

    def forward(self, volume: Volume) -> tuple[Volume, Undo]:
        """Volume with the named axes; its affine maps the new indices to the same places."""
        order, flips = self._order_and_flips(volume.affine)
        array = np.flip(volume.array.transpose(order), _flipped(flips))
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            matrix[old, new] = -1 if flip else 1
            matrix[old, 3] = volume.shape[old] - 1 if flip else 0
        undo = {"order": order, "flips": flips, "affine": affine_to_json(volume.affine)}
        # Column-major: the slices along k then lie in one piece each, as SimpleITK and the stack want them.
        return volume.with_grid(np.asfortranarray(array), volume.affine @ matrix), undo

    def spacing(self, affine: NDArray[np.float64]) -> tuple[float, float, float]:
        """Voxel sizes in mm along the named axes, of a grid (4, 4) whose voxels need not be there."""
        sizes = spacing_of(affine)
        i, j, k = (sizes[axis] for axis in self._order_and_flips(affine)[0])
        return i, j, k

    def inverse(self, volume: Volume, undo: Undo) -> Volume:
        """Volume with the former axes and the former affine."""
        array = np.flip(volume.array, _flipped(undo["flips"])).transpose(
            [int(axis) for axis in np.argsort(undo["order"])]
        )
        return volume.with_grid(array, affine_from_json(undo["affine"]))

    def _order_and_flips(self, affine: NDArray[np.float64]) -> tuple[list[int], list[bool]]:
        """Old axis of each new one, and whether it is turned round: the pairing with the greatest sum of cosines."""
        cosines = affine[:3, :3] / spacing_of(affine)
        wanted = [_DIRECTIONS[code] for code in self.codes]

        def fit(order: Iterable[int]) -> float:
            return float(sum(abs(cosines[world, old]) for old, (world, _) in zip(order, wanted, strict=True)))

        order = list(max(permutations(range(3)), key=fit))
        flips = [bool(cosines[world, old] * sign < 0) for old, (world, sign) in zip(order, wanted, strict=True)]
        return order, flips


def _flipped(flips: list[bool]) -> tuple[int, ...]:
    return tuple(axis for axis, flip in enumerate(flips) if flip)
