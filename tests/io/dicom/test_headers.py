"""Getters that no value can stop, and that leave the bytes of a header as they were read."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset

from imputer.io.dicom.headers import first, integer, is_present, items, number, numbers, stripped, text, values
from imputer.io.dicom.parse import quiet

LONG = {"OB", "OW", "SQ", "UN"}


def element(keyword: str, value: bytes, vr: str = "") -> bytes:
    """An element in Explicit VR Little Endian, whatever its value."""
    tag = tag_for_keyword(keyword) if keyword[0].isalpha() else int(keyword, 16)
    assert tag is not None
    vr = vr or dictionary_VR(tag)
    value += b" " * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    return head + (struct.pack("<HI", 0, len(value)) if vr in LONG else struct.pack("<H", len(value))) + value


def parsed(*elements: bytes) -> Dataset:
    with quiet():
        return read_dataset(BytesIO(b"".join(elements)), False, True)


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("SliceThickness", b"1.23456789012345678 ", 1.23456789012345678),  # longer than a decimal string may be
        ("InstanceNumber", b"12.0", 12.0),
        ("SeriesNumber", b"7\0", 7.0),
        ("EchoTime", b" 5.19 \\6.0", 5.19),
        ("EchoTime", b"", None),
        ("EchoTime", b"fast", None),
        ("EchoTime", b"1e999", None),
        ("EchoTime", b"nan ", None),
        ("EchoTime", b"5,19", None),
        ("Rows", struct.pack("<H", 300), 300.0),
        ("Rows", b"", None),
        ("EffectiveEchoTime", struct.pack("<d", 4.5), 4.5),
    ],
)
def test_a_number_is_what_it_says_or_none(keyword: str, value: bytes, expected: float | None) -> None:
    assert number(parsed(element(keyword, value)), keyword) == expected
    assert number(Dataset(), keyword) is None


def test_an_integer_may_have_been_written_with_decimals() -> None:
    assert integer(parsed(element("NumberOfFrames", b"12.0")), "NumberOfFrames") == 12
    assert integer(parsed(element("NumberOfFrames", b"many")), "NumberOfFrames") is None


def test_numbers_have_to_be_all_there() -> None:
    dataset = parsed(element("ImagePositionPatient", b"1\\-2.5\\1e400"))
    assert numbers(dataset, "ImagePositionPatient", 3) == (1.0, -2.5, float("inf"))
    assert numbers(dataset, "ImagePositionPatient", 2) is None
    assert numbers(parsed(element("PixelSpacing", b"1\\")), "PixelSpacing", 2) is None


def test_other_byte_orders_and_silent_kinds_are_understood() -> None:
    big = read_dataset(BytesIO(struct.pack(">HH2sHH", 0x28, 0x10, b"US", 2, 300)), False, False)
    assert integer(big, "Rows") == 300
    implicit = read_dataset(BytesIO(struct.pack("<HHIH", 0x28, 0x10, 2, 300)), True, True)
    assert integer(implicit, "Rows") == 300
    assert integer(parsed(element("Rows", struct.pack("<H", 300), "UN")), "Rows") == 300


@pytest.mark.parametrize(
    ("character_set", "raw", "expected"),
    [
        (b"ISO_IR 192", "Schädel".encode(), "Schädel"),
        (b"ISO_IR 100", "Schädel".encode("latin-1"), "Schädel"),
        (b"", "Schädel".encode("latin-1"), "Schädel"),
        (b"nonsense", b"Sch\xe4del", "Schädel"),
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
    ],
)
def test_text_is_decoded_by_its_character_set(character_set: bytes, raw: bytes, expected: str) -> None:
    dataset = parsed(element("SpecificCharacterSet", character_set), element("SeriesDescription", raw))
    assert text(dataset, "SeriesDescription") == expected


def test_looking_leaves_the_bytes_alone() -> None:
    dataset = parsed(
        element("SpecificCharacterSet", b"ISO_IR 100"),
        element("StudyDate", b"***"),
        element("PatientName", b"M\xfcller^X"),
        element("PatientAge", b"42"),
        element("EchoTime", b"5.19"),
    )
    assert values(dataset, "StudyDate") == ("***",)
    assert text(dataset, "PatientName") == "Müller^X"
    assert number(dataset, "EchoTime") == 5.19
    assert is_present(dataset, "PatientAge")
    for keyword in ("StudyDate", "PatientName", "PatientAge", "EchoTime"):
        assert isinstance(dataset.get_item(keyword), RawDataElement), keyword


def test_values_that_somebody_has_set_are_found_too() -> None:
    dataset = Dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.EchoTime = 5.5
    dataset.Rows = 30
    dataset.BitsStored = 0
    assert is_present(dataset, "BitsStored") and integer(dataset, "BitsStored") == 0
    assert values(dataset, "ImageType") == ("ORIGINAL", "PRIMARY")
    assert number(dataset, "EchoTime") == 5.5
    assert integer(dataset, "Rows") == 30


def test_sequences_give_their_items_and_damaged_ones_none() -> None:
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", 10) + element("Rows", struct.pack("<H", 4))
    good = parsed(element("SourceImageSequence", item))
    found = first(good, "SourceImageSequence")
    assert found is not None and integer(found, "Rows") == 4
    assert items(parsed(element("SourceImageSequence", b"1.5", "DS")), "SourceImageSequence") == []
    assert items(Dataset(), "SourceImageSequence") == [] and first(Dataset(), "SourceImageSequence") is None


@given(
    st.sampled_from([b"", b"ISO_IR 192", b"ISO 2022 IR 6\\ISO 2022 IR 149", b"GB18030", b"?"]),
    st.sampled_from(["PixelSpacing", "Rows", "EffectiveEchoTime", "PatientName", "ImageType"]),
    st.binary(max_size=40),
)
def test_no_bytes_make_a_getter_raise(character_set: bytes, keyword: str, value: bytes) -> None:
    dataset = parsed(element("SpecificCharacterSet", character_set), element(keyword, value))
    for getter in (values, text, number, integer, is_present, items):
        getter(dataset, keyword)
    numbers(dataset, keyword, 2)


def test_stripping_leaves_what_a_writer_needs() -> None:
    group = Dataset()
    group.add_new(0x20050010, "LO", "Philips")
    group.FrameAcquisitionNumber = 1
    dataset = parsed(
        element("PatientName", b"Doe^Jane"),
        element("00290010", b"SIEMENS CSA HEADER", "LO"),
        element("00291010", bytes(100), "OB"),
        element("RedPaletteColorLookupTableData", bytes(70000), "OW"),
        element("60003000", bytes(100), "OW"),
        element("PixelData", bytes(100), "OW"),
    )
    dataset.PerFrameFunctionalGroupsSequence = [group]
    dataset.IconImageSequence = [Dataset()]
    kept = stripped(dataset)
    assert {tag for tag in kept.keys()} == {0x00100010, 0x52009230}  # noqa: C416, SIM118
    assert [element.keyword for element in kept.PerFrameFunctionalGroupsSequence[0]] == ["FrameAcquisitionNumber"]
    assert isinstance(kept.get_item("PatientName"), RawDataElement)
