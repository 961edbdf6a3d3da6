"""Axes are put in order, exactly, and every voxel stays where it is."""

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from imputer.errors import ModelError
from imputer.preprocess.orient import Orient
from imputer.volume import Volume


@settings(deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("codes", ["LPS", "RAS", "SAL"])
def test_there_and_back_bit_by_bit(random_volumes: SearchStrategy[Volume], codes: str, data: DataObject) -> None:
    volume = data.draw(random_volumes)
    result, undo = Orient(codes).forward(volume)
    assert nib.aff2axcodes(result.affine) == tuple(codes)
    back = Orient(codes).inverse(result, json.loads(json.dumps(undo)))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.affine.tobytes() == volume.affine.tobytes()


@settings(deadline=None)
@given(data=st.data())
def test_a_marked_voxel_stays_at_its_place(random_volumes: SearchStrategy[Volume], data: DataObject) -> None:
    volume = data.draw(random_volumes)
    index = tuple(data.draw(st.integers(0, size - 1)) for size in volume.shape)
    marked = np.zeros(volume.shape, np.float32)
    marked[index] = 1
    result, _ = Orient().forward(volume.with_array(marked))
    found = np.argwhere(result.array == 1)
    assert len(found) == 1
    np.testing.assert_allclose(nib.affines.apply_affine(result.affine, found[0]), place_of(volume, index), atol=1e-9)


@settings(deadline=None)
@given(data=st.data())
def test_the_sizes_are_those_of_the_ordered_volume(random_volumes: SearchStrategy[Volume], data: DataObject) -> None:
    volume = data.draw(random_volumes)
    np.testing.assert_allclose(Orient().spacing(volume.affine), Orient().forward(volume)[0].spacing, rtol=1e-12)


def place_of(volume: Volume, index: tuple[int, ...]) -> np.ndarray:
    return np.asarray(volume.affine[:3, :3] @ index + volume.affine[:3, 3])


def test_sagittal_slices_become_axial_ones() -> None:
    # PIR: i to the back, j down, k to the right.
    affine = np.array([[0, 0, 3, 0], [-1, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1.0]])
    array = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    result, _ = Orient().forward(Volume(array, affine))
    assert result.shape == (4, 2, 3)
    assert result.spacing == (3.0, 1.0, 0.5)
    np.testing.assert_array_equal(result.array, array.transpose(2, 0, 1)[::-1, :, ::-1])


def test_axes_beyond_45_degrees_are_paired_as_a_whole() -> None:
    # i and j both lie nearest to x; taken one by one they would claim it both.
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = [0.9, 0.436, 0], [0.75, -0.661, 0]
    result, undo = Orient().forward(Volume(np.zeros((2, 3, 4), np.float32), affine))
    assert sorted(undo["order"]) == [0, 1, 2]
    assert result.shape == (2, 3, 4)


@pytest.mark.parametrize("codes", ["LP", "LRS", "XYZ", "LPSS"])
def test_codes_that_name_no_axes(codes: str) -> None:
    with pytest.raises(ModelError, match="Axis codes"):
        Orient(codes)
