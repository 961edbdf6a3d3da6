"""imputer synth and inspect on DICOM: what is written and said, what is refused; nothing of a patient leaks."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_phantom import CANARIES, make_series

from imputer.errors import OutputError
from imputer.io.dispatch import load

from .conftest import Run, assert_refused

HEAD = {"shape": (44, 48, 6), "spacing": (4.5, 4.0, 26.0)}  # a head's size in few voxels


@pytest.fixture
def model(tiny_model: Path) -> list[object]:
    return ["-m", tiny_model, "--fast"]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """One T1 series in a folder of its own."""
    make_series(tmp_path / "study" / "scan", **HEAD)
    return tmp_path / "study" / "scan"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_series_becomes_a_series_beside_it(run: Run, scan: Path, model: list[object]) -> None:
    before = {path: path.read_bytes() for path in scan.iterdir()}
    result = run("synth", scan, "--to", "t2", *model)
    assert result.exit_code == 0, result.output
    made = scan.with_name("scan_synth-t2")
    assert result.stdout == f"{made}\n"
    assert names(scan.parent) == ["scan", "scan_synth-t2", "scan_synth-t2.json"]
    assert {path: path.read_bytes() for path in scan.iterdir()} == before
    assert len(names(made)) == HEAD["shape"][2]
    source, derived = load(scan), load(made)
    assert derived.shape == source.shape
    np.testing.assert_allclose(derived.affine, source.affine, atol=1e-4)
    record = json.loads(scan.with_name("scan_synth-t2.json").read_text(encoding="utf-8"))
    header = pydicom.dcmread(next(made.iterdir()))
    assert record["dicom"]["series_instance_uid"] == header.SeriesInstanceUID
    assert (record["source"]["file"], record["source"]["dicom_files"]) == ("scan", 6)
    assert header["SyntheticData"].value == "YES"


def test_nifti_from_dicom_lies_where_dcm2niix_puts_it(
    run: Run, scan: Path, model: list[object], tmp_path: Path
) -> None:
    result = run("synth", scan, "--to", "t2", "-ot", "nifti", *model)
    assert result.stdout == f"{scan.with_name('scan_synth-t2.nii.gz')}\n"
    made = nibabel.load(scan.with_name("scan_synth-t2.nii.gz"))
    tool = shutil.which("dcm2niix")
    if tool is None:
        pytest.skip("dcm2niix is not installed")
    out = tmp_path / "converted"
    out.mkdir()
    subprocess.run([tool, "-b", "n", "-z", "n", "-o", out, scan], check=True, capture_output=True)
    theirs = nibabel.load(next(out.glob("*.nii")))
    assert made.shape == theirs.shape
    np.testing.assert_allclose(made.affine, theirs.affine, atol=1e-3)
    again = run("synth", next(out.glob("*.nii")), "--from", "t1", "--to", "t2", "-o", out / "made.nii.gz", *model)
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(nibabel.load(out / "made.nii.gz").dataobj, made.dataobj)


def test_both_kinds_hold_the_same_voxels(run: Run, scan: Path, model: list[object], tmp_path: Path) -> None:
    result = run("synth", scan, "--to", "t2", "-ot", "nifti", "-ot", "dicom", "-o", tmp_path / "new" / "out", *model)
    folder = tmp_path / "new" / "out"
    assert result.stdout.splitlines() == [str(folder / "scan_synth-t2.nii.gz"), str(folder / "scan_synth-t2")]
    nifti = nibabel.as_closest_canonical(nibabel.load(folder / "scan_synth-t2.nii.gz"))
    series = load(folder / "scan_synth-t2")
    dicom = nibabel.as_closest_canonical(nibabel.Nifti1Image(series.array, series.affine))
    np.testing.assert_array_equal(np.asarray(nifti.dataobj), np.asarray(dicom.dataobj))
    np.testing.assert_allclose(nifti.affine, dicom.affine, atol=1e-3)


@pytest.mark.parametrize("kind", ["zip", "enhanced", "j2k"])
def test_other_wrappings(kind: str, run: Run, model: list[object], tmp_path: Path) -> None:
    settings = {"enhanced": {"enhanced": True}, "j2k": {"syntax": "j2k"}}.get(kind, {})
    paths = make_series(tmp_path / "scan", **HEAD, **settings)
    source, stem = tmp_path / "scan", "scan"
    if kind == "enhanced":
        source, stem = paths[0], paths[0].stem
    elif kind == "zip":
        source = tmp_path / "study.zip"
        stem = "study"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in paths:
                archive.write(path, f"a/b/{path.name}")
    result = run("synth", source, "--to", "t2", "-o", tmp_path / "made", *model)
    assert result.stdout == f"{tmp_path / 'made' / (stem + '_synth-t2')}\n", result.output
    assert len(list((tmp_path / "made" / f"{stem}_synth-t2").iterdir())) == HEAD["shape"][2]


def test_several_series_are_listed_and_one_is_named(run: Run, scan: Path, model: list[object]) -> None:
    make_series(scan, **HEAD, series_number=7, contrast="flair", description="dark fluid")
    assert_refused(run("synth", scan, "--to", "t2", *model), 3, "--series", "inspect", "3", "7")
    assert run("synth", scan, "--series", "3", "--to", "t2", *model).exit_code == 0
    assert run("synth", scan, "--to", "t2", "--from", "t1", "--overwrite", *model).exit_code == 0
    unknown = run("synth", scan, "--series", "99", "--to", "t2", *model, "--overwrite")
    assert_refused(unknown, 3, "No series", "--series")
    shown = run("inspect", scan)
    assert shown.exit_code == 0 and "dark fluid" in shown.stdout and "flair" in shown.stdout
    record = json.loads(run("inspect", scan, "--json").stdout)
    assert [(one["number"], one["modality"], one["usable"]) for one in record["series"]] == [
        (3, "t1", True),
        (7, "flair", True),
    ]
    one = json.loads(run("inspect", scan, "--series", "3", "--json").stdout)
    assert (one["modality"], one["shape"]) == ("t1", [44, 48, 6])
    assert {model["id"] for model in one["models"]} == {"syndiff-t1-t2", "syndiff-t1-flair", "aldm-t1-t1ce-t2-flair"}


def test_what_was_made_is_not_taken_for_a_scan(run: Run, scan: Path, model: list[object]) -> None:
    made = run("synth", scan, "--to", "t2", *model)
    assert made.exit_code == 0
    result = run("synth", scan.parent, "--to", "t2", "-o", scan.parent.parent / "again", *model)
    assert result.exit_code == 0, result.output
    record = json.loads(run("inspect", scan.parent, "--json").stdout)
    assert [one["synthetic"] for one in record["series"]] == [False, True]


def test_a_nifti_becomes_dicom_like_its_series(run: Run, scan: Path, model: list[object], tmp_path: Path) -> None:
    volume = load(scan)
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.array, volume.affine))
    nibabel.save(image, tmp_path / "t1.nii.gz")
    result = run("synth", tmp_path / "t1.nii.gz", "--to", "t2", "--reference-dicom", scan, *model)
    assert result.exit_code == 0, result.output
    made = tmp_path / "t1_synth-t2"
    assert result.stdout == f"{made}\n"
    direct = run("synth", scan, "--to", "t2", *model)
    assert direct.exit_code == 0
    first, second = load(made), load(scan.with_name("scan_synth-t2"))
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_allclose(first.affine, volume.affine, atol=1e-4)
    nibabel.save(nibabel.Nifti1Image(volume.array, np.diag([4.5, 4.0, 26.0, 1])), tmp_path / "t1.nii.gz")
    asked = ["synth", tmp_path / "t1.nii.gz", "--to", "t2", "--reference-dicom", scan, "--overwrite", *model]
    assert_refused(run(*asked), 3, "grid", "reference")


def test_nothing_of_the_patient_leaks(run: Run, scan: Path, model: list[object], tmp_path: Path) -> None:
    said = [run("synth", scan, "--to", "t2", "-ot", "nifti", "-ot", "dicom", "-vv", "--log-json", "--preview", *model)]
    said.append(run("synth", scan, "--to", "t2", *model))  # exists
    said.append(run("synth", scan, "--to", "t1", *model))  # source and target are one
    said.append(run("inspect", scan, "--json"))
    make_series(scan, **HEAD, series_number=4)
    said.append(run("synth", scan, "--to", "flair", *model))  # two that fit
    sorted(scan.glob("S003*"))[2].unlink()
    said.append(run("synth", scan, "--to", "flair", "--series", "3", *model))  # a slice is missing
    assert [result.exit_code for result in said] == [0, 6, 2, 0, 3, 3]
    outputs = [path for path in scan.parent.glob("scan_*") if path.is_file()]
    assert len(outputs) == 3
    texts = [result.output.encode() for result in said] + [nibabel.load(outputs[0]).header.binaryblock]
    texts += [path.read_bytes() for path in outputs] + [str(sorted(scan.parent.rglob("*_synth*/*"))).encode()]
    for canary in CANARIES:
        assert not any(canary.encode() in text for text in texts), canary


def test_outputs_are_guarded(run: Run, scan: Path, model: list[object]) -> None:
    assert_refused(run("synth", scan, "--to", "t2", "-o", scan, *model), 2, "inside the input folder")
    assert run("synth", scan, "--to", "t2", *model).exit_code == 0
    made = scan.with_name("scan_synth-t2")
    assert_refused(run("synth", scan, "--to", "t2", *model), 6, "exists")
    first = pydicom.dcmread(next(made.iterdir())).SeriesInstanceUID
    assert run("synth", scan, "--to", "t2", "--overwrite", *model).exit_code == 0
    assert pydicom.dcmread(next(made.iterdir())).SeriesInstanceUID != first
    (made / "notes.txt").write_text("mine")
    before = names(made)
    assert run("synth", scan, "--to", "t2", "--overwrite", *model).exit_code == 6
    assert names(made) == before
    assert names(scan.parent) == ["scan", "scan_synth-t2", "scan_synth-t2.json"]


def test_a_dry_run_writes_nothing(run: Run, scan: Path, model: list[object], tmp_path: Path) -> None:
    result = run("synth", scan, "--to", "t2", "-o", tmp_path / "out", "--dry-run", *model)
    assert result.stdout == f"{tmp_path / 'out' / 'scan_synth-t2'}\n", result.output
    assert not (tmp_path / "out").exists()


def test_a_failure_after_the_series_takes_it_back(
    run: Run, scan: Path, model: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("No space is left.")

    monkeypatch.setattr("imputer.results.write_json", full)
    assert_refused(run("synth", scan, "--to", "t2", "-q", *model), 6, "No space")
    assert names(scan.parent) == ["scan"]


def test_another_body_part_needs_force(run: Run, model: list[object], tmp_path: Path) -> None:
    make_series(tmp_path / "scan", **HEAD, tags={"BodyPartExamined": "KNEE"})
    embedded = ["synth", tmp_path / "scan", "--to", "t2", "--fast"]
    assert_refused(run(*embedded), 3, "KNEE", "--force")
    result = run(*embedded, "--force")
    assert result.exit_code == 0 and "KNEE" in result.stderr


def test_several_samples_come_with_their_spread(run: Run, scan: Path, model: list[object]) -> None:
    assert run("synth", scan, "--to", "t2", "--samples", "2", *model).exit_code == 0
    spread = nibabel.load(scan.with_name("scan_synth-t2_std.nii.gz"))
    assert sorted(spread.shape) == sorted(HEAD["shape"])


def test_options_of_dicom_need_dicom(run: Run, t1: Path, tmp_path: Path) -> None:
    assert_refused(run("synth", t1, "--to", "t2", "--series", "3"), 2, "no DICOM")
    assert_refused(run("inspect", t1, "--series", "3"), 2, "no DICOM")
    assert_refused(run("synth", t1, "--to", "t2", "--reference-dicom", t1), 3, "no DICOM series")
    (tmp_path / "empty").mkdir()
    assert_refused(run("synth", tmp_path / "empty", "--to", "t2"), 3, "empty")
