"""One volume out of several in a series, and --select."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from pydicom import Dataset

from imputer.errors import InputError, UsageError
from imputer.io.dicom.frames import Frame
from imputer.io.dicom.geometry import Crowded, Ragged
from imputer.io.dicom.volumes import Several, choices, component, conditions_of, volume_of

M, P = r"ORIGINAL\PRIMARY\M", r"ORIGINAL\PRIMARY\P"


def frame(height: float, **traits: str) -> Frame:
    axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return Frame("f", Dataset(), None, axes, (0.0, 0.0, height), (1.0, 1.0), 8, 8, traits={"ImageType": M, **traits})


def stacks(*traits: Mapping[str, str], count: int = 4) -> list[Frame]:
    """The same places once for each set of traits."""
    return [frame(height, **each) for height in range(count) for each in traits]


def test_echoes_are_listed_and_selected_by_number() -> None:
    frames = stacks({"EchoTime": "2.73", "EchoNumbers": "1"}, {"EchoTime": "5.19", "EchoNumbers": "2"})
    with pytest.raises(Several, match=r"EchoTime=2\.73, EchoTime=5\.19.*--select \"EchoTime=2\.73\"") as refused:
        volume_of(frames)
    assert refused.value.choices == ("EchoTime=2.73", "EchoTime=5.19")
    for asked in ("EchoTime=5.19", "echotime=5.190", "EchoNumbers=2", "EffectiveEchoTime = 5.19", "EchoNumber=2.0"):
        grid = volume_of(frames, conditions_of([asked]))
        assert {one.traits["EchoTime"] for one in grid.frames} == {"5.19"}, asked


def test_magnitude_is_offered_and_phase_never_taken() -> None:
    frames = stacks({"ImageType": M}, {"ImageType": P})
    with pytest.raises(Several, match=r"more than one volume.*ImageType=M") as refused:
        volume_of(frames)
    assert refused.value.choices == ("ImageType=M",)
    assert len(volume_of(frames, conditions_of(["ImageType=m"])).frames) == 4
    with pytest.raises(InputError, match=r"holds phase images\. Give the magnitude"):
        volume_of(frames, conditions_of(["ImageType=P"]))


def test_two_traits_are_needed_for_echoes_in_magnitude_and_phase() -> None:
    both = [{"EchoTime": echo, "ImageType": kind} for echo in ("4.92", "7.38") for kind in (M, P)]
    frames = stacks(*both)
    assert choices(frames) == ("EchoTime=4.92,ImageType=M", "EchoTime=7.38,ImageType=M")
    for asked in (["EchoTime=7.38,ImageType=M"], ["EchoTime=7.38", "ImageType=M"]):
        grid = volume_of(frames, conditions_of(asked))
        assert {(one.traits["EchoTime"], one.traits["ImageType"]) for one in grid.frames} == {("7.38", M)}


def test_image_types_without_a_word_of_their_own_are_named_whole() -> None:
    frames = stacks({"ImageType": M}, {"ImageType": M + r"\NORM"})
    assert choices(frames) == ("ImageType=ORIGINAL/PRIMARY/M", "ImageType=NORM")
    grid = volume_of(frames, conditions_of(["ImageType=ORIGINAL/PRIMARY/M"]))
    assert {one.traits["ImageType"] for one in grid.frames} == {M}


def test_stacks_are_told_apart_even_where_they_do_not_meet() -> None:
    frames = [frame(height, StackID="1") for height in range(4)]
    frames += [frame(height, StackID="2") for height in (20, 21, 22)]
    with pytest.raises(Several, match="StackID=1, StackID=2"):
        volume_of(frames)
    assert len(volume_of(frames, conditions_of(["StackID=2"])).frames) == 3


def test_traits_that_differ_from_place_to_place_make_one_volume() -> None:
    frames = [frame(height, AcquisitionNumber=str(height), EchoTime=f"{2 + height / 100}") for height in range(6)]
    assert len(volume_of(frames).frames) == 6


def test_a_gap_is_not_explained_away_by_a_trait() -> None:
    frames = [frame(height, AcquisitionNumber=str(height // 4)) for height in (0, 1, 2, 3, 5, 6, 7)]
    with pytest.raises(Ragged, match="1 slice is missing"):
        volume_of(frames)


def test_planes_that_nothing_tells_apart_are_refused() -> None:
    with pytest.raises(Crowded, match="8 images at 4 places"):
        volume_of(stacks({}, {}))


def test_texts_that_may_name_somebody_are_not_shown() -> None:
    frames = stacks({"StackID": "Doe^Jane, the first"}, {"StackID": "Doe^Jane, the second"})
    with pytest.raises(InputError) as refused:
        volume_of(frames)
    assert "Doe" not in str(refused.value)


def test_what_is_there_is_told_where_nothing_fits() -> None:
    with pytest.raises(InputError, match=r"has what --select asks for\. It has EchoTime 2\.73, 5\.19; no TriggerTime"):
        volume_of(stacks({"EchoTime": "2.73"}, {"EchoTime": "5.19"}), conditions_of(["EchoTime=9", "TriggerTime=0"]))


@pytest.mark.parametrize("asked", ["EchoTime", "EchoTime=", "=3", "PatientName=Doe", ""])
def test_another_expression_is_a_wrong_use(asked: str) -> None:
    with pytest.raises(UsageError, match=r"KEYWORD=VALUE.*Keywords are StackID, EchoTime") as refused:
        conditions_of([asked])
    assert "Doe" not in str(refused.value)


@pytest.mark.parametrize(
    ("traits", "part"),
    [
        ({"ImageType": P}, "PHASE"),
        ({"ImageType": r"ORIGINAL\PRIMARY\PHASE MAP\P\FFE"}, "PHASE"),
        ({"ImageType": r"ORIGINAL\PRIMARY\R\FFE"}, "REAL"),
        ({"ImageType": r"DERIVED\PRIMARY\I"}, "IMAGINARY"),
        ({"ComplexImageComponent": "PHASE"}, "PHASE"),
        ({"ComplexImageComponent": "MIXED"}, "MAGNITUDE"),
        ({"ImageType": r"P\R\M"}, "MAGNITUDE"),
        ({"ImageType": ""}, "MAGNITUDE"),
    ],
)
def test_parts_of_complex_images_are_known(traits: dict[str, str], part: str) -> None:
    assert component(frame(0, **traits)) == part


@pytest.mark.parametrize(("kind", "said"), [("MOSAIC", "mosaic.*dcm2niix"), ("LOCALIZER", "localizer")])
def test_kinds_that_are_no_volume_are_refused(kind: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        volume_of(stacks({"ImageType": rf"ORIGINAL\PRIMARY\M\{kind}"}))


def test_a_localizer_beside_a_volume_is_left_aside() -> None:
    axial = {"ImageType": r"ORIGINAL\PRIMARY\AXIAL"}
    frames = stacks(axial)
    scout = replace(frame(0, ImageType=r"ORIGINAL\PRIMARY\LOCALIZER"), orientation=(1, 0, 0, 0, 0, -1))
    with pytest.raises(Several, match="ImageType=AXIAL"):
        volume_of([*frames, scout])
    assert len(volume_of([*frames, scout], conditions_of(["ImageType=AXIAL"])).frames) == 4
    with pytest.raises(InputError, match="mixes volumes in magnitude with other images"):
        volume_of([*frames, frame(4, ImageType=r"ORIGINAL\PRIMARY\LOCALIZER")])
