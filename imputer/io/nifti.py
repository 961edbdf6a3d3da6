"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz), in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from isal.igzip import IGzipFile
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.files import replacing
from imputer.io.header import Header, check_claim, is_gzip, make_volume, opened, read_voxels, reading, summarise
from imputer.volume import Volume

HEADER_BYTES = {348: "nifti1", 540: "nifti2"}  # the first field of a header is its own length
MAGICS = {"nifti1": (344, b"n+1\0"), "nifti2": (4, b"n+2\0")}
NO_EXTENSION = bytes(4)
DESCRIPTION_BYTES = 79  # of 80, the last stays zero
INT16_MOST = 32767
NIFTI1_LONGEST_AXIS = 32767
SCANNER_CODE = 1
GZIP_LEVEL = 2  # of 0 to 3 of ISA-L, which makes no larger files than zlib in a tenth of its time
# Fields that say something of the source's values, or hold free text that may name a patient.
CLEARED = (
    "intent_code",
    "intent_p1",
    "intent_p2",
    "intent_p3",
    "intent_name",
    "cal_max",
    "cal_min",
    "glmax",
    "glmin",
    "aux_file",
    "db_name",
    "data_type",
    "extents",
    "session_error",
    "unused_str",
)


def is_nifti(path: Path) -> bool:
    """Whether a file begins like a NIfTI file, compressed or not."""
    with reading(path), opened(path) as stream:
        return _format_of(stream.read(348)) is not None


def peek_nifti(path: Path) -> Header:
    """Summary of a header; no voxel is read. InputError as `read_nifti`, as far as a header can tell."""
    with reading(path), opened(path) as stream:
        return _headers(path, stream)[0]


def read_nifti(path: Path) -> Volume:
    """Volume of a file: slope and intercept applied, affine from the sform, else the qform, else the voxel sizes.

    Raises
    ------
    InputError
        Where it is no readable NIfTI file of one volume of real numbers with a valid affine.
    """
    with reading(path), opened(path) as stream:
        header, nifti = _headers(path, stream)
        stream.seek(nifti.get_data_offset())
        slope, intercept = _scaling(path, nifti)
        array = read_voxels(stream, header, nifti.get_data_dtype(), slope, intercept)
    return make_volume(path, header, array, nifti)


def write_nifti(volume: Volume, path: Path, *, like: Volume, description: str, overwrite: bool) -> None:
    """Write a volume with the geometry of `like` to the bit; `imputer.io.dispatch.save` says all."""
    header = _header_like(like)
    integral = _fits_int16(volume.array)
    header.set_data_dtype(np.int16 if integral else np.float32)
    header.set_slope_inter(1, 0)
    header["descrip"] = description.encode("utf-8")[:DESCRIPTION_BYTES].decode("utf-8", "ignore").encode("utf-8")
    header["vox_offset"] = len(header.binaryblock) + len(NO_EXTENSION)
    dtype = header.get_data_dtype()  # with the byte order of the header
    with replacing(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # Neither name nor time inside: the same volume gives the same bytes, on processors of one kind at least.
            with cast(Any, IGzipFile)("", "wb", GZIP_LEVEL, file, mtime=0) as stream:  # isal types it in part
                _write(cast(BinaryIO, stream), header, volume.array, dtype)
        else:
            _write(file, header, volume.array, dtype)


def _write(stream: BinaryIO, header: Any, array: NDArray[np.float32], dtype: np.dtype[Any]) -> None:
    stream.write(header.binaryblock + NO_EXTENSION)
    for k in range(array.shape[2]):
        stream.write(array[:, :, k].astype(dtype).tobytes(order="F"))


def _format_of(start: bytes) -> str | None:
    for order in ("little", "big"):
        format_ = HEADER_BYTES.get(int.from_bytes(start[:4], order))
        if format_ is not None:
            place, magic = MAGICS[format_]
            return format_ if start[place : place + 4] == magic else None
    return None


def _headers(path: Path, stream: BinaryIO) -> tuple[Header, Any]:
    """Our summary and the header of nibabel, without the extensions, which may hold anything."""
    start = stream.read(348)
    format_ = _format_of(start)
    if format_ is None:
        raise InputError(f"{path.name} is not a NIfTI file.")
    kind: Any = nib.Nifti1Header if format_ == "nifti1" else nib.Nifti2Header
    block = start + stream.read(kind.sizeof_hdr - len(start))
    if len(block) < kind.sizeof_hdr:
        raise EOFError
    try:
        with LoggingOutputSuppressor():  # nibabel logs what it mends
            nifti = kind(block)
            full_shape = tuple(int(size) for size in nifti.get_data_shape())
            dtype = nifti.get_data_dtype()
            affine = np.asarray(nifti.get_best_affine(), dtype=np.float64)
            offset = nifti.get_data_offset()
    except (HeaderDataError, ValueError, LookupError, ArithmeticError) as error:
        raise InputError(f"{path.name} has a damaged NIfTI header.") from error
    header = summarise(path.name, full_shape, affine, dtype, format_)
    claimed = offset + dtype.itemsize * int(np.prod(header.shape, dtype=np.int64))
    check_claim(path.name, claimed, path, compressed=is_gzip(path))
    return header, nifti


def _scaling(path: Path, nifti: Any) -> tuple[float, float]:
    try:
        slope, intercept = nifti.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(f"{path.name} has a damaged NIfTI header (slope or intercept).") from error
    return (1.0 if slope is None else float(slope)), (0.0 if intercept is None else float(intercept))


def _header_like(like: Volume) -> Any:
    """Header with the geometry of a volume: that of its file where it was NIfTI, else one made from its affine."""
    if like.origin is not None and like.origin.format in HEADER_BYTES.values():
        header = like.origin.header.copy()
        for name in CLEARED:
            if name in header:  # NIfTI-2 has not all of them
                header[name] = np.zeros_like(header[name])
        return header
    kind: Any = nib.Nifti1Header if max(like.shape) <= NIFTI1_LONGEST_AXIS else nib.Nifti2Header
    header = kind()
    header.set_data_shape(like.shape)
    header.set_sform(like.affine, code=SCANNER_CODE)
    header.set_qform(like.affine, code=SCANNER_CODE)
    header.set_xyzt_units(xyz="mm")
    return header


def _fits_int16(array: NDArray[np.float32]) -> bool:
    if not (array.min() >= -INT16_MOST and array.max() <= INT16_MOST):
        return False
    return all(np.array_equal(np.rint(plane), plane) for plane in array.transpose(2, 0, 1))
