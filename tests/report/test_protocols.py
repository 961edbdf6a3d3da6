"""Each protocol against values worked out by hand, and against scikit-image."""

import math
from dataclasses import replace

import numpy as np
import pytest

from imputer.errors import InputError, UsageError
from imputer.report.metrics import paired_scores
from imputer.report.protocols import OWN, PRESETS, chosen, measure, prepare

metrics = pytest.importorskip("skimage.metrics")


@pytest.fixture
def random():
    return np.random.default_rng(11)


def scores(protocol, reference, estimate, region=None, **settings):
    ready = prepare(protocol, reference, estimate, **settings)
    return measure(protocol, ready, ready.mask if region is None else region)


def checkers(shape):
    return np.indices(shape).sum(axis=0) % 2


def test_psnr_and_ssim_are_those_of_scikit_image_on_the_range_that_is_told(random):
    reference = 1000 * random.random((12, 14, 9))
    estimate = reference + 40 * random.normal(size=reference.shape)
    ready = prepare(OWN["mr"], reference, estimate)
    found, notes = measure(OWN["mr"], ready, ready.mask)
    assert ready.data_range == np.ptp(reference)
    psnr = metrics.peak_signal_noise_ratio(reference, estimate, data_range=ready.data_range)
    ssim = metrics.structural_similarity(reference, estimate, data_range=ready.data_range)
    assert found["psnr"] == pytest.approx(psnr, abs=1e-6)
    assert found["ssim"] == pytest.approx(ssim, abs=1e-6)
    assert notes == []


def test_mae_and_nmse_by_hand():
    reference = 2.0 + 2.0 * checkers((8, 8, 8))  # 2 and 4 in equal parts: the mean square is 10
    found, _ = scores(OWN["mr"], reference, reference + 0.5)
    assert found["mae"] == pytest.approx(0.5)
    assert found["nmse"] == pytest.approx(0.25 / 10)
    assert found["psnr"] == pytest.approx(10 * math.log10(2.0**2 / 0.25))


def test_a_prediction_is_never_scaled_by_its_own_maximum(random):
    reference = random.random((8, 9, 10))
    estimate = reference.copy()
    estimate[0, 0, 0] = 50.0
    ready = prepare(OWN["mr"], reference, estimate)
    assert ready.data_range == np.ptp(reference)
    np.testing.assert_array_equal(ready.estimate, estimate)


def test_only_voxels_of_the_mask_count(random):
    reference = random.random((16, 16, 16))
    estimate = reference + 0.1 * random.normal(size=reference.shape)
    mask = np.zeros(reference.shape, bool)
    mask[2:14, 4:12, 4:12] = True
    before, _ = scores(OWN["mr"], reference, estimate, mask=mask)
    estimate[~mask] = 7.0
    after, _ = scores(OWN["mr"], reference, estimate, mask=mask)
    assert after == pytest.approx(before)
    assert before["mae"] == pytest.approx(np.abs(reference - estimate)[mask].mean())


def test_normalising_by_the_mean_takes_a_factor_out(random):
    reference = random.random((8, 8, 8)) + 0.5
    estimate = reference + 0.05 * random.normal(size=reference.shape)
    found, _ = scores(OWN["mr"], reference, estimate, normalise="mean")
    assert scores(OWN["mr"], reference, 3 * estimate, normalise="mean")[0] == pytest.approx(found)
    error = reference / reference.mean() - estimate / estimate.mean()
    assert found["mae"] == pytest.approx(np.abs(error).mean())


def test_fewer_than_seven_slices_are_scored_as_slices(random):
    reference = random.random((10, 12, 3))
    estimate = reference + 0.1 * random.normal(size=reference.shape)
    found, notes = scores(OWN["mr"], reference, estimate, data_range=1.0)
    slices = [metrics.structural_similarity(reference[..., k], estimate[..., k], data_range=1.0) for k in range(3)]
    assert found["ssim"] == pytest.approx(np.mean(slices))
    assert "axial slices" in notes[0]


def test_ssim_is_left_out_with_a_note_where_slices_are_too_small(random):
    reference = random.random((5, 12, 9))
    found, notes = scores(OWN["mr"], reference, reference + 0.1)
    assert found["ssim"] is None and "SSIM left out" in notes[0]
    assert found["psnr"] is not None


def test_syndiff_by_hand():
    # Mean 2, maximum 3: after both divisions an error of 0.6 is 0.6 / 3 = 0.2, of 0.06 it is 0.02.
    reference = 1.0 + 2.0 * checkers((8, 8, 2))
    sign = np.where(np.arange(8) < 4, 1.0, -1.0)[:, None, None]  # its mean is 0, that of the estimate stays 2
    estimate = reference + sign * np.array([0.6, 0.06])
    found, _ = scores(PRESETS["syndiff"], reference, estimate)
    assert found["psnr"] == pytest.approx((10 * math.log10(25) + 10 * math.log10(2500)) / 2)
    ssims = [
        metrics.structural_similarity(reference[..., k] / 3, estimate[..., k] / 3, data_range=1.0) for k in range(2)
    ]
    assert found["ssim"] == pytest.approx(np.mean(ssims))
    assert list(found) == ["psnr", "ssim"]


def test_syndiff_is_what_training_reports(random):
    reference, estimate = random.random((16, 18, 5)) + 0.5, random.random((16, 18, 5)) + 0.5
    assert scores(PRESETS["syndiff"], reference, estimate)[0] == pytest.approx(paired_scores(reference, estimate))


def test_syndiff_counts_slices_with_content_alone(random):
    reference = np.concatenate([random.random((16, 16, 4)) + 0.5, 0.02 * random.random((16, 16, 3))], axis=-1)
    ready = prepare(PRESETS["syndiff"], reference, reference * 2 + 0.01)
    assert ready.mask.any(axis=(0, 1)).tolist() == [True] * 4 + [False] * 3
    np.testing.assert_allclose(ready.reference.mean(), 1)
    assert ready.about["mask"] == "none, the whole volume, of slices with content"


def test_aldm_by_hand():
    # A cube of 64 voxels in a box of 512. The percentiles of the reference are 0 and 10, so that 9 becomes 0.9.
    protocol = replace(PRESETS["aldm"], box=(8, 8, 8))
    reference, estimate = np.zeros((12, 10, 6)), np.zeros((12, 10, 6))
    reference[5:9, 1:5, 1:5], estimate[5:9, 1:5, 1:5] = 10.0, 9.0
    ready = prepare(protocol, reference, estimate)
    found, _ = measure(protocol, ready, ready.mask)
    assert ready.reference.shape == (8, 8, 8)
    np.testing.assert_array_equal(np.argwhere(ready.reference == 1)[[0, -1]], [[2, 2, 2], [5, 5, 5]])
    assert found["psnr"] == pytest.approx(10 * math.log10(1 / (0.01 * 64 / 512)))
    assert found["nmse"] == pytest.approx(0.01)
    ssim = metrics.structural_similarity(ready.reference, ready.estimate, data_range=1.0)
    assert found["ssim"] == pytest.approx(ssim)
    assert list(found) == ["psnr", "nmse", "ssim"]


def test_aldm_crops_as_for_brats_and_clips_what_is_beyond_the_percentiles():
    assert PRESETS["aldm"].box == (192, 192, 144)
    protocol = replace(PRESETS["aldm"], box=(8, 8, 8))
    reference = np.where(np.indices((8, 8, 8))[0] < 4, 10.0, 1.0)
    bright, dark = prepare(protocol, reference, reference * 5), prepare(protocol, reference, -reference)
    assert (bright.estimate.max(), dark.estimate.min()) == (1.0, 0.0)
    assert bright.data_range == 1.0


def test_synthrad_by_hand():
    # An error of 40.24 HU is a hundredth of the range 4024: 40 dB.
    reference = np.where(checkers((10, 10, 10)), 0.0, 100.0)
    found, _ = scores(PRESETS["synthrad"], reference, reference + 40.24)
    assert found["mae_hu"] == pytest.approx(40.24)
    assert found["psnr"] == pytest.approx(40.0)
    assert list(found) == ["mae_hu", "psnr", "ssim"]


def test_synthrad_clips_for_psnr_and_ssim_but_not_for_the_error_in_hu():
    reference = np.where(checkers((10, 10, 10)), 0.0, 3500.0)
    estimate = np.where(reference > 0, 4000.0, 0.0)
    found, _ = scores(PRESETS["synthrad"], reference, estimate)
    assert found["psnr"] == math.inf
    assert found["ssim"] == pytest.approx(1.0)
    assert found["mae_hu"] == pytest.approx(250.0)


def test_synthrad_ssim_averages_its_map_within_the_mask(random):
    reference = 200 * random.normal(size=(14, 14, 14))
    estimate = reference + 100 * random.normal(size=reference.shape)
    mask = np.zeros(reference.shape, bool)
    mask[1:11, 3:11, 5:12] = True
    found, _ = scores(PRESETS["synthrad"], reference, estimate, mask=mask)
    images = (np.where(mask, np.clip(image, -1024, 3000), -1024) + 1024 for image in (reference, estimate))
    _, every = metrics.structural_similarity(*images, data_range=4024, full=True)
    inner = (slice(3, -3),) * 3
    assert found["ssim"] == pytest.approx(every[inner][mask[inner]].mean())


def test_ct_without_a_mask_is_scored_in_the_body():
    pytest.importorskip("scipy")
    reference = np.full((20, 20, 8), -1000.0)
    reference[5:15, 5:15] = 40.0
    reference[9:11, 9:11] = -900.0  # the airway belongs to the body
    reference[0:2, 18:20] = 300.0  # something beside it does not
    estimate = reference.copy()
    estimate[:5] = 3000.0  # outside: does not count
    estimate[9:11, 9:11] = -800.0
    ready = prepare(OWN["ct"], reference, estimate)
    assert np.count_nonzero(ready.mask) == pytest.approx(800, abs=40)  # corners may go
    assert ready.mask[9:11, 9:11].all() and not ready.mask[:5].any()
    found, _ = measure(OWN["ct"], ready, ready.mask)
    assert found["mae_hu"] == pytest.approx(100 * 32 / np.count_nonzero(ready.mask))


def test_a_lesion_that_was_lost_shows_in_its_region_alone(random):
    reference = random.random((20, 20, 20)) + 1
    roi = np.zeros(reference.shape, bool)
    roi[9:12, 9:12, 9:12] = True
    reference[roi] += 3
    estimate = np.where(roi, 1.5, reference)
    for protocol in (OWN["mr"], PRESETS["syndiff"]):
        ready = prepare(protocol, reference, estimate, roi=roi)
        whole, _ = measure(protocol, ready, ready.mask)
        within, _ = measure(protocol, ready, ready.roi)
        assert within["psnr"] < whole["psnr"] - 10
        assert within["ssim"] < whole["ssim"] - 0.2


def test_the_settings_are_told_in_words(random):
    reference = random.random((8, 8, 8)) + 1
    about = prepare(PRESETS["syndiff"], reference, reference * 1.1 + 0.1).about
    assert set(about) == {"mask", "crop", "normalisation", "data_range"}
    assert "mean" in about["normalisation"] and "maximum of the reference's slice" in about["data_range"]
    assert prepare(OWN["mr"], reference, reference + 0.1, data_range=5.0).about["data_range"] == "5: given"


def test_what_cannot_be_scored_is_refused_in_one_sentence(random):
    reference = random.random((8, 8, 8))
    nothing = np.zeros(reference.shape, bool)
    some = nothing.copy()
    some[2:4] = True
    flat = np.where(some, 1.0, reference)
    with pytest.raises(InputError, match="mask is empty"):
        prepare(OWN["mr"], reference, reference, mask=nothing)
    with pytest.raises(InputError, match="reference shows nothing within the mask"):
        prepare(OWN["mr"], flat, reference, mask=some)
    with pytest.raises(InputError, match="prediction shows nothing within the mask"):
        prepare(OWN["mr"], reference, flat, mask=some)
    with pytest.raises(InputError, match="not above 0"):
        prepare(PRESETS["syndiff"], reference - 5, reference)
    with pytest.raises(InputError, match="region is empty"):
        measure(OWN["mr"], prepare(OWN["mr"], reference, reference), nothing)


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="syndiff, aldm, synthrad"):
        chosen("psnr", "mr")
    with pytest.raises(UsageError, match="mr, ct"):
        chosen(None, "pet")
