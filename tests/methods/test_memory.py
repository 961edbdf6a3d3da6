"""The memory that a run is thought to take, and that there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_aldm import FIRST_STAGE_ALONE, make_network

from imputer.methods import memory
from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_it_grows_with_the_volume_the_widths_and_the_number_format() -> None:
    small, wide = make_network(), make_network(FIRST_STAGE_ALONE, FirstStageConfig(64, (1, 1, 2), codebook_size=16))
    shapes = [(48, 48, 48), (96, 96, 96), (192, 192, 192)]
    sizes = [memory.peak_bytes(wide, shape, "fp32", CPU) for shape in shapes]
    assert sizes == sorted(set(sizes))
    assert sizes[1] - memory.OVERHEAD == 8 * (sizes[0] - memory.OVERHEAD)
    for shape in shapes:
        assert memory.peak_bytes(small, shape, "fp32", CPU) < memory.peak_bytes(wide, shape, "fp32", CPU)
        assert memory.peak_bytes(wide, shape, "bf16", CUDA) < memory.peak_bytes(wide, shape, "fp32", CUDA)


def test_a_wide_unet_and_a_large_codebook_count_too() -> None:
    from imputer.nets.aldm import ALDM

    shape = (96, 96, 96)
    narrow = FirstStageConfig(width=4, groups=4, codebook_size=16, spade_widths=(8,), spade_hidden=4)
    with torch.device("meta"):
        plain = ALDM(narrow, LatentUNetConfig(width=8, groups=4, head_channels=8))
        wide = ALDM(narrow, LatentUNetConfig(width=1024))
        rich = ALDM(FirstStageConfig(4, groups=4, codebook_size=2**20), LatentUNetConfig(width=32))
    assert memory.peak_bytes(plain, shape, "fp32", CPU) < memory.peak_bytes(wide, shape, "fp32", CPU)
    assert memory.peak_bytes(rich, shape, "fp16", CUDA) > 4 * 13824 * 2**20


def test_a_run_takes_a_share_of_a_small_machine_and_a_fixed_part_of_a_large_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for physical, expected in ((4 * 10**9, 24 * 10**8), (10**12, 8 * 10**9)):
        monkeypatch.setattr(memory, "_physical_bytes", lambda physical=physical: physical)
        assert memory.free_bytes(CPU) == expected


def test_a_container_has_the_memory_that_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUPS", (limit, tmp_path / "absent"))
    alone = memory.free_bytes(CPU)
    limit.write_text("max\n")
    assert memory.free_bytes(CPU) == alone
    limit.write_text("1000000000\n")
    assert memory.free_bytes(CPU) == 600_000_000
