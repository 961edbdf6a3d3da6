"""A derived series: the source's patient, study and geometry, our own image, and nothing that no longer holds."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_phantom import CANARIES, make_series
from dicom_tools import SHA, files_in, read, synthesis
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from imputer.errors import ImputerError, InputError, OutputError, UsageError
from imputer.io.dicom import folder as folders
from imputer.io.dicom import write
from imputer.io.dicom.frames import DicomSeries
from imputer.io.dicom.parse import quiet
from imputer.io.dicom.write import Written, write_dicom
from imputer.modality import Modality
from imputer.volume import Volume

PLANES = ("axial", "coronal", "sagittal", "oblique")
FRAMES_OF_REFERENCE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
# All that an image may hold; a new one has to be thought of.
OWN = {
    "AcquisitionDate", "AcquisitionNumber", "AcquisitionTime", "BitsAllocated", "BitsStored", "BodyPartExamined",
    "BurnedInAnnotation", "Columns", "ContentDate", "ContentQualification", "ContentTime",
    "ContributingEquipmentSequence", "DerivationDescription", "EchoTime", "EchoTrainLength", "HighBit",
    "ImageComments", "ImageOrientationPatient", "ImagePositionPatient", "ImageType", "InstanceCreationDate",
    "InstanceCreationTime", "InstanceNumber", "InstitutionName", "LossyImageCompression", "MRAcquisitionType",
    "Manufacturer", "ManufacturerModelName", "Modality", "PatientPosition", "PhotometricInterpretation", "PixelData",
    "PixelRepresentation", "PixelSpacing", "ReferencedSeriesSequence", "RepetitionTime", "Rows", "SOPClassUID",
    "SOPInstanceUID", "SamplesPerPixel", "ScanOptions", "ScanningSequence", "SequenceVariant", "SeriesDate",
    "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SeriesTime", "SliceLocation", "SliceThickness",
    "SoftwareVersions", "SourceImageSequence", "SpacingBetweenSlices", "SpecificCharacterSet", "SyntheticData",
    "WindowCenter", "WindowWidth",
}  # fmt: skip
IDENTITY = {
    "AccessionNumber", "OtherPatientNames", "PatientAge", "PatientBirthDate", "PatientID", "PatientName", "PatientSex",
    "PatientWeight", "ReferringPhysicianName", "StudyDate", "StudyDescription", "StudyID", "StudyInstanceUID",
    "StudyTime", *FRAMES_OF_REFERENCE,
}  # fmt: skip


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, DicomSeries]:
    """A small classic T1."""
    folder = tmp_path_factory.mktemp("source")
    make_series(folder, shape=(14, 12, 5))
    return read(folder)


def written(
    source: tuple[Volume, DicomSeries], out: Path, *, target: Modality = Modality.T2, **options: Any
) -> tuple[Written, list[Dataset]]:
    """What was written of the source, as if it were synthetic, and its files."""
    volume, like = source
    options.setdefault("synthesis", synthesis(target))
    result = write_dicom(volume, out, like=like, **options)
    return result, [pydicom.dcmread(path) for path in files_in(out)]


def with_values(source: tuple[Volume, DicomSeries], array: NDArray[Any]) -> tuple[Volume, DicomSeries]:
    return source[0].with_array(array), source[1]


def with_tags(tmp_path: Path, **tags: Any) -> tuple[Volume, DicomSeries]:
    make_series(tmp_path / "source", shape=(10, 8, 3), tags=tags)
    return read(tmp_path / "source")


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("plane", PLANES)
def test_voxels_and_geometry_come_back(plane: str, enhanced: bool, tmp_path: Path) -> None:
    make_series(tmp_path / "source", shape=(14, 12, 5), plane=plane, reverse=True, shuffle=1, enhanced=enhanced)
    volume, like = read(tmp_path / "source")
    result, images = written((volume, like), tmp_path / "out")
    again, _ = read(tmp_path / "out")
    assert (result.scale, result.files, result.warnings) == (1, 5, ())
    assert np.array_equal(again.array, volume.array)
    assert np.abs(again.affine - volume.affine).max() < 1e-6
    assert [path.name for path in files_in(tmp_path / "out")] == [f"IM0000{k}.dcm" for k in range(1, 6)]
    assert all(len(str(value)) <= 16 for image in images for value in image.ImagePositionPatient)
    assert images[0].SpacingBetweenSlices == pytest.approx(volume.spacing[2])


def test_the_label_stands_wherever_somebody_may_look(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    _, images = written(source, tmp_path / "out")
    for image in images:
        assert image.SyntheticData == "YES"
        assert image.ContentQualification == "RESEARCH"
        assert image.ImageType == ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]
        assert image.SeriesDescription == "SYNTHETIC T2w from T1w - NOT FOR DIAGNOSIS"
        assert image.ImageComments.startswith("SYNTHETIC image") and "not for diagnosis" in image.ImageComments
        told = (
            "Synthetic T2w MR image computed from a T1w image",
            "syndiff-t1-t2 1",
            SHA,
            "4 steps",
            "seed 7",
            "CC-BY",
        )
        assert all(part in image.DerivationDescription for part in told)
        assert image.BurnedInAnnotation == "NO"


@pytest.mark.parametrize(
    ("target", "from_", "description"),
    [
        (Modality.T1, Modality.FLAIR, "SYNTHETIC T1w from FLAIR - NOT FOR DIAGNOSIS"),
        (Modality.T1CE, Modality.T1, "SYNTHETIC T1ce from T1w - NOT FOR DIAGNOSIS"),
        (Modality.PD, Modality.T2, "SYNTHETIC PDw from T2w - NOT FOR DIAGNOSIS"),
        (Modality.CT, Modality.T1, "SYNTHETIC CT from T1w - NOT FOR DIAGNOSIS"),
    ],
)
def test_the_description_names_both_contrasts(
    target: Modality, from_: Modality, description: str, source: tuple[Volume, DicomSeries], tmp_path: Path
) -> None:
    _, images = written(source, tmp_path / "out", synthesis=synthesis(target, source=from_))
    assert images[0].SeriesDescription == description
    assert images[0].Modality == ("CT" if target is Modality.CT else "MR")


def test_an_image_holds_what_is_listed_and_nothing_else(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    _, images = written(source, tmp_path / "out")
    for image in images:
        assert {element.keyword for element in image} == OWN | IDENTITY
        text = image.to_json()
        for gone in ("CANARYSTATION", "CANARY-SERIAL"):  # the scanner, named where it contributed and nowhere else
            assert text.count(gone) == str(image.ContributingEquipmentSequence[0].to_json()).count(gone) == 1
        assert not any(
            gone in text for gone in ("Canary^Operator", "Canary Row", "Canary request", "LEAK", "head phantom")
        )
        assert (image.ScanningSequence, image.SequenceVariant) == ("RM", "NONE")
        for keyword in ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"):
            assert image[keyword].is_empty
        assert image.preamble == bytes(128)
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID


def test_patient_study_and_place_are_those_of_the_source(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    _, images = written(source, tmp_path / "out")
    first = source[1].frames[0].dataset
    for image in images:
        assert all(image[keyword] == first[keyword] for keyword in IDENTITY | {"SpecificCharacterSet"})


@pytest.mark.parametrize("charset", [b"ISO_IR 192", b"ISO_IR 999", b"utf_16"])
def test_a_name_is_copied_byte_for_byte_even_where_it_is_not_of_its_character_set(
    charset: bytes, source: tuple[Volume, DicomSeries], tmp_path: Path
) -> None:
    name = "M\u00fcller^J\u00fcrgen".encode("latin-1")
    volume, like = source
    header = deepcopy(like.frames[0].dataset)
    for tag, vr, value in ((0x00080005, "CS", charset), (0x00100010, "PN", name)):
        header[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    frames = (replace(like.frames[0], dataset=header), *like.frames[1:])
    write_dicom(volume, tmp_path / "out", like=replace(like, frames=frames), synthesis=synthesis())
    for path in files_in(tmp_path / "out"):
        assert b"PN\x0e\x00" + name in path.read_bytes()
        with quiet():
            assert pydicom.dcmread(path).SeriesDescription == "SYNTHETIC T2w from T1w - NOT FOR DIAGNOSIS"


def test_identifiers_are_new_and_valid_each_time(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    runs = [written(source, tmp_path / name) for name in ("one", "two")]
    uids = {image.SOPInstanceUID for _, images in runs for image in images}
    series = {image.SeriesInstanceUID for _, images in runs for image in images}
    assert len(uids) == 10 and series == {result.series_uid for result, _ in runs} and len(series) == 2
    assert all(uid.startswith("2.25.") and uid.is_valid and len(uid) <= 64 for uid in uids | series)
    sources = {str(frame.dataset.SOPInstanceUID) for frame in source[1].frames}
    assert not (uids | series) & (sources | {str(source[1].frames[0].dataset.SeriesInstanceUID)})


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize(("reverse", "shuffle"), [(False, None), (True, None), (False, 3)])
def test_slices_are_numbered_in_space_the_way_the_source_counts(
    reverse: bool, shuffle: int | None, enhanced: bool, tmp_path: Path
) -> None:
    make_series(tmp_path / "source", shape=(10, 8, 6), enhanced=enhanced, reverse=reverse, shuffle=shuffle)
    _, images = written(read(tmp_path / "source"), tmp_path / "out")
    heights = [image.ImagePositionPatient[2] for image in images]
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5, 6]
    assert heights == sorted(heights, reverse=reverse)
    assert [float(image.pixel_array.sum()) for image in images] == [
        float(plane.sum()) for plane in read(tmp_path / "source")[0].array.T[:: -1 if reverse else 1]
    ]


@pytest.mark.parametrize("enhanced", [False, True])
def test_each_image_names_the_slice_it_comes_from(enhanced: bool, tmp_path: Path) -> None:
    make_series(tmp_path / "source", shape=(10, 8, 4), enhanced=enhanced, shuffle=2)
    volume, like = read(tmp_path / "source")
    _, images = written((volume, like), tmp_path / "out", same_grid=not enhanced)
    for image, frame in zip(images, like.frames, strict=True):
        (entry,) = image.SourceImageSequence
        (of_series,) = image.ReferencedSeriesSequence
        (again,) = of_series.ReferencedInstanceSequence
        assert entry.ReferencedSOPInstanceUID == again.ReferencedSOPInstanceUID == frame.dataset.SOPInstanceUID
        assert entry.ReferencedSOPClassUID == again.ReferencedSOPClassUID == frame.dataset.SOPClassUID
        assert of_series.SeriesInstanceUID == frame.dataset.SeriesInstanceUID
        assert entry.get("ReferencedFrameNumber") == frame.number
        assert entry.SpatialLocationsPreserved == ("NO" if enhanced else "YES")
        assert entry.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert image.ImagePositionPatient == pytest.approx(frame.position)


def test_the_equipment_is_this_program_and_the_scanner_contributed(tmp_path: Path) -> None:
    earlier = Dataset()
    earlier.Manufacturer = "Earlier"
    earlier.PurposeOfReferenceCodeSequence = [Dataset()]
    source = with_tags(tmp_path, ContributingEquipmentSequence=[earlier])
    _, images = written(source, tmp_path / "out")
    before, acquired, made = images[0].ContributingEquipmentSequence
    assert (images[0].Manufacturer, images[0].ManufacturerModelName) == ("imputer", "imputer")
    assert images[0].SoftwareVersions == ["imputer 0.1.0", "model syndiff-t1-t2 sha256:0123456789abcdef"]
    assert before.Manufacturer == "Earlier"
    assert (acquired.Manufacturer, acquired.ManufacturerModelName) == ("SIEMENS", "Phantom One")
    assert [entry.PurposeOfReferenceCodeSequence[0].CodeValue for entry in (acquired, made)] == ["109101", "109100"]
    assert made.SoftwareVersions == images[0].SoftwareVersions and made.ContributionDateTime


def test_a_scanner_without_a_maker_is_unknown(tmp_path: Path) -> None:
    _, images = written(with_tags(tmp_path, Manufacturer=""), tmp_path / "out")
    assert images[0].ContributingEquipmentSequence[0].Manufacturer == "UNKNOWN"


@pytest.mark.parametrize("name", ["a" * 200, "hf://owner/repo\\x", "m\u00f6del\n\x1b[31m", ""])
def test_any_model_name_becomes_valid_text(name: str, source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    _, images = written(source, tmp_path / "out", synthesis=synthesis(model_id=name, model_version=name, licence=name))
    program, model = images[0].SoftwareVersions
    assert program == "imputer 0.1.0" and model.endswith("sha256:0123456789abcdef") and len(model) <= 64
    assert images[0].DerivationDescription.isascii() and images[0].DerivationDescription.isprintable()


@pytest.mark.parametrize(
    ("greatest", "scale", "bits", "stored"),
    [
        (4095, 1, 12, 4095),
        (4095.4, 1, 12, 4095),
        (5000, 1, 16, 5000),
        (65535, 1, 16, 65535),
        (90000, 4095 / 90000, 12, 4095),
        (1.5, 4095 / 1.5, 12, 4095),
        (200, 1, 12, 200),
        (200.5, 4095 / 200.5, 12, 4095),
    ],
)
def test_values_are_stored_as_they_are_or_with_one_scale_for_all(
    greatest: float, scale: float, bits: int, stored: int, source: tuple[Volume, DicomSeries], tmp_path: Path
) -> None:
    array = np.zeros(source[0].shape, np.float32)
    array[3, 4, 1], array[5, 6, 2] = greatest, greatest if greatest == 200 else greatest / 3
    result, images = written(with_values(source, array), tmp_path / "out")
    assert result.scale == pytest.approx(scale) and result.warnings == ()
    assert [(image.BitsStored, image.HighBit, image.PixelRepresentation) for image in images] == [
        (bits, bits - 1, 0)
    ] * 5
    assert images[1].pixel_array[4, 3] == stored
    assert images[2].pixel_array[6, 5] == round(float(array[5, 6, 2]) * scale)
    assert sum(int(image.pixel_array.sum()) for image in images) == stored + int(images[2].pixel_array[6, 5])
    assert (f"times {result.scale:.9g}" in images[0].DerivationDescription) is (scale != 1)
    assert not any(keyword in images[0] for keyword in ("RescaleSlope", "RescaleIntercept", "LargestImagePixelValue"))


def test_negative_values_become_zero_and_are_told(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    array = source[0].array.copy()
    array[:2, 0, 0] = -5
    result, images = written(with_values(source, array), tmp_path / "out")
    assert images[0].pixel_array[0, :2].tolist() == [0, 0]
    assert result.warnings == ("2 voxels below 0 were stored as 0.",)


@pytest.mark.parametrize(("greatest", "bits"), [(3071.4, 12), (3072, 16), (30000, 16)])
def test_ct_holds_hounsfield_units(
    greatest: float, bits: int, source: tuple[Volume, DicomSeries], tmp_path: Path
) -> None:
    array = np.full(source[0].shape, -1000, np.float32)
    array[1, 2, 3], array[2, 3, 4], array[0, 0, 0] = greatest, 40.4, -3000
    result, images = written(with_values(source, array), tmp_path / "out", target=Modality.CT)
    assert result.scale == 1 and result.warnings == ("1 voxels below -1024 HU were stored as -1024 HU.",)
    assert {image.BitsStored for image in images} == {bits}
    again, _ = read(tmp_path / "out")
    assert again.modality is Modality.CT
    assert np.array_equal(again.array, np.maximum(np.rint(array), -1024))
    head = images[0]
    assert (head.RescaleIntercept, head.RescaleSlope, head.RescaleType) == (-1024, 1, "HU")
    assert (head.WindowCenter, head.WindowWidth) == ([40, 400], [80, 2000])
    assert head.WindowCenterWidthExplanation == ["BRAIN", "BONE"]
    assert head.ImageType == ["DERIVED", "SECONDARY", "AXIAL"] and head["KVP"].is_empty
    assert head["AcquisitionNumber"].is_empty and "ScanningSequence" not in head


def test_the_window_shows_the_head_and_is_one_for_all(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    array = np.zeros(source[0].shape, np.float32)
    array[4:, 4:] = random.uniform(500, 900, array[4:, 4:].shape)
    _, images = written(with_values(source, array), tmp_path / "out")
    low, high = (images[0].WindowCenter + sign * images[0].WindowWidth / 2 for sign in (-1, 1))
    assert 495 <= low <= 515 and 890 <= high <= 905
    assert len({(image.WindowCenter, image.WindowWidth) for image in images}) == 1


def test_an_empty_image_has_a_window_too(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    _, images = written(with_values(source, np.zeros(source[0].shape)), tmp_path / "out")
    assert images[0].WindowWidth == 1


@pytest.mark.parametrize(("offset", "hours"), [("+0530", 5.5), ("-0800", -8.0)])
def test_times_are_told_in_the_time_zone_of_the_source(offset: str, hours: float, tmp_path: Path) -> None:
    _, images = written(with_tags(tmp_path, TimezoneOffsetFromUTC=offset), tmp_path / "out")
    image = images[0]
    expected = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=hours)
    for name in ("Series", "Content", "InstanceCreation"):
        told = datetime.strptime(image[f"{name}Date"].value + image[f"{name}Time"].value, "%Y%m%d%H%M%S")
        assert abs(told - expected) < timedelta(minutes=5)
    assert image.TimezoneOffsetFromUTC == offset
    assert image.ContributingEquipmentSequence[-1].ContributionDateTime.endswith(offset)
    assert (image.AcquisitionDate, image.AcquisitionTime) == ("20200102", "103003")


def test_links_that_the_source_lacks_are_not_made_up(tmp_path: Path) -> None:
    result, images = written(with_tags(tmp_path, FrameOfReferenceUID=None), tmp_path / "out")
    assert len({image.FrameOfReferenceUID for image in images}) == 1
    assert len(result.warnings) == 1 and "FrameOfReferenceUID" in result.warnings[0]


def test_what_is_derived_from_synthetic_data_is_synthetic_and_says_so(tmp_path: Path) -> None:
    result, images = written(with_tags(tmp_path, SyntheticData="YES"), tmp_path / "out")
    assert images[0].SyntheticData == "YES" and "a synthetic T1w image" in images[0].DerivationDescription
    assert result.warnings == ("The source is a synthetic image itself.",)
    assert images[0].ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_losses_of_compression_are_never_taken_back(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    _, images = written(source, tmp_path / "never")
    assert images[0].LossyImageCompression == "00"
    first = source[1].frames[0].dataset
    method = with_tags(tmp_path, LossyImageCompression="01", LossyImageCompressionRatio="7.5")
    _, images = written(method, tmp_path / "once")
    assert (images[0].LossyImageCompression, images[0].LossyImageCompressionRatio) == ("01", 7.5)
    lossy = replace(source[1], lossy=True)
    first.file_meta.TransferSyntaxUID, before = "1.2.840.10008.1.2.4.91", first.file_meta.TransferSyntaxUID
    try:
        _, images = written((source[0], lossy), tmp_path / "syntax")
    finally:
        first.file_meta.TransferSyntaxUID = before
    assert (images[0].LossyImageCompression, images[0].LossyImageCompressionMethod) == ("01", "ISO_15444_1")


def test_burned_in_text_of_the_source_is_not_denied(tmp_path: Path) -> None:
    _, images = written(with_tags(tmp_path, BurnedInAnnotation="YES"), tmp_path / "out")
    assert images[0].BurnedInAnnotation == "YES"


@pytest.mark.parametrize(
    ("enhanced", "tags", "part", "warned"),
    [
        (False, {"BodyPartExamined": None}, "HEAD", True),
        (False, {"BodyPartExamined": "NECK"}, "NECK", False),
        (True, {"BodyPartExamined": None}, "HEAD", False),  # of FrameAnatomySequence
    ],
)
def test_the_body_part_is_that_of_the_source_or_the_head(
    enhanced: bool, tags: dict[str, Any], part: str, warned: bool, tmp_path: Path
) -> None:
    make_series(tmp_path / "source", shape=(10, 8, 3), enhanced=enhanced, tags=tags)
    result, images = written(read(tmp_path / "source"), tmp_path / "out")
    assert images[0].BodyPartExamined == part
    assert any("HEAD" in warning for warning in result.warnings) is warned


@pytest.mark.parametrize(
    ("tag", "chosen", "number"), [(3, None, 393), (None, None, 93), (2**31 - 1, None, 93), (3, 0, 0), (3, 77, 77)]
)
def test_the_series_number_is_another_one_for_each_target(
    tag: int | None, chosen: int | None, number: int, tmp_path: Path
) -> None:
    _, images = written(with_tags(tmp_path, SeriesNumber=tag), tmp_path / "out", series_number=chosen)
    assert images[0].SeriesNumber == number


@pytest.mark.parametrize("number", [-1, 2**31])
def test_a_series_number_that_cannot_be_is_refused(
    number: int, source: tuple[Volume, DicomSeries], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="series number"):
        written(source, tmp_path / "out", series_number=number)


def test_no_warning_holds_a_value_of_the_source(tmp_path: Path) -> None:
    tags = {"PatientAge": "CANARY", "StudyDate": "Canary", "AccessionNumber": "CANARY", "FrameOfReferenceUID": None}
    with quiet():
        source = with_tags(tmp_path, **tags)
    result = write_dicom(source[0], tmp_path / "out", like=source[1], synthesis=synthesis())
    text = " ".join(result.warnings)
    assert "PatientAge" in text and "StudyDate" in text
    assert not any(canary in text for canary in CANARIES)


def test_hostile_values_lead_nowhere(tmp_path: Path) -> None:
    evil = {"PatientID": "../../evil", "PatientName": "<script>^\x1b[31m", "SOPInstanceUID": "../../../evil"}

    def edit(dataset: Dataset, k: int) -> None:
        with quiet():
            for keyword, value in evil.items():
                setattr(dataset, keyword, value + (f".{k}" if keyword.endswith("UID") else ""))

    with quiet():
        make_series(tmp_path / "in" / "source", shape=(10, 8, 3), edit=edit)
    volume, like = read(tmp_path / "in" / "source")
    result = write_dicom(volume, tmp_path / "out", like=like, synthesis=synthesis())
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert [path.name for path in files_in(tmp_path / "out")] == ["IM00001.dcm", "IM00002.dcm", "IM00003.dcm"]
    assert "evil" not in " ".join(result.warnings)


def test_only_a_finite_volume_on_the_grid_of_the_series_is_written(
    source: tuple[Volume, DicomSeries], tmp_path: Path
) -> None:
    volume, like = source
    flipped = volume.affine @ np.diag([1, -1, 1, 1.0])
    moved = volume.affine + np.array([[0, 0, 0, 1.0], [0] * 4, [0] * 4, [0] * 4])
    for wrong in (Volume(volume.array, flipped), Volume(volume.array, moved), Volume(volume.array[1:], volume.affine)):
        with pytest.raises(ValueError, match=r"grid of the series|does not fit"):
            write_dicom(wrong, tmp_path / "out", like=like, synthesis=synthesis())
    array = volume.array.copy()
    array[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        write_dicom(volume.with_array(array), tmp_path / "out", like=like, synthesis=synthesis())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Change the umask until the end of the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(
    ("mask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600), (0o002, 0o775, 0o664)]
)
def test_others_may_read_what_the_umask_lets_them(
    mask: int, folder: int, file: int, umask: Callable[[int], int], source: tuple[Volume, DicomSeries], tmp_path: Path
) -> None:
    umask(mask)
    written(source, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == folder
    assert {stat.S_IMODE(path.stat().st_mode) for path in files_in(tmp_path / "out")} == {file}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_folder_stays_as_closed_or_open_as_it_was(
    umask: Callable[[int], int], source: tuple[Volume, DicomSeries], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir(mode=0o700)
    for overwrite in (False, True):
        written(source, tmp_path / "out", overwrite=overwrite)
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def refusals(tmp_path: Path) -> dict[str, tuple[Path, bool]]:
    """Outputs that must be refused, each with `overwrite`."""
    names = ("full", "mixed", "nested", "file", "target")
    full, mixed, nested, file, target = (tmp_path / name for name in names)
    for folder in (full, mixed, nested, target):
        folder.mkdir()
    (full / "note.txt").write_text("mine")
    (mixed / "other.dcm").write_bytes(bytes(128) + b"DICM")
    (nested / "sub").mkdir()
    file.write_text("mine")
    (tmp_path / "link").symlink_to(target, target_is_directory=True)
    return {
        "not empty": (full, False),
        "did not write": (full, True),
        "holds files": (mixed, True),
        "is not replaced": (nested, True),
        "is a file": (file, True),
        "is a link": (tmp_path / "link", True),
        "does not exist": (tmp_path / "absent" / "out", False),
    }


def test_nothing_of_others_is_overwritten(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    cases = refusals(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for message, (out, overwrite) in cases.items():
        with pytest.raises(OutputError, match=message):
            write_dicom(source[0], out, like=source[1], synthesis=synthesis(), overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "full/note.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_our_own_files_are_replaced_with_overwrite_only(source: tuple[Volume, DicomSeries], tmp_path: Path) -> None:
    first, _ = written(source, tmp_path / "out")
    with pytest.raises(OutputError, match="--overwrite"):
        written(source, tmp_path / "out")
    second, images = written(source, tmp_path / "out", overwrite=True)
    assert first.series_uid != second.series_uid == images[0].SeriesInstanceUID
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_everything_as_it_was(
    existing: bool, source: tuple[Volume, DicomSeries], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if existing:
        written(source, tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")}
    plain, calls = folders.write_new, []

    def full(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(path, data)

    monkeypatch.setattr(write, "write_new", full)
    with pytest.raises(OutputError, match="No space left"):
        written(source, tmp_path / "out", overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")} == before
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if existing else [])
    assert len(calls) == 3


def test_a_folder_that_cannot_be_moved_into_place_comes_back(
    source: tuple[Volume, DicomSeries], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = written(source, tmp_path / "out")
    plain = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target.name == "out" and len(list(tmp_path.iterdir())) == 2 and not (tmp_path / "out").exists():
            monkeypatch.setattr(Path, "rename", plain)
            raise OSError(errno.EIO, "Input/output error")
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ImputerError, match="Input/output error"):
        written(source, tmp_path / "out", overwrite=True)
    assert pydicom.dcmread(tmp_path / "out/IM00001.dcm").SeriesInstanceUID == first.series_uid
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
