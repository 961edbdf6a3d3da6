"""A volume as one block."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from imputer.preprocess.whole import Whole
from imputer.volume import Volume


@settings(deadline=None)
@given(data=st.data())
def test_there_and_back_bit_by_bit(random_volumes: SearchStrategy[Volume], data: DataObject) -> None:
    volume = data.draw(random_volumes)
    stack, undo = Whole().forward(volume)
    assert stack.shape == (1, 1, *volume.shape)
    assert stack.dtype == np.float32
    assert stack.flags.c_contiguous
    back = Whole().inverse(stack, json.loads(json.dumps(undo)))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.affine.tobytes() == volume.affine.tobytes()


@pytest.mark.parametrize("shape", [(4, 4, 4), (1, 4, 4, 4), (2, 1, 4, 4, 4), (1, 3, 4, 4, 4)])
def test_another_shape_is_no_whole_volume(shape: tuple[int, ...]) -> None:
    _, undo = Whole().forward(Volume(np.ones((4, 4, 4), np.float32), np.eye(4)))
    with pytest.raises(ValueError, match="a stack of a whole volume has the shape"):
        Whole().inverse(np.ones(shape, np.float32), undo)
