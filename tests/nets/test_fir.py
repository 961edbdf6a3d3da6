"""FIR resampling is what it says: zeros in between or left out, a 4x4 filter, zeros beyond the border."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imputer.nets import fir

KERNEL = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
MODES = {"training": nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode}


def images(height: int, width: int, channels: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((2, channels, height, width))


def filtered(x: NDArray[np.float64], before: int, after: int) -> NDArray[np.float64]:
    """Correlate with the (symmetric) kernel after padding with zeros."""
    padded = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))
    height, width = padded.shape[2] - 3, padded.shape[3] - 3
    taps = ((a, b, KERNEL[a, b]) for a in range(4) for b in range(4))
    return np.sum([weight * padded[:, :, a : a + height, b : b + width] for a, b, weight in taps], axis=0)


@pytest.mark.parametrize("mode_name", MODES)
@settings(deadline=None, max_examples=20)
@given(
    height=st.integers(1, 9), width=st.integers(1, 9), channels=st.sampled_from([1, 3, 5, 8]), seed=st.integers(0, 99)
)
def test_up_is_zero_insertion_and_filter(mode_name: str, height: int, width: int, channels: int, seed: int) -> None:
    x = images(height, width, channels, seed)
    spread = np.zeros((2, channels, 2 * height, 2 * width))
    spread[:, :, ::2, ::2] = x
    with MODES[mode_name]():
        up = fir.upsample(torch.from_numpy(x))
    np.testing.assert_allclose(up.numpy(), 4 * filtered(spread, 2, 1), atol=1e-12)


@pytest.mark.parametrize("mode_name", MODES)
@settings(deadline=None, max_examples=20)
@given(
    height=st.integers(2, 9), width=st.integers(2, 9), channels=st.sampled_from([1, 3, 5, 8]), seed=st.integers(0, 99)
)
def test_down_is_filter_and_every_other_pixel(
    mode_name: str, height: int, width: int, channels: int, seed: int
) -> None:
    x = images(height, width, channels, seed)
    with MODES[mode_name]():
        down = fir.downsample(torch.from_numpy(x))
    np.testing.assert_allclose(down.numpy(), filtered(x, 1, 1)[:, :, ::2, ::2], atol=1e-12)


@pytest.mark.parametrize("resample", [fir.upsample, fir.downsample])
def test_the_input_is_left_alone(resample: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    with torch.no_grad():
        resample(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("resample", [fir.upsample, fir.downsample])
def test_gradients_are_those_of_the_function(resample: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.from_numpy(images(4, 6, 3, 0)).requires_grad_()
    assert torch.autograd.gradcheck(resample, (x,))


def test_the_inside_of_a_constant_image_stays_constant() -> None:
    x = torch.ones(1, 1, 8, 8)
    assert torch.allclose(fir.upsample(x)[..., 1:-1, 1:-1], torch.ones(14, 14))
    assert torch.allclose(fir.downsample(x)[..., 1:-1, 1:-1], torch.ones(2, 2))
