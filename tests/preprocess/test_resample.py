"""The pixel size of a model, and back on the former grid."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.preprocess.resample import Resample
from imputer.volume import Volume


def centre_of_mass(volume: Volume) -> NDArray[np.float64]:
    """In mm."""
    indices = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    weights = volume.array.astype(np.float64)
    return np.asarray(
        volume.affine[:3, :3] @ np.average(indices.reshape(-1, 3), axis=0, weights=weights.ravel())
        + volume.affine[:3, 3]
    )


def blob(
    shape: tuple[int, int, int], affine: NDArray[np.float64], *, sigma_mm: float, offset_mm: NDArray[np.float64]
) -> Volume:
    """A Gaussian of 100 beside the centre of the grid."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    places = indices @ affine[:3, :3].T
    centre = affine[:3, :3] @ (np.array(shape) - 1) / 2 + offset_mm
    distance = np.sum(np.square(places - centre), axis=-1)
    return Volume((100 * np.exp(-distance / (2 * sigma_mm**2))).astype(np.float32), affine)


@settings(deadline=None)
@given(data=st.data(), spacing=st.floats(0.4, 2))
def test_the_grid_comes_back_exactly(random_volumes: SearchStrategy[Volume], data: DataObject, spacing: float) -> None:
    volume = data.draw(random_volumes)
    step = Resample(spacing)
    result, undo = step.forward(volume)
    back = step.inverse(result, json.loads(json.dumps(undo)))
    assert back.shape == volume.shape
    assert back.affine.tobytes() == volume.affine.tobytes()
    if undo["done"]:
        np.testing.assert_allclose(result.spacing, (spacing, spacing, volume.spacing[2]), rtol=1e-12)
        middle, middle_before = (
            v.affine[:3, :3] @ (np.array(v.shape) - 1) / 2 + v.affine[:3, 3] for v in (result, volume)
        )
        np.testing.assert_allclose(middle, middle_before, atol=1e-9)
        assert result.shape[2] == volume.shape[2]
        # Interpolation stays within the values, on both ways.
        assert volume.array.min() - 1e-2 <= result.array.min()
        assert result.array.max() <= volume.array.max() + 1e-2
        assert result.array.min() <= back.array.min()
        assert back.array.max() <= result.array.max()


@settings(deadline=None, max_examples=30)
@given(data=st.data(), target=st.floats(0.6, 1.4))
def test_a_blob_stays_where_it_is(
    random_affines: SearchStrategy[NDArray[np.float64]], data: DataObject, target: float
) -> None:
    affine = data.draw(random_affines)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    wanted = [data.draw(st.floats(0.3, 2)), data.draw(st.floats(0.3, 2)), 3.0]
    affine[:3, :3] *= np.array(wanted) / spacing
    odd = data.draw(st.integers(0, 1))
    shape = (int(50 / wanted[0]) + odd, int(50 / wanted[1]), 17)
    offset = np.array([data.draw(st.floats(-2, 2)) for _ in range(3)])
    volume = blob(shape, affine, sigma_mm=5, offset_mm=offset)
    result, undo = Resample(target, tolerance=0).forward(volume)
    np.testing.assert_allclose(centre_of_mass(result), centre_of_mass(volume), atol=0.1)
    back = Resample(target, tolerance=0).inverse(result, undo)
    np.testing.assert_allclose(centre_of_mass(back), centre_of_mass(volume), atol=0.1)
    np.testing.assert_allclose(back.array, volume.array, atol=6)  # of 100; the Gaussian against aliasing blurs


def test_nothing_is_done_within_the_tolerance() -> None:
    volume = Volume(np.random.default_rng(0).random((5, 6, 7), np.float32), np.diag([0.9, 1.0, 3, 1]))
    result, undo = Resample(0.9, tolerance=0.12).forward(volume)
    assert undo["done"] is False
    assert result is volume
    assert Resample(0.9, tolerance=0.12).inverse(result, undo) is volume
    assert Resample(0.9, tolerance=0.1).forward(volume)[1]["done"] is True


def test_shrinking_does_not_alias() -> None:
    # A chequered pattern of the finest kind; every third pixel alone would show it again, at full contrast.
    pattern = (np.indices((90, 90, 3)).sum(axis=0) % 2).astype(np.float32)
    result, _ = Resample(0.9).forward(Volume(pattern, np.diag([0.3, 0.3, 3, 1])))
    assert result.shape == (30, 30, 3)
    assert result.array[2:-2, 2:-2].std() < 0.02
    np.testing.assert_allclose(result.array[2:-2, 2:-2].mean(), 0.5, atol=0.01)


def test_the_outermost_values_go_on_where_the_former_grid_is_wider() -> None:
    # 16 pixels of 0.25 mm become 4 of 0.9 mm: 4.0 and 3.6 mm wide.
    array = np.full((16, 16, 2), 100, np.float32)
    array[5:11, 5:11] = 0
    result, undo = Resample(0.9).forward(Volume(array, np.diag([0.25, 0.25, 3, 1])))
    assert result.shape == (4, 4, 2)
    back = Resample(0.9).inverse(result, undo).array
    assert min(back[0].min(), back[-1].min(), back[:, 0].min(), back[:, -1].min()) > 80


def test_slices_do_not_mix() -> None:
    array = np.zeros((20, 20, 5), np.float32)
    array[:, :, 2] = 100
    volume = Volume(array, np.diag([0.5, 0.5, 1, 1]))
    result, undo = Resample(0.9).forward(volume)
    np.testing.assert_allclose(result.array[0, 0], [0, 0, 100, 0, 0], atol=1e-3)
    np.testing.assert_allclose(Resample(0.9).inverse(result, undo).array, array, atol=1e-3)


def test_an_affine_in_a_wrong_unit_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(InputError, match="mm across"):
        Resample(0.9).forward(Volume(np.ones((64, 64, 2), np.float32), np.diag([1000, 1000, 1000, 1])))
