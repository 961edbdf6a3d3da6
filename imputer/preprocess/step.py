"""What a step is: a change of a volume, with a record of how to undo it.

Records ("undo") are dicts that survive ``json.dumps`` and ``json.loads`` bit by bit: they go into the sidecar, and
the way back can be taken from there. What cannot be undone (clipping, resampling) is said in the record: lossy = true.
"""

from __future__ import annotations

from dataclasses import Field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from imputer.volume import Volume

Undo = dict[str, Any]
Stack = NDArray[np.float32]  # (S, 1, H, W) of slices or (1, 1, I, J, K) of a whole volume, in [-1, 1]
LARGEST_VOXELS = 2**28  # of a grid that a step makes (1 GiB); only an affine in a wrong unit leads there
_SHOWN = 60  # characters of a foreign text in a message


class Step(Protocol):
    """A frozen dataclass of settings with a way forth and a way back."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def forward(self, volume: Volume) -> tuple[Volume, Undo]:
        """Change a volume; the second value is what `inverse` needs."""

    def inverse(self, volume: Volume, undo: Undo) -> Volume:
        """Put a volume of the changed grid back on the former one."""


def is_number(value: object, low: float, high: float) -> bool:
    """Whether a setting, which may come from a foreign file, is a number within `low` to `high`, both included."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def shown(value: object) -> str:
    """A setting as a message has it: what a foreign file gives may be very long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def affine_to_json(affine: NDArray[np.float64]) -> list[list[float]]:
    """Affine (4, 4) as lists of floats, which JSON keeps to the last bit."""
    return [[float(value) for value in row] for row in affine]


def affine_from_json(rows: list[list[float]]) -> NDArray[np.float64]:
    """Affine (4, 4) float64 of `affine_to_json`."""
    return np.array(rows, dtype=np.float64)


def index_affine(scales: list[float], offsets: list[float]) -> NDArray[np.float64]:
    """Affine (4, 4) that maps an index n of one grid to the index scale * n + offset of another, axis by axis."""
    matrix = np.diag([*scales, 1.0])
    matrix[:3, 3] = offsets
    return matrix
