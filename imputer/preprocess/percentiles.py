"""Intensities by two percentiles of the volume, as the ALDM authors have them: no clipping, one scale a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imputer.errors import InputError, ModelError
from imputer.preprocess.step import Undo, is_number
from imputer.volume import Volume

# Least distance of the percentiles: beside their size (float32 keeps 6e-8 of it), and at all (2 over it stays finite).
LEAST_CONTRAST = 1e-6
LEAST_DISTANCE = 1e-30
LARGEST_CONTRAST = 1e6  # distance of the farthest value beside that of the percentiles; the network squares it


@dataclass(frozen=True)
class Percentiles:
    """Map two percentiles of all voxels, padding included, linearly to -1 and 1; what lies beyond stays beyond.

    Attributes
    ----------
    low, high : float
        The percentiles that become -1 and 1.
    """

    low: float = 0.5
    high: float = 99.5

    def __post_init__(self) -> None:
        if not is_number(self.low, 0, 100) or not is_number(self.high, 0, 100) or not self.low < self.high:
            raise ModelError("The percentiles of an intensity scale must be within 0 to 100, the lower one first.")

    def forward(self, volume: Volume) -> tuple[Volume, Undo]:
        """Volume with most values in [-1, 1]. The record holds the values of the two percentiles.

        Raises
        ------
        InputError
            Where the two percentiles coincide, since the volume is (nearly) constant or tiny in its padding, or where
            single values are absurdly large beside them.
        """
        low, high = (float(value) for value in np.percentile(volume.array, [self.low, self.high]))
        if not high - low > max(LEAST_CONTRAST * max(abs(low), abs(high)), LEAST_DISTANCE):
            grid = " x ".join(map(str, volume.shape))
            raise InputError(
                f"The volume is nearly constant: on a grid of {grid} voxels, padding included, "
                f"its percentiles {self.low:g} and {self.high:g} coincide.",
                remedy="Check that it shows a head.",
            )
        farthest = max(float(volume.array.max()) - low, low - float(volume.array.min()))
        if farthest > LARGEST_CONTRAST * (high - low):
            raise InputError(
                f"The volume has values that lie {farthest / (high - low):.0e} times as far out as its percentiles.",
                remedy="Remove them: they are no signal.",
            )
        array = np.subtract(volume.array, np.float32(low))
        array *= np.float32(2 / (high - low))
        array -= 1
        return volume.with_array(array), {"low": low, "high": high, "lossy": False}

    def inverse(self, volume: Volume, undo: Undo) -> Volume:
        """Volume in the former unit; in [0, scale] where the record has a "scale": it stands for 1, and -1 for 0."""
        low, high = undo["low"], undo["high"]
        if "scale" in undo:
            low, high = 0.0, undo["scale"]
            array = np.clip(volume.array, -1, 1)
            array += 1
        else:
            array = volume.array + np.float32(1)
        array *= np.float32((high - low) / 2)
        array += np.float32(low)
        return volume.with_array(array)
