"""Tilted grids: all volumes of a case stay in place to each other, and what comes out is the head, cut elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from tiny import GRID

from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.train.tilt import SLICES_MM, WARP_MM, Tilt, across, draw
from imputer.volume import Volume, corners_of

UNMOVED = sitk.Transform(3, sitk.sitkIdentity)
PIXEL_MM = 3.0


def volume_of(spacing: tuple[float, float, float], shape: tuple[int, int, int] = (40, 44, 20)) -> Volume:
    """A volume of noise in RAS, its centre near the origin."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2
    return Volume(np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32), affine, Modality.T1)


def tilt_of(volume: Volume, seed: int = 0) -> Tilt:
    return draw(volume, PIXEL_MM, np.random.default_rng(seed))


def along(volume: Volume, axis: int) -> Volume:
    """The same grid with the place of each voxel along a RAS axis, in mm, as its value; 500 is added, for 0 is air."""
    places = np.tensordot(volume.affine[axis, :3], np.indices(volume.shape), axes=1) + volume.affine[axis, 3]
    return volume.with_array(places + 500)


def shifted(volume: Volume, millimetres: float) -> Volume:
    """The same voxels, further to the right (in LPS: to lower x)."""
    affine = volume.affine.copy()
    affine[0, 3] += millimetres
    return Volume(volume.array, affine, volume.modality)


def test_the_grid_of_the_volume_itself_gives_the_volume() -> None:
    volume = volume_of((2.0, 2.5, 5.0))
    (made,) = Tilt(volume.with_array(np.zeros(volume.shape)), UNMOVED).volumes([volume], [UNMOVED])
    assert made is not None
    assert np.abs(made.array - volume.array).max() < 1e-4


def test_volumes_of_one_place_stay_in_one_place() -> None:
    heads = make_head([Modality.T1, Modality.T2], **{**GRID, "noise": 0})
    t1 = heads[Modality.T1]
    tilt = tilt_of(t1)
    moved = shifted(t1, 7.0)
    way = sitk.TranslationTransform(3, (-7.0, 0.0, 0.0))  # LPS
    first, second, none = tilt.volumes([t1, moved, None], [UNMOVED, way, UNMOVED])
    assert first is not None and second is not None and none is None
    assert first.shape == second.shape and np.array_equal(first.affine, second.affine)
    assert np.abs(first.array - second.array).max() < 1e-3 * t1.array.max()
    assert first.array.max() > 0.5 * t1.array.max()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_warp_moves_by_some_millimetres(axis: int) -> None:
    volume = along(volume_of((3.0, 3.0, 4.0)), axis)
    tilt = tilt_of(volume)
    (made,) = tilt.volumes([volume], [UNMOVED])
    assert made is not None
    moved = (made.array - along(tilt.grid, axis).array)[made.array > 0]
    assert 0.1 * WARP_MM[axis] < np.abs(moved).mean() < 2 * WARP_MM[axis]
    assert np.abs(moved).max() < 5 * WARP_MM[axis]


def test_nothing_is_shown_where_one_volume_ends() -> None:
    volume = volume_of((3.0, 3.0, 4.0))
    half = Volume(volume.array[:20], volume.affine, Modality.T2)
    one, other = tilt_of(volume).volumes([volume, half], [UNMOVED, UNMOVED])
    assert one is not None and other is not None
    assert np.array_equal(one.array > 0, other.array > 0)
    assert 0.3 < (one.array > 0).mean() < 0.6


def test_what_comes_out_is_no_darker_than_what_went_in() -> None:
    array = np.zeros((40, 44, 20), dtype=np.float32)
    array[10:30, 10:30, 5:15] = 1000
    volume = volume_of((3.0, 3.0, 4.0)).with_array(array)
    (made,) = tilt_of(volume).volumes([volume], [UNMOVED])
    assert made is not None and made.array.min() == 0


@pytest.mark.parametrize(("thickness", "least"), [(1.0, SLICES_MM[0]), (3.5, 3.5), (6.0, 6.0)])
def test_slices_are_clinical_ones(thickness: float, least: float) -> None:
    volume = volume_of((1.0, 1.0, thickness), (30, 30, 30))
    drawn = [tilt_of(volume, seed).grid for seed in range(8)]
    assert all(least - 1e-6 <= across(grid) <= least * SLICES_MM[1] / SLICES_MM[0] + 1e-6 for grid in drawn)
    pixels = [spacing for grid in drawn for spacing in grid.spacing[:2]]
    assert 0.9 * PIXEL_MM <= min(pixels) < max(pixels) <= 1.12 * PIXEL_MM


@pytest.mark.parametrize(("thickness", "low", "high"), [(4.0, 2.0, 12.0), (1.0, 12.0, 29.0)])
def test_thin_slices_are_tilted_further(thickness: float, low: float, high: float) -> None:
    volume = volume_of((1.0, 1.0, thickness))
    across_slices = [tilt_of(volume, seed).grid.affine[:3, 2] for seed in range(40)]
    degrees = [np.degrees(np.arccos(each[2] / np.linalg.norm(each))) for each in across_slices]
    assert low < max(degrees) < high


def test_the_grid_lies_about_the_volumes_centre() -> None:
    volume = shifted(volume_of((2.0, 2.0, 4.0)), 300.0)
    grid = tilt_of(volume).grid
    centres = [(each.affine @ corners_of(each.shape)).mean(axis=1) for each in (grid, volume)]
    assert np.linalg.norm(centres[0] - centres[1]) < np.linalg.norm(grid.spacing)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_few_slices_are_no_harm(slices: int) -> None:
    volume = volume_of((3.0, 3.0, 20.0), (40, 44, slices))
    (made,) = tilt_of(volume).volumes([volume], [UNMOVED])
    assert made is not None
    assert 0 <= made.array.min() <= made.array.max() < 2.5
    assert (made.array > 0.5).mean() > 0.2


def test_small_voxels_are_widened_to_those_of_the_grid() -> None:
    """As in use, where finer pixels are averaged: else noise would be that of single voxels."""
    volume = volume_of((0.5, 0.5, 4.0), (120, 120, 12))
    noise = np.random.default_rng(1).normal(100, 10, volume.shape).astype(np.float32)
    (made,) = tilt_of(volume).volumes([volume.with_array(noise)], [UNMOVED])
    assert made is not None
    assert made.array[made.array > 50].std() < 5


def test_draws_follow_from_the_seed() -> None:
    volume = volume_of((3.0, 3.0, 4.0))
    (one,), (again,), (other,) = (tilt_of(volume, seed).volumes([volume], [UNMOVED]) for seed in (1, 1, 2))
    assert one is not None and again is not None and other is not None
    assert np.array_equal(one.array, again.array)
    assert one.shape != other.shape or not np.array_equal(one.array, other.array)
