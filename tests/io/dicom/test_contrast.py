"""Contrast from headers: protocols of vendors, traps, real series, and headers that are broken."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from dicom_phantom import CANARIES, make_series
from dicom_protocols import PROTOCOLS, Protocol
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from imputer.io.dicom.contrast import TAGS, Contrast, detect
from imputer.io.dicom.frames import Frame
from imputer.io.dicom.words import NO_OPINION, read_words
from imputer.modality import Modality

REAL = Path(__file__).resolve().parents[3].parent / "shared/data/dicom"


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.title)
def test_a_protocol_is_told_by_its_parameters(protocol: Protocol) -> None:
    found = detect(protocol.dataset())
    assert found.modality == (Modality(protocol.contrast) if protocol.contrast else None), found.reason
    assert protocol.says in found.reason
    assert found.reason and not found.reason.endswith(".")


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.title)
def test_the_listed_attributes_are_enough(protocol: Protocol) -> None:
    """A header read in part, as for `inspect`, tells the same as a whole one."""
    part = protocol.dataset()
    for element in protocol.dataset():
        if element.keyword not in TAGS:
            del part[element.tag]
    assert detect(part) == detect(protocol.dataset())


@pytest.mark.parametrize("vendor", ["siemens", "ge", "philips"])
@pytest.mark.parametrize("contrast", ["t1", "t1ce", "t2", "flair", "pd"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_classic_and_enhanced_objects_tell_the_same(tmp_path: Path, vendor: str, contrast: str, enhanced: bool) -> None:
    path = make_series(tmp_path, vendor=vendor, contrast=contrast, enhanced=enhanced, shape=(4, 4, 3))[0]
    assert detect(dcmread(path)).modality is Modality(contrast)


@pytest.mark.parametrize("enhanced", [False, True])
def test_ct_is_ct(tmp_path: Path, enhanced: bool) -> None:
    dataset = dcmread(make_series(tmp_path, modality="CT", enhanced=enhanced, shape=(4, 4, 3))[0])
    assert detect(dataset).modality is Modality.CT
    del dataset.Modality
    assert detect(dataset).modality is Modality.CT
    dataset.Modality = "PT"
    assert detect(dataset).modality is None


def frame_of(dataset: Dataset, number: int, **traits: str) -> Frame:
    return Frame("file", dataset, number, (1, 0, 0, 0, 1, 0), (0, 0, 0), (1, 1), 4, 4, traits=traits)


def enhanced(tmp_path: Path, contrast: str, **settings: Any) -> Dataset:
    return dcmread(make_series(tmp_path, enhanced=True, contrast=contrast, shape=(4, 4, 3), **settings)[0])


def test_every_frame_of_an_object_has_its_own_timing(tmp_path: Path) -> None:
    dataset = enhanced(tmp_path, "t2", tags={"AcquisitionContrast": "MIXED"})
    shared = dataset.SharedFunctionalGroupsSequence[0]
    del shared.MREchoSequence, shared.MRImageFrameTypeSequence
    for group, te, kind in zip(dataset.PerFrameFunctionalGroupsSequence, (15, 98, 98), "PTT", strict=True):
        echo, frame_type = Dataset(), Dataset()
        echo.EffectiveEchoTime = float(te)
        frame_type.AcquisitionContrast = {"P": "PROTON_DENSITY", "T": "T2"}[kind]
        group.MREchoSequence, group.MRImageFrameTypeSequence = [echo], [frame_type]
    assert detect(dataset, frame_of(dataset, 1)).modality is Modality.PD
    assert detect(dataset, frame_of(dataset, 2)).modality is Modality.T2
    assert detect(dataset, frame_of(dataset, 99)).modality is None  # no such frame: only "MIXED" is left


@pytest.mark.parametrize(
    ("said", "modality", "reason"),
    [
        ("T2", Modality.FLAIR, ""),  # FLAIR is T2-weighted
        ("UNKNOWN", Modality.FLAIR, ""),
        ("T1", None, "AcquisitionContrast says t1"),
        ("STIR", None, "STIR"),
        ("MIXED", None, "mixes"),
        ("DIFFUSION", None, "diffusion"),
        ("TOF", None, "time-of-flight"),
        ("T2_STAR", None, "T2*"),
    ],
)
def test_acquisition_contrast_has_a_say(tmp_path: Path, said: str, modality: Modality | None, reason: str) -> None:
    dataset = enhanced(tmp_path, "flair")
    dataset.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].AcquisitionContrast = said
    found = detect(dataset)
    assert found.modality is modality
    assert reason in found.reason


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"EchoPlanarPulseSequence": "YES"}, "echo-planar"),
        ({"SteadyStatePulseSequence": "FREE_PRECESSION"}, "steady-state"),
        ({"TimeOfFlightContrast": "YES"}, "time-of-flight"),
        ({"PhaseContrast": "YES"}, "phase-contrast"),
        ({"ResonantNucleus": "31P"}, "hydrogen"),
        ({"PulseSequenceName": "epse2d1_128"}, "echo-planar"),
    ],
)
def test_enhanced_attributes_rule_out(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    found = detect(enhanced(tmp_path, "t1", tags=tags))
    assert found.modality is None and reason in found.reason


def test_an_agent_that_was_not_administered_yet_is_none(tmp_path: Path) -> None:
    dataset = enhanced(tmp_path, "t1ce")
    assert detect(dataset).modality is Modality.T1CE
    dataset.SharedFunctionalGroupsSequence[0].ContrastBolusUsageSequence[0].ContrastBolusAgentAdministered = "NO"
    assert detect(dataset).modality is Modality.T1


def test_the_component_of_a_frame_counts(tmp_path: Path) -> None:
    """GE tells phase images in private, which reading puts among the traits."""
    dataset = dcmread(make_series(tmp_path, vendor="ge", shape=(4, 4, 3))[0])
    assert detect(dataset, frame_of(dataset, 1, ComplexImageComponent="MAGNITUDE")).modality is Modality.T1
    assert detect(dataset, frame_of(dataset, 1, ComplexImageComponent="PHASE")).modality is None


EXPECTED = {
    "siemens_t1_tfl_classic": "t1",
    "siemens_t1_j2k_fragmented": "t1",
    "philips_t1_rescale21": "t1",
    "siemens_mosaic_7ts": "",
    "ge_localizer_3plane": "",
    "tiny/failing_sliceincrement_001": "ct",
    "tiny/ge_anatomical_001_single_slice": "t1",
    "tiny/generic_anatomical_002_non_isotropic": "",  # research mode, without words
    "tiny/generic_compressed_jpeg_001": "flair",
    "tiny/failing_sliceorientation_001": "t2",
    "tiny/hitachi_anatomical_001": "pd",
    "tiny/hyperfine_anatomical_001": "flair",
    "tiny/philips_enhanced_anatomical_001": "t1",
    "tiny/siemens_multiframe_anatomical_001": "",  # anonymised: neither timing nor words
    "tiny/siemens_scout_mpr_mixed_orient": "",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of values that are not valid
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the developers' ../shared/data/dicom")
@pytest.mark.parametrize("name", EXPECTED)
def test_real_series_are_told(name: str) -> None:
    paths = sorted(path for path in (REAL / name).iterdir() if path.is_file())
    found = {detect(dcmread(path, stop_before_pixels=True)).modality for path in paths}
    assert found == {Modality(EXPECTED[name]) if EXPECTED[name] else None}


class Untouchable(Dataset):
    """A header that fails when its pixels are looked at."""

    def get_item(self, key: Any, **options: Any) -> Any:
        assert Tag(key).group != 0x7FE0
        return super().get_item(key, **options)

    def __getitem__(self, key: Any) -> Any:
        assert isinstance(key, slice) or Tag(key).group != 0x7FE0
        return super().__getitem__(key)


def test_pixels_are_never_read(tmp_path: Path) -> None:
    dataset = dcmread(make_series(tmp_path, shape=(4, 4, 3))[0])
    guarded = Untouchable(dataset)
    with pytest.raises(AssertionError):
        _ = guarded["PixelData"]
    assert detect(guarded).modality is Modality.T1


@pytest.mark.parametrize(
    ("description", "fits", "other", "agent"),
    [
        ("sT1W_3D_TFE", "t1", "", None),
        ("WIP 3DT1 SENSE", "t1", "", None),
        ("AXT2FLAIR", "flair", "", None),
        ("eT2W_FLAIR_longTR", "flair", "", None),
        ("Ax T1 FLAIR", "t1", "", None),
        ("flair t1 weighted", "flair t1", "", None),
        ("DP-T2 TSE", "pd t2", "", None),
        ("proton-density", "pd", "", None),
        ("part 1 of T12, artefact2", "", "", None),
        ("AX T2* GRE", "", "T2*", None),
        ("t2_starmap", "t2", "", None),
        ("T1 map", "t1", "a map", None),
        ("mp2rage_INV1", "", "MP2RAGE", None),
        ("Cor STIR", "", "STIR", None),
        ("T1 SE C+", "t1", "", True),
        ("T1 SE C-", "t1", "", False),
        ("T1-c", "t1", "", True),
        ("Sag T1 +C FS", "t1", "", True),
        ("T1C", "t1", "", True),
        ("T1_mprage_Gd", "t1", "", True),
        ("t1 spine c2", "t1", "", None),
        ("T1 posterior fossa", "t1", "", None),
        ("T1 post fossa", "t1", "", None),
        ("T1 post-RT", "t1", "", None),
        ("T1 post chemo", "t1", "", None),
        ("T1 postcontrast", "t1", "", True),
        ("T1 non-contrast", "t1", "", False),
        ("T1 w/o", "t1", "", False),
        ("T1 nativ", "t1", "", False),
        ("T1 sin contraste", "t1", "", False),
        ("T1 pre and post Gd", "t1", "", None),
        ("T1 pre-op post Gd", "t1", "", True),
        ("BRAIN WITH AND WITHOUT CONTRAST", "", "", None),
    ],
)
def test_words_are_read_as_people_write_them(description: str, fits: str, other: str, agent: bool | None) -> None:
    found = read_words([description])
    assert found.other == other
    assert found.agent is agent
    if not other:
        assert {modality.value for modality in found.fits} == set(fits.split())


def test_the_first_text_that_says_something_counts() -> None:
    assert read_words(["", "axial", "T2 TSE", "T1 +C"]) == read_words(["T2 TSE"])
    assert read_words(["", "axial"]) == NO_OPINION


GARBAGE = [
    b"",
    b"***",
    b"\\\\",
    b"nan",
    b"1e400",
    b"-1",
    b"0",
    b"\xff\xfe\x00\x01",
    b"YES\\NO",
    b"SE",
    b"9" * 400,
    b"\0" * 9,
]


def test_no_value_makes_it_raise() -> None:
    draw = random.Random(1)
    for _ in range(1500):
        dataset = draw.choice(PROTOCOLS).dataset()
        for keyword in draw.sample(TAGS, 6):
            tag = Tag(tag_for_keyword(keyword) or 0)
            kind = dictionary_VR(tag) if draw.random() < 0.7 else draw.choice(["UN", "DS", "FD", "SQ", "CS", "OB"])
            value = draw.choice(GARBAGE)
            dataset._dict[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
        assert isinstance(detect(dataset), Contrast)


def test_a_reason_quotes_nothing_of_the_description(tmp_path: Path) -> None:
    for settings in ({"contrast": "t2"}, {"contrast": "t1ce"}, {"contrast": "flair"}, {"modality": "CT"}):
        for words in ("", " t1 pre", " flair", " STIR"):
            paths = make_series(tmp_path, description=f"Canary{words}", shape=(4, 4, 3), **settings)
            reason = detect(dcmread(paths[0])).reason
            assert not any(canary.lower() in reason.lower() for canary in CANARIES)
