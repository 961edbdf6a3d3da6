"""Calibration of deviations that are right, useless, inverted and too small."""

import numpy as np
import pytest

from imputer.errors import InputError
from imputer.report.calibration import GAUSSIAN, calibrate

pytest.importorskip("scipy")


@pytest.fixture
def random():
    return np.random.default_rng(3)


def test_a_deviation_that_is_the_error_ranks_perfectly(random):
    error = random.random(2000)
    found = calibrate(error, 2 * error)
    assert found.spearman == pytest.approx(1.0)
    assert found.ause == pytest.approx(0.0, abs=1e-12)
    assert found.coverage == (1.0, 1.0, 1.0)


def test_an_inverted_deviation_ranks_worse_than_chance(random):
    error = random.random(2000)
    found = calibrate(error, 1 - error)
    assert found.spearman == pytest.approx(-1.0)
    assert found.ause > found.ause_random > 0


def test_a_deviation_without_information_ranks_like_chance(random):
    found = calibrate(random.random(50_000), random.random(50_000))
    assert found.spearman == pytest.approx(0, abs=0.02)
    assert found.ause == pytest.approx(found.ause_random, abs=0.01)


def test_a_constant_deviation_has_no_rank_and_a_flat_curve(random):
    found = calibrate(random.random(100), np.full(100, 0.3))
    assert found.spearman is None
    assert found.curve == pytest.approx([1.0] * 20)
    assert found.ause == pytest.approx(found.ause_random)


def test_coverage_of_gaussian_errors(random):
    deviation = random.random(200_000) + 0.5
    found = calibrate(np.abs(random.normal(size=deviation.size)) * deviation, deviation)
    assert found.coverage == pytest.approx(GAUSSIAN, abs=0.005)
    too_small = calibrate(np.abs(random.normal(size=deviation.size)) * deviation, deviation / 2)
    assert too_small.coverage[0] == pytest.approx(0.3829, abs=0.005)  # share of a Gaussian within half of it


def test_the_sparsification_curve_by_hand():
    # Ten errors 1 ... 10, mean 5.5. With half of them gone by their size 1 ... 5 are left, mean 3.
    error = np.arange(1.0, 11.0)
    found = calibrate(error, error)
    assert found.ideal[0] == 1.0
    assert found.ideal[10] == pytest.approx(3 / 5.5)
    assert calibrate(error, -error + 11).curve[10] == pytest.approx(8 / 5.5)  # 6 ... 10 are left


def test_what_cannot_be_calibrated_is_refused():
    for error, deviation in (
        ([], []),
        ([1.0], [1.0, 2.0]),
        ([1.0, 2.0], [-1.0, 1.0]),
        ([1.0, 2.0], [np.nan, 1.0]),
        ([0.0, 0.0], [1.0, 2.0]),
    ):
        with pytest.raises(InputError):
            calibrate(np.array(error), np.array(deviation))
