"""Other slices of the same head: a tilted grid through a volume that is warped in three dimensions.

Few patients have to stand for many, and warps of a slice never show what lies between two of them. All volumes of a
case are resampled in one step, by cubic splines, after their voxels were widened where those of the grid are larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.random import Generator
from numpy.typing import NDArray

from imputer.preprocess.regrid import to_image, widened
from imputer.preprocess.resample import SPLINE_MINIMUM
from imputer.volume import Volume, corners_of

TILT = 8.0  # degrees, largest, about the axes within a slice, where slices are thick
FREE_TILT = 20.0  # where they are as thin as the pixels are wide
TURN = 0.3  # of that, about the axis across the slices: warps of slices turn them already
THICK = 1.5  # from so many pixels' width on a slice is thick
SLICES_MM = (3.0, 4.0)  # distance of the new slices; where the volume's own are thicker, from that to a third more
PIXELS = (0.91, 1.11)  # of the model's pixel
WARP_MM = (3.0, 3.0, 2.0)  # standard deviation of the control points along each axis
CONTROL = (5, 5, 4)  # cells of the warp's control grid


@dataclass(frozen=True)
class Tilt:
    """A grid through a warped case.

    Parameters
    ----------
    grid : its voxels are 0; the affine is that of the new slices.
    warp : from places of the grid to places of the volume that it was drawn for, LPS mm.
    """

    grid: Volume
    warp: sitk.Transform

    def volumes(self, volumes: Sequence[Volume | None], ways: Sequence[sitk.Transform]) -> list[Volume | None]:
        """Resample the volumes of a case; 0 wherever one of them shows nothing. None stays None.

        Parameters
        ----------
        ways : for each from places of the volume that the tilt was drawn for to its own, LPS mm.
        """
        there = [
            (volume, _one_after_the_other(self.warp, way))
            for volume, way in zip(volumes, ways, strict=True)
            if volume is not None
        ]
        seen = np.all([self._seen(volume, way) for volume, way in there], axis=0)
        made = iter([self._resampled(volume, way, seen) for volume, way in there])
        return [None if volume is None else next(made) for volume in volumes]

    def _resampled(self, volume: Volume, way: sitk.Transform, seen: NDArray[np.bool_]) -> Volume:
        interpolator = sitk.sitkBSpline if min(volume.shape) >= SPLINE_MINIMUM else sitk.sitkLinear
        array = _resample(widened(volume, self.grid), self.grid, way, interpolator)
        # A spline overshoots at edges: nothing shall be darker than the volume is.
        return self.grid.with_array(np.maximum(array, volume.array.min()) * seen, modality=volume.modality)

    def _seen(self, volume: Volume, way: sitk.Transform) -> NDArray[np.bool_]:
        everywhere = volume.with_array(np.ones(volume.shape, dtype=np.float32))
        return np.asarray(_resample(to_image(everywhere), self.grid, way, sitk.sitkLinear) > 0.5)


def across(volume: Volume) -> float:
    """Return the greatest distance of neighbouring voxels, in mm: that of the slices."""
    return max(volume.spacing)


def draw(volume: Volume, pixel_mm: float, generator: Generator) -> Tilt:
    """Draw a grid of axial slices, tilted about the centre of a volume's field of view, and a warp.

    `pixel_mm` is the model's size of pixels; the grid's differs by some percent, as heads do.
    """
    limit = TILT if across(volume) > THICK * min(volume.spacing) else FREE_TILT
    rotation = _rotation(generator.uniform(-limit, limit, 3) * (1, 1, TURN))
    thickness = max(SLICES_MM[0], across(volume))
    thickness *= generator.uniform(1, SLICES_MM[1] / SLICES_MM[0])
    pixel = pixel_mm * generator.uniform(*PIXELS)
    spacing = np.array((pixel, pixel, thickness))
    corners = volume.affine[:3] @ corners_of(volume.shape)
    low, high = corners.min(axis=1), corners.max(axis=1)
    shape = np.maximum(np.round((high - low) / spacing), 1).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    centre = (low + high) / 2 + generator.uniform(-0.5, 0.5, 3) * spacing
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    grid = Volume(np.zeros(shape, dtype=np.float32), affine, volume.modality)
    return Tilt(grid, _warp(to_image(grid), generator))


def _rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*np.radians(degrees).tolist())
    return np.array(turn.GetMatrix()).reshape(3, 3)


def _warp(grid: sitk.Image, generator: Generator) -> sitk.Transform:
    warp = sitk.BSplineTransformInitializer(grid, list(CONTROL), 3)
    count = len(warp.GetParameters()) // 3
    warp.SetParameters((generator.standard_normal((3, count)) * np.array(WARP_MM)[:, None]).ravel().tolist())
    # Every volume of the case asks for the same places: looked up, they cost a fraction of the splines.
    field = sitk.TransformToDisplacementField(
        warp, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )
    return sitk.DisplacementFieldTransform(field)


def _one_after_the_other(first: sitk.Transform, second: sitk.Transform) -> sitk.Transform:
    both = sitk.CompositeTransform(3)
    both.AddTransform(second)
    both.AddTransform(first)  # what is added last comes first
    return both


def _resample(image: sitk.Image, grid: Volume, way: sitk.Transform, interpolator: int) -> NDArray[np.float32]:
    made = sitk.Resample(image, to_image(grid), way, interpolator, 0.0, sitk.sitkFloat32)
    return np.asarray(sitk.GetArrayFromImage(made).T, dtype=np.float32)
