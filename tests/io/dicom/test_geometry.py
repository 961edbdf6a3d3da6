"""Planes in space: their order, the grid that they make, and what is no grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset

from imputer.errors import InputError
from imputer.io.dicom.frames import Frame
from imputer.io.dicom.geometry import Crowded, Ragged, arrange

AXIAL = np.eye(3)
ORIGIN = np.array([-100.0, -120.0, 30.0])


def turn(a: float, b: float, c: float) -> NDArray[np.float64]:
    """Rotation by three angles."""
    found = np.eye(3)
    for axis, angle in enumerate((a, b, c)):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[[one, two], [one, two]] = np.cos(angle)
        step[one, two], step[two, one] = -np.sin(angle), np.sin(angle)
        found = step @ found
    return found


def stack(
    heights: Sequence[float], axes: NDArray[np.float64] = AXIAL, *, offset: NDArray[np.float64] | None = None
) -> list[Frame]:
    """Planes at heights (mm) along the normal; columns of `axes`: directions of column, row, slice. `offset` (n, 3)."""
    aside = np.zeros((len(heights), 3)) if offset is None else offset
    return [
        Frame(
            file=f"im{number:03d}",
            dataset=Dataset(),
            number=None,
            orientation=tuple(axes[:, :2].T.ravel()),
            position=tuple(axes @ (ORIGIN + np.array([0, 0, height])) + aside[number]),
            pixel_spacing=(1.5, 0.9),
            rows=30,
            columns=40,
        )
        for number, height in enumerate(heights)
    ]


def files(frames: Sequence[Frame]) -> list[str]:
    return [frame.file for frame in frames]


ANGLES = st.floats(-3.1, 3.1)


@given(ANGLES, ANGLES, ANGLES, st.floats(0.3, 8), st.permutations(range(9)))
def test_any_order_of_the_files_gives_the_same_grid(
    a: float, b: float, c: float, spacing: float, order: list[int]
) -> None:
    frames = stack(np.arange(9) * spacing, turn(a, b, c))
    grid, again = arrange(frames), arrange([frames[index] for index in order])
    assert files(grid.frames) == files(again.frames) == files(frames)
    assert np.array_equal(grid.affine, again.affine)
    assert grid.spacing == pytest.approx((0.9, 1.5, spacing))
    assert grid.shape == (40, 30, 9) and grid.notes == ()


@given(ANGLES, ANGLES, ANGLES)
def test_the_affine_says_where_every_pixel_is(a: float, b: float, c: float) -> None:
    frames = stack([0, 2, 4, 6], turn(a, b, c))
    grid = arrange(frames)
    lps = np.diag([-1, -1, 1, 1]) @ grid.affine
    for k, frame in enumerate(grid.frames):
        along_row, along_column = np.reshape(frame.orientation, (2, 3))
        # PS3.3 equation C.7.6.2.1-1: PixelSpacing is the distance of rows (down a column) first.
        expected = np.array(frame.position) + along_row * 0.9 * 7 + along_column * 1.5 * 11
        assert np.allclose((lps @ [7, 11, k, 1])[:3], expected, atol=1e-9)
    assert np.linalg.det(grid.affine[:3, :3]) > 0


@given(st.integers(4, 40), st.data(), st.integers(40, 600).map(lambda hundredths: hundredths / 100))
def test_a_missing_slice_is_found_between_its_neighbours(count: int, data: st.DataObject, spacing: float) -> None:
    gap = data.draw(st.integers(1, count - 2))
    frames = stack(np.arange(count) * spacing)
    del frames[gap]
    with pytest.raises(Ragged, match=r"^1 slice is missing") as refused:
        arrange(frames[::-1])
    message = str(refused.value)
    assert f"between im{gap - 1:03d} and im{gap + 1:03d}" in message
    assert f"a step of {2 * spacing:.2f} mm where {spacing:.2f} mm are usual" in message
    assert f"(at {30 + (gap - 1) * spacing:.2f} and {30 + (gap + 1) * spacing:.2f} mm" in message


@given(st.lists(st.tuples(*[st.floats(-0.0025, 0.0025)] * 3), min_size=12, max_size=12))
def test_rounded_positions_are_no_word_worth(jitter: list[tuple[float, float, float]]) -> None:
    assert arrange(stack(np.arange(12) * 1.2, offset=np.array(jitter))).notes == ()


def test_small_deviations_are_told_and_large_ones_refused() -> None:
    offset = np.zeros((9, 3))
    offset[4, 2] = 0.03
    assert "0.030 mm off an even spacing of 1.000 mm" in arrange(stack(range(9), offset=offset)).notes[0]
    offset[4, 2] = 0.07
    with pytest.raises(Ragged, match=r"im004 is 0\.07 mm off its place"):
        arrange(stack(range(9), offset=offset))
    offset[4] = [0.4, 0, 0]
    with pytest.raises(Ragged, match=r"im004 is 0\.40 mm off its place"):
        arrange(stack(range(9), offset=offset))


def test_one_percent_of_thick_slices_is_allowed() -> None:
    offset = np.zeros((9, 3))
    offset[4, 2] = 0.07
    assert arrange(stack(np.arange(9) * 8.0, offset=offset)).notes


def test_a_change_of_spacing_is_told_as_such() -> None:
    with pytest.raises(Ragged, match=r"spacing of the slices is not uniform \(from 3\.000 to 7\.500 mm\)"):
        arrange(stack([0, 3, 6, 9, 12, 19.5, 27, 34.5]))


def test_a_shear_is_refused_with_its_angle() -> None:
    frames = stack(range(20), offset=np.outer(np.arange(20), [0, np.tan(np.radians(14)), 0]))
    with pytest.raises(InputError, match=r"sheared by 14\.0 degrees.*gantry"):
        arrange(frames)
    slight = stack(range(20), offset=np.outer(np.arange(20), [0, np.tan(np.radians(0.4)), 0]))
    assert np.allclose(arrange(slight).affine[:3, 2], [0, -np.tan(np.radians(0.4)), 1])  # not straightened


def test_rounding_of_few_thin_slices_is_no_shear() -> None:
    offset = np.array([[0, 0, 0], [0, 0.005, 0], [0, 0.01, 0]])  # 0.6 degrees over a stack of one millimetre
    assert arrange(stack([0, 0.5, 1.0], offset=offset)).spacing[2] == pytest.approx(0.5, abs=1e-3)


def test_other_orientations_sizes_and_spacings_are_refused() -> None:
    axial = stack([0, 2, 4])
    with pytest.raises(Crowded, match="3 orientations"):
        arrange([*axial, *stack([0, 2], turn(1, 0, 0)), *stack([0, 2], turn(0, 1, 0))])
    assert arrange([*axial, replace(stack([0, 2, 4, 6])[3], orientation=(1, 5e-4, 0, -5e-4, 1, 0))]).shape[2] == 4
    with pytest.raises(Crowded, match=r"2 sizes \(40 x 30, 40 x 31 pixels\)"):
        arrange([*axial, replace(stack([0, 2, 4, 6])[3], rows=31)])
    with pytest.raises(Crowded, match=r"several pixel spacings \(0.9 to 1.6 mm\)"):
        arrange([*axial, replace(stack([0, 2, 4, 6])[3], pixel_spacing=(1.6, 0.9))])


def test_planes_at_one_place_are_refused() -> None:
    with pytest.raises(Crowded, match=r"6 images at 5 places; im002 and im003 lie at the same one \(32\.00 mm"):
        arrange(stack([0, 1, 2, 2.005, 3, 4]))
    with pytest.raises(Crowded, match="4 images of the series lie all at one place"):
        arrange(stack([5, 5, 5, 5]))


@pytest.mark.parametrize(("heights", "said"), [([0], "1 slice,"), ([0, 1], "2 slices,")])
def test_too_few_slices_are_refused(heights: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        arrange(stack(heights))


def test_absurdly_many_voxels_are_refused_before_memory_is_taken() -> None:
    frames = [replace(frame, rows=40000, columns=40000) for frame in stack([0, 1, 2])]
    with pytest.raises(InputError, match="more than this program takes"):
        arrange(frames)
