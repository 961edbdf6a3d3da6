"""The header of a safetensors file: what is sound comes through, every lie is one error, and none costs memory."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save
from tiny_entry import ABOUT, package_bytes, safetensors_bytes

from imputer.errors import ModelError
from imputer.safetensors_header import check, read_layout

FEW_BYTES = 40_000_000  # what a refusal may cost at most; every lie below claims far more


def tensor(shape: object, begin: object, end: object, dtype: object = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def refusal(path: Path, content: bytes) -> str:
    """The one sentence about a file that must be refused, after a look at the memory that it took."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as caught:
            check(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < FEW_BYTES
    assert caught.value.exit_code == 4
    assert caught.value.message.startswith(path.name)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    return caught.value.message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_a_sound_package_says_what_it_is(path: Path) -> None:
    path.write_bytes(package_bytes())
    assert check(path) == ABOUT
    layout = read_layout(path)
    assert {name: place.shape for name, place in layout.tensors.items()} == {"first": (2, 2), "second": (6,)}


def test_what_the_library_writes_is_read_alike(path: Path) -> None:
    kinds = ("bool", "uint8", "int16", "float16", "float32", "float64", "int64")
    arrays = {kind: np.ones((2, 3), dtype=kind) for kind in kinds}
    arrays |= {"scalar": np.array(3, "float32"), "none": np.zeros((0, 4), "float32")}
    path.write_bytes(save(arrays, metadata={"imputer": json.dumps(ABOUT), "other": "text"}))
    layout = read_layout(path)
    assert {name: place.shape for name, place in layout.tensors.items()} == {
        name: array.shape for name, array in arrays.items()
    }
    assert layout.metadata["other"] == "text"
    data = path.read_bytes()[-sum(array.nbytes for array in arrays.values()) :]
    for name, place in layout.tensors.items():
        assert data[place.begin : place.end] == arrays[name].tobytes()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": tensor([10], 0, 40), "b": tensor([1], 40, 44)}, "'b' lies beyond the end of the file"),
        ({"a": tensor([10], 0, 40), "b": tensor([2], 32, 40)}, "'b' overlaps"),
        ({"a": tensor([10], 0, 40), "b": tensor([10], 0, 40)}, "overlaps"),
        ({"a": tensor([4], 0, 16), "b": tensor([5], 20, 40)}, "'b' leaves a gap"),
        ({"a": tensor([9], 4, 40)}, "'a' leaves a gap"),
        ({"a": tensor([9], 0, 36)}, "end at byte 36 of 40"),
        ({}, "end at byte 0 of 40"),
        ({"a": tensor([10], 0, 40, "F16")}, "40 bytes, which its shape and type do not make"),
        ({"a": tensor([3, 3], 0, 40)}, "40 bytes, which"),
        ({"a": tensor([], 0, 40)}, "40 bytes, which"),
        ({"a": tensor([10**12], 0, 40)}, "impossible shape [1000000000000]"),
        ({"a": tensor([0, 10**12], 0, 0), "b": tensor([10], 0, 40)}, "impossible shape"),
        ({"a": tensor([2**32, 2**32], 0, 40)}, "impossible shape"),
        ({"a": tensor([-10], 0, 40)}, "impossible shape [-10]"),
        ({"a": tensor([-2, -5], 0, 40)}, "impossible shape"),
        ({"a": tensor([10.0], 0, 40)}, "impossible shape"),
        ({"a": tensor([True] * 3 + [10], 0, 40)}, "impossible shape"),
        ({"a": tensor("10", 0, 40)}, "impossible shape"),
        ({"a": tensor(10, 0, 40)}, "impossible shape"),
        ({"a": tensor([1] * 1000 + [10], 0, 40)}, "impossible shape [1, 1"),
        ({"a": tensor([10], 40, 0)}, "impossible place"),
        ({"a": tensor([10], -40, 0)}, "impossible place"),
        ({"a": tensor([10], 0, 40.0)}, "impossible place"),
        ({"a": tensor([10], 0, 10**30)}, "beyond the end"),
        ({"a": {**tensor([10], 0, 40), "data_offsets": [0, 20, 40]}}, "impossible place"),
        ({"a": {"dtype": "F32", "shape": [10]}}, "not described"),
        ({"a": {**tensor([10], 0, 40), "more": 1}}, "not described"),
        ({"a": [0, 40]}, "not described"),
        ({"a": tensor([10], 0, 40, "OBJECT")}, "unknown type 'OBJECT'"),
        ({"a": tensor([10], 0, 40, ["F32"])}, "unknown type"),
        ({"__metadata__": {"imputer": 3}, "a": tensor([10], 0, 40)}, "texts in its header"),
        ({"__metadata__": [], "a": tensor([10], 0, 40)}, "texts in its header"),
        ({"\x1b[2J\n" + "x" * 10**5: tensor([11], 0, 44)}, r"'\x1b[2J\nxxx"),
        ([], "not a JSON object"),
        (b"{not json", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"", "not JSON"),
        (b'{"a": ' + b"9" * 10**4 + b"}", "not JSON"),
        (b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "nested too deeply"),
        (b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "nested too deeply"),
        (b'{"a": NaN}', "holds 'NaN'"),
        (b'{"a": 1e999}', "holds '1e999'"),
        (b'{"a": {}, "a": {}}', "'a' twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16", "shape": [10], "data_offsets": [0, 40]}}', "'dtype' twice"),
        (b'{"__metadata__": {}, "__metadata__": {}}', "'__metadata__' twice"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(10**5)) + b',"1":1}', "'1' twice"),
    ],
)
def test_a_header_that_lies_is_refused(path: Path, header: object, words: str) -> None:
    assert words in refusal(path, safetensors_bytes(header, bytes(40)))


@pytest.mark.parametrize("length", [33, 10**9, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(path: Path, length: int) -> None:
    assert "longer than the file" in refusal(path, length.to_bytes(8, "little") + b"{}" + bytes(30))


def test_a_huge_header_in_a_huge_file_is_refused_unread(path: Path) -> None:
    path.write_bytes((10**11).to_bytes(8, "little") + b"{}")
    os.truncate(path, 10**11 + 1000)  # sparse
    tracemalloc.start()
    with pytest.raises(ModelError, match="more than 4 MB"):
        check(path)
    assert tracemalloc.get_traced_memory()[1] < FEW_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize(
    "document", ["", "null", "[]", "{}", "nonsense", '{"format": 1, "format": 1}', '{"format": NaN}', "[" * 10**5]
)
def test_a_file_without_our_header_is_no_package(path: Path, document: str) -> None:
    header = {"__metadata__": {"imputer": document}, "a": tensor([10], 0, 40)}
    assert "no imputer header" in refusal(path, safetensors_bytes(header, bytes(40)))


def test_a_package_of_the_future_is_refused(path: Path) -> None:
    header = {"__metadata__": {"imputer": '{"format": 2}'}, "a": tensor([10], 0, 40)}
    assert "package format 2" in refusal(path, safetensors_bytes(header, bytes(40)))


@pytest.mark.parametrize("content", [b"", b"1234567", b"PK\x03\x04" + bytes(200), b"\x80\x02}q\x00."])
def test_a_file_of_another_kind_is_refused(path: Path, content: bytes) -> None:
    assert "not a readable safetensors file" in refusal(path, content)


def test_a_torch_checkpoint_is_told_where_to_go(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(ModelError, match="imputer models import"):
        check(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused_without_waiting(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)  # opening it would wait for a writer for ever
    for place in (path, tmp_path):
        with pytest.raises(ModelError, match="no ordinary file"):
            check(place)


def test_a_missing_file_is_named_as_the_user_knows_it(path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.safetensors does not exist"):
        check(path)
    with pytest.raises(ModelError, match=r"their\.zip does not exist"):
        check(path, "their.zip")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 400), byte=st.integers(0, 255), kept=st.one_of(st.none(), st.integers(0, 400)))
def test_what_is_accepted_the_library_accepts_too(path: Path, place: int, byte: int, kept: int | None) -> None:
    content = bytearray(package_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content[:kept])
    try:
        layout = read_layout(path)
    except ModelError:
        return
    try:
        theirs = deserialize(bytes(content[:kept]))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        pytest.fail(f"accepted here, refused there: {error}")
    assert {name: place.shape for name, place in layout.tensors.items()} == {
        name: tuple(record["shape"]) for name, record in theirs
    }
