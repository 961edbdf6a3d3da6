"""A series read as a volume: every plane, syntax and rescale; select; and the refusals, each with its reason."""

from __future__ import annotations

import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_phantom import CANARIES, SYNTAXES, expected_volume, make_series, marker_position_ras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite

from imputer.errors import InputError, UsageError
from imputer.io.dicom.read import read_dicom
from imputer.io.dicom.series import scan
from imputer.modality import Modality
from imputer.volume import Volume

SMALL = (10, 8, 5)
ENHANCED_CLASSES = {"MR": "1.2.840.10008.5.1.4.1.1.4.4", "CT": "1.2.840.10008.5.1.4.1.1.2.2"}


def check(volume: Volume, **phantom: Any) -> None:
    expected = expected_volume(**phantom)
    assert volume.shape == expected.shape
    assert np.allclose(volume.affine, expected.affine, atol=1e-6)
    assert np.allclose(volume.array, expected.array, rtol=1e-6, atol=1e-3)
    assert volume.modality is expected.modality


def notes(volume: Volume) -> str:
    assert volume.origin is not None
    return "; ".join(volume.origin.notes)


def refusal(path: Path, **arguments: Any) -> str:
    with pytest.raises(InputError) as refused:
        read_dicom(path, **arguments)
    message = str(refused.value)
    assert "\n" not in message and not any(canary in message for canary in CANARIES)
    return message


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", "oblique"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("enhanced", [False, True])
def test_every_plane_is_read_where_it_lies(tmp_path: Path, plane: str, reverse: bool, enhanced: bool) -> None:
    phantom: dict[str, Any] = {"plane": plane, "reverse": reverse, "enhanced": enhanced, "shuffle": 4}
    make_series(tmp_path, **phantom)
    volume = read_dicom(tmp_path)
    check(volume, **phantom)
    brightest = np.array(np.unravel_index(volume.array.argmax(), volume.shape))
    near = np.linalg.norm((volume.affine @ [*brightest, 1])[:3] - marker_position_ras(**phantom))
    assert near < 5
    assert volume.origin is not None
    series = volume.origin.header
    assert (series.modality, series.multi_frame, series.files) == ("MR", enhanced, 1 if enhanced else 12)
    assert series.body_part == "HEAD" and not series.lossy
    for k, frame in enumerate(series.frames):
        assert np.allclose(np.diag([-1, -1, 1, 1])[:3, :3] @ frame.position, (volume.affine @ [0, 0, k, 1])[:3])
    assert notes(volume) == ""


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_every_transfer_syntax_gives_the_same_voxels(tmp_path: Path, syntax: str, modality: str) -> None:
    phantom: dict[str, Any] = {"syntax": syntax, "modality": modality, "shape": SMALL}
    make_series(tmp_path, **phantom)
    check(read_dicom(tmp_path), **phantom)


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("converted", [False, True])
def test_multi_frame_classes_are_read(tmp_path: Path, modality: str, converted: bool) -> None:
    tags = {"SOPClassUID": ENHANCED_CLASSES[modality]} if converted else {}
    phantom: dict[str, Any] = {"enhanced": True, "modality": modality, "shuffle": 2, "slope": 2.5, "intercept": -7.0}
    path = make_series(tmp_path, **phantom, tags=tags)[0]
    check(read_dicom(path), **phantom)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 10**6))
def test_names_numbers_and_order_of_files_do_not_matter(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / str(seed)
    paths = make_series(folder, shape=SMALL, plane="oblique", shuffle=seed)
    chance = random.Random(seed)
    for path in paths:  # any nesting, any extension
        place = (
            folder / chance.choice(["", "a", "b/c"]) / f"{chance.randrange(10**9)}{chance.choice(['', '.IMA', '.x'])}"
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    volume = read_dicom(folder)
    check(volume, shape=SMALL, plane="oblique")
    straight = tmp_path / "straight"
    make_series(straight, shape=SMALL, plane="oblique", shuffle=seed)
    again = read_dicom(straight)
    assert volume.origin is not None and again.origin is not None
    assert volume.origin.header.sha256 == again.origin.header.sha256 and len(volume.origin.header.sha256) == 64


def test_a_zip_is_read_like_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for path in make_series(tmp_path / "s", shape=SMALL):
            archive.write(path, path.name)
    volume = read_dicom(tmp_path / "s.zip")
    check(volume, shape=SMALL)
    assert volume.origin is not None and volume.origin.path == tmp_path / "s.zip"


def test_rescale_is_that_of_each_slice(tmp_path: Path) -> None:
    shape = SMALL
    make_series(
        tmp_path / "a",
        shape=shape,
        tags={"RescaleSlope": lambda k: str(1 + k), "RescaleIntercept": lambda k: str(10 * k)},
    )
    expected = expected_volume(shape=shape).array * (1 + np.arange(5)) + 10 * np.arange(5)
    assert np.allclose(read_dicom(tmp_path / "a").array, expected)

    def per_frame(dataset: Dataset, k: int) -> None:
        for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            item = Dataset()
            item.RescaleSlope, item.RescaleIntercept = str(1 + index), str(10 * index)
            group.PixelValueTransformationSequence = [item]
            mapping = Dataset()  # to be ignored
            mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 1000.0, 7.0
            group.RealWorldValueMappingSequence = [mapping]

    make_series(tmp_path / "b", shape=shape, enhanced=True, edit=per_frame)
    assert np.allclose(read_dicom(tmp_path / "b").array, expected)


def test_what_is_black_when_high_is_turned(tmp_path: Path) -> None:
    make_series(tmp_path / "mr", shape=SMALL, tags={"PhotometricInterpretation": "MONOCHROME1"})
    volume = read_dicom(tmp_path / "mr")
    assert np.array_equal(volume.array, 4095 - expected_volume(shape=SMALL).array)
    assert "MONOCHROME1" in notes(volume)
    make_series(tmp_path / "ct", shape=SMALL, modality="CT", tags={"PhotometricInterpretation": "MONOCHROME1"})
    check(read_dicom(tmp_path / "ct"), shape=SMALL, modality="CT")  # Hounsfield units are what they are


def test_padding_becomes_the_lowest_value(tmp_path: Path) -> None:
    def pad(dataset: Dataset, k: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").astype("<i2").copy()
        pixels[:3] = -2000
        dataset.PixelData, dataset.PixelRepresentation = pixels.tobytes(), 1
        dataset.BitsStored, dataset.HighBit = 16, 15
        dataset.add_new("PixelPaddingValue", "US", 63536)  # the sign lost, as some scanners write it

    make_series(tmp_path, shape=SMALL, modality="CT", edit=pad)
    volume = read_dicom(tmp_path)
    assert volume.array.min() == -1000 and (volume.array[:3, 0] == -1000).all()
    assert "15 padding voxels set to the lowest value" in notes(volume)


def test_invalid_values_that_do_not_matter_stop_nothing(tmp_path: Path) -> None:
    make_series(
        tmp_path, shape=SMALL, vendor="ge",
        tags={"FrameOfReferenceUID": None, "SliceThickness": None, "SpacingBetweenSlices": None, "SliceLocation": None,
              "InstanceNumber": None, "AcquisitionNumber": None, "ImageType": None, "BodyPartExamined": None},
        patient={"PatientAge": None, "PatientSex": None},
    )  # fmt: skip
    for path in tmp_path.iterdir():  # values that pydicom would not write
        data = path.read_bytes()
        data = data.replace(b"20200102", b"***     ").replace(b"103003", b"noon. ")
        path.write_bytes(data)
    check(read_dicom(tmp_path), shape=SMALL, vendor="ge")


def test_strange_numbers_of_real_files_are_read(tmp_path: Path) -> None:
    def rough(dataset: Dataset, k: int) -> None:
        dataset.add_new("ImagePositionPatient", "UT", rf"-12.50000000000000001\3.25\{k * 2:.17f}")
        dataset["ImagePositionPatient"].VR = "DS"
        dataset.add_new("InstanceNumber", "UT", f"{k}.5")
        dataset["InstanceNumber"].VR = "IS"

    path = tmp_path / "series"
    make_series(path, shape=SMALL, edit=rough)
    assert np.allclose(read_dicom(path).affine[:3, 3], [12.5, -3.25, 0])


def echoes(dataset: Dataset, k: int) -> None:
    """Turn the frames into two echoes of the same places."""
    half = len(dataset.PerFrameFunctionalGroupsSequence) // 2
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        item = Dataset()
        item.EffectiveEchoTime = 5.19 if index >= half else 2.73
        group.MREchoSequence = [item]
        like = dataset.PerFrameFunctionalGroupsSequence[index % half]
        group.PlanePositionSequence = like.PlanePositionSequence


def test_two_echoes_of_one_multi_frame_file_are_selected(tmp_path: Path) -> None:
    path = make_series(tmp_path, shape=(10, 8, 8), enhanced=True, edit=echoes)[0]
    assert "EchoTime=2.73, EchoTime=5.19" in refusal(path)
    assert scan(path)[0].groups == ("EchoTime=2.73", "EchoTime=5.19")
    volume = read_dicom(path, select=["EchoTime=5.19"])
    assert np.array_equal(volume.array, expected_volume(shape=(10, 8, 8)).array[:, :, 4:])
    assert volume.origin is not None and [frame.number for frame in volume.origin.header.frames] == [5, 6, 7, 8]
    assert "4 of the 8 images" in notes(volume)
    with pytest.raises(UsageError):
        read_dicom(path, select=["Echo"])
    assert "It has EchoTime 2.73, 5.19" in refusal(path, select=["EchoTime=7"])


def test_two_echoes_of_a_classic_series_are_selected(tmp_path: Path) -> None:
    for number, echo in enumerate((2.73, 5.19)):
        make_series(
            tmp_path / str(number), shape=SMALL, slope=1.0 + number,
            tags={"EchoTime": echo, "SOPInstanceUID": lambda k, number=number: f"2.25.7{number}{k}"},
        )  # fmt: skip
    assert "several volumes, of which one can be chosen: EchoTime=2.73, EchoTime=5.19" in refusal(tmp_path)
    check(read_dicom(tmp_path, select=["EchoTime=5.19"]), shape=SMALL, slope=2.0)


Edit = Callable[[Dataset, int], None]


def drop(keyword: str, only: int = 2) -> Edit:
    def edit(dataset: Dataset, k: int) -> None:
        if k == only:
            del dataset[keyword]

    return edit


def raw(keyword: str, value: str) -> Edit:
    """Write a text that pydicom would refuse."""

    def edit(dataset: Dataset, k: int) -> None:
        vr = dataset[keyword].VR
        dataset.add_new(keyword, "UT", value)
        dataset[keyword].VR = vr

    return edit


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tags": {"ImagePositionPatient": None}}, "S003I0001.dcm has no ImagePositionPatient"),
    ({"edit": drop("ImageOrientationPatient")}, "S003I0003.dcm has no ImageOrientationPatient"),
    ({"edit": drop("PixelSpacing")}, "S003I0003.dcm has no PixelSpacing"),
    ({"edit": drop("Rows")}, "S003I0003.dcm is no whole image"),
    ({"edit": drop("PixelData")}, "S003I0003.dcm has no pixel data"),
    ({"edit": raw("ImagePositionPatient", r"nan\inf\1e400")}, "no valid ImagePositionPatient"),
    ({"edit": raw("ImagePositionPatient", r"1\2")}, "no valid ImagePositionPatient"),
    ({"edit": raw("ImagePositionPatient", r"1e30\2\3")}, "no valid ImagePositionPatient"),
    ({"edit": raw("ImagePositionPatient", r"Canary\2\3")}, "no valid ImagePositionPatient"),
    ({"edit": raw("PixelSpacing", r"0\0")}, "no valid PixelSpacing: it is not between 0.01 and 100 mm"),
    ({"edit": raw("PixelSpacing", r"-1\1")}, "no valid PixelSpacing"),
    ({"edit": raw("PixelSpacing", "1")}, "no valid PixelSpacing"),
    ({"edit": raw("ImageOrientationPatient", r"0\0\0\0\0\0")}, "no orthogonal unit vectors"),
    ({"edit": raw("ImageOrientationPatient", r"1\0\0\0.1\0.995\0")}, "no orthogonal unit vectors"),
    ({"edit": raw("ImageOrientationPatient", r"1\0\0\1\0\0")}, "no orthogonal unit vectors"),
    ({"tags": {"Rows": 65535, "Columns": 65535}}, "claims 4294836225 voxels, more than this program takes"),
    ({"tags": {"Rows": 65535, "Columns": 300}}, "is truncated"),
    ({"tags": {"Rows": 0}}, "impossible size"),
    ({"tags": {"NumberOfFrames": "2147483647"}}, "which its kind of image cannot hold|more than this program takes"),
    ({"tags": {"NumberOfFrames": "2"}}, "claims 2 frames, which its kind of image cannot hold"),
    ({"tags": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}}, "in colour"),
    ({"tags": {"RescaleSlope": "0"}}, "no valid RescaleSlope"),
    ({"tags": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}}, "mosaic"),
    ({"tags": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}}, "localizer"),
    ({"tags": {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}}, "phase images"),
    ({"vendor": "ge", "edit": lambda dataset, k: dataset.add_new(0x0043102F, "SS", 1)}, "is a phase image"),
    ({"shape": (10, 8, 2)}, "2 slices"),
    ({"enhanced": True, "tags": {"NumberOfFrames": "2147483647"}}, "more than this program takes"),
    ({"enhanced": True, "tags": {"NumberOfFrames": "6"}}, "claims 6 frames, but describes 5"),
    ({"enhanced": True, "tags": {"PerFrameFunctionalGroupsSequence": None}}, "no functional groups"),
]


@pytest.mark.parametrize(("phantom", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_series_are_refused_with_the_reason(tmp_path: Path, phantom: dict[str, Any], said: str) -> None:
    make_series(tmp_path, **{"shape": SMALL, **phantom})
    assert re.search(said, refusal(tmp_path))


@pytest.mark.parametrize("syntax", ["rle", "j2k"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_compressed_claims_are_checked_before_memory_is_taken(tmp_path: Path, syntax: str, enhanced: bool) -> None:
    path = make_series(tmp_path, shape=SMALL, syntax=syntax, enhanced=enhanced)[0]
    dataset = dcmread(path)
    dataset.Rows = dataset.Columns = 20000 if enhanced else 46000
    dcmwrite(path, dataset)
    assert "another size" in (message := refusal(tmp_path)) or "as large as it claims" in message or "sizes" in message
    dataset.NumberOfFrames = 2**31 - 1
    dcmwrite(path, dataset)
    assert "more than this program takes" in refusal(tmp_path)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    path = make_series(tmp_path, shape=SMALL)[3]
    path.write_bytes(path.read_bytes()[:-30])
    assert "S003I0004.dcm is truncated: it has 130 of 160 bytes" in refusal(tmp_path)


def test_a_missing_slice_is_told_with_its_neighbours(tmp_path: Path) -> None:
    make_series(tmp_path, shape=(10, 8, 8))[4].unlink()
    message = refusal(tmp_path)
    assert "1 slice is missing" in message and "between S003I0004.dcm and S003I0006.dcm" in message


def test_a_volume_of_one_value_is_refused(tmp_path: Path) -> None:
    make_series(tmp_path, shape=SMALL, edit=lambda dataset, k: setattr(dataset, "PixelData", bytes(160)))
    assert "all its voxels are equal" in refusal(tmp_path)


def test_what_the_series_says_of_itself_is_noted(tmp_path: Path) -> None:
    tags = {"SyntheticData": "YES", "ImagesInAcquisition": 9, "LossyImageCompression": "01"}
    make_series(tmp_path, shape=SMALL, tags=tags)
    volume = read_dicom(tmp_path)
    assert "synthetic" in notes(volume) and "tells of 9 images, but there are 5" in notes(volume)
    assert volume.origin is not None and volume.origin.header.lossy


def test_kept_headers_hold_no_pixels_and_nothing_private(tmp_path: Path) -> None:
    make_series(tmp_path, shape=SMALL)
    volume = read_dicom(tmp_path)
    assert volume.origin is not None
    for frame in volume.origin.header.frames:
        assert all(tag.group % 2 == 0 and tag.group < 0x7FE0 for tag in frame.dataset.keys())  # noqa: SIM118
        assert frame.dataset.PatientID == "CANARY-4711"
    assert not any(canary in repr(volume) + repr(volume.origin.header) for canary in CANARIES)


def test_the_series_that_fits_is_taken(tmp_path: Path) -> None:
    make_series(tmp_path / "a", shape=SMALL, series_number=3)
    make_series(tmp_path / "b", shape=SMALL, series_number=4, contrast="t2")
    check(read_dicom(tmp_path, fits=lambda modality: modality is Modality.T2), shape=SMALL, contrast="t2")
    check(read_dicom(tmp_path, series="3"), shape=SMALL)
    assert "2 series that fit: 3 (t1, 5 slices), 4 (t2, 5 slices)" in refusal(tmp_path)
