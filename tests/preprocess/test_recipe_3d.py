"""Recipes of whole volumes: there and back, as data, and as the ALDM authors have it."""

import json
import math
import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy
from numpy.typing import NDArray

from imputer.errors import InputError, ModelError
from imputer.io.dispatch import load
from imputer.modality import Modality
from imputer.preprocess.box import Box
from imputer.preprocess.box3d import Box3d
from imputer.preprocess.intensity import Intensity
from imputer.preprocess.isotropic import Isotropic
from imputer.preprocess.orient import Orient
from imputer.preprocess.percentiles import Percentiles
from imputer.preprocess.recipe import Recipe, aldm_recipe, aldm_released_recipe, default_recipe
from imputer.preprocess.resample import Resample
from imputer.preprocess.slices import Slices
from imputer.preprocess.step import Step
from imputer.preprocess.whole import Whole
from imputer.volume import Volume

REAL = Path(__file__).resolve().parents[3] / "shared/data/open_ms/native/patient04/study1_T1W.nii.gz"
EXACT = Recipe((Orient("RAS"), Box3d(16, least=(32, 16, 48)), Whole()))
BY_PERCENTILES = Recipe((Orient("RAS"), Isotropic(2.0), Box3d(16, least=(32, 48, 32)), Percentiles(0, 100), Whole()))
STEPS: dict[str, type] = {
    "orient": Orient,
    "resample": Resample,
    "isotropic": Isotropic,
    "intensity": Intensity,
    "percentiles": Percentiles,
    "box": Box,
    "box3d": Box3d,
}


@settings(deadline=None)
@given(data=st.data())
def test_without_resampling_every_voxel_comes_back_bit_by_bit(
    random_volumes: SearchStrategy[Volume], data: DataObject
) -> None:
    volume = data.draw(random_volumes)
    stack, undo = EXACT.forward(volume)
    back = EXACT.inverse(stack, json.loads(json.dumps(undo)), volume)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.affine.tobytes() == volume.affine.tobytes()
    assert not any(record.get("lossy") for record in undo)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("recipe", [aldm_recipe(2.0), BY_PERCENTILES], ids=["own", "percentiles"])
def test_the_grid_comes_back(random_volumes: SearchStrategy[Volume], recipe: Recipe, data: DataObject) -> None:
    volume = data.draw(random_volumes)
    stack, undo = recipe.forward(volume)
    assert stack.dtype == np.float32
    assert stack.shape[:2] == (1, 1)
    assert all(size % 16 == 0 for size in stack.shape[2:])
    assert stack.flags.c_contiguous
    assert -1 - 1e-6 <= stack.min() <= stack.max() <= 1 + 1e-6
    plain = json.loads(json.dumps(undo))
    assert plain == undo
    back = recipe.inverse(stack, plain, volume, scale=250.0)
    assert back.shape == volume.shape
    assert back.affine.tobytes() == volume.affine.tobytes()
    assert np.isfinite(back.array).all()
    assert -1e-3 <= back.array.min() <= back.array.max() <= 250.001


def pyramid(shape: tuple[int, int, int], affine: NDArray[np.float64], slope: NDArray[np.float64]) -> Volume:
    """Values that grow by `slope` per mm, from 1 on, in a frame of zeros that is three voxels wide."""
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T @ slope
    inner = (slice(3, -3),) * 3
    array = np.zeros(shape, np.float32)
    array[inner] = (places - places.min() + 1)[inner]
    return Volume(array, affine)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), slope=st.tuples(*[st.floats(-3, 3)] * 3))
def test_a_place_in_space_keeps_its_value_through_all_steps(
    random_affines: SearchStrategy[NDArray[np.float64]], data: DataObject, slope: tuple[float, float, float]
) -> None:
    affine = data.draw(random_affines)
    affine[:3, :3] *= np.array([data.draw(st.floats(1, 3)) for _ in range(3)]) / np.linalg.norm(affine[:3, :3], axis=0)
    shape = (data.draw(st.integers(14, 22)), data.draw(st.integers(14, 22)), data.draw(st.integers(14, 22)))
    source = volume = pyramid(shape, affine, np.array(slope))
    for step in (Orient("RAS"), Isotropic(1.0), Box3d(16, least=(48, 16, 32)), Whole()):
        if isinstance(step, Whole):
            stack, _ = step.forward(volume)
        else:
            volume, _ = step.forward(volume)
    # Back to the indices of the source by the affines alone, where all eight neighbours lie on the slope.
    indices = np.indices(volume.shape).reshape(3, -1)
    before = np.linalg.inv(source.affine) @ volume.affine @ np.vstack([indices, np.ones(indices.shape[1])])
    sizes = np.array(shape)[:, np.newaxis]
    inside = ((before[:3] >= 3) & (before[:3] <= sizes - 4)).all(axis=0)
    assert inside.any()
    first = source.array[3, 3, 3] - 3 * (affine[:3, :3] @ np.ones(3)) @ np.array(slope)
    expected = first + np.array(slope) @ affine[:3, :3] @ before[:3, inside]
    np.testing.assert_allclose(stack[0, 0].reshape(-1)[inside], expected, atol=1e-2)


def test_the_axes_of_the_block_are_right_front_and_top() -> None:
    array = np.ones((16, 32, 48), np.float32)
    array[2, 3, 4] = 9  # in LPS: 2 from the right, 3 from the front, 4 from the bottom
    stack, _ = EXACT.forward(Volume(array, np.diag([-1.0, -1, 1, 1])))
    assert np.argwhere(stack[0, 0] == 9).tolist() == [[8 + 16 - 1 - 2, 32 - 1 - 3, 4]]


def as_the_authors_do(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """An array (I, J, K) in RAS at 1 mm: box of what is above 0, padded evenly to 144 x 192 x 144, percentiles."""
    places = np.argwhere(array > 0)
    box = tuple(slice(first, last + 1) for first, last in zip(places.min(axis=0), places.max(axis=0), strict=True))
    missing = [wanted - size for wanted, size in zip((144, 192, 144), array[box].shape, strict=True)]
    padded = np.pad(array[box].astype(np.float64), [(each // 2, each - each // 2) for each in missing])
    low, high = np.percentile(padded, [0.5, 99.5])
    return np.asarray((padded - low) / (high - low) * 2 - 1)


@pytest.mark.parametrize("size", [(120, 140, 110), (133, 171, 141), (144, 192, 144)])
def test_what_the_released_checkpoints_take(size: tuple[int, int, int]) -> None:
    array = np.zeros((182, 218, 182), np.float32)
    block = tuple(slice(start, start + length) for start, length in zip((20, 11, 9), size, strict=True))
    array[block] = np.random.default_rng(0).uniform(1, 900, size)
    affine = np.diag([-1.0, 1, 1, 1])
    stack, undo = aldm_released_recipe().forward(Volume(array[::-1], affine))
    assert stack.shape == (1, 1, 144, 192, 144)
    np.testing.assert_allclose(stack[0, 0], as_the_authors_do(array), atol=1e-5)
    assert undo[2]["outside"] == array.size - math.prod(
        min(last, 182 + 36 * (axis == 1)) - max(first, 0)
        for axis, (first, last) in enumerate(
            (start, start + length) for start, length in zip(undo[2]["start"], (144, 192, 144), strict=True)
        )
    )


def test_a_larger_head_is_not_cut_as_the_authors_do() -> None:
    array = np.random.default_rng(0).uniform(1, 900, (150, 200, 130)).astype(np.float32)
    stack, undo = aldm_released_recipe().forward(Volume(array, np.eye(4)))
    assert stack.shape == (1, 1, 160, 208, 144)
    assert undo[2]["outside"] == 0


def test_another_scale_changes_the_unit_only() -> None:
    array = np.random.default_rng(0).uniform(100, 900, (40, 41, 15)).astype(np.float32)
    volume = Volume(array, np.diag([0.8, 0.7, 3, 1]), Modality.T1)
    recipe = aldm_recipe()
    stack, undo = recipe.forward(volume)
    own = recipe.inverse(stack, undo, volume)
    white = recipe.inverse(stack, undo, volume, scale=1.0)
    np.testing.assert_allclose(white.array * undo[2]["scale"], own.array, rtol=1e-4, atol=1e-2)
    assert own.modality is None
    assert own.origin is volume.origin


@pytest.mark.parametrize("recipe", [aldm_recipe(), BY_PERCENTILES], ids=["own", "percentiles"])
def test_background_gives_zero_and_white_the_scale_within_the_box(recipe: Recipe) -> None:
    array = np.zeros((60, 50, 40), np.float32)
    array[10:30, 12:34, 8:30] = np.random.default_rng(0).uniform(100, 900, (20, 22, 22))
    volume = Volume(array, np.eye(4))
    stack, undo = recipe.forward(volume)
    assert (
        recipe.inverse(np.full_like(stack, -5 if recipe is BY_PERCENTILES else -1), undo, volume, scale=250).array == 0
    ).all()
    white = recipe.inverse(np.full_like(stack, 1), undo, volume, scale=250.0).array
    np.testing.assert_allclose(white[12:28, 14:32, 10:28], 250, rtol=1e-5)
    assert undo[[type(step) for step in recipe.steps].index(Box3d)]["outside"] > 0


def test_a_volume_without_contrast_is_refused_in_one_sentence() -> None:
    flat = Volume(np.full((144, 192, 144), 500, np.float32), np.eye(4))
    with pytest.raises(InputError, match="nearly constant"):
        aldm_released_recipe().forward(flat)
    for recipe in (aldm_recipe(), aldm_released_recipe()):
        with pytest.raises(InputError, match="no voxel above 0"):
            recipe.forward(Volume(np.zeros((20, 20, 20), np.float32), np.eye(4)))


def peak_of(recipe: Recipe, volume: Volume) -> tuple[float, float]:
    """Most that the way forth and the way back hold at once, results included, as a multiple of the volume."""
    tracemalloc.start()
    try:
        stack, undo = recipe.forward(volume)
        forth = tracemalloc.get_traced_memory()[1]
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        recipe.inverse(stack, undo, volume, scale=1000.0)
        back = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return forth / volume.array.nbytes, back / volume.array.nbytes


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.0, 1.2)], ids=["as it is", "resampled"])
@pytest.mark.parametrize(
    "recipe", [aldm_recipe(), Recipe((*BY_PERCENTILES.steps[:1], Isotropic(), *BY_PERCENTILES.steps[2:]))]
)
def test_memory_for_three_volumes_is_enough(recipe: Recipe, spacing: tuple[float, float, float]) -> None:
    array = np.random.default_rng(0).uniform(100, 900, (96, 96, 96)).astype(np.float32)
    forth, back = peak_of(recipe, Volume(array, np.diag([-spacing[0], -spacing[1], spacing[2], 1])))
    assert forth < 3.1  # once in order, once before and once after a step
    assert back < 3.1


@pytest.mark.parametrize("recipe", [aldm_recipe(1.5, 3.5, 32, 7), aldm_released_recipe(), BY_PERCENTILES])
def test_a_recipe_is_data(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"step": "isotropic"}], "ends with the step slices or the step whole"),
        ([{"step": "whole"}, {"step": "box3d"}], "ends with the step slices or the step whole"),
        ([{"step": "slices"}, {"step": "whole"}], "none of them before"),
        ([{"step": "whole"}, {"step": "whole"}], "none of them before"),
        ([{"step": "whole", "axis": 1}], "do not fit"),
        ([{"step": "box3d", "least": 16}, {"step": "whole"}], "do not fit"),
        ([{"step": "box3d", "least": [16, 16]}, {"step": "whole"}], "do not fit"),
        ([{"step": "box3d", "least": [16, 16, 16, 16]}, {"step": "whole"}], "do not fit"),
        ([{"step": "box3d", "least": [10**9] * 3}, {"step": "whole"}], "whole numbers up to 512"),
        ([{"step": "isotropic", "mm": 1e-9}, {"step": "whole"}], "pixel size of a model"),
        ([{"step": "percentiles", "low": [0.5]}, {"step": "whole"}], "within 0 to 100"),
        ([["step", "whole"]], "unknown step"),
        ([{"step": ["whole"]}], "unknown step"),
        ([{"step": "a" * 10**6}], "unknown step 'a{59}\\.\\.\\."),
        ({"step": "whole"}, "a list of steps"),
        (None, "a list of steps"),
        ("whole", "a list of steps"),
    ],
)
def test_what_is_no_recipe(steps: object, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Recipe.from_json(steps)


JSON = st.recursive(
    st.sampled_from([0.5, 1, 2.5, 16, 99.5, "RAS", "percentile", [16, 16], [16, 32, 16]])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), name=st.sampled_from(sorted(STEPS)))
def test_settings_of_any_kind_make_a_step_or_a_model_error(data: DataObject, name: str) -> None:
    names = [field.name for field in fields(STEPS[name])]
    given_ = data.draw(st.dictionaries(st.sampled_from(names), JSON, min_size=1))
    try:
        recipe = Recipe.from_json([{**given_, "step": name}, {"step": "whole"}])
    except ModelError as error:
        message = str(error)
    else:
        message = ""
        step = recipe.steps[0]
        assert not isinstance(step, Slices | Whole)
        there_and_back(step, Volume(np.linspace(1, 900, 210, dtype=np.float32).reshape(5, 6, 7), np.eye(4)))
    assert len(message) < 300


def there_and_back(step: Step, volume: Volume) -> None:
    try:
        result, undo = step.forward(volume)
    except InputError:
        return
    assert step.inverse(result, json.loads(json.dumps(undo))).shape == volume.shape


def test_a_recipe_in_slices_is_as_it_was() -> None:
    assert [step["step"] for step in default_recipe().to_json()] == ["orient", "resample", "intensity", "box", "slices"]


@pytest.mark.skipif(not REAL.is_file(), reason="needs ../shared/data/open_ms, which a clone does not have")
@pytest.mark.parametrize("recipe", [aldm_recipe(), aldm_released_recipe()], ids=["own", "released"])
def test_a_clinical_volume_there_and_back(recipe: Recipe) -> None:
    volume = load(REAL)
    stack, undo = recipe.forward(volume)
    middle = [size // 2 for size in stack.shape[2:]]
    assert stack[0, 0, middle[0], middle[1], middle[2]] > stack[0, 0, 0, 0, 0]  # the head, and a corner
    back = recipe.inverse(stack, json.loads(json.dumps(undo)), volume)
    assert back.affine.tobytes() == volume.affine.tobytes()
    white = undo[2]["scale"] if "scale" in undo[2] else undo[3]["high"]
    difference = back.array - np.clip(volume.array, 0, undo[2].get("scale"))
    assert np.sqrt(np.mean(np.square(difference))) < 0.03 * white
