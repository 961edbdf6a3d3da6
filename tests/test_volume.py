"""What a volume is, and what it refuses to be."""

from pathlib import Path

import numpy as np
import pytest

from imputer.errors import InputError
from imputer.modality import Modality
from imputer.volume import Origin, Volume


def a_volume() -> Volume:
    affine = np.diag([0.5, 2.0, 3.0, 1.0])
    return Volume(np.arange(24.0).reshape(2, 3, 4), affine, Modality.T1, Origin(Path("a.nii"), "nifti1"))  # type: ignore[arg-type]


def test_types_shape_and_spacing() -> None:
    volume = a_volume()
    assert volume.array.dtype == np.float32
    assert volume.affine.dtype == np.float64
    assert volume.shape == (2, 3, 4)
    assert volume.spacing == (0.5, 2.0, 3.0)


def test_spacing_of_turned_axes() -> None:
    turn = np.array([[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    volume = Volume(np.zeros((2, 2, 2), np.float32), turn @ np.diag([0.5, 2, 3, 1]))
    assert volume.spacing == (0.5, 2.0, 3.0)


def test_the_affine_cannot_be_changed_from_outside() -> None:
    affine = np.eye(4)
    volume = Volume(np.zeros((2, 2, 2), np.float32), affine)
    affine[0, 3] = 9
    assert volume.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 3] = 9


def test_other_voxels_on_the_same_grid() -> None:
    volume = a_volume()
    other = volume.with_array(volume.array + 1)
    assert (other.modality, other.origin) == (volume.modality, volume.origin)
    np.testing.assert_array_equal(other.affine, volume.affine)
    assert volume.with_array(volume.array, modality=Modality.T2).modality is Modality.T2
    assert volume.with_array(volume.array, modality=None).modality is None
    with pytest.raises(ValueError, match="does not fit"):
        volume.with_array(np.zeros((2, 3, 5)))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4, 2), (4, 0, 4)])
def test_other_than_three_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="three axes"):
        Volume(np.zeros(shape, np.float32), np.eye(4))


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.eye(3), "no valid affine"),
        (np.diag([1, 1, np.nan, 1]), "no valid affine"),
        (np.diag([1, 1, 1, 2]), "no valid affine"),
        (np.diag([1, 0, 1, 1]), "singular"),
        (np.array([[1, 2, 0, 0], [2, 4, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
    ],
)
def test_an_affine_that_is_none_is_refused(affine: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Volume(np.zeros((2, 2, 2), np.float32), affine)


def test_the_header_of_the_origin_is_never_shown() -> None:
    assert "secret" not in repr(Origin(Path("a.nii"), "nifti1", header="secret"))
