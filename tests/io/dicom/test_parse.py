"""Headers and whole data sets of members: what is read, what is junk, and what is refused before it does harm."""

from __future__ import annotations

import hashlib
import logging
import random
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from dicom_bytes import (
    BARE_SYNTAXES,
    COLUMNS,
    EMPTY_ITEM,
    NAME,
    PIXELS,
    ROWS,
    bare,
    deflated_with,
    directory,
    element,
    instance,
    nested,
    parts,
    with_sequence,
)
from pydicom.pixels import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from imputer.errors import InputError
from imputer.io.dicom import parse
from imputer.io.dicom.content import Member
from imputer.io.dicom.members import members
from imputer.io.dicom.parse import guarded, pixel_bytes, quiet, read_header, read_whole

REAL = Path(__file__).resolve().parents[4] / "shared/data/dicom"
UNCOMPRESSED = (*BARE_SYNTAXES, DeflatedExplicitVRLittleEndian)
NIFTI_HEAD = b"\x5c\x01\x00\x00" + bytes(340) + b"n+1\0"


def member(data: bytes, size: int | None = None) -> Member:
    return Member("slice", len(data) if size is None else size, lambda: BytesIO(data))


@pytest.mark.parametrize("syntax", UNCOMPRESSED)
def test_header_and_whole_of_every_way_to_write_a_data_set(syntax: str) -> None:
    file = member(instance(syntax))
    header = read_header(file)
    whole, digest = read_whole(file)
    assert header is not None and "PixelData" not in header
    assert header.file_meta.TransferSyntaxUID == whole.file_meta.TransferSyntaxUID == syntax
    assert (header.Rows, header.Columns, pixel_bytes(header)) == (ROWS, COLUMNS, len(PIXELS))
    assert header == whole[:0x7FE00010]
    assert digest == hashlib.sha256(file.open().read()).hexdigest()
    assert whole.PixelData == PIXELS
    assert pixel_array(whole).shape == (ROWS, COLUMNS)


@pytest.mark.parametrize("syntax", BARE_SYNTAXES)
def test_a_data_set_without_preamble_and_meta_information_is_read(syntax: str) -> None:
    header = read_header(member(bare(syntax)))
    whole, _ = read_whole(member(bare(syntax)))
    assert header is not None and header.Rows == ROWS
    assert header.file_meta.TransferSyntaxUID == syntax
    assert pixel_array(whole).shape == (ROWS, COLUMNS)


@pytest.mark.parametrize("syntax", UNCOMPRESSED)
def test_a_file_that_lacks_only_the_preamble_is_read(syntax: str) -> None:
    header = read_header(member(instance(syntax)[132:]))
    assert header is not None and header.Rows == ROWS
    assert header.file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello world",
        b"DICM",
        NIFTI_HEAD + bytes(5000),
        bytes(5000),
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(5000),  # an element, but no SOP class
        b"\x08\x00\x05\x00CS\xfe\xffISO_IR 100" + instance(),  # a first element of 64 kB
        bytes(4) + instance(),  # the prefix elsewhere
        directory(),
    ],
)
def test_what_is_no_dicom_object_is_junk(data: bytes) -> None:
    assert read_header(member(data)) is None


def test_what_is_no_dicom_file_cannot_be_read_whole() -> None:
    with pytest.raises(InputError, match="slice is no DICOM file"):
        read_whole(member(b"hello world"))


def test_only_the_wanted_elements_are_given() -> None:
    header = read_header(member(instance()), ["Rows", "InstanceNumber"])
    assert header is not None
    assert {element.keyword for element in header} == {"SOPClassUID", "InstanceNumber", "Rows"}
    assert pixel_bytes(header) == len(PIXELS)
    with pytest.raises(ValueError, match="NoSuchThing"):
        read_header(member(instance()), ["NoSuchThing"])


def test_a_header_longer_than_the_first_window_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "FIRST_WINDOW", 4096)
    for syntax in UNCOMPRESSED:
        noise = random.Random(0).randbytes(5000).hex()
        header = read_header(member(instance(syntax, ImageComments=noise)))
        assert header is not None and header.ImageComments == noise and pixel_bytes(header) == len(PIXELS)
    header = read_header(member(with_sequence(EMPTY_ITEM * 1000)))
    assert header is not None and len(header.ReferencedImageSequence) == 1000


def test_an_object_without_pixels_is_no_error() -> None:
    meta, body = parts(instance())
    header = read_header(member(meta + body[: -len(PIXELS) - 12]))
    assert header is not None and header.Rows == ROWS and pixel_bytes(header) is None


def test_missing_pixel_bytes_show_in_the_header() -> None:
    header = read_header(member(instance()[:-10]))
    assert header is not None and pixel_bytes(header) == len(PIXELS) - 10


@pytest.mark.parametrize(
    "more",
    [
        element(0x0028, 0x0010, b"US", b"\xff\xff") + b"rubbish" * 9,
        parts(instance())[1][-len(PIXELS) - 12 : -len(PIXELS)] + bytes(len(PIXELS)),  # other pixel data
    ],
)
def test_bytes_behind_the_pixel_data_are_left_out(more: bytes) -> None:
    whole, _ = read_whole(member(instance() + more))
    assert whole.Rows == ROWS and whole.PixelData == PIXELS


def refusal(read: Callable[[Member], object], data: bytes) -> str:
    """The sentence that ends the reading of a file, or nothing; any other exception passes."""
    try:
        read(member(data))
    except InputError as error:
        return str(error) if error.__cause__ is None else f"caused by {error.__cause__}"
    return ""


def test_a_file_cut_anywhere_is_junk_or_short_or_refused_in_one_sentence() -> None:
    for syntax in UNCOMPRESSED:
        data = instance(syntax)
        for end in range(0, len(data) - 1, 3):
            for read in (read_header, read_whole):
                assert refusal(read, data[:end]).count("slice") <= 1


def test_random_damage_ends_in_a_data_set_or_in_one_sentence_without_values() -> None:
    dice = random.Random(1)
    for syntax in UNCOMPRESSED:
        for _ in range(150):
            data = bytearray(with_sequence(EMPTY_ITEM * 3) if dice.random() < 0.3 else instance(syntax))
            for _ in range(dice.randint(1, 6)):
                data[dice.randrange(132, len(data))] = dice.choice((0, 0xFF, dice.randrange(256)))
            for read in (read_header, read_whole):
                sentence = refusal(read, bytes(data))
                assert NAME not in sentence and "caused" not in sentence


def test_a_member_shorter_than_its_claim_is_truncated() -> None:
    with pytest.raises(InputError, match="slice is truncated"):
        read_whole(member(instance(), size=len(instance()) + 1))


def test_a_file_of_absurd_size_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "WHOLE_LIMIT", 1000)
    with pytest.raises(InputError, match="has 1001 bytes, more than this program takes"):
        read_whole(Member("slice", 1001, lambda: pytest.fail("was opened")))


def test_nothing_is_said_of_values_that_are_invalid(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with quiet():
        data = instance(StudyDate="***", PatientAge="42", SpecificCharacterSet="ISO_IR 999", AccessionNumber="A" * 300)
    caplog.set_level(logging.DEBUG)
    header = read_header(member(data))
    whole, _ = read_whole(member(data))
    assert header is not None
    with guarded("slice"):
        assert (header.StudyDate, whole.PatientAge) == ("***", "42")
    assert caplog.text == "" and capfd.readouterr() == ("", "")


def test_what_pydicom_raises_quotes_nothing() -> None:
    with pytest.raises(InputError) as raised, guarded("slice"):
        raise KeyError(NAME)
    assert str(raised.value) == "slice is a damaged DICOM file. Copy or export it again."
    assert raised.value.__suppress_context__


def test_deep_nesting_is_refused() -> None:
    assert read_header(member(nested(20))) is not None
    for read in (read_header, read_whole):
        with pytest.raises(InputError, match="slice nests its sequences too deeply"):
            read(member(nested(5000)))


def test_a_swarm_of_items_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "ITEM_LIMIT", 1000)
    assert read_header(member(with_sequence(EMPTY_ITEM * 900))) is not None
    for read in (read_header, read_whole):
        with pytest.raises(InputError, match="more than 1000 items"):
            read(member(with_sequence(EMPTY_ITEM * 1001)))


def test_a_deflated_bomb_is_refused_within_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = deflated_with(300)
    assert len(bomb) < 350_000
    monkeypatch.setattr(parse, "SLACK_BYTES", 1 << 21)
    monkeypatch.setattr(parse, "INFLATED_HEADER_LIMIT", 1 << 20)
    tracemalloc.start()
    try:
        header = read_header(member(bomb))
        with pytest.raises(InputError, match="inflates to more bytes than its image has"):
            read_whole(member(bomb))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header is not None and header.Rows == ROWS
    assert peak < 12 << 20


def test_a_deflated_file_within_the_slack_is_read() -> None:
    whole, _ = read_whole(member(deflated_with(20)))  # more than the header's own limit
    assert len(whole.PixelData) == 20 << 20


def test_a_deflated_file_that_claims_too_much_is_refused() -> None:
    data = instance(DeflatedExplicitVRLittleEndian, Rows=65535, Columns=65535, NumberOfFrames=2**31 - 1)
    with pytest.raises(InputError, match="claims 9223090559730712575 voxels"):
        read_whole(member(data))


def test_a_deflated_file_that_is_cut_or_damaged_is_refused() -> None:
    data = instance(DeflatedExplicitVRLittleEndian)
    with pytest.raises(InputError, match="slice is truncated"):
        read_whole(member(data[:-9]))
    meta, _ = parts(data)
    for read in (read_header, read_whole):
        with pytest.raises(InputError, match="slice is a damaged DICOM file"):
            read(member(meta + zlib.compress(b"with the header of zlib")))


def test_a_transfer_syntax_with_padding_is_understood() -> None:
    data = instance(ImplicitVRLittleEndian)
    spaced = data.replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2 ")
    assert spaced != data
    header = read_header(member(spaced))
    assert header is not None and header.Rows == ROWS
    assert header.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian


def test_a_syntax_that_lies_about_the_representation_is_seen_through() -> None:
    meta, _ = parts(instance(ExplicitVRLittleEndian))
    header = read_header(member(meta + bare(ImplicitVRLittleEndian)))
    assert header is not None and header.Rows == ROWS


def test_compressed_pixels_count_all_that_is_left_of_the_file() -> None:
    meta, body = parts(instance(ExplicitVRLittleEndian))
    start = body[: -len(PIXELS) - 12]
    header = read_header(member(meta + start + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + bytes(40)))
    assert header is not None and pixel_bytes(header) == 40


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the developers' ../shared/data/dicom")
@pytest.mark.parametrize(
    ("name", "files"),
    [("siemens_t1_tfl_classic", 96), ("siemens_t1_j2k_fragmented", 96), ("philips_mixed_classic_and_enhanced.zip", 30)],
)
def test_every_real_file_is_read(name: str, files: int) -> None:
    with members(REAL / name) as found:
        assert len(found.members) == files
        for each in found.members:
            header = read_header(each, ["SeriesInstanceUID", "Rows"])
            whole, _ = read_whole(each)
            assert header is not None and header.SeriesInstanceUID == whole.SeriesInstanceUID
            assert ("PixelData" in whole) == (pixel_bytes(header) is not None)
            if "PixelData" in whole and not whole["PixelData"].is_undefined_length:
                assert pixel_bytes(header) == len(whole.PixelData)
