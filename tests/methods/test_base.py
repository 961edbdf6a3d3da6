"""Devices and precisions: what is there is taken, what is not is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imputer.errors import DeviceError
from imputer.methods.base import choose_device, choose_precision, to_array, to_tensor


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    """Pretend that so many CUDA devices, and Apple's, are there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "expected"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 0, True, "mps"),
        ("auto", 1, True, "cuda"),
        ("CPU", 1, False, "cpu"),
        (" gpu ", 1, False, "cuda"),
        ("gpu:1", 2, False, "cuda:1"),
        ("cuda:0", 1, False, "cuda:0"),
        ("mps", 0, True, "mps"),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, name: str, cuda: int, mps: bool, expected: str) -> None:
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "gpu:0", "cuda:3", "mps", "tpu", "cuda:x", "cuda:", "cpu:1", "mps:0", ""])
def test_what_is_not_there_is_a_device_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch)
    with pytest.raises(DeviceError, match=r"--device|Use auto"):
        choose_device(name)


def test_a_second_device_is_not_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=1)
    with pytest.raises(DeviceError, match="cuda:1"):
        choose_device("cuda:1")
    with pytest.raises(DeviceError, match="unknown"):
        choose_device("cuda:")


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("auto", "cpu", "fp32"),
        ("auto", "mps", "fp32"),
        ("auto", "cuda", "fp16"),
        ("bf16", "cpu", "bf16"),
        ("fp16", "cuda", "fp16"),
        ("fp32", "cuda", "fp32"),
    ],
)
def test_precisions(name: str, device: str, expected: str) -> None:
    assert choose_precision(name, torch.device(device)) == expected


@pytest.mark.parametrize(("name", "device"), [("fp16", "cpu"), ("fp8", "cuda"), ("", "cpu")])
def test_precisions_that_do_not_work_are_refused(name: str, device: str) -> None:
    with pytest.raises(DeviceError, match="fp32"):
        choose_precision(name, torch.device(device))


def test_arrays_cross_to_torch_and_back_unchanged() -> None:
    stack = np.random.default_rng(0).standard_normal((3, 1, 4, 5)).astype(np.float32)
    tensor = to_tensor(stack[::-1], torch.device("cpu"))  # a view with a negative stride, which torch refuses
    np.testing.assert_array_equal(to_array(tensor), stack[::-1])
    assert to_array(tensor.half()).dtype == np.float32
