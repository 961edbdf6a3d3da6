"""What tells that two files hold the same image: the SHA-256 of its voxels in a common order."""

from __future__ import annotations

import hashlib

import numpy as np

from imputer.preprocess.orient import Orient
from imputer.volume import Volume

LENGTH = 16  # digits of a fingerprint: among a million volumes two agree by chance with a probability of 3e-8


def digest(volume: Volume) -> str:
    """SHA-256, 64 hexadecimal digits, of the shape and the float32 voxels of a volume, its axes turned to LPS.

    Names, headers and the order of the axes in the file do not enter, so that a renamed or converted copy of an image
    has the same one. The noise of a synthesis is drawn from it: it must never change.
    """
    array = Orient().forward(volume)[0].array
    result = hashlib.sha256(repr(array.shape).encode())
    result.update(np.asfortranarray(array).T.data)
    return result.hexdigest()


def fingerprint(volume: Volume) -> str:
    """The first 16 digits of `digest`: what a model keeps of each volume that it was trained on."""
    return digest(volume)[:LENGTH]
