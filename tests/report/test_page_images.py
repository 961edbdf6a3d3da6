"""Pictures of the report page: which slices, which way up, how large."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from imputer.report.page_images import (
    Detail,
    detail_for,
    displayed,
    histogram,
    in_plane,
    pictures_of,
    plane_of,
    window,
    worthwhile,
)

SMALL = Detail(slices=4, pixels=32, bytes=200_000)


def picture(text: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert image.format == "JPEG"
        return np.asarray(image)


def head(shape: tuple[int, int, int] = (30, 40, 20)) -> np.ndarray:
    """An ellipsoid with its front (low J in LPS order) brighter than its back."""
    i, j, k = (np.linspace(-1, 1, size) for size in shape)
    inside = i[:, None, None] ** 2 + j[None, :, None] ** 2 + k[None, None, :] ** 2 < 0.8
    return (inside * (200 - 100 * j[None, :, None])).astype(np.float32)


@pytest.mark.parametrize(
    ("spacing", "axis"), [((1.0, 1.0, 1.0), 2), ((1.0, 1.0, 5.0), 2), ((5.0, 1.0, 1.0), 0), ((0.9, 4.0, 0.9), 1)]
)
def test_the_plane_is_that_of_the_acquisition_else_axial(spacing: tuple[float, float, float], axis: int) -> None:
    assert plane_of(spacing) == axis


def test_front_and_head_are_at_the_top() -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[:, 0, :] = 1  # front
    assert displayed(array, 2)[3, 0].tolist() == [1] * 4
    array[:] = 0
    array[:, :, -1] = 1  # head
    assert displayed(array, 1)[2, 0].tolist() == [1] * 4
    assert displayed(array, 0)[2, 0].tolist() == [1] * 5


def test_a_strip_holds_the_slices_below_each_other_in_true_proportions() -> None:
    made = pictures_of([("source", head()), ("synthetic", head() * 3)], (2.0, 1.0, 2.0), SMALL)
    assert (made.plane, made.of, made.width, made.height) == ("axial", 20, 32, 21)
    assert len(made.slices) == 4
    for each in made.pictures:
        assert picture(each.strip).shape == (4 * made.height, made.width)
        assert max(picture(each.thumbnail).shape) == 32
    middle = picture(made.pictures[0].strip)[made.height : 2 * made.height]
    assert middle[6, 16] > middle[14, 16] > 50  # the front


def test_slices_are_spread_over_those_that_show_something() -> None:
    stack = np.zeros((50, 10, 10), np.float32)
    stack[20:31] = 100
    assert worthwhile(stack, 3).tolist() == [20, 25, 30]
    assert worthwhile(stack[20:22], 12).tolist() == [0, 1]
    assert worthwhile(np.zeros((5, 4, 4), np.float32), 9).tolist() == [0, 1, 2, 3, 4]


def test_the_window_stands_for_values_below_zero_too() -> None:
    values = np.linspace(-1000, 1000, 8000, dtype=np.float32).reshape(20, 20, 20)
    low, high = window(values)
    assert low == pytest.approx(-990, abs=5) and high == pytest.approx(990, abs=5)
    assert window(np.full((2, 2, 2), np.nan, np.float32)) == (0.0, 1.0)
    lesion = np.zeros((20, 20, 20), np.float32)
    lesion[0, 0, 0] = 7
    assert window(lesion) == (0.0, 7.0)


def test_a_histogram_holds_all_voxels_of_the_window() -> None:
    array = head()
    told = histogram(array)
    assert sum(told.shares) == pytest.approx(np.mean(array <= told.high), abs=1e-3)
    assert sum(told.shares) > 0.99
    assert told.low == 0 and 200 < told.high < 300
    assert max(told.shares) == told.shares[0] > 0.4  # air


def test_noise_stays_within_the_bytes_of_a_case() -> None:
    noise = np.random.default_rng(0).uniform(0, 1, (160, 160, 20)).astype(np.float32)
    for allowed in (200_000, 40_000):
        made = pictures_of([("source", noise), ("synthetic", noise)], (1.0, 1.0, 1.0), Detail(12, 160, allowed))
        assert sum(len(each.strip) + len(each.thumbnail) for each in made.pictures) <= allowed


@pytest.mark.parametrize("cases", [1, 100, 120, 300, 500, 700, 1000, 1500])
def test_the_page_of_any_cohort_stays_below_thirty_megabytes(cases: int) -> None:
    text = 4000  # of a row, its facts and histograms
    assert cases * (detail_for(cases).bytes + text) < 40e6
    if cases <= 100:
        assert cases * (detail_for(cases).bytes + text) < 30e6


def test_pixels_of_planes() -> None:
    assert [in_plane((1.0, 2.0, 3.0), axis) for axis in range(3)] == [(3.0, 2.0), (3.0, 1.0), (2.0, 1.0)]
