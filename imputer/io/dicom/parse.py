"""The data set of a member: its header quickly, or all of it with the hash of its bytes.

What a member holds is not trusted: no more of it is read, inflated or turned into objects than an image explains,
and no value of it, which could be a patient's, is quoted by anything that is raised here.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from imputer.errors import ImputerError, InputError
from imputer.io.dicom.content import (
    HEAD_BYTES,
    PREFIX_END,
    Member,
    has_prefix,
    is_big_endian,
    looks_like_dicom,
    looks_like_directory,
    take,
)
from imputer.io.header import VOXEL_LIMIT

FIRST_WINDOW = 1 << 18  # bytes; holds the header of nearly all classic instances
HEADER_LIMIT = 1 << 26  # bytes of a header; that of 10 000 frames has 20 MB
INFLATED_HEADER_LIMIT = 1 << 24
SLACK_BYTES = 1 << 26  # what a deflated data set may hold beside its pixels
WHOLE_LIMIT = 4 * VOXEL_LIMIT + HEADER_LIMIT  # bytes of a file
ITEM_LIMIT = 500_000  # items of sequences: each becomes an object of 700 bytes, an empty one has 8 in the file

_PIXEL_DATA = 0x7FE00010
_FLOAT_PIXEL_DATA = 0x7FE00008
_PIXEL_GROUP = 0x7FE0
_UNDEFINED = 0xFFFFFFFF
_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # tag (FFFE,E000) in both byte orders
_ITEM_BYTES = 8
_ALWAYS = ("SpecificCharacterSet", "SOPClassUID")
_SIZES = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated")


def read_header(member: Member, tags: Sequence[str] | None = None) -> Dataset | None:
    """Header of a member up to its pixel data, with its meta information as ``file_meta``; None where it is junk.

    Junk is what is not DICOM, and the directory of a medium. Where no transfer syntax is told, the meta information
    names the one that was found. A header that ends early is given as far as it goes: `pixel_bytes` is None then.

    Parameters
    ----------
    member : Member
    tags : sequence of str
        Keywords of the elements that are wanted; None for all.

    Raises
    ------
    InputError
        Where it is DICOM, but damaged, or cannot be read.
    """
    wanted = None if tags is None else _numbers(tuple(tags))
    with member.open() as stream:
        data = take(stream, min(FIRST_WINDOW, member.size), member.name)
        if not looks_like_dicom(data[:HEAD_BYTES]) or looks_like_directory(data[:HEAD_BYTES]):
            return None
        most = min(HEADER_LIMIT, member.size)
        header = _header(member, data, wanted, is_last=len(data) >= most)
        if header is None:
            data += take(stream, most - len(data), member.name)
            header = _header(member, data, wanted, is_last=True)
    return header


def pixel_bytes(header: Dataset) -> int | None:
    """Bytes that a file has for PixelData, as `read_header` saw it; None where that is missing or the header is cut.

    For a deflated file what is claimed, otherwise no more than there are: fewer than the image needs tell that the
    file is truncated.
    """
    count = getattr(header, "_imputer_pixel_bytes", None)
    return count if isinstance(count, int) else None


def read_whole(member: Member) -> tuple[Dataset, str]:
    """Data set of a member with its pixel data, and the SHA-256 of the member's bytes as 64 hexadecimal digits.

    What follows the pixel data is left out.

    Raises
    ------
    InputError
        Where it is no DICOM file, or damaged, or cannot be read, or holds more than its header explains.
    """
    if member.size > WHOLE_LIMIT:
        raise InputError(f"{member.name} has {member.size} bytes, more than this program takes ({WHOLE_LIMIT}).")
    with member.open() as stream:
        data = take(stream, member.size, member.name)
    if len(data) != member.size:
        raise InputError(f"{member.name} is truncated.", remedy="Copy it again.")
    if not looks_like_dicom(data[:HEAD_BYTES]):
        raise InputError(f"{member.name} is no DICOM file.")
    with guarded(member.name):
        text = _begin(data)
        if text.is_deflated:
            text = _inflated_whole(member.name, text)
        _refuse_swarm(member.name, text.body)
        dataset = _read(text, _Stop(behind=True))
    return dataset, hashlib.sha256(data).hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Let pydicom neither validate values nor warn, as its warnings quote them. For every access to values."""
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = disabled


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """`quiet`, and whatever pydicom raises becomes an InputError that calls the file `name` and quotes nothing.

    pydicom reads values, and the items of sequences, when they are asked for: damage may show at any access. It
    raises errors of a dozen kinds, and their texts hold values: hence all of them, and none as a cause.
    """
    try:
        with quiet():
            yield
    except ImputerError:
        raise
    except MemoryError:
        raise InputError(f"{name} does not fit into memory.") from None
    except RecursionError:
        raise InputError(f"{name} nests its sequences too deeply.") from None
    except Exception:
        raise InputError(f"{name} is a damaged DICOM file.", remedy="Copy or export it again.") from None


class _Text(NamedTuple):
    """A data set that is not parsed yet: its bytes from `place` on, and how they are to be understood."""

    meta: FileMetaDataset
    body: bytes
    place: int
    is_implicit: bool
    is_little: bool

    @property
    def is_deflated(self) -> bool:
        """Whether the body is one deflate stream (PS3.5 section A.5)."""
        return bool(self.meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian)


def _begin(data: bytes) -> _Text:
    """Read the meta information of a file."""
    stream = BytesIO(data)
    stream.seek(PREFIX_END if has_prefix(data) else 0)
    meta = FileMetaDataset(read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2))
    place = stream.tell()
    told = meta.get("TransferSyntaxUID")
    syntax = told if isinstance(told, str) else _found_syntax(data[place : place + 6])
    meta.TransferSyntaxUID = UID(syntax)
    return _Text(meta, data, place, syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)


def _found_syntax(element: bytes) -> str:
    """Transfer syntax of a data set that begins with this element: one of those without compression."""
    if is_big_endian(element):
        return ExplicitVRBigEndian
    vr = element[4:6]
    return ExplicitVRLittleEndian if vr.isalpha() and vr.isupper() else ImplicitVRLittleEndian


def _read(text: _Text, stop: _Stop, wanted: list[BaseTag | int] | None = None) -> Dataset:
    body = BytesIO(text.body)  # does not copy
    body.seek(text.place)
    stop.body = body
    dataset = read_dataset(body, text.is_implicit, text.is_little, stop_when=stop, specific_tags=wanted)
    dataset.file_meta = text.meta
    return dataset


class _Stop:
    """Tells pydicom where to stop: at the pixel data, of whatever kind, or behind them."""

    def __init__(self, *, behind: bool = False) -> None:
        self.body = BytesIO()  # what is read
        self.is_reached = False
        self.length: int | None = None  # of PixelData, as claimed
        self.place = 0
        self._behind = behind

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        if tag >> 16 < _PIXEL_GROUP or tag < _FLOAT_PIXEL_DATA:  # the first is quick with pydicom's tags
            return self.is_reached
        if self.is_reached:
            return True
        self.is_reached = True
        if tag == _PIXEL_DATA:
            self.length, self.place = length, self.body.tell()
        return not self._behind


def _header(member: Member, data: bytes, wanted: list[BaseTag | int] | None, *, is_last: bool) -> Dataset | None:
    """Header from the first bytes of a member; None where it takes more of them, and `is_last` is false."""
    stop = _Stop()
    try:
        with guarded(member.name):
            text = _begin(data)
            if is_deflated := text.is_deflated:
                text, _ = _inflated(text, INFLATED_HEADER_LIMIT)
            _refuse_swarm(member.name, text.body)
            header = _read(text, stop, wanted)
    except InputError:
        if is_last:
            raise
        return None
    if stop.length is not None:
        there = (len(text.body) if is_deflated else member.size) - stop.place
        # Of an inflated body only the beginning is there: its claim is taken.
        short = stop.length == _UNDEFINED or (stop.length > there and not is_deflated)
        header._imputer_pixel_bytes = there if short else stop.length
    return header if stop.is_reached or is_last else None


def _inflated(text: _Text, most: int) -> tuple[_Text, bool]:
    """No more than `most` bytes of a deflated data set, and whether the deflate stream ended with them."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 section A.5: without the header of zlib
    body = engine.decompress(memoryview(text.body)[text.place :], most)
    return text._replace(body=body, place=0), engine.eof


def _inflated_whole(name: str, text: _Text) -> _Text:
    """Inflated data set, which may not be larger than its own header explains."""
    inflated, is_all = _inflated(text, INFLATED_HEADER_LIMIT)
    most = _claimed_bytes(name, _read(inflated, _Stop(), _numbers(_SIZES))) + SLACK_BYTES
    if not is_all and len(inflated.body) <= most:
        inflated, is_all = _inflated(text, most + 1)
    if len(inflated.body) > most:
        raise InputError(f"{name} inflates to more bytes than its image has.", remedy="Do not trust its source.")
    if not is_all:
        raise InputError(f"{name} is truncated.", remedy="Copy it again.")
    return inflated


def _claimed_bytes(name: str, header: Dataset) -> int:
    """Bytes of the pixel data that a header claims."""
    rows, columns, samples, frames, bits = (int(header.get(keyword) or 1) for keyword in _SIZES)
    voxels = max(rows, 0) * max(columns, 0) * max(samples, 0) * max(frames, 0)
    if voxels > VOXEL_LIMIT:
        raise InputError(f"{name} claims {voxels} voxels, more than this program takes ({VOXEL_LIMIT}).")
    return voxels * min(max(bits, 0), 64) // 8


def _refuse_swarm(name: str, body: bytes) -> None:
    """Refuse a file that would become a multitude of objects, many times larger in memory than it is."""
    if len(body) <= ITEM_LIMIT * _ITEM_BYTES:
        return
    if max(body.count(item) for item in _ITEMS) > ITEM_LIMIT:
        raise InputError(f"{name} has more than {ITEM_LIMIT} items in its sequences.")


@lru_cache(maxsize=32)
def _numbers(keywords: tuple[str, ...]) -> list[BaseTag | int]:
    """Tags of attributes; ValueError where one does not exist."""
    numbers: list[BaseTag | int] = []
    for keyword in (*_ALWAYS, *keywords):
        number = tag_for_keyword(keyword)
        if number is None:
            raise ValueError(f"there is no attribute {keyword}")
        numbers.append(number)
    return numbers
