"""A volume as a derived DICOM series: the patient, study and place of the source, an image of our own.

Always classic images, one file a slice, Explicit VR Little Endian without compression: MR Image Storage, or CT Image
Storage for CT. From a multi-frame source, too, as more programs read classic images, and nothing of the multi-frame
header but geometry and identity holds for a synthetic image.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from imputer.errors import InputError, UsageError
from imputer.io.dicom.copied import acquisition, shared, value_of
from imputer.io.dicom.elements import Elements, dataset, merged, own
from imputer.io.dicom.folder import IMPLEMENTATION_CLASS_UID, new_folder, write_new
from imputer.io.dicom.frames import DicomSeries, Frame
from imputer.io.dicom.headers import integer
from imputer.io.dicom.parse import quiet
from imputer.io.dicom.stored import Stored, stored_ct, stored_mr
from imputer.io.dicom.written import (
    Synthesis,
    body_part,
    contributors,
    equipment,
    image,
    labels,
    now_as,
    plain,
    plane,
    references,
    series,
)
from imputer.modality import Modality
from imputer.volume import LPS_TO_RAS, Volume, farthest_apart

__all__ = ["Synthesis", "Written", "write_dicom"]

GRID_TOLERANCE: Final = 0.5  # of the smallest voxel edge, at the corners: a flip or a shift is no rounding


@dataclass(frozen=True)
class Written:
    """A series that was written.

    Attributes
    ----------
    series_uid : str
        SeriesInstanceUID.
    files : int
        Number of files, one a slice.
    scale : float
        Stored pixel per value of the volume; 1 in CT, which holds Hounsfield units.
    warnings : tuple of str
        What the user should know; holds no value of the source.
    """

    series_uid: str
    files: int
    scale: float
    warnings: tuple[str, ...]


def write_dicom(
    volume: Volume,
    folder: Path,
    *,
    like: DicomSeries,
    synthesis: Synthesis,
    same_grid: bool = True,
    series_number: int | None = None,
    overwrite: bool = False,
) -> Written:
    """Write a synthetic volume as a new series of the study of its source, the whole folder or nothing.

    Classic images, also from a multi-frame source. UIDs are random: the same volume written twice is two series.

    Parameters
    ----------
    volume : Volume
        Array (columns, rows, K) on the grid of `like`, slice k on its frame k; HU for CT.
    folder : Path
        New or empty; its parent must exist. Files are named IM00001.dcm, IM00002.dcm... by InstanceNumber.
    like : DicomSeries
        The source: gives identity and geometry, and is referenced.
    synthesis : Synthesis
        What is said of the making. A target CT makes CT images, all others MR images.
    same_grid : bool
        Whether the voxels of the volume are computed from those at the same place of `like`, without a resampling.
    series_number : int, optional
        SeriesNumber, from 0 to 2147483647; else 100 times that of the source and a number for the target.
    overwrite : bool
        Also replace a folder, if it holds nothing but files written here.

    Raises
    ------
    InputError
        Where a voxel is not finite.
    OutputError
        Where the folder exists and is not empty, is a link, or cannot be written.
    UsageError
        Where `series_number` is out of range.
    ValueError
        Where the volume does not lie on the grid of `like`.
    """
    _check(volume, like, series_number)
    series_uid = generate_uid(prefix=None)
    with new_folder(folder, overwrite=overwrite) as temporary:
        stored = stored_ct(volume.array) if synthesis.target is Modality.CT else stored_mr(volume.array)
        common, warnings = _common(like, synthesis, stored, series_uid=series_uid, series_number=series_number)
        spacing = _spacing(like)
        for k, (frame, number) in enumerate(zip(like.frames, _numbers(like), strict=True)):
            own_part = merged(
                own("InstanceNumber", number), plane(frame, spacing), references(frame, same_grid=same_grid)
            )
            elements = merged(acquisition(frame.dataset), common, own_part)
            write_new(temporary / f"IM{number:05d}.dcm", _file(elements, stored.pixels[k], synthesis))
        if not references(like.frames[0], same_grid=same_grid):
            warnings.append(
                "The source lacks UIDs of its images or its series, so the new series does not reference it."
            )
    return Written(series_uid, len(like.frames), stored.scale, tuple(warnings))


def _check(volume: Volume, like: DicomSeries, series_number: int | None) -> None:
    if series_number is not None and not 0 <= series_number < 2**31:
        raise UsageError("A series number lies between 0 and 2147483647.")
    shape = (like.frames[0].columns, like.frames[0].rows, len(like.frames))
    if volume.shape != shape:
        raise ValueError(f"a volume of shape {volume.shape} does not fit a series of {shape}")
    if farthest_apart(volume.affine, _affine(like), shape) > GRID_TOLERANCE * min(volume.spacing):
        raise ValueError("the volume does not lie on the grid of the series")
    if not np.isfinite(volume.array).all():
        raise InputError("The synthetic volume has voxels that are not finite, and cannot be written as DICOM.")


def _affine(like: DicomSeries) -> NDArray[np.float64]:
    """Voxel (column, row, slice, 1) to RAS mm, from the first and the last frame (PS3.3 C.7.6.2.1.1)."""
    first = like.frames[0]
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * first.pixel_spacing[1]
    affine[:3, 1] = np.array(first.orientation[3:]) * first.pixel_spacing[0]
    steps = max(len(like.frames) - 1, 1)
    affine[:3, 2] = (np.array(like.frames[-1].position) - first.position) / steps
    if len(like.frames) == 1:
        affine[:3, 2] = _normal(first)
    affine[:3, 3] = first.position
    return LPS_TO_RAS @ affine


def _normal(frame: Frame) -> NDArray[np.float64]:
    return np.cross(frame.orientation[:3], frame.orientation[3:])


def _spacing(like: DicomSeries) -> float | None:
    """From slice to slice along the normal, mm; it agrees with the positions by its making."""
    if len(like.frames) < 2:
        return None
    first, last = np.array(like.frames[0].position), np.array(like.frames[-1].position)
    return round(float(abs((last - first) @ _normal(like.frames[0]))) / (len(like.frames) - 1), 6)


def _numbers(like: DicomSeries) -> list[int]:
    """InstanceNumber of each frame, from 1 along the normal; against it where the source counts like that.

    Viewers scroll by it, so both series go the same way, and converters that measure from the first slice (dcm2niix
    takes the first step for all) find the same.
    """
    count = len(like.frames)
    given = (frame.number or integer(frame.dataset, "InstanceNumber") for frame in like.frames)
    known = [number for number in given if number is not None]
    falls = len(known) == count > 1 and all(one > next_ for one, next_ in pairwise(known))
    return list(range(count, 0, -1)) if falls else list(range(1, count + 1))


def _common(
    like: DicomSeries, synthesis: Synthesis, stored: Stored, *, series_uid: str, series_number: int | None
) -> tuple[Elements, list[str]]:
    """What all images of the series have alike, and what is to be warned of."""
    source = like.frames[0].dataset
    now = now_as(source)
    synthetic_source = value_of(source, "SyntheticData") == b"YES"
    copied, invalid = shared(source)
    links, warnings = _links(source)
    if invalid:
        warnings.append(f"Not valid in the source, and copied as it is: {', '.join(invalid)}.")
    if synthetic_source:
        warnings.append("The source is a synthetic image itself.")
    part, is_guess = body_part(source)
    if is_guess:
        warnings.append("The source names no body part: HEAD is written, as the models are for heads.")
    unit = " HU" if synthesis.target is Modality.CT else ""
    if stored.below:
        warnings.append(
            f"{stored.below} voxels below {stored.intercept}{unit} were stored as {stored.intercept}{unit}."
        )
    if stored.above:
        warnings.append(f"{stored.above} voxels are too great to be stored, and were cut to the greatest that can be.")
    elements = merged(
        copied,
        links,
        part,
        equipment(synthesis),
        contributors(source, synthesis, now, synthetic_source=synthetic_source),
        labels(synthesis, synthetic_source=synthetic_source, scale=stored.scale),
        series(like, synthesis, now, series_uid=series_uid, series_number=series_number),
        image(like, synthesis, stored),
    )
    return elements, warnings


def _links(source: Dataset) -> tuple[Elements, list[str]]:
    """New UIDs for the study and the frame of reference where the source has none; nothing else is linked by them."""
    links: Elements = {}
    warnings = []
    for keyword, name in (("StudyInstanceUID", "study"), ("FrameOfReferenceUID", "frame of reference")):
        if not value_of(source, keyword):
            links |= own(keyword, generate_uid(prefix=None))
            warnings.append(
                f"The source has no {keyword}: the new series has a {name} of its own, unlinked to the source."
            )
    return links, warnings


def _file(elements: Elements, pixels: NDArray[np.uint16], synthesis: Synthesis) -> bytes:
    """One file (PS3.10 7.1) with a new SOPInstanceUID; its preamble is zero, as that of the source may be a program."""
    version = plain(f"IMPUTER_{synthesis.imputer_version.replace('.', '_')}", 16)
    stream = BytesIO()  # pydicom wraps what the system says of a disk, and that no space is left would be lost
    with quiet():  # of character sets of the source
        whole = dataset(elements, own("SOPInstanceUID", generate_uid(prefix=None)))
        whole.add_new("PixelData", "OW", pixels.tobytes())
        whole.file_meta = FileMetaDataset()
        whole.file_meta.update(
            merged(
                own("TransferSyntaxUID", ExplicitVRLittleEndian),
                own("ImplementationClassUID", IMPLEMENTATION_CLASS_UID),
                own("ImplementationVersionName", version),
            )
        )
        dcmwrite(stream, whole, enforce_file_format=True)
    return stream.getvalue()
