"""The spine, from Python: one case from a file or a volume to files or a volume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Image
from tiny import GRID, make_method, write_head

import imputer
from imputer.errors import DeviceError, ImputerError, InputError, ModelError, OutputError, UsageError
from imputer.files import sha256_of
from imputer.io import dispatch
from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.synth import Outcome
from imputer.volume import Volume

# Everything but the pixels' values, which a header may not keep.
GEOMETRY = ("dim", "pixdim", "xyzt_units", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z")
QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


@pytest.fixture
def t1(tmp_path: Path) -> Path:
    """A T1 alone in a folder of its own, with a slice of zeros."""
    path = write_head(tmp_path / "scan" / "t1.nii.gz", Modality.T1)
    image = nibabel.load(path)
    voxels = image.get_fdata(dtype=np.float32)
    voxels[:, :, 2] = 0
    nibabel.save(Nifti1Image(voxels, image.affine), path)
    return path


def make(source: Path | Volume, model: object, **options: Any) -> Outcome:
    return imputer.synthesise(source, **{"to": "t2", "model": model, "device": "cpu", **options})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def voxels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(nibabel.load(path).dataobj)


def test_the_files_of_a_case(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    outcome = make(t1, tiny_model, output=out, preview=True)
    assert (outcome.path, outcome.sidecar, outcome.preview) == (out, tmp_path / "out.json", tmp_path / "out.png")
    assert outcome.std is None
    assert names(tmp_path) == ["out.json", "out.nii.gz", "out.png", "scan"]
    assert names(t1.parent) == ["t1.nii.gz"]
    np.testing.assert_array_equal(voxels(out), outcome.volume.array)
    assert outcome.volume.modality == Modality.T2
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert record["synthetic"] is True
    assert record["source"] == {"file": "t1.nii.gz", "sha256": sha256_of(t1)}
    assert (record["from"], record["to"], record["seed"], record["steps"], record["samples"]) == ("t1", "t2", 0, 4, 1)
    assert record["model"]["id"] == "tiny" and record["model"]["weights_sha256"] == sha256_of(tiny_model)
    assert record["device"] == "cpu" and record["precision"] == "fp32"
    assert "synthetic" in str(nibabel.load(out).header["descrip"])


@pytest.mark.parametrize(
    ("axes", "oblique", "shape", "spacing", "dtype"),
    [
        ("LAS", 0.0, (44, 52, 6), (4.0, 4.0, 20.0), np.int16),
        ("PIR", 0.0, (53, 7, 41), (4.0, 18.0, 4.5), np.float64),
        ("RAS", 14.0, (61, 67, 6), (3.1, 3.3, 22.0), np.uint16),
    ],
)
def test_geometry_is_the_sources_to_the_bit(
    tmp_path: Path, tiny_model: Path, axes: str, oblique: float, shape: Any, spacing: Any, dtype: Any
) -> None:
    head = make_head([Modality.T1], shape=shape, spacing=spacing, axes=axes, oblique_degrees=oblique)[Modality.T1]
    image = Nifti1Image(head.array.astype(dtype), head.affine)
    image.set_sform(head.affine, code=4)
    image.set_qform(head.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "t1.nii")
    make(tmp_path / "t1.nii", tiny_model, output=tmp_path / "t2.nii")
    before, after = (nibabel.load(tmp_path / f"{name}.nii").header for name in ("t1", "t2"))
    for field in (*GEOMETRY, *QUATERNION):
        np.testing.assert_array_equal(before[field], after[field], err_msg=field)


def test_the_head_stays_where_it_is(t1: Path, tiny_model: Path) -> None:
    """Whatever random weights paint, what lies far from the head in the source is 0 in the result."""
    source, made = dispatch.load(t1), make(t1, tiny_model).volume
    assert made.array.min() >= 0
    assert (made.array[:, :, 2] == 0).all()  # the slice of zeros
    assert all(made.array[:, :, k].std() > 0 for k in range(made.shape[2]) if source.array[:, :, k].any())
    np.testing.assert_array_equal(made.array, np.rint(made.array))


def test_the_same_seed_gives_the_same_volume_whatever_the_batch_size(t1: Path, tiny_model: Path) -> None:
    first = make(t1, tiny_model, seed=3, batch_size=1).volume.array
    for batch_size in (2, 5, "auto"):
        np.testing.assert_array_equal(make(t1, tiny_model, seed=3, batch_size=batch_size).volume.array, first)
    assert not np.array_equal(make(t1, tiny_model, seed=4).volume.array, first)


def test_a_renamed_or_converted_file_gives_the_same_voxels(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    first = make(t1, tiny_model).volume.array
    renamed = tmp_path / "study_99_T1w.nii.gz"
    renamed.write_bytes(t1.read_bytes())
    np.testing.assert_array_equal(make(renamed, tiny_model).volume.array, first)
    nibabel.save(nibabel.load(t1), tmp_path / "t1.nii")
    np.testing.assert_array_equal(make(tmp_path / "t1.nii", tiny_model).volume.array, first)


def test_several_samples_give_their_mean_and_standard_deviation(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    single = make(t1, tiny_model).volume.array
    outcome = make(t1, tiny_model, samples=3, output=tmp_path / "out.nii.gz")
    assert outcome.std == tmp_path / "out_std.nii.gz"
    assert names(tmp_path) == ["out.json", "out.nii.gz", "out_std.nii.gz", "scan"]
    std = voxels(outcome.std)
    assert std.shape == single.shape and std.max() > 0 and std.min() == 0
    assert outcome.record["samples"] == 3
    # The first of them is the single one: three values whose mean and spread are known leave it within their range.
    assert (np.abs(single - outcome.volume.array) <= 2 / np.sqrt(3) * std + 1.01).all()
    assert not np.array_equal(outcome.volume.array, single)
    two = make(t1, tiny_model, samples=2).volume.array
    assert not np.array_equal(two, outcome.volume.array)


def test_a_volume_in_and_a_volume_out_without_files(tiny_model: Path, tmp_path: Path) -> None:
    head = make_head([Modality.T1], **GRID)[Modality.T1]
    before = head.array.copy()
    outcome = make(head, tiny_model)
    assert outcome.path is outcome.sidecar is outcome.preview is None
    assert outcome.volume.shape == head.shape and outcome.volume.modality == Modality.T2
    np.testing.assert_array_equal(outcome.volume.affine, head.affine)
    np.testing.assert_array_equal(head.array, before)
    assert outcome.record["source"] is None
    assert names(tmp_path) == []
    loaded = make(head, imputer.load_model(tiny_model, device="cpu"))
    np.testing.assert_array_equal(loaded.volume.array, outcome.volume.array)


def test_a_volume_can_be_written_too(tiny_model: Path, tmp_path: Path) -> None:
    head = make_head([Modality.T1], **GRID)[Modality.T1]
    outcome = make(head, tiny_model, output=tmp_path / "out.nii.gz")
    np.testing.assert_allclose(nibabel.load(tmp_path / "out.nii.gz").affine, head.affine)
    np.testing.assert_array_equal(voxels(tmp_path / "out.nii.gz"), outcome.volume.array)


def test_a_dry_run_writes_nothing_and_says_what_it_would(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    outcome = make(t1, tiny_model, output=tmp_path / "out.nii.gz", samples=2, preview=True, dry_run=True)
    assert names(tmp_path) == ["scan"]
    assert {path.name for path in outcome.planned} == {"out.nii.gz", "out.json", "out_std.nii.gz", "out.png"}
    assert outcome.path is None
    assert outcome.record["model"]["id"] == "tiny"


def test_progress_is_told_until_all_is_done(t1: Path, tiny_model: Path) -> None:
    told: list[tuple[str, int, int]] = []
    make(t1, tiny_model, samples=2, progress=lambda *event: told.append(event))
    done = [each[1] for each in told]
    assert done == sorted(done)
    assert told[-1] == ("synthesis", 12, 12)


def test_fewer_steps_are_recorded(t1: Path, tiny_model: Path) -> None:
    outcome = make(t1, tiny_model, steps=1)
    assert outcome.record["steps"] == 1
    assert not np.array_equal(outcome.volume.array, make(t1, tiny_model).volume.array)


def test_a_note_on_the_input_lands_in_the_sidecar(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    image = nibabel.load(t1)
    array = image.get_fdata(dtype=np.float32)
    array[0, 0, :3] = np.nan
    nibabel.save(Nifti1Image(array, image.affine), t1)
    outcome = make(t1, tiny_model, output=tmp_path / "out.nii.gz")
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert "3" in record["notes"][0] and "NaN" in record["notes"][0]
    assert record["notes"][0] in outcome.warnings
    assert np.isfinite(outcome.volume.array).all()


@pytest.mark.parametrize("name", ["out.nii.gz", "out.json", "out.png", "out_std.nii.gz"])
def test_any_output_that_exists_is_kept(t1: Path, tiny_model: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    options: dict[str, Any] = {"output": tmp_path / "out.nii.gz", "samples": 2, "preview": True}
    with pytest.raises(OutputError, match=name.replace(".", r"\.")):
        make(t1, tiny_model, **options)
    assert (tmp_path / name).read_text() == "mine"
    assert names(tmp_path) == sorted([name, "scan"])
    make(t1, tiny_model, overwrite=True, **options)
    assert names(tmp_path) == ["out.json", "out.nii.gz", "out.png", "out_std.nii.gz", "scan"]


def refused(kind: type[ImputerError], words: str, folder: Path, *arguments: Any, **options: Any) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(kind, match=words):
        make(*arguments, **options)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"to": "t1"}, UsageError, "both t1"),
        ({"to": "t7"}, UsageError, "t7"),
        ({"from_": "pdw", "to": "pd"}, UsageError, "both pd"),
        ({"to": "flair"}, ModelError, "from t1 to t2, not from t1 to flair"),
        ({"from_": "flair"}, ModelError, "not from flair to t2"),
        ({"to": "ct", "model": None}, ModelError, "no model from t1 to ct.*t1 to t2, t2 to t1"),
        ({"model": "nonsense"}, ModelError, "syndiff-t1-t2"),
        ({"steps": 9}, UsageError, "1 to 4"),
        ({"steps": 0}, UsageError, "1 to 4"),
        ({"samples": 0}, UsageError, "samples"),
        ({"batch_size": 0}, UsageError, "batch size"),
        ({"batch_size": "many"}, UsageError, "many"),
        ({"precision": "fp16"}, DeviceError, "fp16"),
        ({"precision": "fp12"}, DeviceError, "fp12"),
        ({"device": "abacus"}, DeviceError, "abacus"),
        ({"output": "out.png"}, UsageError, "NIfTI"),
        ({"output": "gone/out.nii.gz"}, OutputError, "gone"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(
    t1: Path, tiny_model: Path, tmp_path: Path, options: dict[str, Any], kind: type[ImputerError], words: str
) -> None:
    options = {**options, "output": tmp_path / options.get("output", "out.nii.gz")}
    refused(kind, words, tmp_path, t1, options.pop("model", tiny_model), **options)


def test_the_input_is_never_the_output(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    for output in (t1, t1.parent / ".." / "scan" / "t1.nii.gz"):
        refused(UsageError, "input itself", tmp_path, t1, tiny_model, output=output, overwrite=True)
    link = tmp_path / "link.nii.gz"
    link.symlink_to(t1)
    refused(UsageError, "input itself", tmp_path, t1, tiny_model, output=link, overwrite=True)


def test_a_name_that_tells_no_modality_needs_one(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    image = t1.rename(tmp_path / "image.nii.gz")
    refused(InputError, "image.nii.gz.*--from", tmp_path, image, tiny_model)
    assert make(image, tiny_model, from_="MPRAGE").record["from"] == "t1"


def test_a_volume_that_is_no_head_needs_force(tiny_model: Path, tmp_path: Path) -> None:
    head = make_head([Modality.T1], **GRID)[Modality.T1]
    scaled = Volume(head.array, head.affine @ np.diag([10.0, 10, 10, 1]), Modality.T1)
    refused(InputError, "1760 x 2080.*--force|mm.*--force", tmp_path, scaled, tiny_model)
    tiny = Volume(head.array, head.affine @ np.diag([0.1, 0.1, 0.1, 1]), Modality.T1)
    refused(InputError, "--force", tmp_path, tiny, tiny_model)
    outcome = make(tiny, tiny_model, force=True)
    assert outcome.record["scope_warnings"] == outcome.warnings != []


def test_a_model_without_a_body_part_takes_anything() -> None:
    head = make_head([Modality.T1], **GRID)[Modality.T1]
    small = Volume(head.array, head.affine @ np.diag([0.5, 0.5, 0.5, 1]), Modality.T1)
    assert make(small, make_method()).warnings == []


@pytest.mark.parametrize("failing", ["save", "mosaic", "write_json"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing(
    t1: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, existing: bool
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OutputError("No space is left.")

    if existing:
        (tmp_path / "out.nii.gz").write_text("mine")
    monkeypatch.setattr(f"imputer.results.{failing}", full)
    options = {"samples": 2, "preview": True, "overwrite": existing}
    refused(OutputError, "No space", tmp_path, t1, tiny_model, output=tmp_path / "out.nii.gz", **options)


def test_a_volume_that_the_system_stops_half_way_leaves_nothing(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))  # enough for the sidecar, half of the volume
    try:
        refused(OutputError, r"out\.nii could not be written", tmp_path, t1, tiny_model, output=tmp_path / "out.nii")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["scan"]


def test_bad_weights_never_reach_the_disk(t1: Path, tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_model.read_bytes()[:-10])
    refused(ModelError, "broken.safetensors", tmp_path, t1, broken, output=tmp_path / "out.nii.gz")


def test_the_run_does_not_touch_torchs_own_random_numbers(t1: Path, tiny_model: Path) -> None:
    model = imputer.load_model(tiny_model, device="cpu")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make(t1, model)
    assert torch.equal(torch.rand(3), expected)
