"""The sidecar says what cli.md promises, and nothing about the patient."""

import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import pytest

from imputer.errors import OutputError
from imputer.modality import Modality
from imputer.report.provenance import ModelRecord, RunRecord, sidecar, software_versions, source_record, write_json


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "study" / "t1.nii.gz"
    path.parent.mkdir()
    path.write_bytes(b"voxels")
    return path


def record(source, **changes):
    arguments = {
        "source": None if source is None else source_record(source),
        "from_": Modality.T1,
        "to": Modality.T2,
        "model": ModelRecord("t1-t2", "1", "ab" * 32, "CC-BY-NC-4.0", "Somebody 2024", "hf://a/b@c", True),
        "run": RunRecord(steps=4, samples=1, seed=7, precision="fp32", device="cpu", seconds=12.34567),
        "intensity_scale": {"scale": "global_mean", "factor": 123.25},
        "scope_warnings": ["thick slices"],
        "recipe": [{"step": "orient", "codes": "LPS"}],
        "undo": [{"axes": [0, 1, 2], "factor": 0.1 + 0.2}],
        "versions": {"imputer": "1.0"},
    }
    return sidecar(**{**arguments, **changes})


def test_sidecar_holds_what_the_contract_lists(source):
    data = record(source)
    assert data["synthetic"] is True
    assert "not for diagnosis" in data["notice"]
    assert data["source"] == {"file": "t1.nii.gz", "sha256": hashlib.sha256(b"voxels").hexdigest()}
    assert (data["from"], data["to"]) == ("t1", "t2")
    assert data["model"] == {
        "id": "t1-t2",
        "version": "1",
        "weights_sha256": "ab" * 32,
        "licence": "CC-BY-NC-4.0",
        "citation": "Somebody 2024",
        "origin": "hf://a/b@c",
        "non_commercial": True,
    }
    run = {name: data[name] for name in ("steps", "samples", "seed", "precision", "device", "seconds")}
    assert run == {"steps": 4, "samples": 1, "seed": 7, "precision": "fp32", "device": "cpu", "seconds": 12.346}
    assert data["intensity_scale"] == {"scale": "global_mean", "factor": 123.25}
    assert data["scope_warnings"] == ["thick slices"]
    assert data["versions"] == {"imputer": "1.0"}
    assert data["recipe"] == [{"step": "orient", "codes": "LPS"}]


def test_a_sampler_its_noise_and_the_field_of_view_are_told_where_there_are_any(source):
    named = {"sampler", "eta", "model_voxels_outside_field_of_view"}
    assert not named & set(record(source))
    run = RunRecord(4, 1, 7, "fp32", "cpu", 1.0, sampler="ddim", eta=0.0)
    data = record(source, run=run, outside=0)
    assert {name: data[name] for name in named} == {
        "sampler": "ddim",
        "eta": 0.0,
        "model_voxels_outside_field_of_view": 0,
    }


def test_folders_of_the_input_are_not_told(source):
    assert "study" not in json.dumps(record(source))


def test_a_volume_in_memory_has_no_source_file():
    assert record(None)["source"] is None


def test_what_is_written_reads_back_to_the_bit(source, tmp_path):
    data = record(source)
    path = tmp_path / "t1_synth-t2.json"
    write_json(path, data)
    assert json.loads(path.read_text(encoding="utf-8")) == data


def test_numpy_values_paths_and_modalities_become_plain(tmp_path):
    path = tmp_path / "x.json"
    data = {
        "count": np.int64(3),
        "share": np.float32(0.5),
        "lossy": np.bool_(True),
        "affine": np.eye(2),
        "file": Path("folder") / "name.nii",
        "to": Modality.FLAIR,
        "psnr": float("inf"),
        "mean": np.float64("nan"),
        "size": (1, 2),
        "wo": "Köln",
    }
    write_json(path, data)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "count": 3,
        "share": 0.5,
        "lossy": True,
        "affine": [[1.0, 0.0], [0.0, 1.0]],
        "file": "name.nii",
        "to": "flair",
        "psnr": None,
        "mean": None,
        "size": [1, 2],
        "wo": "Köln",
    }


def test_an_existing_file_stays_unless_told(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(OutputError):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    write_json(path, {"a": 2}, overwrite=True)
    assert json.loads(path.read_text()) == {"a": 2}


def test_what_json_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert not list(tmp_path.iterdir())


def test_versions_of_what_is_installed():
    versions = software_versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
