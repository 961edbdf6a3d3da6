"""Rigid alignment: a head that moved is brought back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imputer.errors import InputError
from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.train.register import align_rigidly
from imputer.volume import Volume

GRID = {"shape": (64, 76, 48), "spacing": (3.0, 3.0, 3.3), "noise": 0.01}


def moved(volume: Volume, degrees: float, shift: tuple[float, float, float]) -> Volume:
    """Say that the head lies elsewhere: turned about the vertical axis and shifted, mm."""
    turn = np.eye(4)
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn[:2, :2] = [[c, -s], [s, c]]
    turn[:3, 3] = shift
    return Volume(volume.array, turn @ volume.affine, volume.modality)


@pytest.fixture(scope="module")
def heads() -> dict[Modality, Volume]:
    return make_head([Modality.T1, Modality.T2], seed=2, **GRID)  # type: ignore[arg-type]


@pytest.mark.parametrize(("degrees", "shift"), [(4.0, (5.0, -4.0, 3.0)), (0.0, (-6.0, 6.0, 0.0))])
def test_a_moved_head_of_another_contrast_is_brought_back(
    heads: dict[Modality, Volume], degrees: float, shift: tuple[float, float, float]
) -> None:
    fixed, true = heads[Modality.T1], heads[Modality.T2]
    moving = moved(true, degrees, shift)
    before = align_rigidly(moving, fixed, search=False)
    after = align_rigidly(moving, fixed)
    inside = (slice(8, -8), slice(8, -8), slice(6, -6))

    def error(volume: Volume) -> float:
        return float(np.abs(volume.array - true.array)[inside].mean())

    assert after.shape == fixed.shape
    np.testing.assert_array_equal(after.affine, fixed.affine)
    assert after.modality == Modality.T2
    assert error(after) < 0.5 * error(before)


def test_the_same_alignment_every_time(heads: dict[Modality, Volume]) -> None:
    moving = moved(heads[Modality.T2], 2.0, (3.0, 0.0, 0.0))
    one, two = (align_rigidly(moving, heads[Modality.T1]) for _ in range(2))
    np.testing.assert_array_equal(one.array, two.array)


def test_without_a_search_a_volume_on_the_same_grid_is_itself(heads: dict[Modality, Volume]) -> None:
    same = align_rigidly(heads[Modality.T2], heads[Modality.T1], search=False)
    np.testing.assert_allclose(same.array, heads[Modality.T2].array, rtol=1e-4, atol=1e-2)


def test_volumes_of_too_few_slices_cannot_be_aligned() -> None:
    head = make_head([Modality.T1], shape=(32, 40, 3), spacing=(6.0, 6.0, 25.0))[Modality.T1]
    with pytest.raises(InputError, match="too few slices"):
        align_rigidly(head, head)
