"""Noise belongs to a slice: batch, order and neighbours change nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from imputer.diffusion.noise import SliceNoise, WindowNoise

INDICES = list(range(7))


def draws(indices: list[int], *, seed: int = 3, case: str = "case", shared: bool = False) -> Tensor:
    """Return three draws in a row, of differing shapes, as one matrix with a row for each slice."""
    noise = SliceNoise(seed, case, indices, shared=shared)
    return torch.cat([noise.normal(*shape).flatten(1) for shape in ((1, 4, 6), (5,), (1, 4, 6))], dim=1)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(INDICES), min_size=1, unique=True), st.booleans())
def test_a_slice_draws_the_same_whatever_its_batch(indices: list[int], shared: bool) -> None:
    assert torch.equal(draws(indices, shared=shared), draws(INDICES, shared=shared)[indices])


def test_slices_seeds_and_cases_draw_differently() -> None:
    rows = [*draws(INDICES), *draws([0], seed=4), *draws([0], case="other")]
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


def test_draws_follow_one_another() -> None:
    noise = SliceNoise(0, "case", [0])
    assert not torch.equal(noise.normal(8), noise.normal(8))


def test_shared_noise_is_one_draw_for_all_slices_of_a_case() -> None:
    rows = draws(INDICES, shared=True)
    assert torch.equal(rows, rows[:1].expand_as(rows))
    assert not torch.equal(rows[0], draws([0], case="other", shared=True)[0])
    assert not torch.equal(rows[0], draws([0], seed=4, shared=True)[0])


def test_draws_are_standard_normal() -> None:
    values = SliceNoise(0, "case", [0, 1]).normal(200, 200)
    assert values.dtype == torch.float32
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.std()) - 1) < 0.02
    assert abs(float((values[0] * values[1]).mean())) < 0.02


def test_a_window_draws_what_the_whole_grid_draws_there() -> None:
    grid, window = (6, 8, 4), (slice(2, 5), slice(0, 8), slice(3, 4))
    whole = SliceNoise(3, "case", [0])
    part = WindowNoise(SliceNoise(3, "case", [0]), grid, window)
    for _ in range(3):
        expected = whole.normal(2, *grid)[:, :, 2:5, :, 3:4]
        assert torch.equal(part.normal(2, 3, 8, 1), expected)
    with pytest.raises(ValueError, match="window"):
        part.normal(2, *grid)
