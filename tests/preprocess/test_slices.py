"""A volume as a stack."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from imputer.preprocess.orient import Orient
from imputer.preprocess.slices import Slices
from imputer.volume import Volume


@settings(deadline=None)
@given(data=st.data())
def test_there_and_back_bit_by_bit(random_volumes: SearchStrategy[Volume], data: DataObject) -> None:
    volume = data.draw(random_volumes)
    stack, undo = Slices().forward(volume)
    i, j, k = volume.shape
    assert stack.shape == (k, 1, j, i)
    assert stack.dtype == np.float32
    assert stack.flags.c_contiguous
    back = Slices().inverse(stack, json.loads(json.dumps(undo)))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.affine.tobytes() == volume.affine.tobytes()


def test_the_view_of_the_radiologist() -> None:
    # RAS: mark the patient's right, front and top; it must be seen at the left, at the top and in the last slice.
    array = np.zeros((5, 6, 7), np.float32)
    array[4, 5, 6] = 1
    oriented, _ = Orient().forward(Volume(array, np.eye(4)))
    stack, _ = Slices().forward(oriented)
    assert np.argwhere(stack == 1).tolist() == [[6, 0, 0, 0]]


def test_another_shape_is_no_stack() -> None:
    with pytest.raises(ValueError, match="a stack has the shape"):
        Slices().inverse(np.zeros((3, 2, 4, 4), np.float32), {"affine": np.eye(4).tolist()})
