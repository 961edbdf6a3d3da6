"""Where the planes of an instance are told to lie: in itself, per frame, shared, or left over from conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom_phantom import make_series
from pydicom import Dataset, dcmread

from imputer.errors import InputError
from imputer.io.dicom.planes import frames_of

SMALL = (10, 8, 4)


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def enhanced(tmp_path: Path) -> Dataset:
    return dcmread(make_series(tmp_path, shape=SMALL, enhanced=True)[0])


def test_an_instance_of_a_classic_series_is_one_plane(tmp_path: Path) -> None:
    path = make_series(tmp_path, shape=SMALL, slope=2.5, intercept=-4.0, tags={"AcquisitionNumber": 7})[2]
    (frame,) = frames_of(dcmread(path), "im")
    assert (frame.file, frame.number, frame.rows, frame.columns) == ("im", None, 8, 10)
    assert (frame.slope, frame.intercept, frame.thickness) == (2.5, -4.0, 2.0)
    assert frame.pixel_spacing == (1.25, 1.0) and frame.orientation == (1, 0, 0, 0, 1, 0)
    assert frame.traits["AcquisitionNumber"] == "7" and frame.traits["EchoTime"] == "2.98"
    assert frame.traits["ImageType"] == r"ORIGINAL\PRIMARY\M" and "StackID" not in frame.traits


def test_frames_have_their_own_or_shared_attributes(enhanced: Dataset) -> None:
    groups = enhanced.PerFrameFunctionalGroupsSequence
    groups[1].MREchoSequence = [item(EffectiveEchoTime=77.25)]
    groups[1].PixelValueTransformationSequence = [item(RescaleSlope="3", RescaleIntercept="4")]
    groups[2].FrameContentSequence[0].StackID = "2"
    groups[2].FrameContentSequence[0].TemporalPositionIndex = 5
    groups[2].FrameContentSequence[0].FrameAcquisitionNumber = 9
    groups[3].MRImageFrameTypeSequence = [
        item(FrameType=["DERIVED", "PRIMARY", "PHASE", "NONE"], ComplexImageComponent="PHASE")
    ]
    frames = frames_of(enhanced, "im")
    assert [frame.number for frame in frames] == [1, 2, 3, 4]
    assert [frame.traits["EchoTime"] for frame in frames] == ["2.98", "77.25", "2.98", "2.98"]
    assert [(frame.slope, frame.intercept) for frame in frames] == [(1, 0), (3, 4), (1, 0), (1, 0)]
    assert [frame.traits["StackID"] for frame in frames] == ["1", "1", "2", "1"]
    assert (frames[2].traits["TemporalPositionIndex"], frames[2].traits["AcquisitionNumber"]) == ("5", "9")
    assert frames[3].traits["ImageType"] == r"DERIVED\PRIMARY\PHASE\NONE"
    assert [frame.traits["ComplexImageComponent"] for frame in frames] == ["MAGNITUDE"] * 3 + ["PHASE"]
    assert {frame.thickness for frame in frames} == {2.0} and all(frame.dataset is enhanced for frame in frames)


def test_attributes_left_over_from_conversion_are_found(enhanced: Dataset) -> None:
    """Legacy Converted Enhanced objects, PS3.3 C.7.6.16.2.25 and 26."""
    shared = enhanced.SharedFunctionalGroupsSequence[0]
    del shared.MREchoSequence
    shared.UnassignedSharedConvertedAttributesSequence = [item(EchoTime="4.5")]
    for number, group in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        group.UnassignedPerFrameConvertedAttributesSequence = [item(TriggerTime=str(10 * number))]
    frames = frames_of(enhanced, "im")
    assert [frame.traits["EchoTime"] for frame in frames] == ["4.5"] * 4
    assert [frame.traits["TriggerTime"] for frame in frames] == ["0", "10", "20", "30"]


def test_what_some_write_beside_the_functional_groups_is_taken(enhanced: Dataset) -> None:
    shared = enhanced.SharedFunctionalGroupsSequence[0]
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence, shared.PixelValueTransformationSequence
    enhanced.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    enhanced.PixelSpacing = [2, 3]
    frames = frames_of(enhanced, "im")
    assert {(frame.orientation, frame.pixel_spacing, frame.slope) for frame in frames} == {
        ((0, 1, 0, 0, 0, -1), (2, 3), 1)
    }


def test_one_position_beside_the_frames_is_none_of_theirs(enhanced: Dataset) -> None:
    del enhanced.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    enhanced.ImagePositionPatient = [0, 0, 0]
    with pytest.raises(InputError, match=r"^Frame 3 of im has no ImagePositionPatient"):
        frames_of(enhanced, "im")


def test_a_shared_group_may_be_absent(enhanced: Dataset) -> None:
    shared = enhanced.SharedFunctionalGroupsSequence[0]
    del enhanced.SharedFunctionalGroupsSequence
    for group in enhanced.PerFrameFunctionalGroupsSequence:
        group.update(shared)
    assert len(frames_of(enhanced, "im")) == 4


def test_ge_tells_phase_in_private(tmp_path: Path) -> None:
    dataset = dcmread(make_series(tmp_path, shape=SMALL, vendor="ge")[0])
    for value, part in ((0, "MAGNITUDE"), (1, "PHASE"), (2, "REAL"), (3, "IMAGINARY")):
        dataset.add_new(0x0043102F, "SS", value)
        assert frames_of(dataset, "im")[0].traits["ComplexImageComponent"] == part


@pytest.mark.parametrize("written", ["0", "1", "", None])
def test_a_classic_instance_may_say_that_it_has_one_frame(tmp_path: Path, written: str | None) -> None:
    dataset = dcmread(make_series(tmp_path, shape=SMALL, tags={"NumberOfFrames": written})[0])
    assert len(frames_of(dataset, "im")) == 1
