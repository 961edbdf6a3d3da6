"""Pixels of one instance as they are stored, after everything that its header claims has been checked.

PS3.3 section C.7.6.3 (Image Pixel), PS3.5 sections 8 and A.4 (native and encapsulated pixel data).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from imputer.errors import InputError
from imputer.io.dicom.codestream import claim_of
from imputer.io.dicom.headers import element_of, integer, is_present, tag_of, text, uid_name, values
from imputer.io.dicom.parse import quiet

NATIVE = {
    "1.2.840.10008.1.2": "<",
    "1.2.840.10008.1.2.1": "<",
    "1.2.840.10008.1.2.1.99": "<",  # deflated: it has been inflated when it comes here
    "1.2.840.10008.1.2.2": ">",
}
LOSSY = {
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.203",
}
RLE = "1.2.840.10008.1.2.5"
RLE_MOST = 64  # bytes that one byte of run-length code can stand for at most
DEPTHS = (8, 16, 32)

# What `layout_of` looks at, for a header that is read in part.
TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "LossyImageCompression",
)


@dataclass(frozen=True)
class Layout:
    """How pixels are stored.

    Attributes
    ----------
    rows, columns, frames : int
        Size of a frame, and how many there are.
    allocated, stored, high : int
        BitsAllocated, BitsStored, HighBit.
    signed : bool
        PixelRepresentation.
    inverted : bool
        MONOCHROME1: the lowest value is the brightest.
    syntax : str
        Transfer Syntax UID.
    """

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    inverted: bool
    syntax: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values, in the byte order of the file."""
        order = NATIVE.get(self.syntax, "<")
        return np.dtype(f"{order}{'i' if self.signed else 'u'}{self.allocated // 8}")


def is_lossy(dataset: Dataset) -> bool:
    """Whether an instance has ever gone through lossy compression (PS3.3 C.7.6.1.1.5)."""
    return text(dataset, "LossyImageCompression") == "01" or _syntax(dataset) in LOSSY


def layout_of(dataset: Dataset, file: str) -> Layout:
    """Layout of the pixels of an instance, from its header alone.

    Raises
    ------
    InputError
        Where it is in colour, or contradicts itself, or its transfer syntax is not known.
    """
    _refuse_kind(dataset, file)
    syntax = _syntax(dataset)
    if syntax not in NATIVE and not _can_decode(syntax):
        raise InputError(
            f"{file} is stored as {_syntax_name(syntax)}, which cannot be decoded.",
            remedy="Convert it to an uncompressed transfer syntax first, for example with gdcmconv or dcmdjpeg.",
        )
    allocated = integer(dataset, "BitsAllocated")
    stored = integer(dataset, "BitsStored") if is_present(dataset, "BitsStored") else allocated
    high = integer(dataset, "HighBit") if is_present(dataset, "HighBit") else None
    if allocated not in DEPTHS or stored is None or not 1 <= stored <= allocated:
        raise InputError(f"{file} stores its pixels in a way that is not understood (BitsAllocated, BitsStored).")
    high = stored - 1 if high is None else high
    if not stored - 1 <= high < allocated:
        raise InputError(f"{file} stores its pixels in a way that is not understood (HighBit).")
    return Layout(
        rows=integer(dataset, "Rows") or 0,
        columns=integer(dataset, "Columns") or 0,
        frames=integer(dataset, "NumberOfFrames") or 1,
        allocated=allocated,
        stored=stored,
        high=high,
        signed=integer(dataset, "PixelRepresentation") == 1,
        inverted=text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1",
        syntax=syntax,
    )


def check_amount(count: int | None, layout: Layout, file: str) -> None:
    """InputError where a file has no pixel data, or fewer bytes of it (`count`) than its header claims."""
    if not count:
        raise InputError(f"{file} has no pixel data, or is truncated.", remedy="Copy or export it again.")
    claimed = layout.rows * layout.columns * layout.frames * layout.dtype.itemsize
    if layout.syntax in NATIVE and count < claimed:
        raise InputError(
            f"{file} is truncated: it has {count} of {claimed} bytes of pixel data.", remedy="Copy it again."
        )


def decode(dataset: Dataset, layout: Layout, wanted: Collection[int], file: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """Index (from 0) and stored values (rows, columns) of the wanted frames, in the order of the file.

    Values are integers in the machine's byte order, cut to BitsStored. They may be views that cannot be written to.

    Raises
    ------
    InputError
        Where there are no pixel data, or fewer than the header claims, or they cannot be decoded.
    """
    data = _pixel_data(dataset)
    check_amount(len(data), layout, file)
    if layout.syntax in NATIVE:
        yield from _native(dataset, data, layout, wanted)
        return
    try:
        with quiet():  # which has to end before this function is left
            frames = list(_encapsulated(dataset, data, layout, wanted, file))
    except InputError:
        raise
    except Exception:  # decoders raise whatever happens to break, and quote what they like
        raise InputError(
            f"The pixel data of {file} cannot be decoded: it is truncated or damaged, or an unusual kind of "
            f"{_syntax_name(layout.syntax)}.",
            remedy="Copy it again, or export it without compression.",
        ) from None
    yield from frames


def padding_of(dataset: Dataset, layout: Layout) -> tuple[int, int] | None:
    """Lowest and highest stored value that stand for no pixel (PS3.3 C.7.5.1.1.2), or None."""
    found = [integer(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    low = _wrapped(found[0], layout)
    if low is None:
        return None
    high = _wrapped(found[1], layout)
    return (low, low) if high is None else (min(low, high), max(low, high))


def _wrapped(value: int | None, layout: Layout) -> int | None:
    """A value that may have been written as unsigned although the pixels are signed, or the other way round."""
    if value is None:
        return None
    value %= 1 << layout.allocated
    return value - (1 << layout.allocated) if layout.signed and value >> (layout.allocated - 1) else value


def is_colour(dataset: Dataset) -> bool:
    """Whether an instance has colours, also those of a palette."""
    samples = integer(dataset, "SamplesPerPixel") if is_present(dataset, "SamplesPerPixel") else 1
    kind = text(dataset, "PhotometricInterpretation").upper()
    return samples != 1 or kind.startswith(("RGB", "YBR", "HSV", "ARGB", "CMYK", "PALETTE"))


def _refuse_kind(dataset: Dataset, file: str) -> None:
    if is_colour(dataset):
        raise InputError(f"{file} is in colour, not a scan of intensities.", remedy="Give the original series.")
    if text(dataset, "PhotometricInterpretation").upper() not in ("MONOCHROME1", "MONOCHROME2", ""):
        raise InputError(f"{file} is no grey image of a known kind (PhotometricInterpretation).")
    if is_present(dataset, "ModalityLUTSequence"):
        raise InputError(f"{file} maps its values through a table (ModalityLUTSequence), which is not supported.")


def _syntax(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    found = values(meta, "TransferSyntaxUID") if meta is not None else ()
    return str(found[0]) if found else "1.2.840.10008.1.2"


def _syntax_name(syntax: str) -> str:
    return uid_name(syntax) or "an unknown transfer syntax"


@cache
def _can_decode(syntax: str) -> bool:
    try:
        return bool(uid_name(syntax) and get_decoder(UID(syntax)).is_available)
    except NotImplementedError:
        return False


def _pixel_data(dataset: Dataset) -> bytes:
    element = element_of(dataset, tag_of("PixelData"))
    value = getattr(element, "value", None)
    return value if isinstance(value, bytes) else b""


def _native(
    dataset: Dataset, data: bytes, layout: Layout, wanted: Collection[int]
) -> Iterator[tuple[int, NDArray[Any]]]:
    size = layout.rows * layout.columns
    stored: NDArray[Any] = np.frombuffer(data, dtype=layout.dtype, count=size * layout.frames)
    if layout.dtype.itemsize == 1 and NATIVE[layout.syntax] == ">" and _is_words(dataset):
        words = np.frombuffer(data, dtype=">u2").astype("<u2")  # PS3.5 8.1.1: bytes in words of the other order
        stored = words.view(layout.dtype)[: size * layout.frames]
    for index in sorted(wanted):
        frame = stored[index * size : (index + 1) * size].reshape(layout.rows, layout.columns)
        yield index, _cut(frame.astype(frame.dtype.newbyteorder("="), copy=False), layout)


def _is_words(dataset: Dataset) -> bool:
    element = element_of(dataset, tag_of("PixelData"))
    return isinstance(element, RawDataElement) and element.VR == "OW"


def _cut(frame: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Only the bits that hold the pixel: above and below may lie others (overlays of old), or nothing defined."""
    above, below = layout.allocated - 1 - layout.high, layout.high + 1 - layout.stored
    if above == below == 0:
        return frame
    return np.asarray(np.right_shift(np.left_shift(frame, above), above + below))  # arithmetic where signed


def _encapsulated(
    dataset: Dataset, data: bytes, layout: Layout, wanted: Collection[int], file: str
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Decode frame by frame; each is looked at before a decoder may take memory for it."""
    _silence_gdcm()
    decoder = get_decoder(UID(layout.syntax))
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "transfer_syntax_uid": UID(layout.syntax),
    }
    count = 0
    offsets = _extended_offsets(dataset)
    for index, frame in enumerate(generate_frames(data, number_of_frames=layout.frames, extended_offsets=offsets)):
        count = index + 1
        if index in wanted:
            _check_frame(frame, layout, file)
            decoded = decoder.as_array(_encapsulate_one(frame), raw=True, index=0, **options)[0]
            yield index, decoded.reshape(layout.rows, layout.columns)
    if count < layout.frames:
        raise InputError(f"{file} is truncated: it has {count} of {layout.frames} frames.", remedy="Copy it again.")


def _extended_offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    """Where frames of more than 4 GB lie, and how long they are (PS3.3 C.7.6.3.1.8)."""
    found = [element_of(dataset, tag_of(f"ExtendedOffsetTable{part}")) for part in ("", "Lengths")]
    tables = [element.value for element in found if element is not None and isinstance(element.value, bytes)]
    return (tables[0], tables[1]) if len(tables) == 2 else None


def _encapsulate_one(frame: bytes) -> bytes:
    """A frame as pixel data of one frame: an empty offset table, the frame, and the end (PS3.5 A.4)."""
    padded = frame + b"\0" * (len(frame) % 2)
    item = b"\xfe\xff\x00\xe0"
    return item + bytes(4) + item + len(padded).to_bytes(4, "little") + padded + b"\xfe\xff\xdd\xe0" + bytes(4)


def _check_frame(frame: bytes, layout: Layout, file: str) -> None:
    """InputError where a compressed frame is another one than the header tells of."""
    if layout.syntax == RLE:
        if layout.rows * layout.columns * layout.allocated // 8 > RLE_MOST * len(frame):
            raise InputError(f"{file} is truncated: its pixel data cannot be as large as it claims.")
        return
    claim = claim_of(frame)
    if claim is None:
        raise InputError(f"The pixel data of {file} is damaged: it is no {_syntax_name(layout.syntax)}.")
    if claim[:3] != (layout.rows, layout.columns, 1):
        raise InputError(f"The pixel data of {file} is damaged: its image has another size than the header says.")
    # Decoders take memory for samples as wide as the stream says, and write them into those of the header.
    if not 1 <= claim.precision <= layout.allocated:
        raise InputError(f"The pixel data of {file} is damaged: its image has another depth than the header says.")


@cache
def _silence_gdcm() -> None:
    """Keep GDCM, where it is there, from printing what it stumbles over."""
    try:
        gdcm = import_module("gdcm")
    except ImportError:
        return
    gdcm.Trace.ErrorOff()
    gdcm.Trace.WarningOff()
