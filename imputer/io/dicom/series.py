"""The series of an input: its files grouped, each group looked at whether it makes a volume. No pixel is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nibabel as nib
from pydicom import Dataset

from imputer.errors import InputError
from imputer.io.dicom import contrast, pixels, planes
from imputer.io.dicom.choice import SeriesSummary, choose, named
from imputer.io.dicom.content import Member, safe_name
from imputer.io.dicom.frames import Frame
from imputer.io.dicom.geometry import FEWEST_SLICES, Grid
from imputer.io.dicom.headers import integer, number, text, uid_name, values
from imputer.io.dicom.members import Found, members
from imputer.io.dicom.parse import pixel_bytes, read_header
from imputer.io.dicom.volumes import Condition, Several, volume_of

__all__ = ["Content", "Image", "Series", "SeriesSummary", "body_part_of", "choose", "find", "named", "scan"]

LONGEST_DESCRIPTION = 64  # characters of an LO
TIMING = ("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "MagneticFieldStrength")
_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID")
_SERIES_TAGS = (
    *_IDENTITY,
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "FrameOfReferenceUID",
    "PatientID",
    "SyntheticData",
    "BodyPartExamined",
    "ImagesInAcquisition",
)
TAGS = tuple(dict.fromkeys((*planes.TAGS, *pixels.TAGS, *_SERIES_TAGS, *TIMING, *contrast.TAGS)))

# Terms for BodyPartExamined (PS3.16 annex L), as far as a head can be told from them.
BODY_PARTS = frozenset(
    {
        "HEAD", "BRAIN", "SKULL", "FACE", "NECK", "HEADNECK", "ORBIT", "EYE", "EAR", "IAC", "PITUITARY", "SINUS", "JAW",
        "MANDIBLE", "TMJ", "SPINE", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "WHOLESPINE", "CHEST", "THORAX", "LUNG",
        "HEART", "BREAST", "ABDOMEN", "LIVER", "KIDNEY", "PANCREAS", "BLADDER", "PROSTATE", "UTERUS", "PELVIS", "HIP",
        "THIGH", "LEG", "KNEE", "CALF", "ANKLE", "FOOT", "SHOULDER", "ARM", "ELBOW", "FOREARM", "WRIST", "HAND",
        "FINGER", "EXTREMITY", "WHOLEBODY", "AORTA", "CAROTID", "CIRCLEOFWILLIS",
    }
)  # fmt: skip


@dataclass(eq=False)
class Image:
    """An instance: a file with its header, read in part, and its planes."""

    member: Member
    header: Dataset
    frames: list[Frame] = field(default_factory=list)
    problem: InputError | None = None


@dataclass(eq=False)
class Series:
    """Instances that say that they belong together.

    Attributes
    ----------
    images : list of Image
        Without exact copies.
    copies : list of (Image, Image)
        A file that seems to be a copy of another one, and that.
    grid : Grid or None
        The volume, where it is one.
    summary : SeriesSummary
    """

    images: list[Image]
    copies: list[tuple[Image, Image]]
    grid: Grid | None
    summary: SeriesSummary


@dataclass(eq=False)
class Content:
    """All of an input.

    Attributes
    ----------
    series : list of Series
        Sorted by number.
    damaged : list of str
        Names of DICOM files that could not be read.
    others : Counter
        Objects that are no images, by kind.
    junk : int
        Files that are not DICOM, links and the like.
    """

    series: list[Series]
    damaged: list[str]
    others: Counter[str]
    junk: int

    def summaries(self) -> list[SeriesSummary]:
        """Of all series, and of the damaged files if there are any."""
        found = [one.summary for one in self.series]
        return [*found, _damage(self.damaged)] if self.damaged else found


def scan(path: Path) -> list[SeriesSummary]:
    """All image series of a folder, zip or file, by number; those that cannot be used say why.

    Raises
    ------
    InputError
        Where the input cannot be read, or holds no DICOM image.
    """
    with members(path) as found:
        content = find(found)
        summaries = content.summaries()
        if not summaries:
            raise nothing_in(safe_name(path.name), content)
        return summaries


def find(found: Found, conditions: Sequence[Condition] = ()) -> Content:
    """Look at the headers of all members; `conditions` say which planes of a series count (see --select)."""
    groups: dict[tuple[str, ...], list[Image]] = {}
    content = Content([], [], Counter(), found.skipped)
    for member in found.members:
        try:
            header = read_header(member, TAGS)
        except InputError:
            content.damaged.append(member.name)
            continue
        if header is None:
            content.junk += 1
        elif not _is_image(header):
            content.others[_class_name(planes.sop_class(header))] += 1
        else:
            key = (*(_uid(header, keyword) for keyword in _IDENTITY), planes.sop_class(header))
            groups.setdefault(key, []).append(Image(member, header))
    content.series = [_assess(images, conditions) for images in groups.values()]
    content.series.sort(key=lambda one: (one.summary.number is None, one.summary.number or 0, one.summary.uid))
    return content


def nothing_in(name: str, content: Content) -> InputError:
    """Error for an input without any image."""
    if content.others:
        kinds = ", ".join(sorted(content.others)[:3])
        return InputError(f"{name} holds no DICOM image, only {content.others.total()} other objects ({kinds}).")
    return InputError(f"{name} holds no DICOM file.", remedy="Give a NIfTI file or a DICOM series.")


def body_part_of(header: Dataset) -> str:
    """BodyPartExamined in upper case where it is a term of `BODY_PARTS`, else ""."""
    said = text(header, "BodyPartExamined").upper()
    return said if said in BODY_PARTS else ""


def is_synthetic(header: Dataset) -> bool:
    """Whether an instance says of itself that it was not acquired (PS3.3 C.12.1, SyntheticData)."""
    return text(header, "SyntheticData").upper() == "YES"


def _uid(header: Dataset, keyword: str) -> str:
    found = values(header, keyword)
    return str(found[0]) if found else ""


def _is_image(header: Dataset) -> bool:
    name = uid_name(planes.sop_class(header))
    return "Image" in name if name else integer(header, "Rows") is not None


def _class_name(uid: str) -> str:
    return uid_name(uid) or "unknown kind"


def _assess(images: list[Image], conditions: Sequence[Condition]) -> Series:
    """Find out whether images are one volume, and if not, why."""
    header = images[0].header
    grid, problem = None, ""
    groups: tuple[str, ...] = ()
    copies: list[tuple[Image, Image]] = []
    try:
        _check_images(images)
        images, copies = _without_copies(images)
        _check_identity(images)
        grid = volume_of([frame for image in images for frame in image.frames], conditions)
    except InputError as error:
        problem = str(error)
        groups = error.choices if isinstance(error, Several) else ()
    middle = grid.frames[len(grid.frames) // 2] if grid is not None else None
    frames = sum(len(image.frames) or integer(image.header, "NumberOfFrames") or 1 for image in images)
    known = planes.sop_class(header) in planes.SOP_CLASSES
    summary = SeriesSummary(
        uid=_uid(header, "SeriesInstanceUID"),
        number=integer(header, "SeriesNumber"),
        description=_printable(text(header, "SeriesDescription")),
        modality=contrast.detect(middle.dataset if middle else header, middle).modality if known else None,
        sop_class=_class_name(planes.sop_class(header)),
        frames=frames,
        shape=grid.shape if grid else None,
        spacing=grid.spacing if grid else None,
        affine=grid.affine if grid else None,
        axis_codes=cast(Any, nib).aff2axcodes(grid.affine) if grid else None,
        problem=problem,
        groups=groups,
        synthetic=any(is_synthetic(image.header) for image in images),
        body_part=body_part_of(header),
        timing=_timing(header, middle),
    )
    return Series(images, copies, grid, summary)


def _check_images(images: Iterable[Image]) -> None:
    """Find the planes of images; InputError of the first one that is no image that can be read."""
    for image in images:
        header, name = image.header, image.member.name
        if planes.sop_class(header) not in planes.SOP_CLASSES:
            kind = _class_name(planes.sop_class(header)) + (", in colour" if pixels.is_colour(header) else "")
            raise InputError(
                f"The series is of another kind ({kind}) than MR and CT images.",
                remedy="Give an anatomical MR or CT series.",
            )
        image.frames = planes.frames_of(header, name)
        layout = pixels.layout_of(header, name)
        pixels.check_amount(pixel_bytes(header), layout, name)


def _without_copies(images: list[Image]) -> tuple[list[Image], list[tuple[Image, Image]]]:
    """Images, and those that have UID and place of another one: copies, if their pixels agree too."""
    kept: dict[tuple[object, ...], Image] = {}
    copies = []
    for number_, image in enumerate(images):
        uid = _uid(image.header, "SOPInstanceUID")
        where = tuple((frame.position, frame.orientation) for frame in image.frames)
        first = kept.setdefault((uid or number_, where), image)
        if first is not image:
            copies.append((image, first))
    return list(kept.values()), copies


def _check_identity(images: Sequence[Image]) -> None:
    """InputError where images say that they belong together, but are of several patients or spaces."""
    # A UID per file is what careless anonymisation makes; one that some share and others do not is another space.
    spaces = {_uid(image.header, "FrameOfReferenceUID") for image in images} - {""}
    if len(spaces) > 1 and not len(spaces) == len(images) >= FEWEST_SLICES:
        raise InputError(
            f"The series has images of {len(spaces)} frames of reference, whose positions cannot be compared.",
            remedy="Give the files of one acquisition only.",
        )
    if len({values(image.header, "PatientID") for image in images} - {()}) > 1:
        raise InputError("The series has images of several patients.", remedy="Give the files of one patient only.")


def _timing(header: Dataset, frame: Frame | None) -> dict[str, float]:
    found = {}
    for keyword in TIMING:
        value = number(header, keyword)
        if value is None and frame is not None and keyword in frame.traits:
            try:
                value = float(frame.traits[keyword])
            except ValueError:
                continue
        if value:  # 0 is what scanners write for none
            found[keyword] = value
    return found


def _printable(said: str) -> str:
    return "".join(letter for letter in said if letter.isprintable())[:LONGEST_DESCRIPTION]


def _damage(names: Sequence[str]) -> SeriesSummary:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    problem = (
        f"{len(names)} DICOM file{'' if len(names) == 1 else 's'} cannot be read ({shown}), perhaps of this series. "
        "Copy again or remove, or name the series with --series to leave out what cannot be read."
    )
    return SeriesSummary("", None, "", None, "unreadable", len(names), problem=problem, is_damage=True)
