"""imputer synth with a DisDiff model: the mean look of the training data, or that of a reference scan."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from tiny import write_head
from tiny_disdiff import WITHOUT_ATTRIBUTES, write_model

import imputer
from imputer.errors import UsageError
from imputer.files import sha256_of
from imputer.modality import Modality
from imputer.phantom import make_head

from .conftest import Run, assert_refused


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "disdiff.safetensors")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T1 to start from, and a T1 and T2 of another head, brighter in its middle, as references."""
    folder = tmp_path_factory.mktemp("scans")
    write_head(folder / "t1.nii.gz", Modality.T1)
    for modality in (Modality.T1, Modality.T2):
        path = write_head(folder / "site_b" / f"{modality}.nii.gz", modality, seed=4, shape=(40, 48, 5))
        image = nibabel.load(path)
        nibabel.save(Nifti1Image(image.get_fdata(dtype=np.float32) ** 1.3, image.affine), path)
    return folder


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_the_mean_attribute_is_taken_unless_there_is_a_reference(
    run: Run, model: Path, scans: Path, tmp_path: Path
) -> None:
    reference = scans / "site_b" / "t2.nii.gz"
    plain, styled = tmp_path / "plain.nii.gz", tmp_path / "styled.nii.gz"
    for out, more in ((plain, ()), (styled, ("--style-from", reference))):
        made = run("synth", scans / "t1.nii.gz", "--to", "t2", "-m", model, "-o", out, *more)
        assert made.exit_code == 0, made.output
    assert not np.array_equal(voxels(plain), voxels(styled))
    records = [json.loads(path.with_suffix("").with_suffix(".json").read_text()) for path in (plain, styled)]
    assert "style" not in records[0]
    assert records[1]["style"] == {"file": "t2.nii.gz", "sha256": sha256_of(reference)}
    assert records[1]["source"]["file"] == "t1.nii.gz"


def test_without_a_model_one_that_takes_a_reference_is_chosen(run: Run, scans: Path, tmp_path: Path) -> None:
    reference, out = scans / "site_b" / "t2.nii.gz", tmp_path / "out.nii.gz"
    source, quickly = scans / "t1.nii.gz", ("--force", "--steps", 1)
    made = run("synth", source, "--to", "t2", "-o", out, "--style-from", reference, *quickly)
    assert made.exit_code == 0, made.output
    assert json.loads((tmp_path / "out.json").read_text())["model"]["id"] == "disdiff-t1-t2"
    plain = run("synth", source, "--to", "t2", "-o", tmp_path / "plain.nii.gz", *quickly)
    assert plain.exit_code == 0, plain.output
    assert json.loads((tmp_path / "plain.json").read_text())["model"]["id"] == "syndiff-t1-t2"
    none = run("synth", source, "--to", "flair", "--style-from", f"flair={reference}")
    assert_refused(none, 4, "no model from t1 to flair")


def test_a_scan_takes_on_the_look_of_another_of_its_own_modality(
    run: Run, model: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.nii.gz"
    reference = scans / "site_b" / "t1.nii.gz"
    made = run("synth", scans / "t1.nii.gz", "--to", "t1", "-m", model, "-o", out, "--style-from", reference)
    assert made.exit_code == 0, made.output
    record = json.loads((tmp_path / "out.json").read_text())
    assert (record["from"], record["to"]) == ("t1", "t1")
    without = run("synth", scans / "t1.nii.gz", "--to", "t1", "-m", model, "-o", tmp_path / "no.nii.gz")
    assert_refused(without, 2, "both t1")


def test_the_modality_of_a_reference_may_be_said(run: Run, model: Path, scans: Path, tmp_path: Path) -> None:
    unnamed = tmp_path / "reference.nii.gz"
    unnamed.write_bytes((scans / "site_b" / "t2.nii.gz").read_bytes())
    start = ("synth", scans / "t1.nii.gz", "--to", "t2", "-m", model, "-o", tmp_path / "out.nii.gz", "--style-from")
    assert_refused(run(*start, unnamed), 3, "reference.nii.gz", "--style-from t2=")
    assert run(*start, f"t2={unnamed}").exit_code == 0


def test_references_that_do_not_fit_are_refused(run: Run, model: Path, scans: Path, tmp_path: Path) -> None:
    small = tmp_path / "small_t2.nii.gz"
    head = make_head([Modality.T2], shape=(44, 52, 6), spacing=(4.0, 4.0, 20.0))[Modality.T2]
    nibabel.save(Nifti1Image(head.array, np.diag([1.0, 1.0, 5.0, 1.0])), small)
    empty = tmp_path / "empty_t2.nii.gz"
    nibabel.save(Nifti1Image(np.zeros(head.shape, np.float32), head.affine), empty)
    start = ("synth", scans / "t1.nii.gz", "--to", "t2", "-m", model, "-o", tmp_path / "out.nii.gz", "--style-from")
    assert_refused(run(*start, scans / "site_b" / "t1.nii.gz"), 2, "t1.nii.gz is t1", "t2 shall be made")
    assert_refused(run(*start, small), 3, "small_t2.nii.gz", "44 x 52", "no head", "--force")
    assert_refused(run(*start, empty), 3, "empty_t2.nii.gz")
    assert_refused(run(*start, tmp_path / "gone_t2.nii.gz"), 3, "gone_t2.nii.gz")
    assert_refused(run(*start, "t9=x.nii.gz"), 2, "t9")
    forced = run(*start, small, "--force")
    assert forced.exit_code == 0, forced.output
    assert "small_t2.nii.gz" in forced.stderr
    (tmp_path / "out.nii.gz").unlink()


def test_a_model_without_attributes_refuses_a_reference(
    run: Run, tiny_model: Path, scans: Path, tmp_path: Path
) -> None:
    without = write_model(tmp_path / "plain.safetensors", WITHOUT_ATTRIBUTES)
    for model in (tiny_model, without):
        reference = ("--style-from", scans / "site_b" / "t2.nii.gz")
        refused = run("synth", scans / "t1.nii.gz", "--to", "t2", "-m", model, "-o", tmp_path / "o.nii.gz", *reference)
        assert_refused(refused, 2, "no attributes", "--style-from")
    assert not (tmp_path / "o.nii.gz").exists()


def test_in_python_it_is_the_same(model: Path, scans: Path) -> None:
    options = {"to": "t2", "model": model, "device": "cpu"}
    reference = scans / "site_b" / "t2.nii.gz"
    styled = [
        imputer.synthesise(scans / "t1.nii.gz", **options, style_from=style).volume.array
        for style in (reference, str(reference), f"t2={reference}")
    ]
    for other in styled[1:]:
        np.testing.assert_array_equal(other, styled[0])
    assert not np.array_equal(imputer.synthesise(scans / "t1.nii.gz", **options).volume.array, styled[0])
    with pytest.raises(UsageError, match="is t1"):
        imputer.synthesise(scans / "t1.nii.gz", **options, style_from=scans / "site_b" / "t1.nii.gz")


def test_a_batch_takes_a_reference_and_is_not_resumed_with_another(
    run: Run, model: Path, scans: Path, tmp_path: Path
) -> None:
    cohort = tmp_path / "cohort"
    for name in ("a", "b"):
        write_head(cohort / name / "t1.nii.gz", Modality.T1, seed=ord(name))
    reference = scans / "site_b" / "t2.nii.gz"
    start = ("batch", cohort, tmp_path / "out", "--to", "t2", "-m", model, "--device", "cpu")
    first = run(*start, "--style-from", reference)
    assert first.exit_code == 0, first.output
    sidecars = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("?/*.json")]
    assert [each["style"]["file"] for each in sidecars] == ["t2.nii.gz"] * 2
    assert_refused(run(*start), 2, "settings")
    assert_refused(run(*start, "--style-from", tmp_path / "gone.nii.gz"), 3, "gone.nii.gz")


def test_the_model_is_told_of(run: Run, model: Path) -> None:
    assert run("models", "import", model).exit_code == 0
    listed = run("models", "list")
    assert "tiny-disdiff" in listed.stdout and "t1, t2" in listed.stdout
    told = run("models", "info", "tiny-disdiff")
    assert told.exit_code == 0 and "disdiff" in told.stdout


def test_the_bare_network_encodes_and_estimates(model: Path) -> None:
    import torch

    network = imputer.load_generator(model)
    content = network.encode(torch.zeros(1, 1, 16, 16), "t1")
    maps = network.maps_of(content, "t2")
    z, attribute = torch.zeros(1, network.config.noise_size), network.default_attribute("t2")
    assert network.estimate(torch.zeros(1, 1, 16, 16), maps, torch.tensor([0]), z, attribute, "t2").shape[2:] == (
        16,
        16,
    )


def test_a_run_is_shared_with_the_scores_of_both_directions(model: Path, tmp_path: Path) -> None:
    from imputer.weights.publish import models_of

    run = tmp_path / "run"
    (run / "models").mkdir(parents=True)
    (run / "models" / "disdiff-t1-t2.safetensors").write_bytes(model.read_bytes())
    (run / "config.toml").write_text('source = "t1"\ntarget = "t2"\n')
    (run / "log.jsonl").write_text('{"step": 9, "forward.psnr": 20.25, "backward.ssim": 0.5}\n')
    (entry,) = models_of(run)
    told = [(score.case, score.metric, score.value) for score in entry.scores]
    assert told == [("mean, t1 to t2", "PSNR (dB)", 20.25), ("mean, t2 to t1", "SSIM", 0.5)]


def test_the_reference_is_never_overwritten(run: Run, model: Path, scans: Path, tmp_path: Path) -> None:
    reference = tmp_path / "other_t2.nii.gz"
    reference.write_bytes((scans / "site_b" / "t2.nii.gz").read_bytes())
    before = sha256_of(reference)
    start = ("synth", scans / "t1.nii.gz", "--to", "t2", "-m", model, "-o", reference, "--overwrite")
    for given in (reference, f"t2={reference}"):
        assert_refused(run(*start, "--style-from", given), 2, "the input itself")
    assert sha256_of(reference) == before
