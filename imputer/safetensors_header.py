"""The header of a safetensors file, read with the standard library alone and checked against the file.

A model may come from anybody. This runs before any other reader touches the file: nothing is allocated by what the
header claims before the claim is compared with the size of the file, and what two readers could take differently
(names that occur twice, tensors that overlap, bytes that belong to none) is refused. The layout is: 8 bytes,
little-endian, with the length of the header; the header, one JSON object; the tensors' bytes, without holes.
"""

from __future__ import annotations

import json
import math
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from imputer.errors import ModelError

HEADER_KEY = "imputer"
PACKAGE_FORMAT = 1
UNSEEN = ("Cc", "Cf", "Cs")  # Unicode categories: control characters, invisible formatting, halves of pairs

_LENGTH_BYTES = 8
_LARGEST_HEADER = 4_000_000  # bytes; room for 30,000 tensors. As JSON it takes tens of times as much memory
_MOST_DIMENSIONS = 8
_SHOWN = 60  # characters of a foreign text in a message
# Bytes of one value, for each type that a network's tensors may have.
_VALUE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorPlace:
    """Type, shape, and first and one past the last byte of a tensor, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Layout:
    """What a header says: texts about the file, and where its tensors are."""

    metadata: dict[str, str]
    tensors: dict[str, TensorPlace]


def visible(text: object, *, longest: int = 1000) -> str:
    """A foreign text as one line that is safe on a terminal: no control characters, nothing that runs backwards."""
    words = " ".join(str(text).split())
    return "".join(sign for sign in words if unicodedata.category(sign) not in UNSEEN)[:longest]


def check(path: Path, name: str = "") -> dict[str, Any]:
    """Return the imputer header of a model package, after a check of the whole safetensors header.

    `name` stands for the file in errors, where the file's own name says nothing to the user. Raises ModelError where
    the file is missing, no safetensors file, at odds with its header, or without an imputer header.
    """
    return package_header(read_layout(path, name), name or path.name)


def read_layout(path: Path, name: str = "") -> Layout:
    """Return the checked header of any safetensors file; `name` and errors as of `check`."""
    name = name or path.name
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            _refuse(name, "it is no ordinary file")
        with path.open("rb") as file:
            start = file.read(_LENGTH_BYTES)
            length = int.from_bytes(start, "little")
            data_bytes = about.st_size - _LENGTH_BYTES - length
            if len(start) < _LENGTH_BYTES or data_bytes < 0:
                _refuse(name, "its header would be longer than the file", start)
            if length > _LARGEST_HEADER:
                _refuse(name, f"its header has more than {_LARGEST_HEADER // 10**6} MB")
            text = file.read(length)
    except FileNotFoundError as error:
        raise ModelError(f"Model file {name} does not exist.", remedy="Check the path.") from error
    except OSError as error:
        _refuse(name, error.strerror or type(error).__name__)
    return _layout(_json(text, name), data_bytes, name)


def package_header(layout: Layout, name: str) -> dict[str, Any]:
    """Return what a model package says about itself; ModelError where `layout`, of the file `name`, is not one's."""
    try:
        header = _json(layout.metadata.get(HEADER_KEY, "").encode(), name)
    except ModelError:
        header = {}
    if "format" not in header:
        raise ModelError(
            f"{name} carries no imputer header, so its model cannot be rebuilt.",
            remedy="Make a package with 'imputer models import' or 'imputer train'.",
        )
    if header["format"] != PACKAGE_FORMAT:
        raise ModelError(
            f"{name} has package format {shown(header['format'])}; this version reads {PACKAGE_FORMAT}.",
            remedy="Update imputer.",
        )
    return header


def shown(value: object) -> str:
    """Text of a foreign value for a message: on one line, without control characters, cut where it is long."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _json(text: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object strictly: no name twice, no NaN, no nesting that exhausts the stack."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for key, value in pairs:
            if key in record:
                _refuse(name, f"its header has {shown(key)} twice")
            record[key] = value
        return record

    def finite(word: str) -> float:
        value = float(word)
        if not math.isfinite(value):
            _refuse(name, f"its header holds {shown(word)}")
        return value

    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_float=finite, parse_constant=finite)
    except RecursionError:
        _refuse(name, "its header is nested too deeply")
    except ValueError:
        _refuse(name, "its header is not JSON", text)
    if not isinstance(content, dict):
        _refuse(name, "its header is not a JSON object")
    return content


def _layout(header: dict[str, Any], data_bytes: int, name: str) -> Layout:
    """Check every tensor of a header against the number of bytes that the file has behind it."""
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(name, "the texts in its header are malformed")
    tensors = {key: _place(key, record, data_bytes, name) for key, record in header.items()}
    reached = 0
    for key, place in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != reached:
            fault = "overlaps another one" if place.begin < reached else "leaves a gap before it"
            _refuse(name, f"tensor {shown(key)} {fault}")
        reached = place.end
    if reached != data_bytes:
        _refuse(name, f"its tensors end at byte {reached} of {data_bytes}")
    return Layout(metadata, tensors)


def _place(key: str, record: object, data_bytes: int, name: str) -> TensorPlace:
    """Check one tensor's type, shape and place."""
    if not isinstance(record, dict) or set(record) != {"dtype", "shape", "data_offsets"}:
        _refuse(name, f"tensor {shown(key)} is not described by type, shape and place")
    dtype, shape, offsets = record["dtype"], record["shape"], record["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _VALUE_BYTES:
        _refuse(name, f"tensor {shown(key)} has the unknown type {shown(dtype)}")
    if not _are_counts(shape) or len(shape) > _MOST_DIMENSIONS or max(shape, default=0) > data_bytes:
        _refuse(name, f"tensor {shown(key)} has the impossible shape {shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(name, f"tensor {shown(key)} has the impossible place {shown(offsets)}")
    begin, end = offsets
    if end > data_bytes:
        _refuse(name, f"tensor {shown(key)} lies beyond the end of the file")
    if math.prod(shape) * _VALUE_BYTES[dtype] != end - begin:
        _refuse(name, f"tensor {shown(key)} has {end - begin} bytes, which its shape and type do not make")
    return TensorPlace(dtype, tuple(shape), begin, end)


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _refuse(name: str, reason: str, start: bytes = b"") -> NoReturn:
    """Raise ModelError; `start`, the file's first bytes, tells a torch checkpoint (a zip or a pickle) by its look."""
    if start.startswith((b"PK\x03\x04", b"\x80")):
        remedy = "Authors' .pth checkpoints come in through 'imputer models import'."
    else:
        remedy = "Get the file again, from somebody you trust."
    raise ModelError(f"{name} is not a readable safetensors file: {reason}.", remedy=remedy)
