"""Tiles cover a volume, share enough, and their shares blend without a seam."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imputer.methods.tiles import OVERLAP, Layout, Meter, layouts

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


def every(shape: tuple[int, int, int], multiple: int) -> list[Layout]:
    i, j, k = (size * multiple for size in shape)
    return list(layouts((i, j, k), multiple))


@given(SHAPES, st.sampled_from([4, 16]))
@settings(max_examples=40, deadline=None)
def test_the_first_layout_is_the_whole_and_each_has_smaller_tiles(shape: tuple[int, int, int], multiple: int) -> None:
    found = every(shape, multiple)
    assert found[0].count == 1 and found[0].size == found[0].shape
    volumes = [np.prod(layout.size) for layout in found]
    assert volumes == sorted(set(volumes), reverse=True)
    assert max(found[-1].size) <= 3 * multiple


@given(SHAPES, st.sampled_from([4, 8]))
@settings(max_examples=25, deadline=None)
def test_tiles_lie_on_the_grid_inside_the_volume_and_neighbours_overlap(
    shape: tuple[int, int, int], multiple: int
) -> None:
    for layout in every(shape, multiple):
        for length, size, starts in zip(layout.shape, layout.size, layout.starts, strict=True):
            assert size % multiple == 0 and all(start % multiple == 0 for start in starts)
            assert starts[0] == 0 and starts[-1] + size == length
            assert all(0 < later - start <= size - OVERLAP * multiple for start, later in zip(starts, starts[1:]))  # noqa: B905, RUF007


@given(st.tuples(*[st.integers(1, 6)] * 3))
@settings(max_examples=15, deadline=None)
def test_what_every_tile_copies_is_the_volume_again(shape: tuple[int, int, int]) -> None:
    for layout in every(shape, 4):
        volume = np.random.default_rng(0).standard_normal(layout.shape).astype(np.float32)
        result = np.zeros_like(volume)
        for tile in layout.tiles():
            weights = layout.weights(tile)
            assert weights.min() > 0
            result[tile.window()] += weights * volume[tile.window()]
        np.testing.assert_allclose(result, volume, rtol=1e-5, atol=1e-6)


def test_a_volume_as_a_whole_has_shares_of_exactly_one() -> None:
    layout = next(layouts((16, 32, 16), 16))
    (tile,) = layout.tiles()
    assert (layout.weights(tile) == 1).all()


def test_shares_fall_linearly_towards_a_border_between_tiles() -> None:
    layout = next(layout for layout in layouts((16, 16, 96), 16) if layout.count == 2)
    first, second = (layout.weights(tile)[0, 0] for tile in layout.tiles())
    size, start = layout.size[2], layout.starts[2][1]
    assert (size, start) == (64, 32)
    np.testing.assert_allclose(first[:start], 1)
    np.testing.assert_allclose(np.diff(first[start:]), -1 / 32, rtol=1e-3)
    np.testing.assert_allclose(first[start:] + second[: size - start], 1, rtol=1e-6)


def test_a_tile_on_a_coarser_grid() -> None:
    layout = list(layouts((48, 64, 96), 16))[-1]
    for tile in layout.tiles():
        assert [(4 * part.start, 4 * part.stop) for part in tile.window(4)] == [
            (part.start, part.stop) for part in tile.window()
        ]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_a_meter_adds_up_to_its_total_and_never_goes_back(count: int) -> None:
    told: list[int] = []
    meter = Meter(15, told.append)
    for number in range(count // 2):  # an attempt that memory ends
        for units in (3, 1):
            meter.part(number, count)(units)
    for number in range(count):
        tell = meter.part(number, count)
        for units in (3, 1, 1, 1, 1, 1, 7):
            tell(units)
    assert sum(told) == 15 and all(units > 0 for units in told)
