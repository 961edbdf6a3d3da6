"""``imputer evaluate`` from files to table, CSV and JSON, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from .conftest import Run, assert_refused

metrics = pytest.importorskip("skimage.metrics")
pytest.importorskip("scipy")

SHAPE = (16, 18, 9)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an array as NIfTI below the test's folder."""

    def write(name: str, array: NDArray[Any], affine: NDArray[Any] = AFFINE) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(Nifti1Image(array.astype(np.float32), affine), path)
        return path

    return write


def image(seed: int = 0) -> NDArray[Any]:
    """A bright block with texture in dark noise."""
    random = np.random.default_rng(seed)
    array = 5 * random.random(SHAPE)
    array[3:13, 3:15, 1:8] += 100 + 50 * random.random((10, 12, 7))
    return array.astype(np.float32)


def estimate(truth: NDArray[Any], error: float = 10.0, seed: int = 1) -> NDArray[Any]:
    return truth + error * np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def pair(save: Save) -> tuple[Path, Path]:
    truth = image()
    return save("t1_synth-t2.nii.gz", estimate(truth)), save("t2.nii.gz", truth)


@pytest.fixture
def cohort(save: Save, tmp_path: Path) -> tuple[Path, Path]:
    for number in range(4):
        truth = image(number)
        save(f"ref/p{number}/t2.nii.gz", truth)
        save(f"pred/p{number}/t1_synth-t2.nii.gz", estimate(truth, seed=10 + number))
    return tmp_path / "pred", tmp_path / "ref"


def test_two_files_are_scored_as_scikit_image_does(run: Run, pair: tuple[Path, Path]) -> None:
    result = run("evaluate", *pair, "--json")
    assert result.exit_code == 0, result.stderr
    (case,) = json.loads(result.stdout)["cases"]
    found, truth = (nibabel.load(path).get_fdata() for path in pair)
    assert case["data_range"] == pytest.approx(np.ptp(truth))
    psnr = metrics.peak_signal_noise_ratio(truth, found, data_range=case["data_range"])
    ssim = metrics.structural_similarity(truth, found, data_range=case["data_range"])
    assert case["figures"]["psnr"] == pytest.approx(psnr, abs=1e-6)
    assert case["figures"]["ssim"] == pytest.approx(ssim, abs=1e-6)
    assert (case["slices"], case["voxels"]) == (9, truth.size)
    assert (case["mask"], case["crop"], case["normalisation"]) == ("none, the whole volume", "none", "none")


def test_the_table_fits_80_columns_and_says_how_it_was_measured(run: Run, cohort: tuple[Path, Path]) -> None:
    result = run("evaluate", *cohort, "--against", cohort[0])
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for words in ("data range", "mask", "crop", "normalisation", "voxels", "p3/t1_synth-t2", "PSNR dB", "Wilcoxon p"):
        assert words in result.stdout


def test_csv_and_json_files_hold_every_case(run: Run, cohort: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("evaluate", *cohort, "--csv", tmp_path / "a.csv", "-o", tmp_path / "a.json")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in rows] == [f"p{number}/t1_synth-t2" for number in range(4)]
    figures = [case["figures"] for case in record["cases"]]
    assert [float(row["psnr"]) for row in rows] == [each["psnr"] for each in figures]
    (group,) = record["groups"]
    summary = group["figures"]["psnr"]
    assert summary["mean"] == pytest.approx(np.mean([each["psnr"] for each in figures]))
    assert summary["std"] == pytest.approx(np.std([each["psnr"] for each in figures], ddof=1))
    assert summary["low"] < summary["mean"] < summary["high"]
    assert_refused(run("evaluate", *cohort, "--csv", tmp_path / "a.csv"), 6, "a.csv exists already")


def test_two_methods_are_compared_case_by_case(run: Run, save: Save, cohort: tuple[Path, Path], tmp_path: Path) -> None:
    for number in range(4):
        save(f"worse/p{number}_t2.nii.gz", estimate(image(number), error=20, seed=20 + number))
    result = run("evaluate", *cohort, "--against", tmp_path / "worse", "--json")
    assert result.exit_code == 0, result.stderr
    comparison = json.loads(result.stdout)["groups"][0]["comparison"]["psnr"]
    assert comparison["difference"] == pytest.approx(6.0, abs=0.5)  # half the error is 6 dB
    assert comparison["p"] == comparison["least_p"] == 2 / 2**4


def test_what_does_not_match_is_listed_and_what_fails_is_named(run: Run, save: Save, cohort: tuple[Path, Path]) -> None:
    save("pred/p8/t1_synth-t2.nii.gz", image())
    save("ref/p9/t2.nii.gz", image())
    save("pred/p2/t1_synth-t2.nii.gz", image()[:, :, :-1])
    result = run("evaluate", *cohort, "--json")
    assert result.exit_code == 8
    record = json.loads(result.stdout)
    assert record["unmatched"] == {"predictions": ["p8/t1_synth-t2.nii.gz"], "references": ["p9/t2.nii.gz"]}
    assert [each["case"] for each in record["failed"]] == ["p2/t1_synth-t2"]
    assert len(record["cases"]) == 3
    for words in ("p8/t1_synth-t2.nii.gz", "p9/t2.nii.gz", "16 x 18 x 8 and 16 x 18 x 9"):
        assert words in result.stderr


def test_grids_that_differ_are_refused_unless_resampled(run: Run, save: Save, pair: tuple[Path, Path]) -> None:
    moved = AFFINE.copy()
    moved[2, 3] = 3.0
    shifted = save("moved_synth-t2.nii.gz", image(), moved)
    assert_refused(run("evaluate", shifted, pair[1]), 3, "different grids", "3 mm", "--resample")
    result = run("evaluate", shifted, pair[1], "--resample", "--json")
    assert result.exit_code == 0
    (case,) = json.loads(result.stdout)["cases"]
    assert case["slices"] == 8  # of nine: one lies outside the prediction
    assert "resampled" in case["warnings"][0]


def test_the_same_grid_in_another_order_of_axes_is_resampled_without_loss(
    run: Run, save: Save, pair: tuple[Path, Path]
) -> None:
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SHAPE[0] - 1
    found = nibabel.load(pair[0]).get_fdata()
    turned = save("turned_synth-t2.nii.gz", found[::-1], AFFINE @ flip)
    direct, other = (
        json.loads(run("evaluate", path, pair[1], "--resample", "--json").stdout)["cases"][0]["figures"]
        for path in (pair[0], turned)
    )
    assert other["psnr"] == pytest.approx(direct["psnr"], rel=1e-5)


def test_a_mask_and_a_region(run: Run, save: Save, pair: tuple[Path, Path]) -> None:
    mask, roi = np.zeros(SHAPE), np.zeros(SHAPE)
    mask[3:13, 3:15, 1:8], roi[6:10, 6:10, 4:6] = 1, 2
    ones = save("ones.nii.gz", np.ones(SHAPE))
    masked = run("evaluate", *pair, "--mask", save("mask.nii.gz", mask), "--roi", save("roi.nii.gz", roi), "--json")
    assert masked.exit_code == 0, masked.stderr
    (case,) = json.loads(masked.stdout)["cases"]
    found, truth = (nibabel.load(path).get_fdata() for path in pair)
    error = np.abs(found - truth)
    assert case["voxels"] == 10 * 12 * 7
    assert case["figures"]["mae"] == pytest.approx(error[mask > 0].mean())
    assert case["roi"]["mae"] == pytest.approx(error[roi > 0].mean())
    whole, plain = (run("evaluate", *pair, *more, "--json") for more in (("--mask", ones), ()))
    assert json.loads(whole.stdout)["cases"][0]["figures"] == json.loads(plain.stdout)["cases"][0]["figures"]


def test_the_deviation_is_calibrated(run: Run, save: Save) -> None:
    truth = image()
    deviation = np.where(truth > 50, 10.0, 1.0) * (0.5 + np.random.default_rng(5).random(SHAPE))
    error = deviation * np.random.default_rng(6).normal(size=SHAPE)
    prediction = save("t1_synth-t2.nii.gz", truth + error)
    save("t1_synth-t2_std.nii.gz", deviation)
    result = run("evaluate", prediction, save("t2.nii.gz", truth), "--json")
    found = json.loads(result.stdout)["cases"][0]["calibration"]
    assert found["spearman"] > 0.15
    assert found["ause"] < found["ause_random"]
    assert (found["coverage_1"], found["coverage_2"]) == pytest.approx((0.6827, 0.9545), abs=0.05)
    assert len(found["sparsification"]["error"]) == 20


def test_a_deviation_that_cannot_be_used_is_noted(run: Run, save: Save, pair: tuple[Path, Path]) -> None:
    save("t1_synth-t2_std.nii.gz", np.zeros(SHAPE))
    result = run("evaluate", *pair, "--json")
    assert result.exit_code == 0, result.stderr
    (case,) = json.loads(result.stdout)["cases"]
    assert case["calibration"] is None
    assert "Calibration left out: t1_synth-t2_std.nii.gz shows nothing" in case["notes"][0]


def test_values_without_a_unit_are_divided_by_their_means(run: Run, save: Save, pair: tuple[Path, Path]) -> None:
    found = nibabel.load(pair[0]).get_fdata()
    other = save("other_synth-t2.nii.gz", found / 1000)
    (case,) = json.loads(run("evaluate", other, pair[1], "--json").stdout)["cases"]
    assert "other units" in case["notes"][-1]
    scale = {"intensity_scale": {"unit": "arbitrary; 0 is background"}}
    (other.parent / "other_synth-t2.json").write_text(json.dumps(scale), encoding="utf-8")
    (case,) = json.loads(run("evaluate", other, pair[1], "--json").stdout)["cases"]
    assert case["normalisation"] == "each volume divided by its own mean within the mask"
    by_hand = json.loads(run("evaluate", *pair, "--normalise", "mean", "--json").stdout)["cases"][0]
    assert case["figures"]["psnr"] == pytest.approx(by_hand["figures"]["psnr"], rel=1e-5)


def test_ct_is_scored_in_hu_within_the_body(run: Run, save: Save) -> None:
    truth = np.full(SHAPE, -1000.0)
    truth[3:13, 3:15] = np.where(np.indices((10, 12, 9)).sum(axis=0) % 2, 0.0, 60.0)
    reference = save("p1_ct.nii.gz", truth)
    prediction = save("p1_t1_synth-ct.nii.gz", truth + 25)
    (case,) = json.loads(run("evaluate", prediction, reference, "--json").stdout)["cases"]
    assert case["figures"]["mae_hu"] == pytest.approx(25)
    assert case["data_range"] == 4024
    assert "body" in case["mask"]
    preset = json.loads(run("evaluate", prediction, reference, "--protocol", "synthrad", "--json").stdout)["cases"][0]
    assert preset["figures"] == {name: case["figures"][name] for name in ("mae_hu", "psnr", "ssim")}


def test_a_protocol_says_where_it_is_from_and_takes_no_other_settings(run: Run, pair: tuple[Path, Path]) -> None:
    result = run("evaluate", *pair, "--protocol", "syndiff")
    assert result.exit_code == 0, result.stderr
    assert "Ozbey et al., IEEE TMI 2023" in result.stdout
    for more in (
        ("--data-range", "1"),
        ("--mask", pair[1]),
        ("--normalise", "none"),
        ("--domain", "ct"),
    ):
        assert_refused(run("evaluate", *pair, "--protocol", "syndiff", *more), 2, "syndiff", str(more[0]))
    assert_refused(run("evaluate", *pair, "--protocol", "fid"), 2, "no protocol 'fid'")
    assert_refused(run("evaluate", *pair, "--domain", "pet"), 2, "no domain 'pet'")
    assert_refused(run("evaluate", *pair, "--data-range", "-1"), 2, "above 0")


def test_equal_images_have_no_finite_psnr(run: Run, pair: tuple[Path, Path]) -> None:
    result = run("evaluate", pair[1], pair[1], "--json")
    (case,) = json.loads(result.stdout)["cases"]
    assert case["figures"]["psnr"] is None and "infinite" in case["notes"][-1]
    assert case["figures"]["ssim"] == pytest.approx(1.0)


def test_bad_input_is_refused_in_one_sentence(run: Run, save: Save, pair: tuple[Path, Path], tmp_path: Path) -> None:
    prediction, reference = pair
    broken = image()
    broken[4, 4, 4] = np.nan
    nan = save("nan.nii.gz", broken)
    flat = save("flat.nii.gz", np.ones(SHAPE))
    empty = save("empty_mask.nii.gz", np.zeros(SHAPE))
    small = save("small_mask.nii.gz", np.indices((8, 8, 8))[0])
    assert_refused(run("evaluate", nan, reference), 3, "nan.nii.gz", "NaN")
    assert_refused(run("evaluate", prediction, nan), 3, "nan.nii.gz", "NaN")
    assert_refused(run("evaluate", flat, reference), 3, "flat.nii.gz", "equal")
    assert_refused(run("evaluate", prediction, flat), 3, "flat.nii.gz", "equal")
    assert_refused(run("evaluate", *pair, "--mask", empty), 3, "empty_mask.nii.gz", "empty")
    assert_refused(run("evaluate", *pair, "--roi", empty), 3, "empty_mask.nii.gz", "empty")
    assert_refused(run("evaluate", *pair, "--mask", small), 3, "small_mask.nii.gz", "different grids")
    assert_refused(run("evaluate", tmp_path / "no.nii.gz", reference), 3, "no.nii.gz does not exist")
    assert_refused(run("evaluate", prediction, tmp_path), 2, "cannot be matched")


def test_cases_without_a_region_are_scored_and_said(run: Run, save: Save, cohort: tuple[Path, Path]) -> None:
    some = np.zeros(SHAPE)
    some[6:10, 6:10, 3:6] = 1
    save("ref/p0/seg.nii.gz", some)
    save("ref/p1/seg.nii.gz", np.zeros(SHAPE))
    result = run("evaluate", *cohort, "--roi", cohort[1], "--json")
    assert result.exit_code == 0, result.stderr
    cases = json.loads(result.stdout)["cases"]
    assert [case["roi"] is not None for case in cases] == [True, False, False, False]
    assert "2 x no region: p2/t1_synth-t2, p3/t1_synth-t2" in result.stderr
    assert "seg.nii.gz is empty" in result.stderr


def test_a_reference_that_the_model_was_trained_on_is_warned_of(
    run: Run, save: Save, cohort: tuple[Path, Path], tmp_path: Path
) -> None:
    from tiny_entry import make_entry

    from imputer.io.dispatch import load
    from imputer.preprocess.fingerprint import fingerprint
    from imputer.weights.store import register

    seen = fingerprint(load(cohort[1] / "p1/t2.nii.gz"))
    entry = make_entry(b"weights", fingerprints=(seen,))
    register(entry, overwrite=False)
    for number in range(4):
        sidecar = {"model": {"id": "another name", "weights_sha256": entry.sha256}}
        (cohort[0] / f"p{number}/t1_synth-t2.json").write_text(json.dumps(sidecar), encoding="utf-8")
    result = run("evaluate", *cohort, "--json", "--csv", tmp_path / "a.csv")
    assert result.exit_code == 0, result.stderr
    warned = [case["warnings"] for case in json.loads(result.stdout)["cases"]]
    assert [len(each) for each in warned] == [0, 1, 0, 0]
    assert "the model mine was trained on" in warned[1][0]
    assert "p1/t1_synth-t2: The reference is one of the volumes" in result.stderr
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert ["was trained on" in row["note"] for row in rows] == [False, True, False, False]
