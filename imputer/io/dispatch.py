"""The door of this folder: one volume from a file of any known kind, and one into a NIfTI file.

DICOM is a folder, a zip or a file of any name, told by its content; its library is loaded only where there is some.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imputer.errors import InputError, UsageError
from imputer.files import is_nifti_name
from imputer.io.header import Header
from imputer.io.itk import peek_itk, read_itk
from imputer.io.mgh import peek_mgh, read_mgh
from imputer.io.nifti import is_nifti, peek_nifti, read_nifti, write_nifti
from imputer.modality import Modality
from imputer.volume import Volume

__all__ = ["Header", "in_order_of", "is_dicom", "load", "peek", "save"]


class _Reader(NamedTuple):
    peek: Callable[[Path], Header]
    read: Callable[[Path], Volume]


_NIFTI = _Reader(peek_nifti, read_nifti)
_ITK = _Reader(peek_itk, read_itk)
_MGH = _Reader(peek_mgh, read_mgh)
_READERS = {
    ".nii": _NIFTI,
    ".nii.gz": _NIFTI,
    ".mha": _ITK,
    ".mhd": _ITK,
    ".nrrd": _ITK,
    ".nhdr": _ITK,
    ".mgz": _MGH,
    ".mgh": _MGH,
    ".mgh.gz": _MGH,
}


READ = tuple(_READERS)  # endings of the files that `load` knows by name


def load(
    path: Path,
    *,
    series: str | None = None,
    select: Sequence[str] = (),
    fits: Callable[[Modality | None], bool] | None = None,
) -> Volume:
    """Volume of a file: .nii, .nii.gz, .mha, .mhd, .nrrd, .nhdr, .mgz or .mgh; another name where it holds NIfTI.

    Also of a DICOM series: a folder, a zip, or a multi-frame file. NaN and infinite voxels become 0, which
    ``origin.notes`` says. The modality is that of the file name, if any, or of a series' sequence parameters.

    Parameters
    ----------
    path : Path
        File or folder.
    series : str or None
        DICOM only: UID, number or description of the series to take.
    select : sequence of str
        DICOM only: which of several volumes in one series, e.g. "EchoTime=5.19".
    fits : callable
        DICOM only: tells of a modality (None: unknown) whether a series of it may be taken without being named.

    Raises
    ------
    InputError
        Where the file is missing, damaged or of another kind, or holds no single volume of real numbers with a valid
        affine, or absurdly many voxels (found before memory is taken), or mostly NaN, or nothing but one value.
    """
    path = Path(path)
    if is_dicom(path):
        from imputer.io.dicom.read import read_dicom

        return read_dicom(path, series=series, select=select, fits=fits)
    if series is not None or select:
        raise UsageError(f"{path.name} is no DICOM input.", remedy="Leave --series and --select out.")
    return _reader(path).read(path)


def is_dicom(path: Path) -> bool:
    """Whether a folder, a zip or a file holds DICOM, by its content; False where there is nothing at the path."""
    path = Path(path)
    if not path.exists() or (path.is_file() and path.name.lower().endswith(READ)):
        return False
    from imputer.io.dicom.members import is_dicom as holds_dicom

    return holds_dicom(path)


def in_order_of(volume: Volume, reference: Volume) -> Volume:
    """The voxels of `volume` in the axis order, and with the affine and origin, of a DICOM series of the same grid.

    InputError where the grids are not the same up to exchanged and reversed axes.
    """
    from imputer.io.dicom.regrid import in_order_of as ordered

    return ordered(volume, reference)


def peek(path: Path) -> Header:
    """Summary of a file's header; no voxel is read. InputError as `load`, as far as a header can tell."""
    path = Path(path)
    return _reader(path).peek(path)


def save(volume: Volume, path: Path, *, like: Volume, description: str, overwrite: bool = False) -> None:
    """Write a volume as NIfTI with the geometry of another one, to the bit. Wholly, or not at all.

    Shape with trailing axes of one element, sform, qform, their codes, voxel sizes, units and NIfTI version are those
    of the file that `like` came from; where that was no NIfTI file, NIfTI-1 with its affine as sform and qform (code
    1, scanner), a DICOM series in the axis order of dcm2niix. Nothing else of the source's header that is text goes
    along. Stored as int16 where all voxels are integers within +-32767, else as float32.

    Parameters
    ----------
    volume : Volume
        On the grid of `like`.
    path : Path
        Ends with .nii or .nii.gz.
    like : Volume
        Gives the geometry.
    description : str
        For the field ``descrip``; cut after 79 bytes.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    UsageError
        Where the name ends otherwise.
    OutputError
        Where the file exists and `overwrite` is false, or the system refuses to write.
    ValueError
        Where the two grids differ.
    """
    path = Path(path)
    if not is_nifti_name(path):
        raise UsageError(f"{path.name} does not end with .nii or .nii.gz.", remedy="Results are written as NIfTI.")
    if volume.shape != like.shape or not np.allclose(volume.affine, like.affine, rtol=1e-6, atol=1e-4):
        raise ValueError("the volume does not lie on the grid that it should be written with")
    if like.origin is not None and like.origin.format == "dicom":
        from imputer.io.dicom.axes import like_dcm2niix

        volume = like = like_dcm2niix(replace(volume, origin=like.origin))
    write_nifti(volume, path, like=like, description=description, overwrite=overwrite)


def _reader(path: Path) -> _Reader:
    name = path.name.lower()
    for suffix, reader in _READERS.items():
        if name.endswith(suffix):
            return reader
    if path.is_dir():
        raise InputError(f"The folder {path.name} holds no DICOM file.", remedy="Give a NIfTI file or a DICOM series.")
    if is_nifti(path):
        return _NIFTI
    known = ", ".join(sorted(_READERS))
    raise InputError(f"{path.name} is no volume of a known kind.", remedy=f"Known are: {known}, and DICOM.")
