"""Scores against values worked out by hand and against scikit-image."""

import math
import sys

import numpy as np
import pytest

from imputer.errors import InputError, UsageError
from imputer.report.metrics import paired_scores, psnr, slices_with_content, ssim


@pytest.fixture
def random():
    return np.random.default_rng(7)


def test_psnr_by_hand():
    # The error is 0.1 everywhere: 10 log10(1 / 0.01) = 20 dB; with four times the range 12.04 dB more.
    reference = np.zeros((4, 4))
    assert psnr(reference, reference + 0.1, data_range=1.0) == pytest.approx(20.0)
    assert psnr(reference, reference + 0.1, data_range=4.0) == pytest.approx(20.0 + 20 * math.log10(4))


def test_psnr_of_equal_images_is_infinite(random):
    image = random.random((8, 8))
    assert psnr(image, image, data_range=1.0) == math.inf


def test_psnr_is_computed_in_double_precision():
    reference = np.full((64, 64), 1000.0, np.float16)
    assert psnr(reference, reference - 500, data_range=1000) == pytest.approx(20 * math.log10(2))


def test_scores_agree_with_scikit_image(random):
    metrics = pytest.importorskip("skimage.metrics")
    reference = random.random((32, 40))
    estimate = np.clip(reference + 0.1 * random.normal(size=reference.shape), 0, 1)
    expected = metrics.peak_signal_noise_ratio(reference, estimate, data_range=1.0)
    assert psnr(reference, estimate, data_range=1.0) == pytest.approx(expected)
    expected = metrics.structural_similarity(reference, estimate, data_range=1.0)
    assert ssim(reference, estimate, data_range=1.0) == pytest.approx(expected)


def test_paired_scores_follow_their_definition(random):
    metrics = pytest.importorskip("skimage.metrics")
    reference, estimate = random.random((24, 20, 3)) + 0.5, random.random((24, 20, 3)) + 0.5
    a, b = reference / reference.mean(), estimate / estimate.mean()
    psnrs, ssims = [], []
    for k in range(3):
        peak = a[..., k].max()
        psnrs.append(-10 * np.log10(np.mean((a[..., k] / peak - b[..., k] / peak) ** 2)))
        ssims.append(metrics.structural_similarity(a[..., k] / peak, b[..., k] / peak, data_range=1.0))
    assert paired_scores(reference, estimate) == pytest.approx({"psnr": np.mean(psnrs), "ssim": np.mean(ssims)})


def test_paired_scores_ignore_a_global_scale_but_not_an_error_of_one_slice(random):
    pytest.importorskip("skimage")
    reference = random.random((16, 16, 4)) + 0.5
    estimate = reference + 0.05 * random.normal(size=reference.shape)
    scores = paired_scores(reference, estimate)
    assert paired_scores(reference, 37 * estimate) == pytest.approx(scores)
    estimate[..., 2] *= 1.5
    assert paired_scores(reference, estimate)["psnr"] < scores["psnr"] - 1


def test_slices_without_content_do_not_count(random):
    pytest.importorskip("skimage")
    reference = np.concatenate([random.random((16, 16, 4)) + 0.5, 0.02 * random.random((16, 16, 3))], axis=-1)
    estimate = reference.copy()
    estimate[..., :4] += 0.05 * random.normal(size=(16, 16, 4))
    assert slices_with_content(reference).tolist() == [True] * 4 + [False] * 3
    scores = paired_scores(reference, estimate)
    estimate[..., 4:] = estimate[::-1, :, 4:]  # other noise of the same mean where nothing is
    assert paired_scores(reference, estimate) == pytest.approx(scores)


@pytest.mark.parametrize(
    ("reference", "estimate"),
    [
        (np.ones((8, 8, 2)), np.ones((8, 8, 3))),
        (np.ones((8, 8, 2)), np.full((8, 8, 2), np.nan)),
        (np.full((8, 8, 2), np.inf), np.ones((8, 8, 2))),
        (np.ones((8, 8, 2)), np.zeros((8, 8, 2))),
        (np.ones((8, 8)), np.ones((8, 8))),
    ],
)
def test_what_cannot_be_scored_is_refused(reference, estimate):
    with pytest.raises(InputError):
        paired_scores(reference, estimate)


def test_nothing_to_score_is_refused():
    with pytest.raises(InputError):
        paired_scores(np.ones((8, 8, 2)), np.ones((8, 8, 2)))  # constant: no slice is above the mean


def test_small_images_and_senseless_ranges_are_refused():
    with pytest.raises(InputError):
        ssim(np.ones((6, 20)), np.ones((6, 20)), data_range=1.0)
    with pytest.raises(ValueError, match="data_range"):
        psnr(np.ones((8, 8)), np.ones((8, 8)), data_range=0.0)


def test_without_scikit_image_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(UsageError, match=r"imputer\[train\]"):
        ssim(np.ones((8, 8)), np.ones((8, 8)), data_range=1.0)
