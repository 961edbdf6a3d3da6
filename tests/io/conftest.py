"""NIfTI files of all kinds, made byte by byte, so that nibabel can serve as the independent reader."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

OBLIQUE = np.array(
    [
        [-0.9067970, 0.0665911, 0.1346342, 103.094],
        [-0.0694655, -0.9050500, -0.2197378, 134.934],
        [0.0357394, -0.0695368, 2.9889102, -49.2741],
        [0, 0, 0, 1],
    ]
)


def write(
    path: Path,
    array: NDArray[Any],
    affine: NDArray[np.float64] = OBLIQUE,
    *,
    sform: int = 2,
    qform: int = 1,
    version: int = 1,
    endianness: str = "<",
    **fields: Any,
) -> Path:
    """Write a NIfTI file whose stored voxels are exactly `array`, with header fields (scl_slope, ...) as given."""
    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    header = kind(endianness=endianness)
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_qform(affine, code=qform)
    header.set_sform(affine, code=sform)
    header.set_xyzt_units("mm", "sec")
    header["vox_offset"] = len(header.binaryblock) + 4
    stored = array.astype(header.get_data_dtype())  # in the byte order of the header
    for name, value in fields.items():
        header[name] = value
    data = header.binaryblock + bytes(4) + stored.tobytes(order="F")
    path.write_bytes(gzip.compress(data, 1) if path.name.endswith(".gz") else data)
    return path


def cube(shape: tuple[int, ...] = (7, 6, 5), dtype: Any = np.int16, seed: int = 0) -> NDArray[Any]:
    """Random voxels from 0 to 900."""
    return (np.random.default_rng(seed).random(shape) * 900).astype(dtype)


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    return write


@pytest.fixture(scope="session")
def make_cube() -> Callable[..., NDArray[Any]]:
    return cube
