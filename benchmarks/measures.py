"""What several benchmarks measure on volumes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imputer.preprocess.orient import Orient
from imputer.volume import Volume


def axial(volume: Volume) -> Volume:
    """Return the volume with its axes in the radiologist's order, slices along the last."""
    return Orient().forward(volume)[0]


def edges(array: NDArray[np.float32]) -> float:
    """Return the mean in-plane gradient of a volume over its mean: what blur takes away."""
    along_i, along_j = np.diff(array, axis=0)[:, 1:], np.diff(array, axis=1)[1:]
    return float(np.hypot(along_i, along_j).mean() / array.mean())


def head_of(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell the voxels of the head from air."""
    return array > array.mean() / 8


def flicker(array: NDArray[np.float32], head: NDArray[np.bool_]) -> dict[str, float]:
    """Return how a volume (I, J, K) changes from slice to slice within the head, over its mean there.

    change: mean absolute difference of neighbours. curvature: mean absolute second difference, of which anatomy, being
    smooth, has less than noise.
    """
    scaled = array.astype(np.float64) / array[head].mean(dtype=np.float64)
    first, second = np.diff(scaled, axis=2), np.diff(scaled, n=2, axis=2)
    inside = head[:, :, 1:] & head[:, :, :-1]
    deeper = inside[:, :, 1:] & inside[:, :, :-1]
    return {"change": float(np.abs(first[inside]).mean()), "curvature": float(np.abs(second[deeper]).mean())}
