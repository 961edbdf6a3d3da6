"""What an input holds: series, copies, other objects, junk; and which series is taken."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_phantom import CANARIES, expected_volume, make_series
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from imputer.errors import InputError
from imputer.io.dicom.read import read_dicom
from imputer.io.dicom.series import SeriesSummary, choose, named, scan
from imputer.modality import Modality

SMALL = (10, 8, 4)


def summary(number: int, modality: Modality | None = Modality.T1, **others: Any) -> SeriesSummary:
    return SeriesSummary(
        uid=f"1.2.{number}", number=number, description=others.pop("description", f"sag {number}"), modality=modality,
        sop_class="MR Image Storage", frames=96, **others,
    )  # fmt: skip


def write_object(path: Path, sop_class: str, **tags: Any) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "2.25.5"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "2.25.6"
    dataset.PatientName = "Leak^Canary"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(InputError) as refused:
        read_dicom(path, **settings)
    message = str(refused.value)
    assert "\n" not in message and not any(canary in message for canary in CANARIES)
    return message


def is_t1(modality: Modality | None) -> bool:
    return modality is Modality.T1


def test_a_folder_is_listed_by_number_with_what_its_headers_tell(tmp_path: Path) -> None:
    make_series(tmp_path / "a", series_number=12, contrast="t2", shape=SMALL, description="T2\x1b[31m tse\x07")
    make_series(tmp_path / "deep/b", series_number=3, shape=SMALL, plane="sagittal", spacing=(1, 1.25, 2))
    make_series(tmp_path / "c", series_number=5, modality="CT", enhanced=True, shape=SMALL, study="another")
    first, second, third = scan(tmp_path)
    assert [one.number for one in (first, second, third)] == [3, 5, 12]
    assert (first.modality, second.modality, third.modality) == (Modality.T1, Modality.CT, Modality.T2)
    assert first.shape == SMALL and first.spacing == pytest.approx((1, 1.25, 2)) and first.axis_codes == ("P", "I", "R")
    assert first.affine is not None and np.allclose(
        first.affine, expected_volume(shape=SMALL, plane="sagittal", spacing=(1, 1.25, 2)).affine
    )
    assert second.sop_class == "Enhanced CT Image Storage" and second.frames == 4
    assert third.description == "T2[31m tse"
    assert first.timing["RepetitionTime"] == 2300 and first.body_part == "HEAD" and not first.synthetic
    assert {one.problem for one in (first, second, third)} == {""}
    assert not any(canary in repr((first, second, third)) for canary in CANARIES)


def test_other_objects_and_junk_are_counted(tmp_path: Path) -> None:
    make_series(tmp_path, shape=SMALL)
    write_object(tmp_path / "report", "1.2.840.10008.5.1.4.1.1.88.11")
    write_object(tmp_path / "raw", "1.2.840.10008.5.1.4.1.1.66", Rows=256, Columns=256)
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(5000))
    (tmp_path / "notes.txt").write_text("hello world")
    volume = read_dicom(tmp_path)
    assert volume.origin is not None
    notes = " ".join(volume.origin.notes)
    assert "2 DICOM objects that are no images left out (Basic Text SR Storage, Raw Data Storage)" in notes
    assert "2 entries that are no DICOM file left out" in notes


def test_an_input_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello world")
    assert "holds no DICOM file" in refusal(tmp_path)
    write_object(tmp_path / "report", "1.2.840.10008.5.1.4.1.1.88.11")
    assert "holds no DICOM image, only 1 other objects (Basic Text SR Storage)" in refusal(tmp_path)
    with pytest.raises(InputError, match="no DICOM image"):
        scan(tmp_path)


@pytest.mark.parametrize(
    ("sop_class", "said"),
    [
        ("1.2.840.10008.5.1.4.1.1.128", "Positron Emission Tomography Image Storage"),
        ("1.2.840.10008.5.1.4.1.1.6.1", "Ultrasound Image Storage"),
        ("1.2.840.10008.5.1.4.1.1.7", "Secondary Capture Image Storage"),
        ("1.2.3.4.5", "unknown kind"),
    ],
)
def test_images_of_other_classes_are_refused_by_name(tmp_path: Path, sop_class: str, said: str) -> None:
    make_series(tmp_path, shape=SMALL, tags={"SOPClassUID": sop_class})
    assert said in refusal(tmp_path)
    found = scan(tmp_path)[0]
    assert said in found.problem and found.shape is None and found.modality is None


def test_exact_copies_are_left_out(tmp_path: Path) -> None:
    paths = make_series(tmp_path, shape=SMALL)
    shutil.copy(paths[1], tmp_path / "copy of it.dcm")
    dataset = dcmread(paths[2])  # the same image in another transfer syntax
    dataset.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom", generate_instance_uid=False)
    dcmwrite(tmp_path / "packed", dataset)
    volume = read_dicom(tmp_path)
    assert np.array_equal(volume.array, expected_volume(shape=SMALL).array)
    assert volume.origin is not None and "2 exact copies of images left out" in volume.origin.notes
    assert volume.origin.header.files == 4


def test_images_that_only_claim_to_be_copies_are_refused(tmp_path: Path) -> None:
    paths = make_series(tmp_path, shape=SMALL)
    dataset = dcmread(paths[1])
    dataset.PixelData = dataset.PixelData[::-1]
    dcmwrite(tmp_path / "z.dcm", dataset)
    assert "z.dcm and S003I0002.dcm claim to be the same image, but differ" in refusal(tmp_path)


def test_images_of_several_patients_or_spaces_are_no_series(tmp_path: Path) -> None:
    make_series(tmp_path / "a", shape=SMALL, tags={"PatientID": lambda k: f"CANARY-{k // 2}"})
    assert "several patients" in refusal(tmp_path / "a")
    make_series(tmp_path / "b", shape=SMALL, tags={"FrameOfReferenceUID": lambda k: f"2.25.{k // 2}"})
    assert "2 frames of reference" in refusal(tmp_path / "b")
    make_series(tmp_path / "c", shape=SMALL, tags={"FrameOfReferenceUID": None})
    assert read_dicom(tmp_path / "c").shape == SMALL


def test_the_same_series_in_two_studies_is_two(tmp_path: Path) -> None:
    uid = "2.25.77"
    make_series(tmp_path / "a", shape=SMALL, study="one", tags={"SeriesInstanceUID": uid})
    make_series(tmp_path / "b", shape=SMALL, study="two", tags={"SeriesInstanceUID": uid})
    assert len(scan(tmp_path)) == 2


def test_a_file_that_cannot_be_read_is_only_left_out_on_demand(tmp_path: Path) -> None:
    make_series(tmp_path, shape=SMALL)
    nested = b"".join(b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" for _ in range(5000))
    head = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0" + b"\x08\x00\x16\x00UI\x1a\x001.2.840.10008.5.1.4.1.1.4\0"
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + head + nested)
    assert [one.is_damage for one in scan(tmp_path)] == [False, True]
    assert "1 DICOM file cannot be read (broken.dcm)" in refusal(tmp_path)
    volume = read_dicom(tmp_path, series="3")
    assert volume.origin is not None and any("damaged" in note for note in volume.origin.notes)


def test_the_only_series_that_fits_is_taken() -> None:
    t1, t2, flair = summary(1), summary(2, Modality.T2), summary(3, Modality.FLAIR)
    assert choose([t2, t1, flair], fits=is_t1) is t1
    assert choose([t2], fits=is_t1) is t2  # there is no other
    assert choose([summary(4, problem="no volume"), t2]) is t2
    assert choose([t1, summary(5, synthetic=True)], fits=is_t1) is t1
    synthetic = summary(5, synthetic=True)
    assert choose([synthetic]) is synthetic


def test_several_that_fit_are_listed() -> None:
    others = [summary(number) for number in range(4, 12)]
    with pytest.raises(InputError) as refused:
        choose([summary(3), *others, summary(20, Modality.T2)], fits=is_t1, name="study")
    assert str(refused.value) == (
        "study holds 9 series that fit: 3 (t1, 96 slices), 4 (t1, 96 slices), 5 (t1, 96 slices), 6 (t1, 96 slices), "
        "7 (t1, 96 slices), 8 (t1, 96 slices) and 3 more. Choose with --series; imputer inspect lists them."
    )
    with pytest.raises(InputError, match=r"2 series, none of which is known to fit: 1 \(unknown contrast.*2 \(t2"):
        choose([summary(1, None), summary(2, Modality.T2)], fits=is_t1)


def test_reasons_are_given_where_none_can_be_used() -> None:
    with pytest.raises(InputError, match=r"^It is a mosaic\.$"):
        choose([summary(1, problem="It is a mosaic.")])
    with pytest.raises(InputError, match=r"2 series, none of which.*Series 1: It is a mosaic\. Series 2: It is not\."):
        choose([summary(1, problem="It is a mosaic."), summary(2, problem="It is not.")])


@pytest.mark.parametrize(
    ("called", "number"), [("12", 12), ("1.2.3", 3), ("SAG T1", 3), ("sag t1 ", 3), ("ax", 12), ("mprage", 3)]
)
def test_a_series_is_called_by_uid_number_or_description(called: str, number: int) -> None:
    known = [
        summary(3, description="sag t1"), summary(12, description="ax T2"), summary(4, description="sag t1 mprage"),
        summary(40, description="sag t1 MPRAGE", problem="not this one"),
    ]  # fmt: skip
    expected = 4 if called == "mprage" else number
    assert named(known, called).number == expected


def test_a_name_of_none_or_several_is_refused() -> None:
    known = [summary(3, description="Canary t1"), summary(4, description="Canary t2")]
    for called, said in (("canary", "2 series are called like that: 3 "), ("9", "No series is called"), ("", "No")):
        with pytest.raises(InputError, match=said) as refused:
            named(known, called)
        assert "Canary" not in str(refused.value)
    with pytest.raises(InputError, match="too bad"):
        choose([summary(3, problem="too bad"), summary(4)], series="3")
