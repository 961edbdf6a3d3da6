"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr), through SimpleITK. Read only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.io.header import Header, check_claim, make_volume, reading, summarise
from imputer.volume import LPS_TO_RAS, Volume

DETACHED = ("mhd", "nhdr")  # the voxels lie in another file
META_HEADER_BYTES = 1 << 16  # more than any header of a .mha file


def peek_itk(path: Path) -> Header:
    """Summary of a header; no voxel is read. InputError as `read_itk`, as far as a header can tell."""
    return _open(path)[1]


def read_itk(path: Path) -> Volume:
    """Volume of a file; InputError where it is no readable one of one volume of real numbers."""
    reader, header = _open(path)
    try:
        with reading(path):
            values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise InputError(f"{path.name} is truncated or damaged.", remedy="Copy or convert it again.") from error
    with np.errstate(over="ignore"):  # beyond float32: infinite, and treated so
        array = np.asarray(values.T, dtype=np.float32).reshape(header.shape, order="F")
    return make_volume(path, header, array)


def _open(path: Path) -> tuple[Any, Header]:
    kind = path.suffix.lower().lstrip(".")
    with reading(path), path.open("rb"):  # says missing, folder and forbidden better than ITK
        pass
    reader: Any = cast(Any, sitk).ImageFileReader()  # SimpleITK types few of its names
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path.name} is not a readable {kind.upper()} file.") from error
    if reader.GetNumberOfComponents() > 1 and "complex" not in _type_name(reader):
        raise InputError(f"{path.name} holds colours or vectors, not intensities.")
    dtype = _dtype(path, reader)
    full_shape = tuple(int(size) for size in reader.GetSize())
    header = summarise(path.name, full_shape, _affine(reader), dtype, kind)
    claimed = dtype.itemsize * int(np.prod(header.shape, dtype=np.int64))
    if kind not in DETACHED:
        check_claim(path.name, claimed, path, compressed=True)  # whether it is, ITK does not say
    if kind == "mha":
        _check_meta_size(path, claimed)
    return reader, header


def _check_meta_size(path: Path, voxel_bytes: int) -> None:
    """InputError for a .mha file that ends too early. ITK would find it too, but prints it as well."""
    with path.open("rb") as file:
        start = file.read(META_HEADER_BYTES)
    found = re.search(rb"^ElementDataFile\s*=\s*LOCAL\s*?\n", start, re.MULTILINE)
    if found is None:
        return
    size = re.search(rb"^CompressedDataSize\s*=\s*(\d+)", start[: found.end()], re.MULTILINE)
    compressed = re.search(rb"^CompressedData\s*=\s*True", start[: found.end()], re.MULTILINE | re.IGNORECASE)
    stored = voxel_bytes if compressed is None else int(size.group(1)) if size is not None else 0
    check_claim(path.name, found.end() + stored, path, compressed=False)


def _affine(reader: Any) -> NDArray[np.float64]:
    """Affine (4, 4) to RAS mm of the first three axes."""
    count = reader.GetDimension()
    affine = np.eye(4)
    if count >= 3:
        direction = np.reshape(reader.GetDirection(), (count, count))[:3, :3]
        affine[:3, :3] = direction * np.asarray(reader.GetSpacing()[:3])
        affine[:3, 3] = reader.GetOrigin()[:3]
    return LPS_TO_RAS @ affine


def _type_name(reader: Any) -> str:
    return str(cast(Any, sitk).GetPixelIDValueAsString(reader.GetPixelID())).lower()


_TYPES = {
    "8-bit signed integer": np.int8,
    "8-bit unsigned integer": np.uint8,
    "16-bit signed integer": np.int16,
    "16-bit unsigned integer": np.uint16,
    "32-bit signed integer": np.int32,
    "32-bit unsigned integer": np.uint32,
    "64-bit signed integer": np.int64,
    "64-bit unsigned integer": np.uint64,
    "32-bit float": np.float32,
    "64-bit float": np.float64,
    "complex of 32-bit float": np.complex64,
    "complex of 64-bit float": np.complex128,
}


def _dtype(path: Path, reader: Any) -> np.dtype[Any]:
    found = _TYPES.get(_type_name(reader))
    if found is None:
        raise InputError(f"{path.name} holds voxels of a type that is not understood.")
    return np.dtype(found)
