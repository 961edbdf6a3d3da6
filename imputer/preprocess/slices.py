"""A volume as a stack of its slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imputer.preprocess.step import Stack, Undo, affine_from_json, affine_to_json
from imputer.volume import Volume


@dataclass(frozen=True)
class Slices:
    """(I, J, K) to (S, 1, H, W) with S = K, H = J and W = I, and back. Exact.

    After ``Orient("LPS")`` row 0 is at the front and column 0 at the patient's right: the radiologist's view.
    """

    def forward(self, volume: Volume) -> tuple[Stack, Undo]:
        """Stack (S, 1, H, W) float32."""
        stack = np.ascontiguousarray(volume.array.transpose(2, 1, 0)[:, np.newaxis])
        return stack, {"affine": affine_to_json(volume.affine)}

    def inverse(self, stack: Stack, undo: Undo) -> Volume:
        """Volume (I, J, K) of a stack (S, 1, H, W), without modality and origin; ValueError for another shape."""
        if stack.ndim != 4 or stack.shape[1] != 1:
            raise ValueError(f"a stack has the shape (S, 1, H, W), not {stack.shape}")
        return Volume(stack[:, 0].transpose(2, 1, 0), affine_from_json(undo["affine"]))
