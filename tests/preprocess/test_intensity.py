"""One scale for a volume, and back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imputer.errors import InputError, ModelError
from imputer.preprocess.intensity import Intensity, Scale
from imputer.volume import Volume


def volume_of(array: object) -> Volume:
    return Volume(np.asarray(array, np.float32), np.eye(4))


def head(seed: int = 0) -> np.ndarray:
    """Half air (0 to 10), half tissue (300 to 900)."""
    rng = np.random.default_rng(seed)
    return np.asarray(np.concatenate([rng.uniform(0, 10, (8, 9, 5)), rng.uniform(300, 900, (8, 9, 5))]))


def test_the_mean_is_that_of_the_tissue_whatever_the_share_of_air() -> None:
    tissue = head()[8:].astype(np.float32)
    for air in (0, 4, 20):
        array = np.concatenate([np.zeros((air, 9, 5), np.float32), tissue])
        _, undo = Intensity().forward(volume_of(array))
        assert undo["g"] == pytest.approx(float(tissue.mean()), rel=1e-6)


@pytest.mark.parametrize(("dark", "expected"), [(100, 550), (75, 537.5), (65, 1000), (10, 1000)])
def test_what_counts_as_air_is_an_eighth_of_the_mean(dark: float, expected: float) -> None:
    array = np.concatenate([np.full((4, 5, 5), dark), np.full((4, 5, 5), 1000)])
    assert Intensity().forward(volume_of(array))[1]["g"] == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["global_mean", "volume_mean", "percentile"])
def test_the_formula(scale: Scale) -> None:
    array = head().astype(np.float32).astype(np.float64)
    expected = {
        "global_mean": array[array > array.mean() / 8].mean(),
        "volume_mean": array.mean(),
        "percentile": np.percentile(array[array > 0], 60),
    }[scale]
    result, undo = Intensity(scale, white=1.5, percentile=60).forward(volume_of(array))
    assert undo["g"] == pytest.approx(expected, rel=1e-6)
    assert undo["scale"] == pytest.approx(1.5 * expected, rel=1e-6)
    np.testing.assert_allclose(result.array, np.clip(array / (1.5 * expected), 0, 1) * 2 - 1, atol=1e-6)


@settings(deadline=None)
@given(factor=st.floats(1e-3, 1e6), seed=st.integers(0, 1000))
def test_there_and_back_where_nothing_is_clipped(factor: float, seed: int) -> None:
    array = head(seed) * factor
    step = Intensity(white=4)
    result, undo = step.forward(volume_of(array))
    assert undo["clipped"] == 0
    assert undo["lossy"] is False
    back = step.inverse(result, json.loads(json.dumps(undo)))
    np.testing.assert_allclose(back.array, array, rtol=0, atol=1e-6 * undo["scale"])


@settings(deadline=None)
@given(factor=st.floats(1e-3, 1e6))
def test_the_unit_of_the_scanner_does_not_matter(factor: float) -> None:
    one, _ = Intensity().forward(volume_of(head()))
    other, _ = Intensity().forward(volume_of(head() * factor))
    np.testing.assert_allclose(one.array, other.array, atol=1e-5)


def test_what_is_clipped_is_counted() -> None:
    array = np.full((2, 5, 10), 100.0)
    array[0, 0, 0], array[0, 0, 1] = -50, 5000
    result, undo = Intensity(white=2).forward(volume_of(array))
    assert undo["clipped"] == 2 / 100
    assert undo["lossy"] is True
    assert result.array[0, 0, 0] == -1
    assert result.array[0, 0, 1] == 1


def test_the_input_is_left_alone() -> None:
    volume = volume_of(head())
    before = volume.array.copy()
    result, undo = Intensity().forward(volume)
    kept = result.array.copy()
    Intensity().inverse(result, undo)
    np.testing.assert_array_equal(volume.array, before)
    np.testing.assert_array_equal(result.array, kept)


def test_a_volume_without_signal_is_refused() -> None:
    with pytest.raises(InputError, match="no voxel above 0"):
        Intensity().forward(volume_of(-head()))
    with pytest.raises(InputError, match="not above 0"):
        Intensity("volume_mean").forward(volume_of(head() - 800))


def test_settings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ModelError, match="volume_mean"):
        Intensity("mean")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="white"):
        Intensity(white=0)
