"""Two percentiles of a volume as -1 and 1, and back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from imputer.errors import InputError, ModelError
from imputer.preprocess.percentiles import Percentiles
from imputer.volume import Volume


def volume_of(array: object) -> Volume:
    return Volume(np.asarray(array, np.float32), np.eye(4))


def noise(low: float = 0, high: float = 900, seed: int = 0) -> Volume:
    return volume_of(np.random.default_rng(seed).uniform(low, high, (12, 11, 10)))


@settings(deadline=None)
@given(low=st.floats(0, 40), high=st.floats(60, 100), offset=st.floats(-1e4, 1e4), factor=st.floats(1, 1e6))
def test_the_formula_is_that_of_numpy(low: float, high: float, offset: float, factor: float) -> None:
    volume = volume_of(noise().array * factor + offset)
    result, undo = Percentiles(low, high).forward(volume)
    first, last = np.percentile(volume.array.astype(np.float64), [low, high])
    expected = (volume.array.astype(np.float64) - first) / (last - first) * 2 - 1
    np.testing.assert_allclose(result.array, expected, atol=1e-3 if abs(offset) > 100 * factor else 1e-5)
    assert undo["low"] == pytest.approx(first, rel=1e-5, abs=1e-6 * factor * 900)
    assert undo["high"] == pytest.approx(last, rel=1e-5)
    assert undo["lossy"] is False


@settings(deadline=None)
@given(data=st.data(), low=st.floats(0, 10), high=st.floats(90, 100))
def test_there_and_back(random_volumes: SearchStrategy[Volume], data: DataObject, low: float, high: float) -> None:
    volume = data.draw(random_volumes)
    step = Percentiles(low, high)
    result, undo = step.forward(volume)
    plain = json.loads(json.dumps(undo))
    assert plain == undo
    back = step.inverse(result, plain)
    np.testing.assert_allclose(back.array, volume.array, rtol=0, atol=1e-6 * 1000)
    assert back.affine.tobytes() == volume.affine.tobytes()


def test_nothing_is_clipped() -> None:
    array = noise().array.copy()
    array.flat[:3] = 9000
    result, undo = Percentiles().forward(volume_of(array))
    assert result.array.max() > 10
    assert result.array.min() < -1
    assert undo["lossy"] is False


def test_padding_counts() -> None:
    array = np.pad(noise(500, 900).array, 8)
    _, undo = Percentiles().forward(volume_of(array))
    assert undo["low"] == 0
    assert undo["high"] == pytest.approx(np.percentile(array, 99.5), rel=1e-6)
    assert undo["high"] < np.percentile(array[array > 0], 99.5)


def test_with_a_scale_the_way_back_ends_in_another_unit_and_clips() -> None:
    step = Percentiles()
    _, undo = step.forward(noise())
    network = volume_of([[[-3, -1, 0, 0.5, 1, 7]]])
    back = step.inverse(network, {**undo, "scale": 4000.0})
    np.testing.assert_allclose(back.array, [[[0, 0, 2000, 3000, 4000, 4000]]], rtol=1e-6)
    own = step.inverse(network, undo)
    assert own.array.max() > undo["high"]


def test_the_input_is_left_alone() -> None:
    volume = noise()
    before = volume.array.copy()
    result, undo = Percentiles().forward(volume)
    kept = result.array.copy()
    Percentiles().inverse(result, undo)
    Percentiles().inverse(result, {**undo, "scale": 1.0})
    np.testing.assert_array_equal(volume.array, before)
    np.testing.assert_array_equal(result.array, kept)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 8)),
        np.full((8, 8, 8), 512.0),
        np.full((8, 8, 8), 1e30) + np.linspace(0, 1, 512).reshape(8, 8, 8),
        np.linspace(0, 1e-35, 512).reshape(8, 8, 8),
        np.pad(np.full((4, 4, 4), 100.0), 16),
    ],
    ids=["nothing", "constant", "constant but for rounding", "next to nothing", "tiny in its padding"],
)
def test_a_volume_whose_percentiles_coincide_is_refused(array: object) -> None:
    with pytest.raises(InputError, match=r"nearly constant: on a grid of .* percentiles 0\.5 and 99\.5 coincide"):
        Percentiles().forward(volume_of(array))


def test_a_single_absurd_value_is_refused_before_a_network_sees_it() -> None:
    array = noise().array.copy()
    array[3, 3, 3] = 1e30
    with pytest.raises(InputError, match=r"lie 1e\+27 times as far out"):
        Percentiles().forward(volume_of(array))


@pytest.mark.parametrize(
    ("low", "high"), [(50, 50), (99.5, 0.5), (-1, 99), (1, 101), (float("nan"), 99), (1, float("inf")), (False, True)]
)
def test_percentiles_that_make_no_scale_are_refused(low: float, high: float) -> None:
    with pytest.raises(ModelError, match="within 0 to 100"):
        Percentiles(low, high)
