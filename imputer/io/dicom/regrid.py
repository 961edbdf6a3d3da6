"""A volume that came as another file (NIfTI, say) brought into the order of the DICOM series it was converted from."""

from __future__ import annotations

import numpy as np

from imputer.errors import InputError
from imputer.volume import Volume, farthest_apart

TOLERANCE_MM = 0.05  # of the corners: converters store affines as float32, and scanners round positions


def in_order_of(volume: Volume, reference: Volume) -> Volume:
    """The voxels of `volume` in the axis order of `reference`, with its affine and origin.

    Nothing is interpolated: the two grids have to be the same up to exchanged and reversed axes.

    Raises
    ------
    InputError
        Where they are not.
    """
    moved = np.linalg.inv(volume.affine) @ reference.affine  # voxel of the reference to voxel of the volume
    axes = [int(axis) for axis in np.abs(moved[:3, :3]).argmax(axis=0)]
    if sorted(axes) != [0, 1, 2] or tuple(volume.shape[axis] for axis in axes) != reference.shape:
        raise _another_grid()
    reverse = [bool(moved[axis, number] < 0) for number, axis in enumerate(axes)]
    exact = np.zeros((4, 4))
    exact[3, 3] = 1
    for number, axis in enumerate(axes):
        exact[axis, number] = -1 if reverse[number] else 1
        exact[axis, 3] = volume.shape[axis] - 1 if reverse[number] else 0
    if farthest_apart(volume.affine @ exact, reference.affine, reference.shape) > TOLERANCE_MM:
        raise _another_grid()
    array = volume.array.transpose(axes)[tuple(slice(None, None, -1) if back else slice(None) for back in reverse)]
    return Volume(np.ascontiguousarray(array), reference.affine, volume.modality, reference.origin)


def _another_grid() -> InputError:
    return InputError(
        "The volume does not lie on the grid of the reference DICOM series.",
        remedy="Give the series that it was converted from, and a volume that was not resampled or cropped.",
    )
