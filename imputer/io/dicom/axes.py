"""The axis order in which dcm2niix writes a DICOM series as NIfTI, so that both give the same file grid.

dcm2niix (1.0.20220720 and since) sorts slices along the normal, as geometry.py does, and then

1. reverses j, so that rows are counted from the last one (its option ``-y`` is on by default);
2. where MRAcquisitionType is 3D, turns the axes towards R, A and S: of the corners of the grid, the one nearest to the
   point with the lowest x, y and z of any of them becomes voxel (0, 0, 0), and the axes are exchanged so that the sum
   of the diagonal of the affine (in mm, not of unit vectors) is greatest.

Step 2 gives the nearest canonical orientation where the grid is near the body's axes, but not always where it is
strongly oblique or its voxels are long. Neither vendor, nor file names, nor the class of the objects
matter: this was found by experiment, which tests/io/dicom/test_axes.py repeats. The distance of slices is that of the
first two by number, where geometry.py takes the mean of all: scanners round positions, and at the far end of a series
of 96 the two differ by 0.01 mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from imputer.io.dicom.frames import DicomSeries
from imputer.io.dicom.headers import integer, values
from imputer.volume import LPS_TO_RAS, Volume

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Axes:
    """Another order of the axes of a grid; nothing is interpolated.

    Attributes
    ----------
    order : tuple of int
        Axis n of the result is axis ``order[n]`` of the source.
    reverse : tuple of bool
        Whether axis n of the result runs against it.
    """

    order: tuple[int, int, int]
    reverse: tuple[bool, bool, bool]

    def apply(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """The voxels (I, J, K) in the new order; contiguous."""
        return np.ascontiguousarray(array.transpose(self.order)[self._slices()])

    def undo(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """The voxels, given in the new order, in that of the source; contiguous."""
        back = [self.order.index(axis) for axis in range(3)]
        return np.ascontiguousarray(array[self._slices()].transpose(back))

    def affine(self, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """The affine (4, 4) of the new order, from that of a source of `shape`."""
        return affine @ self._matrix(shape)

    def undo_affine(self, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """The affine of the source, of `shape`, from that of the new order."""
        return affine @ np.linalg.inv(self._matrix(shape))

    def _slices(self) -> tuple[slice, slice, slice]:
        one, two, three = (slice(None, None, -1 if reverse else None) for reverse in self.reverse)
        return one, two, three

    def _matrix(self, shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """Voxel of the new order to voxel of the source."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for axis, (source, reverse) in enumerate(zip(self.order, self.reverse, strict=True)):
            matrix[source, axis] = -1 if reverse else 1
            matrix[source, 3] = shape[source] - 1 if reverse else 0
        return matrix


ROWS_UP: Final = Axes((0, 1, 2), (False, True, False))


def nifti_axes(affine: NDArray[np.float64], shape: tuple[int, int, int], *, three_d: bool) -> Axes:
    """The order in which dcm2niix writes a grid.

    Parameters
    ----------
    affine, shape
        Of the DICOM volume in the order of geometry.py: (column, row, slice along the normal) to RAS mm.
    three_d : bool
        Whether MRAcquisitionType says 3D.
    """
    if not three_d:
        return ROWS_UP
    reverse = _reverse_to_lowest_corner(affine, shape)
    upright = affine[:3, :3] * np.where(reverse, -1, 1)
    order = max(permutations(range(3)), key=lambda axes: float(sum(upright[world, axes[world]] for world in range(3))))
    i, j, k = order
    return Axes((i, j, k), (reverse[i], reverse[j], reverse[k]))


def like_dcm2niix(volume: Volume) -> Volume:
    """A volume read from DICOM in the axis order, and with the affine, of dcm2niix.

    Its origin no longer holds the series, whose frames are not in the order of these voxels.

    Raises
    ------
    ValueError
        Where the volume does not come from a DICOM series.
    """
    axes = axes_of(volume)
    assert volume.origin is not None  # axes_of has looked
    affine = _with_first_step(volume.affine, volume.origin.header)
    turned = volume.with_grid(axes.apply(volume.array), axes.affine(affine, volume.shape))
    return replace(turned, origin=replace(volume.origin, header=None))


def axes_of(volume: Volume) -> Axes:
    """The order in which dcm2niix writes the series that a volume was read from; ValueError where it was none."""
    series = volume.origin.header if volume.origin is not None else None
    if not isinstance(series, DicomSeries):
        raise ValueError("the volume was not read from a DICOM series")
    kind = values(series.frames[0].dataset, "MRAcquisitionType")
    return nifti_axes(volume.affine, volume.shape, three_d=kind[:1] == ("3D",))


def _with_first_step(affine: NDArray[np.float64], series: DicomSeries) -> NDArray[np.float64]:
    """The affine with the step of the first two slices by number, from the first one on, as dcm2niix has it.

    Positions are rounded in the files, so it may differ from the mean step by some thousandths of a millimetre, but
    what is converted by either program shall lie on one grid.
    """
    numbers = [integer(frame.dataset, "InstanceNumber") for frame in series.frames]
    if series.multi_frame or len(numbers) < 2 or None in numbers:
        return affine
    steps = np.sign(np.diff(np.array(numbers, dtype=np.int64)))
    if abs(int(steps.sum())) != len(steps):  # dcm2niix looks at the places, too
        return affine
    first, second = (0, 1) if steps[0] > 0 else (len(numbers) - 1, len(numbers) - 2)
    start, following = (LPS_TO_RAS[:3, :3] @ series.frames[k].position for k in (first, second))
    result = affine.copy()
    result[:3, 2] = (following - start) * steps[0]
    result[:3, 3] = start - result[:3, 2] * first
    return result


def _reverse_to_lowest_corner(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[bool, bool, bool]:
    """Which axes to reverse so that voxel (0, 0, 0) is the corner nearest to the lowest x, y and z of all corners."""
    candidates = list(product((False, True), repeat=3))
    ends = np.array(shape) - 1
    corners = np.array([affine[:3, :3] @ (ends * candidate) for candidate in candidates])
    distance = np.linalg.norm(corners - corners.min(axis=0), axis=1)
    i, j, k = candidates[int(distance.argmin())]
    return i, j, k
