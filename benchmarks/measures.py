"""What several benchmarks measure on volumes."""

from __future__ import annotations

import os
import platform

import numpy as np
import torch
from numpy.typing import NDArray

from imputer.preprocess.orient import Orient
from imputer.volume import Volume


def machine(name: str = "") -> dict[str, object]:
    """Tell the machine that a result belongs to; `name` is what its owner calls its processor."""
    return {
        "machine": platform.machine(),
        "processor": name or platform.processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def axial(volume: Volume) -> Volume:
    """Return the volume with its axes in the radiologist's order, slices along the last."""
    return Orient().forward(volume)[0]


def edges(array: NDArray[np.float32]) -> float:
    """Return the mean in-plane gradient of a volume over its mean: what blur takes away."""
    along_i, along_j = np.diff(array, axis=0)[:, 1:], np.diff(array, axis=1)[1:]
    return float(np.hypot(along_i, along_j).mean() / array.mean())


def edge_agreement(one: NDArray[np.float32], other: NDArray[np.float32], head: NDArray[np.bool_]) -> float:
    """Return how far the in-plane edges of two volumes (I, J, K) run alike within a head: 0.5 by chance, 1 at best.

    The mean squared cosine of the angle between their gradients, each voxel weighing by how clear both edges are
    (normalised gradient fields of Haber and Modersitzki, MICCAI 2006): which side of an edge is brighter, and by how
    much, has no part in it, so that two contrasts of one patient can be compared.
    """
    first, second = _clear_gradients(one, head), _clear_gradients(other, head)
    together = (first * second).sum(axis=0) ** 2
    return float(together.mean() / ((first**2).sum(axis=0) * (second**2).sum(axis=0)).mean())


def _clear_gradients(array: NDArray[np.float32], head: NDArray[np.bool_]) -> NDArray[np.float64]:
    """In-plane gradients (2, N) of the N voxels of a head: length 1 where they are clear, next to 0 where they are not.

    Clear is what is steeper than the mean gradient.
    """
    found = np.stack([each[head] for each in np.gradient(array.astype(np.float64), axis=(0, 1))])
    steepness: NDArray[np.float64] = np.hypot(*found)
    return np.asarray(found / np.hypot(steepness, steepness.mean()))


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
