"""How many slices go through a network at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imputer.errors import DeviceError
from imputer.methods.batches import FIRST_SLICES, MOST_SLICES, BatchSize, fitting

CUDA = torch.device("cuda")
MIB = 2**20


class Memory:
    """What a device of 1000 MiB tells, of which a slice takes 30."""

    def __init__(self) -> None:
        self.weights, self.peak = 100 * MIB, 0

    def run(self, slices: int) -> None:
        taken = self.weights + slices * 30 * MIB
        if taken > 1000 * MIB:
            raise torch.OutOfMemoryError("full")
        self.peak = max(self.peak, taken)

    def reset(self, device: object) -> None:
        self.peak = self.weights


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory()
    told = {
        "reset_peak_memory_stats": memory.reset,
        "memory_allocated": lambda device: memory.weights,
        "max_memory_allocated": lambda device: memory.peak,
        "memory_reserved": lambda device: memory.weights + 100 * MIB,
        "mem_get_info": lambda device: (900 * MIB - memory.weights, 1000 * MIB),
        "empty_cache": lambda: None,
    }
    for name, answer in told.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    return memory


@given(bytes_each=st.floats(1, 1e12), free=st.integers(0, 10**12))
def test_the_greatest_power_of_two_that_fits(bytes_each: float, free: int) -> None:
    size = fitting(bytes_each, free)
    assert 1 <= size <= MOST_SLICES and size & (size - 1) == 0
    assert size == 1 or size * bytes_each <= free
    assert size == MOST_SLICES or 2 * size * bytes_each > free


def test_the_first_batch_tells_how_many_fit(memory: Memory) -> None:
    size = BatchSize(CUDA, None)
    assert size.now == FIRST_SLICES
    with size.running(3):
        memory.run(3)
    assert size.now == 16  # 0.85 of the 900 MiB beside the weights hold 25 of 30 MiB
    memory.weights += 500 * MIB
    with size.running(4):
        memory.run(4)
    assert size.now == 16  # measured once


def test_a_first_batch_that_does_not_fit_is_tried_again_smaller(memory: Memory) -> None:
    memory.weights = 900 * MIB
    size = BatchSize(CUDA, None)
    with pytest.raises(torch.OutOfMemoryError) as full, size.running(size.now):
        memory.run(size.now)
    size.halve(full.value)
    assert size.now == FIRST_SLICES // 2
    with size.running(2):
        memory.run(2)
    assert size.now == 2


def test_what_the_user_says_is_taken_until_memory_ends(memory: Memory) -> None:
    size = BatchSize(CUDA, 3)
    with size.running(3):
        memory.run(3)
    assert size.now == 3
    full = torch.OutOfMemoryError("full")
    size.halve(full)
    assert size.now == 1
    with pytest.raises(DeviceError, match="memory"):
        size.halve(full)


def test_a_cpu_takes_one_slice_and_other_devices_a_fixed_number() -> None:
    assert BatchSize(torch.device("cpu"), 8).now == 1
    assert BatchSize(torch.device("mps"), None).now > 1
