"""A volume as one block, for networks that see all of it at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imputer.preprocess.step import Stack, Undo, affine_from_json, affine_to_json
from imputer.volume import Volume


@dataclass(frozen=True)
class Whole:
    """(I, J, K) to (1, 1, I, J, K), which a network in 3-D takes as (B, C, D, H, W), and back. Exact."""

    def forward(self, volume: Volume) -> tuple[Stack, Undo]:
        """Stack (1, 1, I, J, K) float32."""
        return np.ascontiguousarray(volume.array)[np.newaxis, np.newaxis], {"affine": affine_to_json(volume.affine)}

    def inverse(self, stack: Stack, undo: Undo) -> Volume:
        """Volume (I, J, K) of a stack (1, 1, I, J, K), without modality and origin; ValueError for another shape."""
        if stack.ndim != 5 or stack.shape[:2] != (1, 1):
            raise ValueError(f"a stack of a whole volume has the shape (1, 1, I, J, K), not {stack.shape}")
        return Volume(stack[0, 0], affine_from_json(undo["affine"]))
