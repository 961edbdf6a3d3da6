"""Intensities on a common scale, [-1, 1] with background at -1: one factor for the whole volume, never per slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, ModelError
from imputer.preprocess.step import Undo, is_number, shown
from imputer.volume import Volume

LEAST_WHITE, LARGEST_WHITE = 1e-6, 1e6  # a recipe may come with a foreign file
Scale = Literal["global_mean", "volume_mean", "percentile"]


@dataclass(frozen=True)
class Intensity:
    """x = clip(v / (white * g), 0, 1) * 2 - 1, with g taken from the volume.

    Attributes
    ----------
    scale : str
        What g is. "global_mean": mean of the voxels above an eighth of the volume's mean, as SPM has it (the mean of
        the tissue, whatever the share of air). "volume_mean": mean of all voxels. "percentile": see below.
    white : float
        Which multiple of g becomes 1; what is brighter is clipped.
    percentile : float
        For scale = "percentile": this percentile of the voxels above 0.
    """

    scale: Scale = "global_mean"
    white: float = 4.0
    percentile: float = 99.9

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise ModelError(
                f"Unknown intensity scale {shown(self.scale)}.", remedy=f"Known are: {', '.join(get_args(Scale))}."
            )
        if not is_number(self.white, LEAST_WHITE, LARGEST_WHITE):
            raise ModelError(f"The white of an intensity scale must be {LEAST_WHITE:g} to {LARGEST_WHITE:g}.")
        if not is_number(self.percentile, 0, 100):
            raise ModelError("The percentile of an intensity scale must be within 0 to 100.")

    def forward(self, volume: Volume) -> tuple[Volume, Undo]:
        """Volume in [-1, 1]. The record holds g, the scale white * g and the clipped share of the voxels.

        Raises
        ------
        InputError
            Where no voxel is above 0.
        """
        g = self._reference(volume.array)
        scale = self.white * g
        below, above = np.count_nonzero(volume.array < 0), np.count_nonzero(volume.array > scale)
        clipped = (int(below) + int(above)) / volume.array.size
        array = np.divide(volume.array, np.float32(scale))
        np.clip(array, 0, 1, out=array)
        array *= 2
        array -= 1
        undo = {"g": g, "white": self.white, "scale": scale, "clipped": clipped, "lossy": clipped > 0}
        return volume.with_array(array), undo

    def inverse(self, volume: Volume, undo: Undo) -> Volume:
        """Volume in the former unit: (x + 1) / 2 * scale."""
        array = volume.array + np.float32(1)
        array *= np.float32(undo["scale"] / 2)
        return volume.with_array(array)

    def _reference(self, array: NDArray[np.float32]) -> float:
        positive = array > 0
        if not positive.any():
            raise InputError("The volume holds no voxel above 0.")
        if self.scale == "percentile":
            g = float(np.percentile(array[positive], self.percentile))
        elif self.scale == "volume_mean":
            g = float(np.mean(array, dtype=np.float64))
        else:
            eighth = float(np.sum(array, where=positive, dtype=np.float64)) / array.size / 8
            g = float(np.mean(array, where=array > eighth, dtype=np.float64))
        if not g > 0:
            raise InputError("The mean of the volume is not above 0.")
        return g
