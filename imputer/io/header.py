"""What the header of a file claims, and the checks on it before a voxel is read or memory is taken for one."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.modality import guess_modality
from imputer.volume import Origin, Volume, check_affine, spacing_of

VOXEL_LIMIT = 1 << 31
DEFLATE_LIMIT = 1040  # bytes that one byte of a deflate stream can stand for at most (1032), and a little
SLACK_BYTES = 1 << 16  # for files of a few bytes
CHUNK_VOXELS = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class Header:
    """Summary of a header.

    Attributes
    ----------
    shape : tuple of int
        (I, J, K) voxels.
    spacing : tuple of float
        Along i, j and k, in mm.
    affine : NDArray
        (4, 4) float64, voxel index to RAS mm.
    axis_codes : tuple of str
        Direction that i, j and k grow to: three of L, R, P, A, I, S.
    dtype : str
        Type of the voxels as stored.
    format : str
        As in `Origin`.
    full_shape : tuple of int
        Shape as stored, trailing axes of one element included.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    axis_codes: tuple[str, str, str]
    dtype: str
    format: str
    full_shape: tuple[int, ...]


def summarise(
    name: str, full_shape: tuple[int, ...], affine: NDArray[np.float64], dtype: np.dtype[Any], format_: str
) -> Header:
    """Header of what a file claims.

    Raises
    ------
    InputError
        Where it is not one volume of real numbers on a grid in space, or is absurdly large.
    """
    shape = _three_axes(name, full_shape)
    _refuse_kind(name, dtype)
    voxels = shape[0] * shape[1] * shape[2]
    if voxels > VOXEL_LIMIT:
        raise InputError(f"{name} claims {voxels} voxels, more than this program takes ({VOXEL_LIMIT}).")
    check_affine(affine, name)
    codes = cast(Any, nib).aff2axcodes(affine)  # nibabel types few of its functions
    return Header(shape, spacing_of(affine), affine, codes, dtype.name, format_, full_shape)


def check_claim(name: str, claimed_bytes: int, path: Path, *, compressed: bool) -> None:
    """InputError where a file cannot hold as many bytes as its header claims."""
    held = path.stat().st_size
    most = held * DEFLATE_LIMIT + SLACK_BYTES if compressed else held
    if claimed_bytes > most:
        raise InputError(f"{name} is truncated: its header claims more voxels than the file can hold.")


class ConstantImage(InputError):
    """All voxels of a file are equal; `volume` holds them, for who can do with that: a mask may be all ones."""

    def __init__(self, volume: Volume, message: str) -> None:
        super().__init__(message)
        self.volume = volume


def make_volume(path: Path, header: Header, array: NDArray[np.float32], nifti_header: Any = None) -> Volume:
    """Volume of voxels (I, J, K) that belong to this program alone; NaN and Inf are set to 0 in place, and noted.

    Raises
    ------
    InputError
        Where half of the voxels or more are not finite, or all are equal.
    """
    notes: tuple[str, ...] = ()
    finite = np.isfinite(array)
    bad = array.size - int(np.count_nonzero(finite))
    if 2 * bad >= array.size:
        raise InputError(f"{path.name} holds {bad} NaN or infinite voxels, half of all or more.")
    if bad:
        array[~finite] = 0
        notes = (f"{bad} NaN or infinite voxel{'s' if bad > 1 else ''} set to 0",)
    origin = Origin(path, header.format, nifti_header, header.full_shape, notes, bad)
    volume = Volume(array, header.affine, guess_modality(path), origin)
    if array.min() == array.max():
        raise ConstantImage(volume, f"{path.name} shows nothing: all its voxels are equal.")
    return volume


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be read into an InputError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path.name} does not exist.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path.name} is a folder, not a file.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path.name} is truncated or damaged.", remedy="Copy or convert it again.") from error
    except MemoryError as error:
        raise InputError(f"{path.name} does not fit into memory.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path.name} cannot be read ({reason}).") from error


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed, by its content."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Stream of a file's bytes, uncompressed where it is a gzip file, whatever its name."""
    if is_gzip(path):
        with gzip.open(path, "rb") as stream:
            yield cast(BinaryIO, stream)
    else:
        with path.open("rb") as stream:
            yield stream


def read_voxels(
    stream: BinaryIO, header: Header, dtype: np.dtype[Any], slope: float = 1.0, intercept: float = 0.0
) -> NDArray[np.float32]:
    """Voxels (I, J, K) float32, i fastest, from the place where a stream stands: stored value * slope + intercept.

    Read piece by piece, so that no second copy of the volume is ever held; EOFError where the stream ends too early.
    """
    count = header.shape[0] * header.shape[1] * header.shape[2]
    flat = np.empty(count, dtype=np.float32)
    scaled = slope != 1.0 or intercept != 0.0
    for first in range(0, count, CHUNK_VOXELS):
        size = min(CHUNK_VOXELS, count - first)
        values = np.frombuffer(_exactly(stream, size * dtype.itemsize), dtype=dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32: infinite, and treated so
            flat[first : first + size] = values.astype(np.float64) * slope + intercept if scaled else values
    stream.read(1)  # a gzip stream checks its length and checksum where it ends
    return flat.reshape(header.shape, order="F")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    buffer = io.BytesIO()
    while buffer.tell() < size:
        piece = stream.read(size - buffer.tell())
        if not piece:
            raise EOFError
        buffer.write(piece)
    return buffer.getvalue()


def _three_axes(name: str, full_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if any(size < 1 for size in full_shape):
        raise InputError(f"{name} claims an axis without voxels.")
    if len(full_shape) < 3:
        raise InputError(f"{name} is an image with {len(full_shape)} axes, not a volume with three.")
    if any(size > 1 for size in full_shape[3:]):
        more = " x ".join(map(str, full_shape[3:]))
        raise InputError(
            f"{name} holds {more} volumes (a time series, or several measurements), not one.",
            remedy="Extract one of them, or their mean, first.",
        )
    i, j, k = full_shape[:3]
    return i, j, k


def _refuse_kind(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.fields is not None:
        raise InputError(f"{name} holds colours, not intensities.")
    if dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers, not intensities.", remedy="Store their magnitude first.")
    if dtype.kind not in "iuf":
        raise InputError(f"{name} holds voxels of a type that is not understood.")
