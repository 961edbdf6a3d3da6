"""Data elements for pydicom's writer: values of our own, held against the standard, and bytes of a source as they are.

A raw element is written without being decoded, as long as nobody asks a data set for its value: hence dictionaries
until a data set is complete.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset, config
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import ALLOW_BACKSLASH, format_number_as_ds

from imputer.io.dicom.headers import tag_of

Element = DataElement | RawDataElement
Elements = dict[BaseTag, Element]

_PADDED_WITH_NUL = frozenset({"UI", "OB", "OW", "UN"})  # PS3.5 6.2


def own(keyword: str, *values: str | int) -> Elements:
    """An attribute with values of our own; without values it is empty.

    Raises
    ------
    ValueError
        Where a value is not what the standard allows for the attribute: nothing invalid of our own is written.
    """
    tag = tag_of(keyword)
    vr = dictionary_VR(tag)
    given = list(values) if vr == "US" else [str(value) for value in values]
    for text in map(str, given):  # pydicom takes all characters, and makes two values of one with a separator
        if not text.isascii() or not text.isprintable() or ("\\" in text and vr not in ALLOW_BACKSLASH):
            raise ValueError(f"invalid value of {keyword}: not plain text, or with the separator of values")
    element = DataElement(tag, vr, given or None, validation_mode=config.RAISE)
    return {element.tag: element}


def decimal(keyword: str, *values: float) -> Elements:
    """A decimal string (PS3.5 6.2): each number in at most 16 characters.

    Raises
    ------
    ValueError
        Where a number is not finite.
    """
    return own(keyword, *(format_number_as_ds(float(value) + 0.0) for value in values))  # -0.0 becomes 0.0


def raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    """Bytes in little endian as they are, padded to an even length (PS3.5 7.1.2), which pydicom expects to be done."""
    if len(value) % 2:
        value += b"\0" if vr in _PADDED_WITH_NUL else b" "
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def dataset(*parts: Elements) -> Dataset:
    """Elements as a data set, or as an item of a sequence; of an attribute in several parts, that of the last.

    It counts as read in Explicit VR Little Endian and its own character set: else pydicom decodes raw elements first.
    """
    result = Dataset()
    for part in parts:
        result.update(part)
    is_told = "SpecificCharacterSet" in result
    result.set_original_encoding(
        False, True, convert_encodings(result.SpecificCharacterSet) if is_told else default_encoding
    )
    return result


def sequence(keyword: str, items: Iterable[Dataset]) -> Elements:
    """A sequence of items."""
    element = DataElement(tag_of(keyword), "SQ", list(items))
    return {element.tag: element}


def merged(*parts: Elements) -> Elements:
    """Elements of all parts; of an attribute in several, that of the last."""
    return {tag: element for part in parts for tag, element in part.items()}


def code(keyword: str, value: str, scheme: str, meaning: str) -> Elements:
    """A sequence of one code (PS3.3 8.8)."""
    entry = dataset(own("CodeValue", value), own("CodingSchemeDesignator", scheme), own("CodeMeaning", meaning))
    return sequence(keyword, [entry])
