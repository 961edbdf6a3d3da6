"""All steps together, as data, there and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from imputer.errors import ModelError
from imputer.io.dispatch import load
from imputer.modality import Modality
from imputer.preprocess.box import Box
from imputer.preprocess.intensity import Intensity
from imputer.preprocess.orient import Orient
from imputer.preprocess.recipe import Recipe, default_recipe, released_recipe
from imputer.preprocess.slices import Slices
from imputer.volume import Volume

REAL = Path(__file__).resolve().parents[3] / "shared/data/open_ms/native/patient04/study1_T1W.nii.gz"
LOSSLESS = Recipe((Orient(), Intensity("percentile", white=1, percentile=100), Box(8, margin=30), Slices()))


@settings(deadline=None)
@given(data=st.data())
def test_without_resampling_and_clipping_the_voxels_come_back(
    random_volumes: SearchStrategy[Volume], data: DataObject
) -> None:
    volume = data.draw(random_volumes)
    stack, undo = LOSSLESS.forward(volume)
    back = LOSSLESS.inverse(stack, json.loads(json.dumps(undo)), volume, scale=None)
    assert not any(record.get("lossy") for record in undo)
    np.testing.assert_allclose(back.array / 1000, volume.array / 1000, atol=1e-5)
    assert back.affine.tobytes() == volume.affine.tobytes()


@settings(deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("recipe", [default_recipe(0.9, 4.0, 32), released_recipe()], ids=["default", "released"])
def test_the_grid_comes_back(random_volumes: SearchStrategy[Volume], recipe: Recipe, data: DataObject) -> None:
    volume = data.draw(random_volumes)
    stack, undo = recipe.forward(volume)
    assert stack.dtype == np.float32
    assert stack.ndim == 4
    assert stack.shape[1] == 1
    assert stack.shape[2] % 32 == stack.shape[3] % 32 == 0
    assert -1 <= stack.min() <= stack.max() <= 1
    plain = json.loads(json.dumps(undo))
    assert plain == undo
    back = recipe.inverse(stack, plain, volume, scale=None)
    assert back.shape == volume.shape
    assert back.affine.tobytes() == volume.affine.tobytes()
    assert np.isfinite(back.array).all()


def test_another_scale_changes_the_unit_only() -> None:
    array = np.random.default_rng(0).uniform(100, 900, (20, 21, 5)).astype(np.float32)
    volume = Volume(array, np.diag([0.6, 0.7, 4, 1]), Modality.T1)
    recipe = default_recipe()
    stack, undo = recipe.forward(volume)
    own = recipe.inverse(stack, undo, volume, scale=None)
    white = recipe.inverse(stack, undo, volume, scale=1.0)
    np.testing.assert_allclose(white.array * undo[2]["scale"], own.array, rtol=1e-4)
    assert own.modality is None
    assert own.origin is volume.origin


def test_a_brighter_stack_gives_a_brighter_volume_and_background_gives_zero() -> None:
    volume = Volume(np.random.default_rng(0).uniform(100, 900, (40, 40, 5)).astype(np.float32), np.eye(4))
    recipe = default_recipe()
    stack, undo = recipe.forward(volume)
    assert (recipe.inverse(np.full_like(stack, -1), undo, volume, scale=250.0).array == 0).all()
    np.testing.assert_allclose(recipe.inverse(np.full_like(stack, 1), undo, volume, scale=250.0).array, 250, rtol=1e-5)


@pytest.mark.parametrize("recipe", [default_recipe(0.8, 3.5, 16), released_recipe(), LOSSLESS])
def test_a_recipe_is_data(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_what_the_released_checkpoints_take() -> None:
    array = np.random.default_rng(0).uniform(0, 900, (181, 217, 3)).astype(np.float32)
    stack, undo = released_recipe().forward(Volume(array, np.diag([-1, -1, 1, 1])))
    assert stack.shape == (3, 1, 256, 256)
    assert undo[1]["scale"] == pytest.approx(np.percentile(array[array > 0], 99.9))
    assert (stack[:, :, :19] == -1).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"step": "sharpen"}, {"step": "slices"}], "unknown step 'sharpen'"),
        ([{"codes": "LPS"}, {"step": "slices"}], "unknown step None"),
        ([{"step": "box", "colour": 3}, {"step": "slices"}], "do not fit"),
        ([{"step": "box", "size": 256}, {"step": "slices"}], "do not fit"),
        ([{"step": "orient"}], "ends with the step slices"),
        ([{"step": "slices"}, {"step": "orient"}], "ends with the step slices"),
        ([], "ends with the step slices"),
    ],
)
def test_what_is_no_recipe(data: list[dict[str, object]], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Recipe.from_json(data)


def test_records_of_another_recipe_are_refused() -> None:
    volume = Volume(np.ones((8, 8, 2), np.float32), np.eye(4))
    stack, undo = default_recipe().forward(volume)
    with pytest.raises(ValueError, match="records do not fit"):
        default_recipe().inverse(stack, undo[1:], volume, scale=None)


@pytest.mark.skipif(not REAL.is_file(), reason="needs ../shared/data/open_ms, which a clone does not have")
@pytest.mark.parametrize("pixel_mm", [0.91, 0.7])
def test_a_clinical_volume_there_and_back(pixel_mm: float) -> None:
    volume = load(REAL)
    recipe = default_recipe(pixel_mm, white=4.0)
    stack, undo = recipe.forward(volume)
    assert undo[1]["done"] is (pixel_mm == 0.7)
    assert stack[24, 0].mean() > stack[24, 0, :4].mean()  # the head is in the middle, not at the edge
    back = recipe.inverse(stack, json.loads(json.dumps(undo)), volume, scale=None)
    assert back.affine.tobytes() == volume.affine.tobytes()
    difference = back.array - np.clip(volume.array, 0, undo[2]["scale"])
    assert np.sqrt(np.mean(np.square(difference))) < 0.02 * undo[2]["scale"]
