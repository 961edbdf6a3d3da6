"""One volume on the grid of another: places, sharpness, field of view, and how the overlap is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.preprocess.regrid import overlap, regrid, same_grid
from imputer.volume import Volume

T1, T2 = Modality.T1, Modality.T2
GRID: dict[str, Any] = {"shape": (44, 52, 12), "spacing": (4.0, 4.0, 12.0), "noise": 0.0}
ELSEWHERE: dict[str, Any] = {"shape": (14, 55, 48), "spacing": (11.0, 4.2, 4.1), "axes": "IPL", "oblique_degrees": 6.0}


def ramp(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    """A volume whose voxels hold x + 2 y + 3 z of their places, in mm: linear interpolation gives it exactly."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    places = index @ affine[:3, :3].T + affine[:3, 3]
    return Volume(1000 + places @ np.array([1.0, 2.0, 3.0]), affine, T2)


def shifted(volume: Volume, *mm: float) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += mm
    return replace(volume, affine=affine)


def sheared(spacing: float) -> np.ndarray:
    """Axes that are not at right angles, as a registration may write them."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[0, 1], affine[1, 2], affine[2, 0] = 0.3, -0.2, 0.25
    affine[:3, 3] = -60
    return affine


def flipped() -> np.ndarray:
    affine = np.diag([-3.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = 60, -60, -60
    return affine


@pytest.mark.parametrize("affine", [flipped(), sheared(4.0)], ids=["flipped", "sheared"])
def test_values_stay_at_their_places(affine: np.ndarray) -> None:
    moving = ramp(affine, (40, 40, 36))
    fixed = ramp(np.diag([2.0, -2.5, 2.0, 1.0]) + np.eye(4, k=3) * -4, (8, 7, 9))
    placed = regrid(moving, fixed, smooth=False)
    inside = placed.array > 0
    assert inside.mean() > 0.9 and placed.modality is T2
    np.testing.assert_array_equal(placed.affine, fixed.affine)
    np.testing.assert_allclose(placed.array[inside], fixed.array[inside], atol=0.05)


def test_the_same_grid_is_left_alone() -> None:
    head = make_head([T1, T2], **GRID)
    placed = regrid(head[T2], shifted(head[T1], 1e-4, 0, 0))
    np.testing.assert_array_equal(placed.array, head[T2].array)
    assert same_grid(head[T1], head[T2]) and not same_grid(head[T1], shifted(head[T2], 0.5, 0, 0))
    assert not same_grid(head[T1], make_head([T2], **{**GRID, "shape": (44, 52, 11)})[T2])


def test_small_voxels_are_averaged_for_large_ones() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (64, 64, 64)).astype(np.float32)
    moving = Volume(noise, np.eye(4), T2)
    fixed = Volume(np.ones((12, 12, 12)), np.diag([4.0, 4.0, 4.0, 1.0]) + np.eye(4, k=3) * 8, T1)
    plain, smooth = (regrid(moving, fixed, smooth=each).array for each in (False, True))
    assert plain.std() > 8
    assert smooth.std() < 1.5 and smooth.mean() == pytest.approx(100, abs=0.5)
    thick = Volume(np.ones((50, 50, 12)), np.diag([1.0, 1.0, 4.0, 1.0]) + np.eye(4, k=3) * 5, T1)
    along = regrid(moving, thick).array
    assert 2 < along.std() < 6  # smoothed through the slices, not within them
    assert np.corrcoef(along[:-1].ravel(), along[1:].ravel())[0, 1] < 0.1


def test_outside_the_field_of_view_there_is_nothing() -> None:
    head = make_head([T1, T2], **GRID)
    lower = head[T2].with_grid(head[T2].array[:, :, :7], head[T2].affine)
    placed = regrid(lower, head[T1])
    assert (placed.array[:, :, 7:] == 0).all() and (placed.array[:, :, :7] > 0).any()


def test_heads_of_one_place_overlap_whatever_their_grids() -> None:
    first, other = make_head([T1], **GRID)[T1], make_head([T2], **ELSEWHERE)[T2]
    for one, two in ((first, other), (other, first)):
        found = overlap(one, two, regrid(two, one))
        assert found.covered > 0.9 and found.dice > 0.9


def test_the_overlap_falls_with_the_distance() -> None:
    head = make_head([T1, T2], **GRID)
    found = [
        overlap(head[T1], moved, regrid(moved, head[T1]))
        for moved in (shifted(head[T2], mm, 0, 0) for mm in (0.0, 12.0, 30.0, 90.0, 400.0))
    ]
    dices = [each.dice for each in found]
    assert dices == sorted(dices, reverse=True) and len(set(dices)) == 5
    assert dices[0] > 0.95 and (dices[-1], found[-1].covered) == (0.0, 0.0)
    assert [each.covered for each in found] == sorted((each.covered for each in found), reverse=True)


def test_half_a_head_is_half_covered() -> None:
    head = make_head([T1, T2], **GRID)
    lower = head[T2].with_grid(head[T2].array[:, :, :6], head[T2].affine)
    found = overlap(head[T1], lower, regrid(lower, head[T1]))
    inside = head[T1].array > head[T1].array.mean() / 8
    assert found.covered == pytest.approx(inside[:, :, :6].sum() / inside.sum())
    assert found.dice > 0.95  # where it sees the head, the two agree


def test_nothing_overlaps_nothing() -> None:
    empty = Volume(np.zeros((5, 5, 5)), np.eye(4), T1)
    found = overlap(empty, empty, empty)
    assert (found.covered, found.dice) == (0.0, 0.0)
