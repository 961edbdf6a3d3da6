"""The body in a CT, the head without its air, and boxes."""

import numpy as np
import pytest

from imputer.errors import InputError
from imputer.report.masks import body_mask, box_around, foreground, take


def test_the_body_is_the_largest_part_with_its_air():
    pytest.importorskip("scipy")
    hounsfield = np.full((24, 24, 4), -1000.0)
    hounsfield[4:16, 4:20] = 30.0
    hounsfield[8:11, 8:11] = -950.0  # lung
    hounsfield[20, :] = 200.0  # a couch, one voxel thick
    body = body_mask(hounsfield)
    assert body[5:15, 5:19].all()
    assert not body[17:].any()


def test_a_volume_of_air_has_no_body():
    pytest.importorskip("scipy")
    with pytest.raises(InputError, match="no body"):
        body_mask(np.full((8, 8, 8), -1000.0))


def test_the_foreground_is_brighter_than_an_eighth_of_the_mean():
    image = np.array([[[0.0, 0.9, 1.1, 30.0]]])  # the mean is 8
    assert foreground(image).tolist() == [[[False, False, True, True]]]


def test_a_box_has_its_size_whether_it_cuts_or_goes_beyond():
    mask = np.zeros((10, 6, 20), bool)
    mask[2:6, 1:5, 3:17] = True
    box = box_around(mask, (4, 8, 10))
    assert box == (slice(2, 6), slice(-1, 7), slice(5, 15))
    taken = take(mask.astype(float), box, -1.0)
    assert taken.shape == (4, 8, 10)
    assert (taken[:, [0, -1]] == -1).all()
    assert (taken[:, 2:6] == 1).all()
    with pytest.raises(InputError, match="empty"):
        box_around(np.zeros((4, 4, 4), bool), (2, 2, 2))
