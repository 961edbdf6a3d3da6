"""One plane of a series, and a series as a stack of planes: what reading finds and what writing starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True, eq=False)
class Frame:
    """One image plane: an instance of a classic series, or a frame of a multi-frame instance.

    Attributes
    ----------
    file : str
        Base name of the file, for messages.
    dataset : Dataset
        Header of its instance without pixel data; the frames of a multi-frame instance share it. Holds patient data:
        never shown.
    number : int or None
        1-based number of the frame in a multi-frame instance (as ReferencedFrameNumber counts); None in a classic one.
    orientation : tuple of float
        ImageOrientationPatient: direction along a row (growing column), then along a column, unit vectors, LPS.
    position : tuple of float
        ImagePositionPatient: centre of the first pixel, mm, LPS.
    pixel_spacing : tuple of float
        PixelSpacing: distance of rows, then of columns, mm.
    rows, columns : int
        Size of the plane.
    slope, intercept : float
        Modality rescale of this plane.
    thickness : float or None
        SliceThickness, mm.
    traits : Mapping
        What can tell planes at one place apart, as text by attribute keyword (EchoTime, EchoNumbers, ImageType,
        TemporalPositionIdentifier, AcquisitionNumber, TriggerTime, DiffusionBValue...).
    """

    file: str
    dataset: Dataset = field(repr=False)
    number: int | None
    orientation: tuple[float, float, float, float, float, float]
    position: tuple[float, float, float]
    pixel_spacing: tuple[float, float]
    rows: int
    columns: int
    slope: float = 1.0
    intercept: float = 0.0
    thickness: float | None = None
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """A series that was read as one volume.

    Attributes
    ----------
    frames : tuple of Frame
        In the order of the volume's third axis: ``array[:, :, k]`` is frame k, ``array[i, j, k]`` its column i, row j.
    modality : str
        "MR" or "CT", as in the attribute Modality.
    multi_frame : bool
        Whether it came as multi-frame instances.
    lossy : bool
        Whether its pixels have ever gone through lossy compression.
    sha256 : str
        Of the sorted SHA-256 of its files, 64 hexadecimal digits; independent of the files' names.
    files : int
        Number of files.
    body_part : str
        BodyPartExamined where it is a term of the standard, upper case; else "".
    """

    frames: tuple[Frame, ...] = field(repr=False)
    modality: str
    multi_frame: bool
    lossy: bool
    sha256: str
    files: int
    body_part: str = ""
