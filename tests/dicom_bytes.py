"""Small DICOM files as bytes, for tests of what reads them: whole ones, and parts to build broken ones from."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

NAME = "Doe^Jane"  # must never show up in a message
ROWS, COLUMNS = 4, 6
PIXELS = bytes(range(2 * ROWS * COLUMNS))
META_START = 132


def instance(syntax: str = ExplicitVRLittleEndian, *, number: int = 1, **values: Any) -> bytes:
    """A file with one MR image of 4 rows and 6 columns; `values` are further attributes, or others."""
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = f"2.25.{number}"
    dataset.Modality = "MR"
    dataset.PatientName = NAME
    dataset.SeriesInstanceUID = "2.25.1000"
    dataset.InstanceNumber = number
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    with disable_value_validation():
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    dataset.add_new("PixelData", "OW", PIXELS)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return _written(dataset)


def _written(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    with disable_value_validation():
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def parts(file: bytes) -> tuple[bytes, bytes]:
    """A file with a preamble cut before its data set."""
    (length,) = struct.unpack_from("<L", file, META_START + 8)
    end = META_START + 12 + length
    return file[:end], file[end:]


def bare(syntax: str) -> bytes:
    """A data set without preamble and meta information."""
    return parts(instance(syntax))[1]


BARE_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def directory() -> bytes:
    """A DICOMDIR, whose one record names a file outside its folder."""
    record = Dataset()
    record.DirectoryRecordType = "IMAGE"
    with disable_value_validation():
        record.ReferencedFileID = ["..", "..", "ETC", "PASSWD"]
    dataset = Dataset()
    dataset.FileSetID = ""
    dataset.DirectoryRecordSequence = [record]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.5"
    return _written(dataset)


def deflated_with(more: int) -> bytes:
    """A deflated file that claims a small image, and goes on with `more` MiB of zeros in its pixel data."""
    meta, deflated = parts(instance(DeflatedExplicitVRLittleEndian))
    body = zlib.decompress(deflated, -zlib.MAX_WBITS)[: -len(PIXELS) - 4]  # up to the length of the pixel data
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = engine.compress(body + struct.pack("<L", more << 20)) + engine.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block depends on nothing before it, and may be repeated.
    block = engine.compress(bytes(1 << 20)) + engine.flush(zlib.Z_FULL_FLUSH)
    return meta + start + block * more + engine.flush()


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Explicit VR little endian, with a length of 16 bits."""
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
EMPTY_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)  # ReferencedImageSequence
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def with_sequence(content: bytes) -> bytes:
    """A file whose data set holds a sequence with these bytes as its items, in its place."""
    meta, body = parts(instance())
    place = body.index(struct.pack("<HH", 0x0010, 0x0010))  # PatientName, the first of the next group
    return meta + body[:place] + SEQUENCE + content + SEQUENCE_END + body[place:]


def nested(depth: int) -> bytes:
    """A file with sequences in sequences."""
    return with_sequence((ITEM + SEQUENCE) * depth + (SEQUENCE_END + ITEM_END) * depth)
