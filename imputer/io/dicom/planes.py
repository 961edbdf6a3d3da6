"""The image planes of one instance: itself in a classic series, its frames by functional groups in a multi-frame one.

PS3.3 sections C.7.6.2 (Image Plane), C.7.6.16 (Multi-frame Functional Groups), C.8.13 and C.8.15 (MR and CT macros).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pydicom import Dataset

from imputer.errors import InputError
from imputer.io.dicom.frames import Frame
from imputer.io.dicom.headers import GE_COMPONENT, first, integer, is_present, items, number, numbers, values
from imputer.io.header import VOXEL_LIMIT

LONGEST_AXIS = 65535  # Rows and Columns have 16 bits
FARTHEST_MM = 1e5  # of a position: no scanner is as large
NARROWEST_MM, WIDEST_MM = 0.01, 100.0  # between pixels
ORTHOGONALITY = 1e-3  # of the length of the direction vectors, and of their product


class SopClass(NamedTuple):
    """A class of instances that can be read: "MR" or "CT", in one plane or many."""

    modality: str
    multi_frame: bool


SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": SopClass("CT", False),
    "1.2.840.10008.5.1.4.1.1.2.1": SopClass("CT", True),  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2": SopClass("CT", True),  # Legacy Converted Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4": SopClass("MR", False),
    "1.2.840.10008.5.1.4.1.1.4.1": SopClass("MR", True),  # Enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4": SopClass("MR", True),  # Legacy Converted Enhanced MR
}

_UNASSIGNED = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence")
# Traits (see Frame.traits) in the order in which they are looked at to tell planes at one place apart; and where a
# multi-frame instance has them: functional group and attribute.
TRAITS: dict[str, tuple[tuple[str, str], ...]] = {
    "StackID": (("FrameContentSequence", "StackID"),),
    "EchoTime": (("MREchoSequence", "EffectiveEchoTime"),),
    "EchoNumbers": (),
    "ImageType": tuple((group, "FrameType") for group in _FRAME_TYPES),
    "ComplexImageComponent": (("MRImageFrameTypeSequence", "ComplexImageComponent"),),
    "InversionTime": (("MRModifierSequence", "InversionTimes"),),
    "FlipAngle": (("MRTimingAndRelatedParametersSequence", "FlipAngle"),),
    "RepetitionTime": (("MRTimingAndRelatedParametersSequence", "RepetitionTime"),),
    "TemporalPositionIdentifier": (),
    "TemporalPositionIndex": (("FrameContentSequence", "TemporalPositionIndex"),),
    "DiffusionBValue": (("MRDiffusionSequence", "DiffusionBValue"),),
    "TriggerTime": (("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),),
    "AcquisitionNumber": (("FrameContentSequence", "FrameAcquisitionNumber"),),
}
_GE_COMPONENTS = {0: "MAGNITUDE", 1: "PHASE", 2: "REAL", 3: "IMAGINARY"}

# What `frames_of` looks at, for a header that is read in part; GE's private attribute only a whole one has.
TAGS = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *TRAITS,
)


def sop_class(dataset: Dataset) -> str:
    """SOP Class UID of an instance, or that of its meta information; "" where neither tells."""
    found = values(dataset, "SOPClassUID")
    meta = getattr(dataset, "file_meta", None)
    if not found and meta is not None:
        found = values(meta, "MediaStorageSOPClassUID")
    return str(found[0]) if found else ""


def frames_of(dataset: Dataset, file: str) -> list[Frame]:
    """Planes of an instance of one of `SOP_CLASSES`, in the order of their pixels.

    Raises
    ------
    InputError
        Where it does not say, or not validly, how large they are and where they lie.
    """
    kind = SOP_CLASSES.get(sop_class(dataset))
    if kind is None:
        raise InputError(f"{file} is no MR or CT image.")
    rows, columns, count = _size(dataset, file, kind.multi_frame)
    if not kind.multi_frame:
        if count > 1:
            raise InputError(f"{file} claims {count} frames, which its kind of image cannot hold.")
        return [_frame(_Place(dataset, file), rows, columns)]
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not groups:
        raise InputError(f"{file} does not say where its frames lie: it has no functional groups.")
    if len(groups) != count:
        raise InputError(f"{file} claims {count} frames, but describes {len(groups)}.")
    shared = first(dataset, "SharedFunctionalGroupsSequence")
    around = (shared,) if shared is not None else ()
    return [_frame(_Place(dataset, file, n + 1, (group, *around)), rows, columns) for n, group in enumerate(groups)]


class _Place:
    """Where the attributes of one plane are found: in its own functional groups, shared ones, or the data set."""

    def __init__(self, dataset: Dataset, file: str, number: int | None = None, groups: tuple[Dataset, ...] = ()):
        self.dataset = dataset
        self.file = file
        self.number = number
        self.groups = groups

    @property
    def name(self) -> str:
        return self.file if self.number is None else f"frame {self.number} of {self.file}"

    def of(self, group: str, keyword: str) -> Dataset:
        """The item that holds an attribute; the data set itself where no functional group does."""
        for groups in self.groups:
            for name in (group, *_UNASSIGNED):
                item = first(groups, name)
                if item is not None and is_present(item, keyword):
                    return item
        return self.dataset


def _size(dataset: Dataset, file: str, multi_frame: bool) -> tuple[int, int, int]:
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    count = integer(dataset, "NumberOfFrames") if is_present(dataset, "NumberOfFrames") else 1
    if not multi_frame:  # has no such attribute; whoever writes one, writes 1, or 0
        count = max(count or 1, 1)
    if rows is None or columns is None:
        raise InputError(f"{file} is no whole image: it has no Rows or Columns.", remedy="Copy it again.")
    if not (1 <= rows <= LONGEST_AXIS and 1 <= columns <= LONGEST_AXIS and count is not None and count >= 1):
        raise InputError(f"{file} claims an impossible size ({columns} x {rows} pixels, {count} frames).")
    claimed = rows * columns * count
    if claimed > VOXEL_LIMIT:
        raise InputError(f"{file} claims {claimed} voxels, more than this program takes ({VOXEL_LIMIT}).")
    return rows, columns, count


def _frame(place: _Place, rows: int, columns: int) -> Frame:
    slope, intercept = _rescale(place)
    return Frame(
        file=place.file,
        dataset=place.dataset,
        number=place.number,
        orientation=_orientation(place),
        position=_position(place),
        pixel_spacing=_pixel_spacing(place),
        rows=rows,
        columns=columns,
        slope=slope,
        intercept=intercept,
        thickness=number(place.of("PixelMeasuresSequence", "SliceThickness"), "SliceThickness"),
        traits=_traits(place),
    )


def _geometry(place: _Place, group: str, keyword: str, count: int) -> tuple[float, ...]:
    holder = place.of(group, keyword)
    if holder is place.dataset and place.number is not None and keyword == "ImagePositionPatient":
        raise _missing(place, keyword)  # one position cannot be that of all frames
    if not is_present(holder, keyword):
        raise _missing(place, keyword)
    found = numbers(holder, keyword, count)
    if found is None or not all(math.isfinite(value) for value in found):
        raise InputError(f"{_begin(place)} has no valid {keyword} ({count} finite numbers).")
    return found


def _missing(place: _Place, keyword: str) -> InputError:
    return InputError(
        f"{_begin(place)} has no {keyword}, without which its place in space is unknown.",
        remedy="Export the series again with its geometry.",
    )


def _begin(place: _Place) -> str:
    return place.name[:1].upper() + place.name[1:] if place.number is not None else place.name


def _position(place: _Place) -> tuple[float, float, float]:
    x, y, z = _geometry(place, "PlanePositionSequence", "ImagePositionPatient", 3)
    if max(abs(x), abs(y), abs(z)) > FARTHEST_MM:
        raise InputError(f"{_begin(place)} has no valid ImagePositionPatient: it lies {FARTHEST_MM:g} mm away or more.")
    return x, y, z


def _orientation(place: _Place) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = _geometry(place, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    lengths = math.hypot(a, b, c), math.hypot(d, e, f)
    if max(abs(length - 1) for length in lengths) > ORTHOGONALITY or abs(a * d + b * e + c * f) > ORTHOGONALITY:
        raise InputError(
            f"{_begin(place)} has no valid ImageOrientationPatient: its directions are no orthogonal unit vectors."
        )
    return a, b, c, d, e, f


def _pixel_spacing(place: _Place) -> tuple[float, float]:
    row, column = _geometry(place, "PixelMeasuresSequence", "PixelSpacing", 2)
    if min(row, column) < NARROWEST_MM or max(row, column) > WIDEST_MM:
        raise InputError(
            f"{_begin(place)} has no valid PixelSpacing: it is not between {NARROWEST_MM:g} and {WIDEST_MM:g} mm."
        )
    return row, column


def _rescale(place: _Place) -> tuple[float, float]:
    """Modality rescale (PS3.3 C.11.1); 1 and 0 where there is none. RealWorldValueMapping is something else."""
    found = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        holder = place.of("PixelValueTransformationSequence", keyword)
        value = number(holder, keyword) if is_present(holder, keyword) else default
        if value is None or not abs(value) < 1e30 or (keyword == "RescaleSlope" and value == 0):
            raise InputError(f"{_begin(place)} has no valid {keyword}, so that its values mean nothing.")
        found.append(value)
    return found[0], found[1]


def _traits(place: _Place) -> dict[str, str]:
    found = {}
    for trait, holders in TRAITS.items():
        value = ""
        for group, keyword in (*holders, ("", trait)):
            holder = place.of(group, keyword) if group else place.of(_UNASSIGNED[0], keyword)
            value = _as_text(values(holder, keyword))
            if value:
                break
        if value:
            found[trait] = value
    component = integer(place.dataset, GE_COMPONENT) if "ComplexImageComponent" not in found else None
    if component in _GE_COMPONENTS and place.number is None:
        found["ComplexImageComponent"] = _GE_COMPONENTS[component]
    return found


def _as_text(found: tuple[object, ...]) -> str:
    """Values as one text; numbers to six digits, so that the same number is the same text."""
    shown = []
    for value in found:
        try:
            shown.append(f"{float(str(value)):.6g}")
        except ValueError:
            shown.append(str(value).upper())
    return "\\".join(shown)
