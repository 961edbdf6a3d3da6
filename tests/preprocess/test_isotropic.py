"""The voxel size of a model in 3-D, and back on the former grid."""

import json
import math
from typing import Any, cast

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy
from numpy.typing import NDArray

from imputer.errors import InputError, ModelError
from imputer.preprocess.isotropic import Isotropic
from imputer.preprocess.resample import FWHM_OF_SIGMA
from imputer.volume import Volume


def centre(volume: Volume) -> NDArray[np.float64]:
    """In mm."""
    return np.asarray(volume.affine[:3, :3] @ ((np.array(volume.shape) - 1) / 2) + volume.affine[:3, 3])


def ramp(shape: tuple[int, ...], affine: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values that grow by `slope` per mm along x, y and z, on the voxels of a grid."""
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    return np.asarray(places @ slope)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), mm=st.floats(1.2, 5))
def test_the_grid_comes_back_exactly(random_volumes: SearchStrategy[Volume], data: DataObject, mm: float) -> None:
    volume = data.draw(random_volumes)
    step = Isotropic(mm)
    result, undo = step.forward(volume)
    plain = json.loads(json.dumps(undo))
    assert plain == undo
    back = step.inverse(result, plain)
    assert back.shape == volume.shape
    assert back.affine.tobytes() == volume.affine.tobytes()
    if undo["done"]:
        np.testing.assert_allclose(result.spacing, (mm, mm, mm), rtol=1e-12)
        np.testing.assert_allclose(centre(result), centre(volume), atol=1e-9)
        extents, before = (np.array(v.shape) * v.spacing for v in (result, volume))
        assert (np.abs(extents - before) <= np.maximum(mm / 2, mm - before) + 1e-9).all()
        # Interpolation stays within the values, on both ways.
        assert volume.array.min() - 1e-2 <= result.array.min()
        assert result.array.max() <= volume.array.max() + 1e-2
        assert result.array.min() <= back.array.min()
        assert back.array.max() <= result.array.max()


@settings(deadline=None, max_examples=30)
@given(data=st.data(), mm=st.floats(0.6, 2))
def test_a_place_in_space_keeps_its_value(
    random_affines: SearchStrategy[NDArray[np.float64]], data: DataObject, mm: float
) -> None:
    affine = data.draw(random_affines)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    affine[:3, :3] *= np.array([data.draw(st.floats(0.601, 3)) for _ in range(3)]) / spacing
    shape = tuple(data.draw(st.integers(20, 28)) for _ in range(3))
    slope = np.array([data.draw(st.floats(-5, 5)) for _ in range(3)])
    volume = Volume(ramp(shape, affine, slope).astype(np.float32), affine)
    result, undo = Isotropic(mm, tolerance=0).forward(volume)
    # Where the Gaussian, or an interpolation, reaches over the edge of the grid, the ramp ends: look further inside.
    reach = [math.ceil(4 * math.sqrt(max(ratio**2 - 1, 0)) / FWHM_OF_SIGMA) + 1 for ratio in undo["ratios"]]
    inside = [
        (old >= far) & (old <= size - 1 - far)
        for old, far, size in zip(
            (
                offset + ratio * np.arange(n)
                for offset, ratio, n in zip(undo["offsets"], undo["ratios"], result.shape, strict=True)
            ),
            reach,
            shape,
            strict=True,
        )
    ]
    assert all(part.any() for part in inside)
    expected = ramp(result.shape, result.affine, slope)
    tolerance = 1e-5 * max(1.0, float(np.abs(volume.array).max()))
    np.testing.assert_allclose(result.array[np.ix_(*inside)], expected[np.ix_(*inside)], atol=tolerance)


def in_three_dimensions(
    array: NDArray[np.float32], method: int, size: list[int], starts: list[float], steps: list[float]
) -> NDArray[np.float32]:
    """What ITK makes of the whole volume at once, at the indices start + n * step along each axis."""
    image = sitk.GetImageFromArray(array.T)
    variances = [max(step**2 - 1, 0) / FWHM_OF_SIGMA**2 for step in steps]
    if method == sitk.sitkLinear and max(variances) > 0:
        image = sitk.DiscreteGaussian(image, variances, 2 * math.ceil(4 * math.sqrt(max(variances))) + 3, 0.001, False)
    identity = [float(value) for value in np.eye(3).ravel()]
    transform = cast(Any, sitk).Transform(3, sitk.sitkIdentity)
    grid = sitk.Resample(image, size, transform, method, starts, steps, identity, 0.0, sitk.sitkFloat32, True)
    return np.asarray(sitk.GetArrayFromImage(grid).T)


@pytest.mark.parametrize("spacing", [(0.6, 1.3, 2.5), (1, 1, 5), (0.9, 0.45, 0.45)])
def test_plane_by_plane_is_the_same_as_all_at_once(spacing: tuple[float, float, float]) -> None:
    volume = Volume(
        np.random.default_rng(0).uniform(0, 100, (23, 18, 13)).astype(np.float32), np.diag([*map(float, spacing), 1])
    )
    step = Isotropic(1.0)
    result, undo = step.forward(volume)
    ratios, offsets = undo["ratios"], undo["offsets"]
    whole = in_three_dimensions(volume.array, sitk.sitkLinear, list(result.shape), offsets, ratios)
    np.testing.assert_allclose(result.array, whole, atol=1e-3)
    starts = [-offset / ratio for offset, ratio in zip(offsets, ratios, strict=True)]
    steps = [1 / ratio for ratio in ratios]
    back = in_three_dimensions(result.array, sitk.sitkBSpline, list(volume.shape), starts, steps)
    within = np.clip(back, result.array.min(), result.array.max())
    np.testing.assert_allclose(step.inverse(result, undo).array, within, atol=1e-2)


def test_nothing_is_done_within_the_tolerance() -> None:
    volume = Volume(np.random.default_rng(0).random((5, 6, 7), np.float32), np.diag([-0.99, 1.0, 1.015, 1]))
    result, undo = Isotropic().forward(volume)
    assert undo == {"done": False, "lossy": False}
    assert result is volume
    assert Isotropic().inverse(result, undo) is volume
    assert Isotropic(tolerance=0.01).forward(volume)[1]["done"] is True


def test_thick_slices_come_back_where_they_were() -> None:
    array = np.random.default_rng(0).uniform(0, 100, (20, 20, 9)).astype(np.float32)
    volume = Volume(array, np.diag([1.0, 1, 5, 1]))
    step = Isotropic()
    result, undo = step.forward(volume)
    assert result.shape == (20, 20, 45)
    np.testing.assert_allclose(result.array[:, :, 2::5], array, atol=1e-3)
    np.testing.assert_allclose(step.inverse(result, undo).array, array, atol=1e-2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shrinking_does_not_alias(axis: int) -> None:
    # A chequered pattern of the finest kind; every third voxel alone would show it again, at full contrast.
    pattern = (np.indices((30, 30, 30)).sum(axis=0) % 2).astype(np.float32)
    spacing = np.ones(4)
    spacing[axis] = 0.33
    result, _ = Isotropic().forward(Volume(pattern, np.diag(spacing)))
    assert result.shape[axis] == 10
    inner = tuple(slice(2, -2) for _ in range(3))
    assert result.array[inner].std() < 0.05  # of 0.5
    np.testing.assert_allclose(result.array[inner].mean(), 0.5, atol=0.01)


@pytest.mark.parametrize("spacing", [(1000, 1000, 1000), (40, 40, 40), (1e100, 1, 1)])
def test_an_affine_in_a_wrong_unit_is_refused_before_memory_is_taken(spacing: tuple[float, float, float]) -> None:
    volume = Volume(np.ones((40, 40, 40), np.float32), np.diag([*spacing, 1]))
    with pytest.raises(InputError, match="mm across"):
        Isotropic().forward(volume)


@pytest.mark.parametrize(
    "wrong", [{"mm": 0}, {"mm": -1}, {"mm": float("nan")}, {"mm": 10**400}, {"mm": "1"}, {"tolerance": -0.1}]
)
def test_a_voxel_size_that_no_model_has_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="pixel size of a model"):
        Isotropic(**wrong)
