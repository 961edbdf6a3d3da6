"""Model packages: round trip, and one sentence for every way in which a file can be wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from imputer.errors import ModelError, OutputError
from imputer.nets.checkpoint import load_strictly, read_header, read_tensors, write_package

HEADER = {"method": "none", "network": {"width": 3}, "text": "weiß · 白", "recipe": [{"step": "slices"}], "x": 0.1}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_package(path, nn.Linear(3, 2).state_dict(), HEADER)
    return path


def test_tensors_and_header_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3), "b": torch.randn(4, 2, 3, 3).to(memory_format=torch.channels_last)}
    path = tmp_path / "model.safetensors"
    write_package(path, tensors, HEADER)
    header = read_header(path)
    assert {key: header[key] for key in HEADER} == HEADER
    found = read_tensors(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_package(path, {"a": torch.tensor([0.1, 1.0]).half()}, HEADER)
    (found,) = read_tensors(path).values()
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.tensor([0.1, 1.0]).half().float())


def test_the_same_model_gives_the_same_file(tmp_path: Path) -> None:
    tensors = nn.Linear(3, 2).state_dict()
    for name in ("one", "two"):
        write_package(tmp_path / f"{name}.safetensors", tensors, HEADER)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_file_has_the_mode_of_any_other_file(package: Path) -> None:
    other = package.with_name("other")
    other.write_text("")
    assert package.stat().st_mode == other.stat().st_mode


def test_an_existing_file_is_kept_unless_told(package: Path) -> None:
    before = package.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write_package(package, {"a": torch.zeros(1)}, HEADER)
    assert package.read_bytes() == before
    write_package(package, {"a": torch.zeros(1)}, HEADER, overwrite=True)
    assert list(read_tensors(package)) == ["a"]
    assert [path.name for path in package.parent.iterdir()] == [package.name]


def test_a_header_that_is_no_json_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_package(tmp_path / "model.safetensors", {}, {"scale": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_all_misfits_are_listed_in_one_error() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5))
    tensors = module.state_dict()
    tensors["0.weight"] = torch.zeros(2, 4)
    del tensors["0.bias"], tensors["1.bias"]
    tensors["2.weight"] = tensors["other"] = torch.zeros(1)
    with pytest.raises(ModelError) as caught:
        load_strictly(module, tensors, "file.safetensors")
    text = str(caught.value)
    for part in ("file.safetensors", "missing 0.bias, 1.bias", "extra 2.weight, other", "wrong shape 0.weight (2, 4)"):
        assert part in text


def test_fitting_tensors_fill_the_module(package: Path) -> None:
    module = nn.Linear(3, 2)
    load_strictly(module, read_tensors(package), package.name)
    assert torch.equal(module.weight, read_tensors(package)["weight"])


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone.safetensors does not exist"):
        read_header(tmp_path / "gone.safetensors")
    with pytest.raises(ModelError, match=r"gone.safetensors"):
        read_tensors(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04" + bytes(100), b"\xff" * 16])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        read_header(path)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize("kept", [4, 40, -1])
def test_a_truncated_file_is_refused(package: Path, kept: int) -> None:
    package.write_bytes(package.read_bytes()[:kept])
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        read_header(package)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"other": "1"}, {"imputer": "not json"}, {"imputer": "[]"}, {"imputer": "{}"}]
)
def test_a_file_without_our_header_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, str(path), metadata=metadata)
    with pytest.raises(ModelError, match="no imputer header"):
        read_header(path)


def test_a_package_of_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, str(path), metadata={"imputer": json.dumps({"format": 99})})
    with pytest.raises(ModelError, match="format 99"):
        read_header(path)
