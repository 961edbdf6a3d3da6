"""Voxels as the integers that an image stores: one scale for the whole series, and the window to show them with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

TWELVE_BITS: Final = 4095  # what scanners store, and what every viewer can show
SIXTEEN_BITS: Final = 65535
COARSE: Final = 255  # whole numbers up to here are less than a display shows
CT_INTERCEPT: Final = -1024  # HU of a stored 0
_TOGETHER = 16  # slices at a time: neighbours along the last axis share lines of the processor's cache

_SAMPLE = 1_000_000  # voxels that are enough for percentiles


@dataclass(frozen=True)
class Window:
    """Grey window (PS3.3 C.11.2.1.2), in values after rescale."""

    centre: float
    width: float
    name: str = ""


CT_WINDOWS: Final = (Window(40, 80, "BRAIN"), Window(400, 2000, "BONE"))


@dataclass(frozen=True, eq=False)
class Stored:
    """Pixels of a series.

    Attributes
    ----------
    pixels : NDArray
        (K, rows, columns) uint16, little endian.
    bits : int
        12 or 16, of which the values make use.
    scale : float
        Stored pixel per value of the volume.
    intercept : int
        Value of a stored 0, where the scale is 1.
    below, above : int
        Number of voxels that lie outside what can be stored, and are stored as the nearest that can.
    windows : tuple of Window
    """

    pixels: NDArray[np.uint16]
    bits: int
    scale: float
    intercept: int
    below: int
    above: int
    windows: tuple[Window, ...]


def stored_mr(array: NDArray[np.float32]) -> Stored:
    """MR values, which have no unit: as they are where they fit, else scaled. There is no rescale in an MR image.

    Values up to 4095 are rounded to 12 bits, up to 65535 to 16. Others, and fractions below 256, of which whole numbers
    would keep too little, are scaled so that the greatest becomes 4095. Negative values become 0.

    Parameters
    ----------
    array : NDArray
        (columns, rows, K) float32, finite.
    """
    greatest = float(array.max())
    scale, bits = 1.0, 12
    if TWELVE_BITS + 0.5 <= greatest < SIXTEEN_BITS + 0.5:
        bits = 16
    elif greatest >= SIXTEEN_BITS + 0.5 or (0 < greatest < COARSE and not _whole(array)):
        scale = float(f"{TWELVE_BITS / greatest:.9g}")  # as it is told in the header
    pixels, below, above = _integers(array, scale, 0, bits)
    return Stored(pixels, bits, scale, 0, below, above, (_window(pixels),))


def stored_ct(array: NDArray[np.float32]) -> Stored:
    """Hounsfield units (columns, rows, K), rounded: -1024 to 3071 in 12 bits, to 64511 in 16 where one is greater."""
    bits = 12 if float(array.max()) - CT_INTERCEPT < TWELVE_BITS + 0.5 else 16
    pixels, below, above = _integers(array, 1.0, -CT_INTERCEPT, bits)
    return Stored(pixels, bits, 1.0, CT_INTERCEPT, below, above, CT_WINDOWS)


def _whole(array: NDArray[np.float32]) -> bool:
    return all(np.array_equal(np.rint(row), row) for row in array)


def _integers(
    array: NDArray[np.float32], scale: float, offset: float, bits: int
) -> tuple[NDArray[np.uint16], int, int]:
    """Rounded value x scale + offset as (K, rows, columns), and how many were below and above what the bits hold."""
    columns, rows, slices = array.shape
    most = (1 << bits) - 1
    pixels = np.empty((slices, rows, columns), np.dtype("<u2"))
    below = above = 0
    for start in range(0, slices, _TOGETHER):
        part = slice(start, start + _TOGETHER)
        values = np.rint(np.ascontiguousarray(array[:, :, part].transpose(2, 1, 0)) * np.float32(scale) + offset)
        below += int(np.count_nonzero(values < 0))
        above += int(np.count_nonzero(values > most))
        pixels[part] = np.clip(values, 0, most)
    return pixels, below, above


def _window(pixels: NDArray[np.uint16]) -> Window:
    """From 1 to 99.5 % of the foreground, which is what exceeds an eighth of the mean, as SPM takes it for the head."""
    sample = pixels.reshape(-1)[:: max(1, pixels.size // _SAMPLE) | 1]  # odd: not a few columns only
    counts = np.bincount(sample)
    values = np.arange(len(counts))
    counts[values <= (counts @ values) / sample.size / 8] = 0
    total = np.cumsum(counts)
    if total[-1] == 0:
        return Window(0.5, 1)
    low, high = (int(np.searchsorted(total, share * total[-1])) for share in (0.01, 0.995))
    return Window((low + high + 1) / 2, high - low + 1)
