"""What a survey measures of a head: the same whatever unit, axes and voxels, and another of what is another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.preprocess.orient import Orient
from imputer.preprocess.survey import Survey, is_stripped, survey
from imputer.volume import Volume

GRID = {"shape": (96, 112, 36), "spacing": (2.0, 2.0, 4.0)}
CONTRASTS = (Modality.T1, Modality.T2, Modality.FLAIR)


@pytest.fixture(scope="module")
def heads() -> dict[Modality, Volume]:
    return make_head(CONTRASTS, seed=3, **GRID)  # type: ignore[arg-type]


def taken(volume: Volume) -> Survey:
    found = survey(volume)
    assert found is not None
    return found


def stripped(volume: Volume) -> Volume:
    """The phantom's brain without what lies around it: 22 mm below its surface."""
    head = ndimage.binary_fill_holes(ndimage.binary_closing(volume.array > 60, iterations=3))
    depth = ndimage.distance_transform_edt(head, sampling=volume.spacing)
    return volume.with_array(np.where(depth > 22, volume.array, 0))


def test_neither_unit_nor_order_of_axes_matters(heads: dict[Modality, Volume]) -> None:
    head = heads[Modality.T1]
    turned, _ = Orient("PIR").forward(head)
    assert taken(turned) == taken(head)
    double = taken(head.with_array(head.array * 2))
    assert double.quantiles == pytest.approx(taken(head).quantiles, abs=2e-4)
    assert (double.coverage_mm, double.area_cm2) == (taken(head).coverage_mm, taken(head).area_cm2)


def test_finer_voxels_and_a_little_noise_hardly_matter(heads: dict[Modality, Volume]) -> None:
    head, generator = heads[Modality.T1], np.random.default_rng(1)
    fine = head.with_grid(head.array.repeat(2, axis=0).repeat(2, axis=1), head.affine @ np.diag([0.5, 0.5, 1.0, 1.0]))
    noisy = head.with_array(head.array + generator.normal(0, 4, head.shape))
    for other in (fine, noisy):
        assert taken(other).quantiles == pytest.approx(taken(head).quantiles, abs=0.06)
        assert taken(other).area_cm2 == pytest.approx(taken(head).area_cm2, rel=0.05)
        assert taken(other).balance == pytest.approx(taken(head).balance, abs=0.1)


def test_voxels_too_coarse_to_tell_anything_are_not_measured(heads: dict[Modality, Volume]) -> None:
    head = heads[Modality.T1]
    coarse = head.with_grid(head.array[:, :, ::5], head.affine @ np.diag([1.0, 1.0, 5.0, 1.0]))
    assert survey(coarse) is None


def test_the_skull_is_seen_until_it_is_stripped(heads: dict[Modality, Volume]) -> None:
    for modality in CONTRASTS:
        assert not is_stripped(taken(heads[modality]), modality), modality
    assert is_stripped(taken(stripped(heads[Modality.T1])), Modality.T1)
    assert is_stripped(taken(stripped(heads[Modality.T2])), Modality.T2)


def test_ventricles_are_bright_in_t2_alone(heads: dict[Modality, Volume]) -> None:
    assert taken(heads[Modality.T2]).balance > 0.3
    assert taken(heads[Modality.T1]).balance < -0.2
    assert taken(heads[Modality.FLAIR]).balance < 0.2


def test_size_and_cuts_are_in_millimetres(heads: dict[Modality, Volume]) -> None:
    head = heads[Modality.T1]
    whole = taken(head)
    assert 150 < whole.area_cm2 < 300 and whole.cut_cm2 == 0
    upper = head.with_grid(head.array[:, :, 18:], head.affine)
    assert taken(upper).coverage_mm == pytest.approx(taken(head).coverage_mm - 72, abs=12)
    beside = head.with_grid(head.array[40:], head.affine)
    assert taken(beside).cut_cm2 > 50
    large = replace(head, affine=head.affine @ np.diag([1.5, 1.5, 1.0, 1.0]))
    assert taken(large).area_cm2 == pytest.approx(2.25 * whole.area_cm2, rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (40, 40, 1), (1, 40, 40)])
def test_small_volumes_have_a_survey_too(shape: tuple[int, int, int]) -> None:
    found = taken(Volume(np.full(shape, 7, dtype=np.float32), np.diag([4.0, 4.0, 4.0, 1.0])))
    assert found.quantiles == (1, 1, 1, 1)
    assert np.isfinite([found.coverage_mm, found.area_cm2, found.cut_cm2, found.dark_shell, found.balance]).all()


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_nothing_above_zero_is_told(value: float) -> None:
    assert survey(Volume(np.full((9, 9, 9), value, dtype=np.float32), np.eye(4))) is None
