"""FreeSurfer volumes (.mgh, .mgz), through the header class of nibabel. Read only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from nibabel.freesurfer.mghformat import MGHError, MGHHeader
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError

from imputer.errors import InputError
from imputer.files import strip_suffixes
from imputer.io.header import Header, check_claim, is_gzip, make_volume, opened, read_voxels, reading, summarise
from imputer.volume import Volume

HEADER_BYTES = 284  # fixed; a footer, which is of no use here, follows the voxels
FIELD_BYTES = 90  # of these; the rest is unused
VERSION = (1).to_bytes(4, "big")


def peek_mgh(path: Path) -> Header:
    """Summary of a header; no voxel is read. InputError as `read_mgh`, as far as a header can tell."""
    with reading(path), opened(path) as stream:
        return _headers(path, stream)[0]


def read_mgh(path: Path) -> Volume:
    """Volume of a file; InputError where it is no readable one of one volume of real numbers."""
    with reading(path), opened(path) as stream:
        header, dtype = _headers(path, stream)
        array = read_voxels(stream, header, dtype)
    return make_volume(path, header, array)


def _headers(path: Path, stream: BinaryIO) -> tuple[Header, np.dtype[Any]]:
    """Summary, and the type of the voxels with its byte order. Leaves the stream at the first voxel."""
    block = stream.read(HEADER_BYTES)
    if block[:4] != VERSION or len(block) < HEADER_BYTES:
        raise InputError(f"{path.name} is not a FreeSurfer volume.")
    try:
        with LoggingOutputSuppressor():
            mgh = cast(Any, MGHHeader)(block[:FIELD_BYTES])
            full_shape = tuple(int(size) for size in mgh.get_data_shape())
            dtype = mgh.get_data_dtype()
            affine = np.asarray(mgh.get_affine(), dtype=np.float64)
    except (HeaderDataError, MGHError, ValueError, LookupError, ArithmeticError) as error:
        raise InputError(f"{path.name} has a damaged FreeSurfer header.") from error
    kind = path.name[len(strip_suffixes(path)) :].lower().lstrip(".") or "mgh"
    header = summarise(path.name, full_shape, affine, dtype, kind)
    claimed = HEADER_BYTES + dtype.itemsize * int(np.prod(header.shape, dtype=np.int64))
    check_claim(path.name, claimed, path, compressed=is_gzip(path))
    return header, dtype
