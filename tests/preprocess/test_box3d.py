"""Crop and pad along three axes, exactly; the anatomy stays whole."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from imputer.errors import InputError, ModelError
from imputer.preprocess.box3d import Box3d
from imputer.volume import Volume

LEASTS = st.none() | st.tuples(*[st.integers(0, 50)] * 3)


@st.composite
def heads(draw: st.DrawFn, volumes: SearchStrategy[Volume]) -> Volume:
    """A random volume of which only the voxels within a random block are above 0."""
    volume = draw(volumes)
    array = np.zeros_like(volume.array)
    block = []
    for length in volume.shape:
        first = draw(st.integers(0, length - 1))
        block.append(slice(first, draw(st.integers(first, length - 1)) + 1))
    array[tuple(block)] = volume.array[tuple(block)] + 1
    return volume.with_array(array)


@settings(deadline=None)
@given(data=st.data(), multiple=st.sampled_from([1, 2, 16, 32]), margin=st.integers(0, 9), least=LEASTS)
def test_nothing_above_the_threshold_is_cut(
    random_volumes: SearchStrategy[Volume],
    data: DataObject,
    multiple: int,
    margin: int,
    least: tuple[int, int, int] | None,
) -> None:
    volume = data.draw(heads(random_volumes))
    above = data.draw(st.sampled_from([0.0, 0.5, float(volume.array.max()) / 2]))
    step = Box3d(multiple, margin, least, above)
    result, undo = step.forward(volume)
    assert all(size % multiple == 0 for size in result.shape)
    assert all(size >= wanted for size, wanted in zip(result.shape, least or (1, 1, 1), strict=True))
    assert np.array_equal(np.sort(result.array[result.array > above]), np.sort(volume.array[volume.array > above]))
    assert undo["lossy"] is False
    plain = json.loads(json.dumps(undo))
    assert plain == undo
    back = step.inverse(result, plain)
    assert back.shape == volume.shape
    assert back.affine.tobytes() == volume.affine.tobytes()
    shown = volume.array > above
    np.testing.assert_array_equal(back.array[shown], volume.array[shown])
    assert set(np.unique(back.array[back.array != volume.array])) <= {0.0}


@settings(deadline=None)
@given(data=st.data(), margin=st.integers(21, 30), least=LEASTS)
def test_there_and_back_bit_by_bit_where_all_is_kept(
    random_volumes: SearchStrategy[Volume], data: DataObject, margin: int, least: tuple[int, int, int] | None
) -> None:
    volume = data.draw(heads(random_volumes))
    step = Box3d(16, margin, least, background=-7, above=0)
    result, undo = step.forward(volume)
    assert undo["outside"] == 0
    np.testing.assert_array_equal(step.inverse(result, undo).array, volume.array)
    assert np.count_nonzero(result.array == -7) == result.array.size - volume.array.size


@settings(deadline=None)
@given(data=st.data(), least=LEASTS)
def test_every_voxel_of_the_box_is_at_its_place(
    random_volumes: SearchStrategy[Volume], data: DataObject, least: tuple[int, int, int] | None
) -> None:
    volume = data.draw(heads(random_volumes))
    result, undo = Box3d(8, 2, least, background=-1).forward(volume)
    to_source = np.linalg.inv(volume.affine) @ result.affine
    indices = np.indices(result.shape).reshape(3, -1)
    before = (to_source[:3, :3] @ indices) + to_source[:3, 3:]
    places = np.rint(before).astype(int)
    np.testing.assert_allclose(before, places, atol=1e-6)
    inside = ((places >= 0) & (places < np.array(volume.shape)[:, np.newaxis])).all(axis=0)
    values = result.array.reshape(-1)
    np.testing.assert_array_equal(values[inside], volume.array[tuple(places[:, inside])])
    assert (values[~inside] == -1).all()
    assert undo["outside"] == volume.array.size - np.count_nonzero(inside)


def block_at(first: tuple[int, int, int], last: tuple[int, int, int], shape: tuple[int, int, int]) -> Volume:
    array = np.zeros(shape, np.float32)
    array[tuple(slice(one, other + 1) for one, other in zip(first, last, strict=True))] = 300
    return Volume(array, np.eye(4))


def test_the_box_is_centred_on_what_it_is_fitted_to() -> None:
    volume = block_at((40, 30, 5), (59, 45, 9), (100, 80, 60))
    result, undo = Box3d(multiple=8, margin=4).forward(volume)
    assert result.shape == (32, 24, 16)  # 20 + 8, 16 + 8 and 5 + 8, rounded up
    assert undo["start"] == [34, 26, 0]
    assert undo["outside"] == 100 * 80 * 60 - 32 * 24 * 16


def test_the_margin_ends_where_the_volume_ends() -> None:
    result, undo = Box3d(multiple=4, margin=8).forward(block_at((0, 0, 0), (99, 79, 59), (100, 80, 60)))
    assert result.shape == (100, 80, 60)
    assert undo["start"] == [0, 0, 0]
    assert undo["outside"] == 0


def test_a_volume_smaller_than_the_grid_is_padded_on_both_sides() -> None:
    result, undo = Box3d(16, least=(32, 48, 20)).forward(block_at((0, 0, 0), (9, 10, 11), (10, 11, 12)))
    assert result.shape == (32, 48, 32)
    assert undo["start"] == [-11, -18, -10]
    assert (result.array > 0).sum() == 10 * 11 * 12


def test_the_grid_grows_where_the_head_is_larger() -> None:
    result, _ = Box3d(16, least=(32, 48, 32)).forward(block_at((1, 1, 1), (40, 40, 30), (60, 60, 60)))
    assert result.shape == (48, 48, 32)


def test_a_volume_that_shows_nothing_is_refused() -> None:
    for array in (np.zeros((4, 5, 6), np.float32), np.full((4, 5, 6), -3, np.float32)):
        with pytest.raises(InputError, match="no voxel above 0"):
            Box3d().forward(Volume(array, np.eye(4)))


def test_a_box_beyond_all_memory_is_refused_before_it_is_taken() -> None:
    volume = Volume(np.ones((2000, 2000, 1), np.float32), np.eye(4))
    with pytest.raises(InputError, match="2048 x 2048 x 512 voxels, which is too large"):
        Box3d(multiple=512).forward(volume)


@pytest.mark.parametrize(
    "wrong",
    [
        {"multiple": 0},
        {"multiple": 16.0},
        {"multiple": True},
        {"multiple": 513},
        {"margin": -1},
        {"margin": 10**400},
        {"least": (0, -1, 0)},
        {"least": (16, 16, 100_000)},
        {"least": (16, 16, "a")},
        {"above": -1},
        {"above": float("nan")},
        {"above": "0"},
        {"background": float("-inf")},
        {"background": 10**400},
    ],
)
def test_settings_that_make_no_box_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"whole numbers up to 512|threshold of a box"):
        Box3d(**wrong)  # type: ignore[arg-type]
