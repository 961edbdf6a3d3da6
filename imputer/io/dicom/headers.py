"""Values of a header, taken so that no damaged one can stop the reading, and none is decoded that nobody asks for.

pydicom decodes an element for good when it is touched, and warns or raises, quoting it, where it is not valid. These
getters look at the bytes as they were read instead. What they cannot make sense of is as good as absent.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any, cast

from pydicom import Dataset
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.uid import UID
from pydicom.valuerep import TEXT_VR_DELIMS

from imputer.io.dicom.parse import quiet

__all__ = [
    "element_of",
    "first",
    "integer",
    "is_present",
    "items",
    "number",
    "numbers",
    "stripped",
    "text",
    "uid_name",
    "values",
]

GE_COMPONENT = "0043102F"  # private: 0 magnitude, 1 phase, 2 real, 3 imaginary; ImageType does not tell at GE
GE_COMPONENT_TAG = 0x0043102F
LARGE_BYTES = 1 << 16  # an element of this size is a table or a picture
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q", "US or SS": "H"}
_LATIN = "iso8859"
_ESCAPE = b"\x1b"  # switches between character sets (PS3.5 section 6.1.2.5)
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_UNASSIGNED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
# Pictures beside the picture, and what protects the file as it was.
_BULKY = ("IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence")
_PIXEL_GROUP = 0x7FE0  # and above it signatures and padding
_OVERLAY_GROUPS = range(0x6000, 0x6100)
_CURVE_GROUPS = range(0x5000, 0x5100)


def values(dataset: Dataset, keyword: str) -> tuple[Any, ...]:
    """Values of an attribute: text of text, numbers of binary elements; nothing where it is absent, empty or broken.

    Text is taken as Latin-1 and stripped, which is right for codes, UIDs, dates and decimal strings; `text` knows of
    character sets.
    """
    element = element_of(dataset, tag_of(keyword))
    if element is None:
        return ()
    if not isinstance(element, RawDataElement):
        return _split(element.value)
    raw = element.value
    if not raw or not isinstance(raw, bytes | bytearray):
        return ()
    kind = element.VR if element.VR not in (None, "UN") else _known_kind(int(element.tag))
    letter = _BINARY.get(str(kind))
    if letter is None:
        return _split(raw.decode(_LATIN))
    size = struct.calcsize(letter)
    count = len(raw) // size
    return struct.unpack(f"{'<' if element.is_little_endian else '>'}{count}{letter}", raw[: count * size])


def element_of(dataset: Dataset, tag: int) -> DataElement | RawDataElement | None:
    """Element as it was read: raw until somebody has asked pydicom for its value."""
    return cast(DataElement | RawDataElement | None, dataset.get_item(tag, keep_deferred=True))


def text(dataset: Dataset, keyword: str) -> str:
    """Text of an attribute in the data set's character set; of several values the first; "" where there is none."""
    element = element_of(dataset, tag_of(keyword))
    if not isinstance(element, RawDataElement):
        found = _split(element.value) if element is not None else ()
        return str(found[0]) if found else ""
    raw = element.value
    if not raw or not isinstance(raw, bytes | bytearray):
        return ""
    if raw.isascii() and _ESCAPE not in raw:
        decoded = raw.decode("ascii")
    else:
        decoded = _decoded(bytes(raw), values(dataset, "SpecificCharacterSet"))
    return decoded.split("\\")[0].strip(" \0\r\n\t")


def number(dataset: Dataset, keyword: str) -> float | None:
    """First value of an attribute as a finite number, or None."""
    found = values(dataset, keyword)
    value = _as_number(found[0]) if found else None
    return value if value is not None and math.isfinite(value) else None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The values of an attribute if they are `count` numbers (they may be infinite or NaN), else None."""
    found = [_as_number(value) for value in values(dataset, keyword)]
    known = [value for value in found if value is not None]
    return tuple(known) if len(known) == len(found) == count else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """First value of an attribute as an integer; decimals that some write into integer strings are rounded off."""
    value = number(dataset, keyword)
    return round(value) if value is not None and abs(value) < 1 << 63 else None


def is_present(dataset: Dataset, keyword: str) -> bool:
    """Whether an attribute is there and not empty, even if its value makes no sense."""
    element = element_of(dataset, tag_of(keyword))
    if element is None or element.value is None:
        return False
    return len(element.value) > 0 if hasattr(element.value, "__len__") else True


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; none where it is absent or damaged."""
    tag = tag_of(keyword)
    element = element_of(dataset, tag)
    if element is None:
        return []
    try:
        if isinstance(element, RawDataElement):
            with quiet():
                element = dataset[tag]
        return [item for item in element.value if isinstance(item, Dataset)]
    except Exception:  # pydicom raises whatever happens to break; a RecursionError among others
        return []


def first(dataset: Dataset, keyword: str) -> Dataset | None:
    """First item of a sequence, or None."""
    found = items(dataset, keyword)
    return found[0] if found else None


def stripped(dataset: Dataset) -> Dataset:
    """The data set without pixels, private elements, overlays, and anything large; changed in place.

    What stays is not decoded: whoever writes can copy its bytes. Sequences are kept as they are, except that the
    functional groups, which have been decoded already, lose their private elements too.
    """
    keep = {tag_of(keyword) for keyword in _FUNCTIONAL_GROUPS}
    bulky = {tag_of(keyword) for keyword in _BULKY}
    for tag in list(dataset.keys()):
        if tag in keep:
            continue
        element = element_of(dataset, tag)
        raw = element.value if isinstance(element, RawDataElement) else None
        large = raw is not None and len(raw) > LARGE_BYTES
        if large or tag in bulky or _is_dropped_group(tag.group):
            del dataset[tag]
    for keyword in _FUNCTIONAL_GROUPS:
        for group in items(dataset, keyword):
            _drop_private(group)
            for name in _UNASSIGNED:
                for item in items(group, name):
                    _drop_private(item)
    return dataset


@lru_cache(maxsize=256)
def uid_name(uid: str) -> str:
    """Name that the standard gives a UID; "" for any other text."""
    name = UID(uid, IGNORE).name
    return name if name != uid else ""


@cache
def tag_of(keyword: str) -> int:
    """Tag of an attribute by its keyword, or by its eight hexadecimal digits; KeyError for another one."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        if len(keyword) == 8 and set(keyword) <= set("0123456789ABCDEF"):
            return int(keyword, 16)
        raise KeyError(keyword)
    return tag


@cache
def _known_kind(tag: int) -> str:
    if tag == GE_COMPONENT_TAG:
        return "SS"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _split(value: Any) -> tuple[Any, ...]:
    """Values of decoded or raw text, or of an element that somebody has set."""
    if value is None:
        return ()
    if isinstance(value, str):
        parts = [part.strip(" \0\r\n\t") for part in value.split("\\")]
        return tuple(parts) if any(parts) else ()
    if isinstance(value, bytes | bytearray):
        return _split(value.decode(_LATIN))
    if isinstance(value, Iterable):
        return tuple(each.strip() if isinstance(each, str) else each for each in value)
    return (value,)


def _as_number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _decoded(raw: bytes, names: tuple[Any, ...]) -> str:
    try:
        with quiet():
            encodings = convert_encodings([str(name) for name in names] or None)
            return decode_bytes(raw, encodings, TEXT_VR_DELIMS)
    except Exception:  # codecs raise what they like, too
        return raw.decode(_LATIN)


def _is_dropped_group(group: int) -> bool:
    odd = group % 2 == 1  # private, PS3.5 section 7.8
    return odd or group in _OVERLAY_GROUPS or group in _CURVE_GROUPS or group >= _PIXEL_GROUP


def _drop_private(dataset: Dataset) -> None:
    for tag in [tag for tag in dataset.keys() if tag.group % 2 == 1]:  # noqa: SIM118 - iterating a data set decodes it
        del dataset[tag]
