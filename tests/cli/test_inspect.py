"""imputer inspect: the grid, the modality, the models that fit and the names that they would write."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_phantom import make_series

from imputer.modality import Modality
from imputer.phantom import make_head

from .conftest import Run, assert_refused

ALDM = "aldm-t1-t1ce-t2-flair"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """2 x 3 x 4 mm, int16, the first axis to the left."""
    path = tmp_path / "sub-01_T1w.nii.gz"
    image = nibabel.Nifti1Image(np.arange(210, dtype=np.int16).reshape(5, 6, 7), np.diag([-2.0, 3.0, 4.0, 1.0]))
    nibabel.save(image, path)
    return path


def test_as_json(run: Run, scan: Path) -> None:
    result = run("inspect", scan, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    record = json.loads(result.stdout)
    assert record["modality"] == "t1"
    assert record["shape"] == [5, 6, 7]
    assert record["spacing_mm"] == [2.0, 3.0, 4.0]
    assert record["axis_codes"] == "LAS"
    assert record["affine"][0] == [-2.0, 0.0, 0.0, 0.0]
    assert [(model["id"], Path(model["output"]).name) for model in record["models"]] == [
        ("syndiff-t1-t2", "sub-01_T1w_synth-t2.nii.gz"),
        ("syndiff-t1-flair", "sub-01_T1w_synth-flair.nii.gz"),
        (ALDM, "sub-01_T1w_synth-t1ce.nii.gz"),
    ]
    assert list(scan.parent.iterdir()) == [scan]


def test_as_text(run: Run, scan: Path) -> None:
    text = run("inspect", scan).stdout
    for words in ("5 x 6 x 7", "LAS", "2 x 3 x 4 mm", "syndiff-t1-t2", "int16"):
        assert words in text


def test_an_unknown_modality_is_said_and_can_be_given(run: Run, scan: Path) -> None:
    other = scan.rename(scan.with_name("image.nii.gz"))
    unsure = run("inspect", other)
    assert unsure.exit_code == 0
    assert "--from" in unsure.stdout
    assert json.loads(run("inspect", other, "--json").stdout)["models"] == []
    told = json.loads(run("inspect", other, "--from", "T2w", "--json").stdout)
    assert [model["id"] for model in told["models"]] == ["syndiff-t2-t1", "syndiff-t2-flair", ALDM]
    assert_refused(run("inspect", other, "--from", "t7"), 2, "t7")


def test_on_request_the_voxels_are_held_against_the_training_volumes(run: Run, tmp_path: Path) -> None:
    head = make_head([Modality.T1, Modality.T2], shape=(96, 112, 44), spacing=(2.0, 2.0, 3.2))
    for name, modality in (("t1", Modality.T1), ("t2", Modality.T2)):
        volume = head[modality]
        nibabel.save(nibabel.Nifti1Image(volume.array.astype(np.int16), volume.affine), tmp_path / f"{name}.nii.gz")
    (fits, *_) = json.loads(run("inspect", tmp_path / "t1.nii.gz", "--scope", "--json").stdout)["models"]
    assert fits["id"] == "syndiff-t1-t2" and fits["risk"] == {"score": 0.0, "reasons": []}
    wrong = run("inspect", tmp_path / "t2.nii.gz", "--from", "t1", "--scope", "--json")
    (model, *_) = json.loads(wrong.stdout)["models"]
    assert model["risk"]["score"] >= 0.6 and "may be no T1" in model["risk"]["reasons"][0]
    text = " ".join(run("inspect", tmp_path / "t2.nii.gz", "--from", "t1", "--scope").stdout.split())
    assert "risk 0." in text and "may be no T1" in text
    assert "risk" not in json.loads(run("inspect", tmp_path / "t1.nii.gz", "--json").stdout)["models"][0]


def test_a_file_that_is_none(run: Run, tmp_path: Path) -> None:
    assert_refused(run("inspect", tmp_path / "absent.nii.gz"), 3, "absent.nii.gz")
    (tmp_path / "t1.nii.gz").write_bytes(b"not a volume")
    assert_refused(run("inspect", tmp_path / "t1.nii.gz"), 3, "t1.nii.gz")


def test_the_folder_in_which_one_stands(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_series(tmp_path / "scan", shape=(44, 48, 6), spacing=(4.5, 4.0, 26.0))
    monkeypatch.chdir(tmp_path / "scan")
    record = json.loads(run("inspect", ".", "--json").stdout)
    assert record["models"][0]["output"] == str(tmp_path / "scan_synth-t2")
