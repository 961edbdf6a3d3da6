"""Maps worked on in slabs: what comes out is what the modules one after the other give."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from imputer.nets import slabwise
from imputer.nets.layers3d import Upsample
from imputer.nets.slabwise import norm_silu_conv, slabs
from imputer.nets.vqgan3d import Downsample, FirstStage, FirstStageConfig

LAST = torch.channels_last_3d
SIZES = st.tuples(st.integers(2, 7), st.integers(2, 6), st.integers(2, 6))


def plain(norm: nn.GroupNorm, conv: nn.Conv3d, x: Tensor) -> Tensor:
    """The three modules in float64, one after the other."""
    norm, conv = copy.deepcopy(norm).double(), copy.deepcopy(conv).double()
    out: Tensor = conv(F.silu(norm(x.double())))
    return out


def layers(inputs: int, outputs: int) -> tuple[nn.GroupNorm, nn.Conv3d]:
    torch.manual_seed(0)
    norm, conv = nn.GroupNorm(2, inputs, eps=1e-6), nn.Conv3d(inputs, outputs, 3, padding=1)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, conv.to(memory_format=LAST)  # type: ignore[call-overload]


def cut_small(patch: pytest.MonkeyPatch, x: Tensor, planes: int) -> None:
    """Let slabs have a number of planes."""
    patch.setattr(slabwise, "SLAB_BYTES", planes * x[:, :, :1].numel() * 4)


@given(sizes=SIZES, planes=st.integers(1, 3), outputs=st.sampled_from([2, 4]), offset=st.sampled_from([0.0, 100.0]))
@settings(max_examples=40, deadline=None)
def test_slabs_give_what_norm_activation_and_convolution_give(
    sizes: tuple[int, int, int], planes: int, outputs: int, offset: float
) -> None:
    norm, conv = layers(4, outputs)
    x = (torch.randn(1, 4, *sizes) + offset).contiguous(memory_format=LAST)
    expected, before = plain(norm, conv, x), x.clone()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        cut_small(patch, x, min(planes, sizes[0] - 1))  # torch's own norm of small maps is less exact
        found = norm_silu_conv(norm, conv, x)
    assert torch.equal(x, before)
    assert torch.allclose(found.double(), expected, atol=1e-3 if offset else 1e-5)  # x itself is rounded


@given(sizes=SIZES, planes=st.integers(1, 3), outputs=st.sampled_from([2, 4]))
@settings(max_examples=30, deadline=None)
def test_what_is_added_stays_as_it_is(sizes: tuple[int, int, int], planes: int, outputs: int) -> None:
    norm, conv = layers(4, outputs)
    x = torch.randn(1, 4, *sizes).contiguous(memory_format=LAST)
    plus = torch.randn(1, outputs, *sizes).contiguous(memory_format=LAST)
    expected, before = plain(norm, conv, x) + plus, plus.clone()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        cut_small(patch, x, min(planes, sizes[0] - 1))  # torch's own norm of small maps is less exact
        found = norm_silu_conv(norm, conv, x, plus=plus)
    assert torch.equal(plus, before)
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_learning_and_half_precision_take_the_map_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    norm, conv = layers(4, 4)
    x = torch.randn(1, 4, 6, 5, 5).contiguous(memory_format=LAST)
    cut_small(monkeypatch, x, 1)
    x.requires_grad_(True)
    before = x.detach().clone()
    norm_silu_conv(norm, conv, x, plus=x).sum().backward()
    assert x.grad is not None and conv.weight.grad is not None
    assert torch.equal(x.detach(), before)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert norm_silu_conv(norm, conv, x.detach().clone()).dtype == torch.bfloat16


@pytest.mark.parametrize("planes", [1, 2, 3, 100])
@torch.inference_mode()
def test_resampling_does_not_depend_on_the_slabs(monkeypatch: pytest.MonkeyPatch, planes: int) -> None:
    torch.manual_seed(0)
    up, down = Upsample(3), Downsample(3)
    x = torch.randn(1, 3, 10, 4, 6).contiguous(memory_format=LAST)
    enlarged, halved = up(x), down(x)
    cut_small(monkeypatch, x, planes)
    assert torch.allclose(up(x), enlarged, atol=1e-6)
    assert torch.allclose(down(x), halved, atol=1e-6)


@torch.inference_mode()
def test_a_whole_first_stage_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = FirstStageConfig(width=8, channel_multipliers=(1, 2), groups=4, codebook_size=8, classes=0)
    network = FirstStage(config).to(memory_format=LAST)  # type: ignore[call-overload]
    x = torch.rand(1, 1, 12, 16, 8) * 2 - 1
    z = network.features(x)
    y = network.decode(z)
    monkeypatch.setattr(slabwise, "SLAB_BYTES", 4096)
    assert torch.allclose(network.features(x), z, atol=1e-4)
    assert torch.allclose(network.decode(z), y, atol=1e-4)


def test_slabs_cover_every_plane_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1, 2, 7, 3, 3)
    cut_small(monkeypatch, x, 3)
    assert slabs(x) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert slabs(x, multiple=2) == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    cut_small(monkeypatch, x, 0)
    assert len(slabs(x)) == 7
    assert slabs(torch.zeros(1, 2, 7, 3, 3, device="meta")) == [slice(0, 7)]
