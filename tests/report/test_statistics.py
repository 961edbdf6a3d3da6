"""Means, intervals and the paired test, against SciPy and against values worked out by hand."""

import math

import numpy as np
import pytest

from imputer.report.statistics import compare, summarise

stats = pytest.importorskip("scipy.stats")


def test_mean_and_standard_deviation_by_hand():
    found = summarise([1.0, 2.0, 6.0])
    assert (found.count, found.mean, found.std) == (3, 3.0, pytest.approx(math.sqrt(7)))
    assert 1.0 <= found.low < 3.0 < found.high <= 6.0


def test_the_interval_is_that_of_scipy_and_the_same_every_time():
    values = np.random.default_rng(0).normal(30, 2, 25)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    found = summarise(values, seed=5)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert summarise(values, seed=5) == found


def test_one_case_has_no_spread_and_none_has_nothing():
    one = summarise([4.0])
    assert (one.mean, one.std, one.low, one.high) == (4.0, None, None, None)
    assert summarise([]) is None
    assert summarise([math.nan, math.inf]) is None


def test_equal_cases_have_an_interval_of_one_point():
    found = summarise([2.0, 2.0, 2.0])
    assert (found.std, found.low, found.high) == (0.0, 2.0, 2.0)


def test_the_paired_test_by_hand():
    # Six differences of one sign: of the 2^6 sign patterns two are as extreme, so p = 2 / 64.
    first = [2.0, 3.5, 4.1, 5.7, 6.4, 7.9]
    found = compare(first, [1.0, 2.0, 2.1, 3.2, 3.4, 4.4])
    assert found.p == pytest.approx(2 / 64)
    assert found.least_p == pytest.approx(2 / 64)
    assert found.difference == pytest.approx(np.mean([1.0, 1.5, 2.0, 2.5, 3.0, 3.5]))
    assert found.low > 0


def test_a_case_that_one_method_lacks_does_not_count():
    found = compare([1.0, math.nan, 3.0], [0.5, 1.0, 2.0])
    assert (found.count, found.difference) == (2, 0.75)
    assert compare([math.nan], [1.0]) is None


def test_the_same_figures_do_not_differ():
    found = compare([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.p, found.difference) == (1.0, 0.0)
