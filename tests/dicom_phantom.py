"""DICOM series for tests: a lopsided head, defined in patient space, written as scanners of several vendors do.

`make_series` writes a series, `expected_volume` gives what a reader must find in it, straight from the definition and
not from any file. Both take the settings of `Phantom`. All identities are invented and conspicuous, so that a test can
look for `CANARIES` wherever nothing of a patient may appear.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from dicom_phantom_tags import EQUIPMENT, PATIENT, ct_tags, enhanced_tags, mr_tags, timing_of
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from imputer.modality import Modality
from imputer.volume import Volume

# What no message, log, record or file name may ever hold; the texts of PATIENT are made of it.
CANARIES = ("Canary", "CANARY", "19610203")

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "j2k": JPEG2000Lossless,
    "jpegll": JPEGLosslessSV1,
}
# Direction of a growing column, then of a growing row, in patient space (LPS), as ImageOrientationPatient has them.
_PLANES = {
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "coronal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_CENTRE = np.array([3.0, -12.0, 21.0])  # of the field of view, LPS mm: no symmetry hides a lost origin
_MARKER = np.array([0.5, -0.5, 0.5])  # left, anterior, superior, in units of the head's semi-axes
_ROOT = uuid.UUID("6d0fb6ae-2f1c-4c0e-9a53-9d8f3f3f0d11")


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A series that can be written.

    Attributes
    ----------
    shape, spacing : columns, rows, slices; mm from column to column, row to row, slice to slice.
    plane : "axial", "coronal", "sagittal", or "oblique" (axial, turned by `turn`).
    turn : degrees about L, P and S, of an oblique plane.
    reverse : whether files are named and numbered against the normal of the image plane.
    modality : "MR" or "CT".
    contrast : "t1", "t1ce", "t2", "flair" or "pd": sequence parameters of an MR series.
    acquisition : "2D", "3D", or "" for what is usual with the contrast.
    vendor : "siemens", "ge" or "philips".
    syntax : a key of SYNTAXES.
    enhanced : one multi-frame object instead of one object per slice.
    shuffle : a seed, to name the files and number the instances in no order.
    slope, intercept : modality rescale; None is 1 and 0 in MR (not written), 1 and -1024 in CT. Values are in HU in CT.
    description : SeriesDescription and ProtocolName.
    study : instances with the same text share study and frame of reference.
    tags : values by keyword for every object, None removes one; a function is called with the slice's k.
    edit : called last with every dataset and its k (0 in a multi-frame object).
    patient : replaces attributes of PATIENT.
    """

    shape: tuple[int, int, int] = (24, 20, 12)
    spacing: tuple[float, float, float] = (1.0, 1.25, 2.0)
    plane: str = "axial"
    turn: tuple[float, float, float] = (11.0, -7.0, 17.0)
    reverse: bool = False
    modality: str = "MR"
    contrast: str = "t1"
    acquisition: str = ""
    vendor: str = "siemens"
    syntax: str = "explicit"
    enhanced: bool = False
    shuffle: int | None = None
    slope: float | None = None
    intercept: float | None = None
    series_number: int = 3
    description: str = "head phantom"
    study: str = "study"
    tags: Mapping[str, Any] = field(default_factory=dict)
    edit: Callable[[Dataset, int], None] | None = None
    patient: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rescale(self) -> tuple[float, float]:
        """Slope and intercept."""
        intercept = -1024.0 if self.modality == "CT" and self.intercept is None else self.intercept or 0.0
        return self.slope or 1.0, intercept

    @property
    def directions(self) -> NDArray[np.float64]:
        """(3, 3): unit vectors of growing column, row and slice (along the normal) as columns, LPS."""
        column, row = _PLANES.get(self.plane, _PLANES["axial"])
        axes = np.stack([column, row, np.cross(column, row)], axis=1)
        return _turn(self.turn) @ axes if self.plane == "oblique" else axes

    @property
    def affine_lps(self) -> NDArray[np.float64]:
        """(4, 4): (column, row, slice along the normal, 1) to LPS mm."""
        affine = np.eye(4)
        affine[:3, :3] = self.directions * self.spacing
        affine[:3, 3] = _CENTRE - affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)
        return affine

    @property
    def semi_axes(self) -> NDArray[np.float64]:
        """Of the head, along L, P and S, mm: 84 % of the field of view."""
        upright = np.abs(_turn(self.turn).T @ self.directions if self.plane == "oblique" else self.directions)
        return np.asarray(0.42 * upright @ (np.array(self.shape) * self.spacing))

    @cached_property
    def stored(self) -> NDArray[np.int64]:
        """Pixels (columns, rows, slices along the normal) as they are stored."""
        index = np.indices(self.shape)
        points = np.einsum("ab,bijk->aijk", self.affine_lps[:3, :3], index) + self.affine_lps[:3, 3, None, None, None]
        scaled = (points - _CENTRE[:, None, None, None]) / self.semi_axes[:, None, None, None]
        inside = np.linalg.norm(scaled, axis=0) < 1
        texture = (7 * index[0] + 5 * index[1] + 11 * index[2]) % 17  # no two slices, rows or columns are equal
        value = np.where(inside, 400 + 120 * scaled[0] - 80 * scaled[1] + 60 * scaled[2] + texture, 0)
        value[np.linalg.norm(scaled - _MARKER[:, None, None, None], axis=0) < 0.28] = 1000
        if self.modality == "CT":
            value = value - 1000
        slope, intercept = self.rescale
        return np.asarray(np.round((value - intercept) / slope), dtype=np.int64)

    def volume(self) -> Volume:
        """What a reader must find: array[i, j, k] is column i, row j of slice k along the normal."""
        slope, intercept = self.rescale
        kind = Modality.CT if self.modality == "CT" else Modality(self.contrast)
        return Volume((self.stored * slope + intercept).astype(np.float32), _LPS_TO_RAS @ self.affine_lps, kind)

    def marker_ras(self) -> NDArray[np.float64]:
        """Centre of the bright blob at left, anterior, superior; RAS mm."""
        return np.asarray(_LPS_TO_RAS[:3, :3] @ (_CENTRE + _MARKER * self.semi_axes))


def expected_volume(**settings: Any) -> Volume:
    """The volume that must be read from a series of these settings (see `Phantom`)."""
    return Phantom(**settings).volume()


def marker_position_ras(**settings: Any) -> NDArray[np.float64]:
    """Centre of the marker, RAS mm; the voxel nearest to it has the greatest value (1000, or 0 HU in CT)."""
    return Phantom(**settings).marker_ras()


def make_series(folder: Path, **settings: Any) -> list[Path]:
    """Write a series of these settings (see `Phantom`); its files in the order of slices along the normal."""
    phantom = Phantom(**settings)
    folder.mkdir(parents=True, exist_ok=True)
    if phantom.enhanced:
        path = folder / f"MF{phantom.series_number:04d}.dcm"
        _write(_multi_frame(phantom), path, phantom)
        return [path]
    count = phantom.shape[2]
    numbers = list(range(count, 0, -1) if phantom.reverse else range(1, count + 1))
    names = list(numbers)
    if phantom.shuffle is not None:
        random.Random(phantom.shuffle).shuffle(numbers)
        random.Random(phantom.shuffle + 1).shuffle(names)
    paths = []
    for k in range(count):
        paths.append(folder / f"S{phantom.series_number:03d}I{names[k]:04d}.dcm")
        _write(_slice(phantom, k, numbers[k]), paths[k], phantom, k)
    return paths


def _turn(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation by angles in degrees about the three axes, one after the other."""
    turn = np.eye(3)
    for axis, degrees in enumerate(angles):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        one, two = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[one, one], step[two, two], step[one, two], step[two, one] = c, c, -s, s
        turn = step @ turn
    return turn


def _uid(*parts: object) -> UID:
    return UID(f"2.25.{uuid.uuid5(_ROOT, '/'.join(map(str, parts))).int}")


def _ds(values: NDArray[np.float64] | list[float]) -> list[str]:
    """Decimal strings of at most 16 characters."""
    return [f"{value:.8f}"[:16].rstrip("0").rstrip(".") for value in (np.asarray(values) + 0.0)]


def _common(phantom: Phantom, *instance: object) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    _set(dataset, {**PATIENT, **EQUIPMENT[phantom.vendor], **phantom.patient})
    dataset.StudyInstanceUID = _uid(phantom.study)
    dataset.SeriesInstanceUID = _uid(phantom.study, phantom.series_number)
    dataset.SOPInstanceUID = _uid(phantom.study, phantom.series_number, *instance)
    dataset.FrameOfReferenceUID = _uid(phantom.study, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.SeriesNumber = phantom.series_number
    dataset.AcquisitionNumber = 1
    dataset.Modality = phantom.modality
    dataset.SeriesDescription = dataset.ProtocolName = phantom.description
    for name in ("Series", "Content", "Acquisition"):
        setattr(dataset, f"{name}Date", "20200102")
        setattr(dataset, f"{name}Time", f"1030{phantom.series_number % 60:02d}")
    dataset.PatientPosition = "HFS"
    private = dataset.private_block(0x0029, "LEAK CANARY", create=True)
    private.add_new(0x01, "LO", "Canary private")
    return dataset


def _slice(phantom: Phantom, k: int, number: int) -> Dataset:
    """One object of a classic series."""
    dataset = _common(phantom, k)
    dataset.SOPClassUID = CTImageStorage if phantom.modality == "CT" else MRImageStorage
    dataset.InstanceNumber = number
    _set(dataset, ct_tags() if phantom.modality == "CT" else mr_tags(timing_of(phantom), phantom.vendor))
    position = phantom.affine_lps[:3] @ [0, 0, k, 1]
    dataset.ImagePositionPatient = _ds(position)
    dataset.ImageOrientationPatient = _ds(phantom.directions[:, :2].T.ravel())
    dataset.PixelSpacing = _ds([phantom.spacing[1], phantom.spacing[0]])
    dataset.SliceThickness = _ds([phantom.spacing[2]])[0]
    if phantom.modality == "MR":
        dataset.SpacingBetweenSlices = dataset.SliceThickness
    dataset.SliceLocation = _ds([float(phantom.directions[:, 2] @ position)])[0]
    if phantom.modality == "CT" or phantom.rescale != (1.0, 0.0):
        dataset.RescaleSlope, dataset.RescaleIntercept = _ds(list(phantom.rescale))
        dataset.RescaleType = "HU" if phantom.modality == "CT" else "US"
    dataset.WindowCenter, dataset.WindowWidth = ("40", "80") if phantom.modality == "CT" else ("500", "1000")
    _pixels(dataset, phantom, phantom.stored[:, :, k].T)
    return dataset


def _multi_frame(phantom: Phantom) -> Dataset:
    """The whole series as one enhanced object; the frames are in reverse or shuffled order where that is asked."""
    order = list(range(phantom.shape[2]))
    if phantom.reverse:
        order.reverse()
    if phantom.shuffle is not None:
        random.Random(phantom.shuffle).shuffle(order)
    dataset = _common(phantom, "all")
    dataset.SOPClassUID = EnhancedCTImageStorage if phantom.modality == "CT" else EnhancedMRImageStorage
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = len(order)
    enhanced_tags(
        dataset,
        phantom,
        positions=[_ds(phantom.affine_lps[:3] @ [0, 0, k, 1]) for k in order],
        ranks=[k + 1 for k in order],
        orientation=_ds(phantom.directions[:, :2].T.ravel()),
        spacing=_ds(list(phantom.spacing)),
        organization=_uid(phantom.study, phantom.series_number, "dimensions"),
    )
    _pixels(dataset, phantom, phantom.stored[:, :, order].transpose(2, 1, 0))
    return dataset


def _pixels(dataset: Dataset, phantom: Phantom, stored: NDArray[np.int64]) -> None:
    """Image Pixel module: 12 of 16 bits where the values allow, signed where one is below 0."""
    whole = phantom.stored
    signed = bool(whole.min() < 0)
    bits = 12 if not signed and whole.max() < 4096 else 16
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = map(int, stored.shape[-2:])
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    order = ">" if phantom.syntax == "big" else "<"
    dataset.add_new("PixelData", "OW", stored.astype(f"{order}{'i' if signed else 'u'}2").tobytes())


def _set(dataset: Dataset, values: Mapping[str, Any], k: int = 0) -> None:
    for keyword, value in values.items():
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value(k) if callable(value) else value)


def _write(dataset: Dataset, path: Path, phantom: Phantom, k: int = 0) -> None:
    _set(dataset, phantom.tags, k)
    if phantom.edit is not None:
        phantom.edit(dataset, k)
    syntax = SYNTAXES[phantom.syntax]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    if syntax == RLELossless:
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax.is_encapsulated:
        _compress(dataset, syntax)
    dcmwrite(path, dataset, enforce_file_format=True)


def _compress(dataset: Dataset, syntax: UID) -> None:
    """Let GDCM encode the pixels, and take nothing else from it."""
    gdcm = pytest.importorskip("gdcm", reason="needs GDCM to compress, which is not installed")
    with TemporaryDirectory() as folder:
        plain, packed = f"{folder}/plain.dcm", f"{folder}/packed.dcm"
        dcmwrite(plain, dataset, enforce_file_format=True)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(plain)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(packed)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        dataset.add_new("PixelData", "OB", dcmread(packed).PixelData)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
