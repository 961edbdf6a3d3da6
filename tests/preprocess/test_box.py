"""Crop and pad, exactly."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from imputer.errors import ModelError
from imputer.preprocess.box import Box
from imputer.volume import Volume


def scaled(volume: Volume) -> Volume:
    return volume.with_array(volume.array / 500 - 1)


@settings(deadline=None)
@given(data=st.data(), multiple=st.sampled_from([1, 2, 8, 32]), margin=st.integers(21, 30))
def test_there_and_back_bit_by_bit_where_all_is_kept(
    random_volumes: SearchStrategy[Volume], data: DataObject, multiple: int, margin: int
) -> None:
    volume = scaled(data.draw(random_volumes))
    step = Box(multiple, margin)
    result, undo = step.forward(volume)
    assert all(size % multiple == 0 for size in result.shape[:2])
    assert result.shape[2] == volume.shape[2]
    assert undo["lossy"] is False
    back = step.inverse(result, json.loads(json.dumps(undo)))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.affine.tobytes() == volume.affine.tobytes()


@settings(deadline=None)
@given(data=st.data(), size=st.none() | st.tuples(st.integers(1, 33), st.integers(1, 33)))
def test_every_voxel_of_the_box_is_at_its_place(
    random_volumes: SearchStrategy[Volume], data: DataObject, size: tuple[int, int] | None
) -> None:
    volume = scaled(data.draw(random_volumes))
    result, undo = Box(8, 2, size).forward(volume)
    if size is not None:
        assert result.shape[:2] == (size[1], size[0])
    to_source = np.linalg.inv(volume.affine) @ result.affine
    index = tuple(data.draw(st.integers(0, length - 1)) for length in result.shape)
    before = np.rint((to_source @ [*index, 1])[:3]).astype(int)
    np.testing.assert_allclose((to_source @ [*index, 1])[:3], before, atol=1e-6)
    inside = all(0 <= place < length for place, length in zip(before, volume.shape, strict=True))
    assert result.array[index] == (volume.array[tuple(before)] if inside else -1)
    back = Box(8, 2, size).inverse(result, undo)
    assert set(np.unique(back.array[back.array != volume.array])) <= {-1.0}


def head_at(first: tuple[int, int], last: tuple[int, int], shape: tuple[int, int, int] = (100, 80, 3)) -> Volume:
    array = np.full(shape, -1, np.float32)
    array[first[0] : last[0] + 1, first[1] : last[1] + 1, 1] = 0.3
    return Volume(array, np.eye(4))


def test_the_box_lies_round_the_head_with_its_margin() -> None:
    result, undo = Box(multiple=8, margin=4).forward(head_at((40, 30), (59, 45)))
    assert result.shape == (32, 24, 3)  # 20 + 8 and 16 + 8, rounded up
    assert undo["start"] == [34, 26]
    assert undo["lossy"] is False


def test_the_margin_ends_where_the_volume_ends() -> None:
    result, undo = Box(multiple=4, margin=8).forward(head_at((0, 0), (99, 79)))
    assert result.shape == (100, 80, 3)
    assert undo["start"] == [0, 0]


def test_nothing_is_padded_while_the_volume_is_large_enough() -> None:
    result, undo = Box(multiple=32, margin=0).forward(head_at((0, 70), (9, 79)))
    assert result.shape == (32, 32, 3)
    assert undo["start"] == [0, 48]


def test_faint_noise_is_background() -> None:
    volume = head_at((40, 30), (59, 45))
    array = volume.array.copy()
    array[0, 0, 0] = -0.95
    assert Box(8, 4).forward(volume.with_array(array))[0].shape == (32, 24, 3)


def test_an_empty_volume_gives_a_box_round_everything() -> None:
    result, _ = Box(32, 8).forward(Volume(np.full((33, 7, 2), -1, np.float32), np.eye(4)))
    assert result.shape == (64, 32, 2)
    assert (result.array == -1).all()


@pytest.mark.parametrize("shape", [(255, 257, 2), (401, 307, 2), (33, 256, 2), (1, 2, 1)])
def test_a_fixed_size_is_centred_and_comes_back(shape: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    step = Box(size=(256, 256))
    result, undo = step.forward(Volume(array, np.eye(4)))
    assert result.shape == (256, 256, shape[2])
    middles = (np.array(result.shape[:2]) - 1) / 2 + undo["start"]
    assert np.abs(middles - (np.array(shape[:2]) - 1) / 2).max() <= 0.5
    back = step.inverse(result, undo).array
    kept = back != -1
    np.testing.assert_array_equal(back[kept], array[kept])
    assert kept.sum() == min(shape[0], 256) * min(shape[1], 256) * shape[2]
    assert undo["lossy"] is (max(shape) > 256)


def test_sizes_that_make_no_box_are_refused() -> None:
    for wrong in ({"multiple": 0}, {"margin": -1}, {"size": (0, 256)}):
        with pytest.raises(ModelError, match="above 0"):
            Box(**wrong)  # type: ignore[arg-type]
