"""One volume: voxels, and apart from them where they lie in space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imputer.errors import InputError
from imputer.modality import Modality

# Positions of DICOM and ITK are LPS: x grows to the left and y to the back, so that two signs differ from ours.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Volume of the unit cell against that of a box with the same edges; below this the axes lie in one plane.
FLATNESS_LIMIT = 1e-4


class _Keep:
    """Default of an argument for which None has a meaning of its own."""


_KEEP: Final = _Keep()


@dataclass(frozen=True)
class Origin:
    """Where a volume was read from.

    Attributes
    ----------
    path : Path
        The file, or the folder or zip of a DICOM series.
    format : str
        "nifti1", "nifti2", "mha", "mhd", "nrrd", "nhdr", "mgz", "mgh" or "dicom".
    header : Any
        Copy of the nibabel header of a NIfTI file, the `DicomSeries` of a DICOM series, else None.
    full_shape : tuple of int
        Shape as stored, trailing axes of one element included.
    notes : tuple of str
        What was changed on reading, for example "12 NaN voxels set to 0".
    not_finite : int
        Voxels that were NaN or infinite, and set to 0.
    """

    path: Path
    format: str
    header: Any = field(default=None, repr=False)  # may hold free text of a patient: never shown
    full_shape: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    not_finite: int = 0


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid in space.

    Attributes
    ----------
    array : NDArray
        (I, J, K) float32, any unit.
    affine : NDArray
        (4, 4) float64, read-only: voxel index (i, j, k, 1) to mm, RAS (x right, y front, z up).
    modality : Modality or None
        Kind of image, where known.
    origin : Origin or None
        The file that it came from.

    Raises
    ------
    InputError
        Where the array is not three-dimensional or is empty, or the affine is not finite or singular.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    modality: Modality | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        array = np.asarray(self.array, dtype=np.float32)
        if array.ndim != 3 or array.size == 0:
            raise InputError(f"A volume has three axes, none of them empty; this one has the shape {array.shape}.")
        affine = np.array(self.affine, dtype=np.float64)
        check_affine(affine)
        affine.flags.writeable = False
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along i, j and k."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along i, j and k, in mm."""
        return spacing_of(self.affine)

    def with_array(self, array: ArrayLike, *, modality: Modality | _Keep | None = _KEEP) -> Volume:
        """The same grid with other voxels (I, J, K), and another modality where one is given.

        Raises
        ------
        ValueError
            Where the shape differs.
        """
        voxels = np.asarray(array, dtype=np.float32)
        if voxels.shape != self.shape:
            raise ValueError(f"an array of shape {voxels.shape} does not fit a grid of {self.shape}")
        kept = self.modality if isinstance(modality, _Keep) else modality
        return replace(self, array=voxels, modality=kept)

    def with_grid(self, array: NDArray[np.float32], affine: NDArray[np.float64]) -> Volume:
        """Other voxels on another grid, of the same modality and origin."""
        return replace(self, array=array, affine=affine)


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Lengths in mm of the three columns of an affine."""
    i, j, k = np.sqrt(np.sum(np.square(affine[:3, :3]), axis=0))
    return float(i), float(j), float(k)


def farthest_apart(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, int, int]) -> float:
    """How far the corners of a grid of `shape` lie apart by two affines: the most along x, y or z, mm."""
    return float(np.abs((one - other)[:3] @ corners_of(shape)).max())


def corners_of(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """The indices of the outermost voxels of a grid, (4, 8), each as (i, j, k, 1): an affine takes them to mm."""
    return np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in shape))], dtype=np.float64).T


def check_affine(affine: NDArray[np.float64], name: str = "The volume") -> None:
    """Raise InputError, beginning with `name`, unless an affine (4, 4) maps voxels to space and back."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
        raise InputError(f"{name} has no valid affine (a finite 4 x 4 matrix from voxels to mm).")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    flat = lengths.min() == 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < FLATNESS_LIMIT
    if flat:
        raise InputError(f"{name} has a singular affine: its three axes do not span space.")
