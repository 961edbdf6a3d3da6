"""Stored pixels: which bits count, in which order, how much memory a header may ask for."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_phantom import SYNTAXES, Phantom, make_series
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID

from imputer.errors import InputError
from imputer.io.dicom.codestream import Claim, claim_of
from imputer.io.dicom.headers import element_of
from imputer.io.dicom.members import members
from imputer.io.dicom.parse import quiet, read_whole
from imputer.io.dicom.pixels import decode, is_lossy, layout_of, padding_of

COMPRESSED = ("rle", "jpegls", "j2k", "jpegll")
ROWS, COLUMNS = 2, 3


def image(pixels: bytes, *, syntax: str = "explicit", vr: str = "OW", **tags: Any) -> Dataset:
    """An image of 2 x 3 pixels of 12 in 16 bits."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = SYNTAXES[syntax] if syntax in SYNTAXES else UID(syntax)
    values = {
        "Rows": ROWS, "Columns": COLUMNS, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, **tags,
    }  # fmt: skip
    with quiet():
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
    dataset.add_new("PixelData", vr, pixels)
    return dataset


def stored(dataset: Dataset) -> NDArray[Any]:
    layout = layout_of(dataset, "im")
    return np.stack([frame for _, frame in decode(dataset, layout, range(layout.frames), "im")])


def words(*values: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}{len(values)}H", *(value & 0xFFFF for value in values))


SIX = (0, 1, 2047, 2048, 4095, 7)


@pytest.mark.parametrize(
    ("pixels", "tags", "expected"),
    [
        (words(*SIX), {}, SIX),
        (words(*(value | 0xF000 for value in SIX)), {}, SIX),  # an overlay in the bits above
        (words(*SIX), {"PixelRepresentation": 1}, (0, 1, 2047, -2048, -1, 7)),  # without extended sign
        (words(0, 1, 2047, -2048, -1, 7), {"PixelRepresentation": 1}, (0, 1, 2047, -2048, -1, 7)),
        (words(*(value << 4 | 5 for value in SIX)), {"HighBit": 15}, SIX),
        (words(*(value << 4 | 5 for value in SIX)), {"HighBit": 15, "PixelRepresentation": 1},
         (0, 1, 2047, -2048, -1, 7)),
        (words(*SIX), {"HighBit": None, "BitsStored": None, "SamplesPerPixel": None}, SIX),
        (words(65535, 0, 1, 2, 3, 4), {"BitsStored": 16, "HighBit": 15}, (65535, 0, 1, 2, 3, 4)),
        (bytes(range(250, 256)), {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, tuple(range(250, 256))),
        (struct.pack("<6i", -70000, 0, 1, 2, 3, 70000),
         {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "PixelRepresentation": 1},
         (-70000, 0, 1, 2, 3, 70000)),
        (words(*SIX) + bytes(2), {}, SIX),  # padded
    ],
)  # fmt: skip
def test_only_the_bits_of_the_pixel_count(pixels: bytes, tags: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert stored(image(pixels, **tags)).ravel().tolist() == list(expected)


def test_the_order_of_bytes_is_that_of_the_file() -> None:
    assert stored(image(words(*SIX, order=">"), syntax="big")).ravel().tolist() == list(SIX)
    assert stored(image(words(*SIX, order=">"), syntax="big")).dtype.isnative


def test_frames_are_given_by_their_index() -> None:
    dataset = image(words(*range(18)), NumberOfFrames=3)
    layout = layout_of(dataset, "im")
    assert [(index, int(frame[0, 0])) for index, frame in decode(dataset, layout, {2, 0}, "im")] == [(0, 0), (2, 12)]


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("enhanced", [False, True])
def test_compressed_frames_are_what_was_compressed(tmp_path: Path, syntax: str, enhanced: bool) -> None:
    settings = {"shape": (12, 10, 4), "syntax": syntax, "enhanced": enhanced}
    with members(make_series(tmp_path, **settings)[0]) as found:
        dataset, _ = read_whole(found.members[0])
    layout = layout_of(dataset, "im")
    expected = Phantom(**settings).stored
    for index, frame in decode(dataset, layout, range(layout.frames), "im"):
        assert np.array_equal(frame, expected[:, :, index].T)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "im is in colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "im is in colour"),
        ({"PhotometricInterpretation": "DOE^JANE"}, "no grey image of a known kind"),
        ({"BitsAllocated": 12}, "BitsAllocated"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "BitsAllocated"),
        ({"BitsStored": 17}, "BitsStored"),
        ({"BitsStored": 0}, "BitsStored"),
        ({"HighBit": 16}, "HighBit"),
        ({"HighBit": 4}, "HighBit"),
        ({"ModalityLUTSequence": [Dataset()]}, "ModalityLUTSequence"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(tags: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        layout_of(image(words(*SIX), **tags), "im")
    assert "DOE" not in str(refused.value)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.106", "1.2.3.4", "1.2.840.10008.1.2.4.100"])
def test_an_unknown_transfer_syntax_is_refused(syntax: str) -> None:
    with pytest.raises(InputError, match=r"im is stored as .*, which cannot be decoded"):
        layout_of(image(b"", syntax=syntax), "im")


def test_missing_and_cut_pixels_are_refused() -> None:
    for pixels, said in ((b"", "no pixel data"), (words(1, 2, 3), "truncated: it has 6 of 12 bytes")):
        with pytest.raises(InputError, match=said):
            stored(image(pixels))
    dataset = image(b"")
    del dataset.PixelData
    with pytest.raises(InputError, match="im has no pixel data"):
        stored(dataset)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_claim_of_gigabytes_costs_no_memory(tmp_path: Path, syntax: str) -> None:
    with members(make_series(tmp_path, shape=(12, 10, 3), syntax=syntax)[0]) as found:
        dataset, _ = read_whole(found.members[0])
    dataset.Rows = dataset.Columns = 46000  # 4 GB, just below the limit of voxels
    with pytest.raises(InputError, match=r"another size|cannot be as large"):
        stored(dataset)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_cut_compressed_pixels_are_refused(tmp_path: Path, syntax: str) -> None:
    with members(make_series(tmp_path, shape=(64, 60, 3), syntax=syntax)[1]) as found:
        dataset, _ = read_whole(found.members[0])
    element = element_of(dataset, 0x7FE00010)
    assert element is not None
    for left in (len(element.value) // 2, 20, 8):
        dataset._dict[Tag(0x7FE00010)] = element._replace(value=element.value[:left])  # type: ignore[union-attr]
        with pytest.raises(InputError, match="im"):
            stored(dataset)


def test_a_compressed_depth_beyond_the_headers_is_refused(tmp_path: Path) -> None:
    """Decoders end the whole process over it."""
    for syntax, place in (("jpegll", 6), ("jpegls", 6), ("j2k", 42)):
        with members(make_series(tmp_path / syntax, shape=(12, 10, 3), syntax=syntax)[0]) as found:
            dataset, _ = read_whole(found.members[0])
        element = element_of(dataset, 0x7FE00010)
        assert element is not None
        broken = bytearray(element.value)
        broken[16 + place] = 60
        dataset._dict[Tag(0x7FE00010)] = element._replace(value=bytes(broken))  # type: ignore[union-attr]
        with pytest.raises(InputError, match="another depth"):
            stored(dataset)


def test_the_claim_of_a_stream_is_found() -> None:
    lossless = bytes.fromhex("ffd8 ffe0 0004 0000 ffc3 000b 10 0014 0018 01 011100 ffda 0008")
    assert claim_of(lossless) == Claim(20, 24, 1, 16)
    assert claim_of(lossless.replace(b"\xff\xc3", b"\xff\xca")) is None  # arithmetic coding
    assert claim_of(lossless[:12]) is None and claim_of(b"") is None and claim_of(b"\xff" * 40) is None
    siz = struct.pack(">HH8IH3B", 41, 0, 124, 70, 100, 50, 24, 20, 0, 0, 1, 11, 1, 1)
    assert claim_of(b"\xff\x4f\xff\x51" + siz) == Claim(20, 24, 1, 12)
    assert claim_of(bytes(4) + b"jP  " + bytes(30) + b"jp2c\xff\x4f\xff\x51" + siz) == Claim(20, 24, 1, 12)


@pytest.mark.parametrize(
    ("signed", "value", "limit", "expected"),
    [
        (0, 63536, None, (63536, 63536)),
        (1, 63536, None, (-2000, -2000)),  # as GE writes it
        (0, 0, 10, (0, 10)),
        (0, 10, 0, (0, 10)),
        (0, None, None, None),
    ],
)
def test_padding_is_read_in_the_sign_of_the_pixels(
    signed: int, value: int | None, limit: int | None, expected: tuple[int, int] | None
) -> None:
    dataset = image(words(*SIX), PixelRepresentation=signed, BitsStored=16, HighBit=15)
    for keyword, one in (("PixelPaddingValue", value), ("PixelPaddingRangeLimit", limit)):
        if one is not None:
            dataset.add_new(keyword, "US", one)
    assert padding_of(dataset, layout_of(dataset, "im")) == expected


def test_lossy_is_told_by_header_or_syntax() -> None:
    assert is_lossy(image(b"", LossyImageCompression="01"))
    assert is_lossy(image(b"", syntax="1.2.840.10008.1.2.4.50"))
    assert not is_lossy(image(b"", LossyImageCompression="00")) and not is_lossy(image(b""))
