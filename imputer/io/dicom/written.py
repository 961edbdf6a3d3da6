"""What is our own in a derived image: that it is synthetic, from what, by what, and the image itself.

Nothing here claims an acquisition: the sequence, echo time, tube voltage... of the source do not hold for an image that
was computed, and inventing others would be worse. They live on in the source images, which every image names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from pydicom import DataElement, Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from imputer.io.dicom.copied import renamed, value_of, verbatim
from imputer.io.dicom.elements import Elements, code, dataset, decimal, merged, own, sequence
from imputer.io.dicom.frames import DicomSeries, Frame
from imputer.io.dicom.headers import integer, items, number, tag_of
from imputer.io.dicom.stored import Stored
from imputer.modality import Modality

NAMES: Final = {
    Modality.T1: "T1w",
    Modality.T1CE: "T1ce",
    Modality.T2: "T2w",
    Modality.FLAIR: "FLAIR",
    Modality.PD: "PDw",
    Modality.CT: "CT",
}
PRODUCT: Final = "imputer"
# PS3.16 CID 7005
_ACQUISITION_EQUIPMENT = ("109101", "DCM", "Acquisition Equipment")
_PROCESSING_EQUIPMENT = ("109102", "DCM", "Processing Equipment")
_SYNTHESIZING_EQUIPMENT = ("109100", "DCM", "Synthesizing Equipment")
_PURPOSE_OF_SOURCE = ("121322", "DCM", "Source image for image processing operation")  # PS3.16 CID 7202
# PS3.16 annex L, of the regions that a head scan may have: SNOMED CT, and what came before it.
_BODY_PARTS = {
    "69536005": "HEAD", "T-D1100": "HEAD", "12738006": "BRAIN", "T-A0100": "BRAIN", "774007": "HEADNECK",
    "T-D1000": "HEADNECK", "45048000": "NECK", "T-D1600": "NECK",
}  # fmt: skip
# Compression methods (PS3.3 C.7.6.1.1.5.1) by transfer syntax
_LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}


@dataclass(frozen=True)
class Synthesis:
    """What was computed from what, and by which model: `weights_sha256` has 64 hexadecimal digits.

    `beside` are more sources than the first one.
    """

    source: Modality
    target: Modality
    model_id: str
    model_version: str
    weights_sha256: str
    steps: int
    seed: int
    imputer_version: str
    licence: str = ""
    beside: tuple[Modality, ...] = ()

    @property
    def sources(self) -> str:
        """What it was made from, in words: "T1w", or "T1w+T2w" of several."""
        return "+".join(NAMES[each] for each in (self.source, *self.beside))

    @property
    def kind(self) -> str:
        """What is made, in words: "T2w MR" or "CT"."""
        return NAMES[self.target] + ("" if self.target is Modality.CT else " MR")


def labels(synthesis: Synthesis, *, synthetic_source: bool, scale: float) -> Elements:
    """The synthetic label, in every place where programs and people may look for it; de-identifiers remove some."""
    source = f"{'a synthetic' if synthetic_source else 'a'} {synthesis.sources} image"
    if synthesis.beside:
        source = f"{synthesis.sources} images" + (", of which the first was synthetic," if synthetic_source else "")
    model = f"model {plain(synthesis.model_id, 64)}"
    if synthesis.model_version:
        model += f" {plain(synthesis.model_version, 32)}"
    licence = f", licence {plain(synthesis.licence, 64)}" if synthesis.licence else ""
    values = "Stored values are those of the model" + ("" if scale == 1 else f" times {scale:.9g}")
    return merged(
        own("SyntheticData", "YES"),  # PS3.3 C.12.1: YES also where the source was synthetic already
        own("ContentQualification", "RESEARCH"),  # PS3.3 C.8.13.2.1.1
        own("SeriesDescription", description(synthesis)),
        own(
            "ImageComments",
            f"SYNTHETIC image: this {synthesis.kind} image was computed from {source} by software and was not acquired "
            "from the patient. For research only, not for diagnosis.",
        ),
        own(
            "DerivationDescription",  # PS3.3 C.12.4
            f"Synthetic {synthesis.kind} image computed from {source} by {_software(synthesis)}, {model}, "
            f"weights SHA-256 {plain(synthesis.weights_sha256, 64)}, {synthesis.steps} steps, seed {synthesis.seed}"
            f"{licence}; not acquired, not for diagnosis. {values}.",
        ),
    )


def description(synthesis: Synthesis) -> str:
    """SeriesDescription; the word that matters most comes first, as viewers cut the end."""
    return f"SYNTHETIC {NAMES[synthesis.target]} from {synthesis.sources} - NOT FOR DIAGNOSIS"


def equipment(synthesis: Synthesis) -> Elements:
    """What produced the image (PS3.3 C.7.5.1): this program, and not the scanner."""
    weights = f"sha256:{plain(synthesis.weights_sha256, 16)}"
    name = plain(synthesis.model_id, 64 - len(f"model  {weights}"))
    return merged(
        own("Manufacturer", PRODUCT),
        own("ManufacturerModelName", PRODUCT),
        own("SoftwareVersions", _software(synthesis), f"model {name} {weights}"),
    )


def contributors(source: Dataset, synthesis: Synthesis, now: datetime, *, synthetic_source: bool) -> Elements:
    """What had a part in the image (PS3.3 C.12.1): what the source lists, its own equipment, and this program.

    `now` is without an offset where the source has none.
    """
    listed = "ContributingEquipmentSequence"
    kept = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "StationName")
    purpose = _PROCESSING_EQUIPMENT if synthetic_source else _ACQUISITION_EQUIPMENT
    acquired = merged(code("PurposeOfReferenceCodeSequence", *purpose), verbatim(source, kept))
    if not value_of(source, "Manufacturer"):
        acquired |= own("Manufacturer", "UNKNOWN")  # Type 1 in an item
    offset = now.strftime("%z")[:5]
    made = merged(
        code("PurposeOfReferenceCodeSequence", *_SYNTHESIZING_EQUIPMENT),
        equipment(synthesis),
        own("ContributionDateTime", f"{now:%Y%m%d%H%M%S}{offset}"),
        own("ContributionDescription", f"Synthesis of {synthesis.kind} from {synthesis.sources}, research only"),
    )
    copies = verbatim(source, (listed,)).values()
    already = [item for copy in copies if isinstance(copy, DataElement) for item in copy.value]
    return sequence(listed, [*already, dataset(acquired), dataset(made)])


def series(
    like: DicomSeries, synthesis: Synthesis, now: datetime, *, series_uid: str, series_number: int | None
) -> Elements:
    """The new series (PS3.3 C.7.3.1) and the times of its making."""
    source = like.frames[0].dataset
    chosen = number_of(source, synthesis.target) if series_number is None else series_number
    moments: Elements = {}
    for name in ("Series", "Content", "InstanceCreation"):
        moments |= own(f"{name}Date", f"{now:%Y%m%d}")
        moments |= own(f"{name}Time", f"{now:%H%M%S}")
    return merged(
        moments,
        own("Modality", "CT" if synthesis.target is Modality.CT else "MR"),
        own("SeriesInstanceUID", series_uid),
        own("SeriesNumber", chosen),
    )


def number_of(source: Dataset, target: Modality) -> int:
    """A SeriesNumber that is neither the source's nor that of another target: 391 to 396 for series 3."""
    own_part = 91 + list(Modality).index(target)
    result = (integer(source, "SeriesNumber") or 0) * 100 + own_part
    return result if 0 < result < 2**31 else own_part  # the range of IS, PS3.5 6.2


def body_part(source: Dataset) -> tuple[Elements, bool]:
    """BodyPartExamined, and whether it is a guess. Without it, Laterality would be required (PS3.3 C.7.3.1).

    Of a multi-frame object: the region of its frames. Where nothing is said: the head, which all models are for.
    """
    if value_of(source, "BodyPartExamined"):
        return verbatim(source, ("BodyPartExamined",)), False
    groups = [
        group
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in items(source, keyword)[:1]
    ]
    anatomies = [anatomy for group in groups for anatomy in items(group, "FrameAnatomySequence")]
    regions = [region for anatomy in anatomies for region in items(anatomy, "AnatomicRegionSequence")]
    if not regions:
        return own("BodyPartExamined", "HEAD"), True
    value, meaning = (value_of(regions[0], name).decode("ascii", "replace") for name in ("CodeValue", "CodeMeaning"))
    try:
        return own("BodyPartExamined", _BODY_PARTS.get(value, meaning.upper())), False
    except ValueError:  # no word that is a code
        return {}, False


def image(like: DicomSeries, synthesis: Synthesis, stored: Stored) -> Elements:
    """Image pixel, window and the module of the modality; one for all slices."""
    first = like.frames[0]
    burned = value_of(first.dataset, "BurnedInAnnotation") == b"YES"
    return merged(
        own("SamplesPerPixel", 1),
        own("PhotometricInterpretation", "MONOCHROME2"),
        own("Rows", first.rows),
        own("Columns", first.columns),
        own("BitsAllocated", 16),
        own("BitsStored", stored.bits),
        own("HighBit", stored.bits - 1),
        own("PixelRepresentation", 0),
        decimal("WindowCenter", *(window.centre for window in stored.windows)),
        decimal("WindowWidth", *(window.width for window in stored.windows)),
        own("BurnedInAnnotation", "YES" if burned else "NO"),
        _compression(like),
        _ct(stored) if synthesis.target is Modality.CT else _mr(),
    )


def _mr() -> Elements:
    """MR image (PS3.3 C.8.3.1): a sequence that is none, and the times that there were not, empty (Type 2)."""
    empty = ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength")
    return merged(
        own("SOPClassUID", MRImageStorage),
        own("ImageType", "DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"),
        own("ScanningSequence", "RM"),
        own("SequenceVariant", "NONE"),
        *(own(keyword) for keyword in empty),
    )


def _ct(stored: Stored) -> Elements:
    """CT image (PS3.3 C.8.2.1), in Hounsfield units. AXIAL says "of cross-sections", in whatever plane."""
    return merged(
        own("SOPClassUID", CTImageStorage),
        own("ImageType", "DERIVED", "SECONDARY", "AXIAL"),
        own("WindowCenterWidthExplanation", *(window.name for window in stored.windows)),
        decimal("RescaleIntercept", stored.intercept),
        decimal("RescaleSlope", 1),
        own("RescaleType", "HU"),
        own("KVP"),
        own("AcquisitionNumber"),
    )


def _compression(like: DicomSeries) -> Elements:
    """Whether the pixels that the image results from were ever lossy (PS3.3 C.7.6.1.1.5): never taken back."""
    if not like.lossy:
        return own("LossyImageCompression", "00")
    source = like.frames[0].dataset
    result = verbatim(source, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"))
    syntax = str(getattr(getattr(source, "file_meta", None), "TransferSyntaxUID", ""))
    if tag_of("LossyImageCompressionMethod") not in result and syntax in _LOSSY_METHODS:
        result |= own("LossyImageCompressionMethod", _LOSSY_METHODS[syntax])
    return merged(result, own("LossyImageCompression", "01"))


def plane(frame: Frame, spacing: float | None) -> Elements:
    """Where the slice lies (PS3.3 C.7.6.2), in numbers of at most 16 characters; `spacing` from slice to slice, mm."""
    thickness = () if frame.thickness is None or not frame.thickness > 0 else (frame.thickness,)
    result = merged(
        decimal("ImagePositionPatient", *frame.position),
        decimal("ImageOrientationPatient", *frame.orientation),
        decimal("PixelSpacing", *frame.pixel_spacing),
        decimal("SliceThickness", *thickness),
    )
    if spacing is not None:
        result |= decimal("SpacingBetweenSlices", spacing)
    location = number(frame.dataset, "SliceLocation") if frame.number is None else None
    if location is not None:  # that of the source, as viewers scroll series together by it
        result |= decimal("SliceLocation", location)
    return result


def references(frame: Frame, *, same_grid: bool) -> Elements:
    """The source image of a slice: as source (PS3.3 C.12.4), and by its series (C.12.2), as that is demanded with it.

    Empty where the source has not all of the UIDs for that.
    """
    source = frame.dataset
    class_uid, uid, series_uid = (
        value_of(source, keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
    )
    if not (class_uid and uid and series_uid):
        return {}
    reference = merged(renamed("ReferencedSOPClassUID", class_uid), renamed("ReferencedSOPInstanceUID", uid))
    detail = merged(
        reference,
        {} if frame.number is None else own("ReferencedFrameNumber", frame.number),
        own("SpatialLocationsPreserved", "YES" if same_grid else "NO"),
        code("PurposeOfReferenceCodeSequence", *_PURPOSE_OF_SOURCE),
    )
    of_series = merged(
        renamed("SeriesInstanceUID", series_uid),
        sequence("ReferencedInstanceSequence", [dataset(reference)]),
    )
    return merged(
        sequence("SourceImageSequence", [dataset(detail)]), sequence("ReferencedSeriesSequence", [dataset(of_series)])
    )


def now_as(source: Dataset) -> datetime:
    """This moment in the time zone of the source (PS3.3 C.12.1.1.8); local time without an offset where it has none."""
    text = value_of(source, "TimezoneOffsetFromUTC").decode("ascii", "replace")
    if len(text) == 5 and text[0] in "+-" and text[1:].isdigit() and int(text[1:3]) <= 14 and int(text[3:]) < 60:
        offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
        return datetime.now(timezone(offset if text[0] == "+" else -offset))
    return datetime.now()


def _software(synthesis: Synthesis) -> str:
    return f"{PRODUCT} {plain(synthesis.imputer_version, 32)}"


def plain(text: str, most: int) -> str:
    """Text that every attribute and character set can hold: printable ASCII without the separator of values."""
    kept = "".join(character if " " <= character <= "~" and character != "\\" else "_" for character in text)
    return kept.strip()[:most]
