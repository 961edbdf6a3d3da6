"""MS-SSIM is that of torchmetrics, slice by slice, and left out where it cannot be."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from imputer.errors import InputError
from imputer.ms_ssim import LEAST_SIDE, ms_ssim


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    reference = random.random((LEAST_SIDE + 4, LEAST_SIDE, 2))
    return reference, reference + 0.2 * random.normal(size=reference.shape)


def test_it_is_the_mean_over_the_slices_of_the_mask(images: tuple[np.ndarray, np.ndarray]) -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    torch = pytest.importorskip("torch")
    mask = np.ones(images[0].shape, bool)
    mask[..., 1] = False
    truth, guess = (torch.from_numpy(image[None, None, ..., 0]) for image in images)
    expected = functional.multiscale_structural_similarity_index_measure(guess, truth, data_range=1.0)
    found = ms_ssim(*images, mask, data_range=1.0, floor=0.0)
    assert found == pytest.approx(float(expected), abs=1e-9)
    assert 0 < found < 1


def test_what_lies_outside_the_mask_does_not_count(images: tuple[np.ndarray, np.ndarray]) -> None:
    pytest.importorskip("torchmetrics")
    mask = np.zeros(images[0].shape, bool)
    mask[20:150, 30:140] = True
    before = ms_ssim(*images, mask, data_range=1.0, floor=0.0)
    images[1][~mask] = 9.0
    assert ms_ssim(*images, mask, data_range=1.0, floor=0.0) == before


def test_small_slices_and_a_missing_library_are_told(
    images: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = images[0][: LEAST_SIDE - 1]
    with pytest.raises(InputError, match="175 x 176"):
        ms_ssim(small, small, np.ones(small.shape, bool), data_range=1.0, floor=0.0)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(InputError, match=r"imputer\[evaluate\]"):
        ms_ssim(*images, np.ones(images[0].shape, bool), data_range=1.0, floor=0.0)
