"""What goes over from a source: the bytes of the white list, nothing else, whatever their state."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import dictionary_keyword, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

from imputer.io.dicom import copied
from imputer.io.dicom.elements import Elements, dataset, own
from imputer.io.dicom.parse import quiet

TABLES = (
    copied.PATIENT, copied.CLINICAL_TRIAL, copied.STUDY, copied.PATIENT_STUDY, copied.PLACE, copied.SERIES,
    copied.EQUIPMENT, copied.IMAGE, copied.COMMON,
)  # fmt: skip
NAME = "M\u00fcller^J\u00fcrgen".encode("latin-1")


def tag(keyword: str) -> int:
    found = tag_for_keyword(keyword)
    assert found is not None, keyword
    return found


def encoded(keyword: str, value: bytes, vr: str = "", *, implicit: bool = False, big: bool = False) -> bytes:
    """One element, in any of the uncompressed transfer syntaxes."""
    number, order, kind = tag(keyword), ">" if big else "<", (vr or dictionary_VR(tag(keyword))).encode()
    head = struct.pack(f"{order}HH", number >> 16, number & 0xFFFF)
    value += b" " * (len(value) % 2)
    if implicit:
        return head + struct.pack(f"{order}I", len(value)) + value
    if kind in (b"SQ", b"OB", b"UN", b"UC"):
        return head + kind + struct.pack(f"{order}HI", 0, len(value)) + value
    return head + kind + struct.pack(f"{order}H", len(value)) + value


def item_of(value: bytes, *, big: bool = False) -> bytes:
    return struct.pack(">HHI" if big else "<HHI", 0xFFFE, 0xE000, len(value)) + value


def parsed(*elements: bytes, implicit: bool = False, big: bool = False) -> Dataset:
    with quiet():
        return read_dataset(BytesIO(b"".join(elements)), implicit, not big)


def as_written(elements: Elements) -> bytes:
    """What a file holds of them."""
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    with quiet():
        write_dataset(stream, dataset(elements))
    return stream.getvalue()


def keywords(elements: Elements) -> set[str]:
    return {dictionary_keyword(number) for number in elements}


def test_tables_name_attributes_of_the_dictionary_once() -> None:
    listed = [keyword for table in TABLES for keyword in table]
    assert len(listed) == len(set(listed))
    assert all(tag_for_keyword(keyword) is not None for keyword in (*listed, *copied.CONTRAST, *copied.ACQUISITION))


@pytest.mark.parametrize(("implicit", "big"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("charset", [b"ISO_IR 100", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"ISO_IR 999", b""])
def test_text_keeps_its_bytes_even_where_they_are_not_of_their_character_set(
    charset: bytes, implicit: bool, big: bool
) -> None:
    source = parsed(
        encoded("SpecificCharacterSet", charset, implicit=implicit, big=big),
        encoded("PatientName", NAME, implicit=implicit, big=big),
        implicit=implicit,
        big=big,
    )
    found = copied.verbatim(source, ("PatientName", "SpecificCharacterSet"))
    assert as_written(found) == encoded("SpecificCharacterSet", charset) + encoded("PatientName", NAME)


@pytest.mark.parametrize("charset", [b"utf_16", b"CP037", b"zip", b"undefined"])
def test_a_character_set_that_nothing_can_be_written_in_is_left_out(charset: bytes) -> None:
    name = encoded("SpecificCharacterSet", charset) + encoded("PatientID", NAME)
    source = parsed(name, encoded("OtherPatientIDsSequence", item_of(name)))
    found = copied.verbatim(source, ("PatientID", "OtherPatientIDsSequence", "SpecificCharacterSet"))
    ours = encoded("Modality", b"MR")
    theirs = encoded("PatientID", NAME)
    assert as_written(own("Modality", "MR") | found) == (
        ours + theirs + encoded("OtherPatientIDsSequence", item_of(theirs))
    )


def test_text_that_was_looked_at_before_is_encoded_in_the_character_set_of_the_source() -> None:
    source = parsed(encoded("SpecificCharacterSet", b"ISO_IR 100"), encoded("PatientName", NAME))
    assert str(source.PatientName) == NAME.decode("latin-1")
    assert as_written(copied.verbatim(source, ("PatientName",))) == encoded("PatientName", NAME)


@pytest.mark.parametrize(("implicit", "big"), [(False, False), (True, False), (False, True)])
def test_sequences_keep_their_bytes_and_lose_what_is_private(implicit: bool, big: bool) -> None:
    options = {"implicit": implicit, "big": big}
    private = struct.pack(">HH" if big else "<HH", 0x0029, 0x0010)
    private += b"\4\0\0\0SECR" if implicit else b"LO" + struct.pack(">H" if big else "<H", 4) + b"SECR"
    inner = encoded("PatientID", NAME, **options) + private
    source = parsed(encoded("OtherPatientIDsSequence", item_of(inner, big=big), **options), **options)
    found = copied.verbatim(source, ("OtherPatientIDsSequence",))
    assert as_written(found) == encoded("OtherPatientIDsSequence", item_of(encoded("PatientID", NAME)))


def test_binary_numbers_of_big_endian_are_turned() -> None:
    source = parsed(encoded("PregnancyStatus", b"\0\4", big=True), big=True)
    assert as_written(copied.verbatim(source, ("PregnancyStatus",))) == encoded("PregnancyStatus", b"\4\0")


def test_elements_of_unknown_kind_get_theirs() -> None:
    source = parsed(encoded("EthnicGroup", b"any ", "UN"))
    assert as_written(copied.verbatim(source, ("EthnicGroup",))) == encoded("EthnicGroup", b"any ")


def test_invalid_values_go_over_and_are_named() -> None:
    source = parsed(encoded("StudyDate", b"***"), encoded("StudyTime", b"101112"), encoded("PatientAge", b"42"))
    found, invalid = copied.shared(source)
    assert encoded("StudyDate", b"***") in as_written(found)
    assert encoded("PatientAge", b"42") in as_written(found)
    assert sorted(invalid) == ["PatientAge", "StudyDate"]


def test_what_every_image_must_have_is_there_and_nothing_of_optional_modules() -> None:
    found, invalid = copied.shared(Dataset())
    assert keywords(found) == set(copied.REQUIRED)
    assert as_written(found) == b"".join(encoded(dictionary_keyword(number), b"") for number in sorted(found))
    assert invalid == ()


def test_nothing_of_the_acquisition_or_of_unlisted_or_private_attributes_goes_over() -> None:
    source = parsed(
        *(
            encoded(keyword, b"1 ")
            for keyword in (
                "ProtocolName", "EchoTime", "RepetitionTime", "FlipAngle", "SequenceName", "WindowCenter",
                "StationName", "OperatorsName", "PerformedProcedureStepID", "PatientAddress",
                "RequestedProcedureDescription",
                "SeriesDescription", "SOPInstanceUID", "ImageComments", "ClinicalTrialSeriesID",
            )
        )
    )  # fmt: skip
    assert keywords(copied.shared(source)[0]) == set(copied.REQUIRED)


@pytest.mark.parametrize(("value", "there"), [(b"", False), (b"  ", False), (b"L ", True)])
def test_laterality_goes_over_only_with_a_value(value: bytes, there: bool) -> None:
    found, _ = copied.shared(parsed(encoded("Laterality", value)))
    assert (tag("Laterality") in found) is there


def test_the_agent_of_a_multi_frame_object_becomes_text() -> None:
    code = encoded("CodeValue", b"1") + encoded("CodeMeaning", b"gadobutrol")
    found, _ = copied.shared(parsed(encoded("ContrastBolusAgentSequence", item_of(code))))
    assert encoded("ContrastBolusAgent", b"gadobutrol") in as_written(found)
    assert tag("ContrastBolusAgentSequence") not in found  # its items have more than a classic image allows


def test_times_of_acquisition_go_over_where_they_are_valid() -> None:
    source = parsed(encoded("AcquisitionDate", b"20200102"), encoded("AcquisitionTime", b"noon"))
    assert keywords(copied.acquisition(source)) == {"AcquisitionDate"}


def nested(depth: int) -> bytes:
    value = encoded("PatientID", b"x")
    for _ in range(depth):
        value = encoded("OtherPatientIDsSequence", item_of(value))
    return value


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param(nested(12), id="too deep"),
        pytest.param(nested(3000), id="far too deep"),
        pytest.param(encoded("OtherPatientIDsSequence", b"\1\2\3\4\5\6"), id="no items"),
        pytest.param(encoded("OtherPatientIDsSequence", b"text", "LO"), id="text for a sequence"),
        pytest.param(
            encoded("OtherPatientIDsSequence", item_of(encoded("PatientComments", b"x" * 40_000)) * 3), id="huge"
        ),
    ],
)
def test_what_cannot_be_copied_is_left_out(elements: bytes) -> None:
    source = parsed(encoded("PatientID", b"id"), elements)
    found = copied.verbatim(source, ("PatientID", "OtherPatientIDsSequence"))
    assert keywords(found) == {"PatientID"}


def test_elements_are_written_by_tag_and_padded() -> None:
    assert as_written(own("StudyID", "abc") | own("Modality", "MR")) == (
        b"\x08\x00\x60\x00CS\x02\x00MR\x20\x00\x10\x00SH\x04\x00abc "
    )
    assert as_written(own("SOPInstanceUID", "1.2.3")).endswith(b"1.2.3\0")
    assert as_written(copied.renamed("StudyInstanceUID", b"1.2.3")).endswith(b"1.2.3\0")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SeriesDescription", "x" * 65),
        ("SeriesDescription", "a\\b"),
        ("SeriesDescription", "a\nb"),
        ("SeriesDescription", "\u00e4"),
        ("DerivationDescription", "x" * 1025),
        ("Modality", "mr"),
        ("SeriesInstanceUID", "../evil"),
        ("SeriesDate", "tomorrow"),
        ("SeriesNumber", "many"),
    ],
)
def test_own_values_are_held_against_the_standard(keyword: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)invalid|exceeds|too long|separator"):
        own(keyword, value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from(copied.SHARED), st.binary(max_size=24), st.sampled_from(["", "", "SQ", "UN", "LO", "US"])
        ),
        max_size=6,
    ),
    implicit=st.booleans(),
)
def test_whatever_bytes_a_source_has_the_copy_can_be_read(
    entries: list[tuple[str, bytes, str]], implicit: bool
) -> None:
    source = Dataset()
    for keyword, value, vr in entries:
        vr = vr or dictionary_VR(tag(keyword))
        source[tag(keyword)] = RawDataElement(
            Tag(tag(keyword)), None if implicit else vr, len(value), value, 0, implicit, True
        )
    found, _ = copied.shared(source)
    with quiet():
        again = read_dataset(BytesIO(as_written(found)), False, True)
    assert {int(number) for number in again.keys()} == set(found)  # noqa: SIM118 - iterating decodes
    assert set(copied.REQUIRED) <= keywords(found)
