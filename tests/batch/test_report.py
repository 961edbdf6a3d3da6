"""The page of a run from its folder: cases, flags, sources found again, and nothing of a patient."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image

from imputer.batch import places
from imputer.batch.jobs import Job
from imputer.batch.report import make_report
from imputer.errors import InputError, OutputError
from imputer.files import sha256_of
from imputer.modality import Modality

COLUMNS = ["case", "status", "seconds", "message", "target", "output"]


def put_scan(path: Path, seed: int = 0) -> Path:
    """A small volume that shows something."""
    values = np.random.default_rng(seed).uniform(0, 100, (16, 18, 5)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(Nifti1Image(values, np.diag([4.0, 4.0, 20.0, 1.0])), path)
    return path


def put_case(run: Path, name: str, scan: Path, /, **more: Any) -> Path:
    """A made-up result of `scan`, which is a scan that is there, with its sidecar."""
    output = put_scan(run / f"{name}_synth-t2.nii.gz")
    record = {
        "synthetic": True,
        "source": {"file": scan.name, "sha256": sha256_of(scan)},
        "from": "t1",
        "to": "t2",
        "model": {"id": "tiny", "version": "7", "licence": "CC0-1.0"},
        "seed": 3,
        "scope_warnings": [],
        "notes": [],
        **more,
    }
    output.with_name(f"{name}_synth-t2.json").write_text(json.dumps(record), encoding="utf-8")
    return output


def put_table(run: Path, *rows: tuple[str, ...]) -> None:
    with (run / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def islands(page: Path) -> dict[str, Mapping[str, Any]]:
    """What the page holds of each case, by its name."""
    text = page.read_text(encoding="utf-8")
    pieces = [piece.split("</script>")[0] for piece in text.split('<script type="application/json"')[1:]]
    told = [json.loads(piece[piece.index(">") + 1 :]) for piece in pieces]
    return {each["name"]: each for each in told}


def kinds(case: Mapping[str, Any]) -> list[str]:
    return [flag[0] for flag in case["flags"]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one case, whose source lies elsewhere and is noted."""
    source = put_scan(tmp_path / "scans" / "anna_t1.nii.gz")
    run = tmp_path / "run"
    run.mkdir()
    output = put_case(run, "anna_t1", source)
    (run / ".imputer").mkdir()
    places.note_places(run, [Job("a:t2", "case-a", source, Modality.T1, Modality.T2, output)])
    put_table(run, ("case-a", "done", "1.5", "", "t2", output.name))
    return run


def test_a_case_with_its_source(run: Path) -> None:
    made = make_report(run)
    assert (made.path, made.cases, made.without_source) == (run / "report.html", 1, 0)
    case = islands(made.path)["case-a"]
    assert case["contrast"] == "T1 → T2" and case["flags"] == []
    assert [volume["name"] for volume in case["pictures"]["volumes"]] == ["source", "synthetic"]
    assert ["Model", "tiny 7"] in case["facts"] and ["Seed", "3"] in case["facts"]


def test_a_source_that_is_gone_or_another_one_by_now_is_told(run: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "anna_t1.nii.gz"
    put_scan(scan, seed=9)
    made = make_report(run)
    case = islands(made.path)["case-a"]
    assert made.without_source == 1 and kinds(case) == ["page"]
    assert "another file" in case["flags"][0][2]
    assert [volume["name"] for volume in case["pictures"]["volumes"]] == ["synthetic"]
    scan.unlink()
    case = islands(make_report(run, overwrite=True).path)["case-a"]
    assert "not found" in case["flags"][0][2]


def test_sources_are_looked_for_in_a_folder_that_is_named(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / ".imputer")
    assert make_report(run).without_source == 1
    assert make_report(run, sources=tmp_path / "scans", overwrite=True).without_source == 0


def test_what_a_sidecar_says_is_flagged(run: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "anna_t1.nii.gz"
    put_case(run, "anna_t1", scan, scope_warnings=["slices are thick"], notes=["anna_t1.nii.gz had 2 NaN"],
             risk={"score": 0.8, "reasons": ["slices are thick", "Far from the training data."]})  # fmt: skip
    page = make_report(run).path
    flags = {kind: text for kind, _, text in islands(page)["case-a"]["flags"]}
    assert flags == {
        "scope": "Slices are thick",
        "risk": "The risk score is 0.80 of 1. Far from the training data.",
        "note": "The source had 2 NaN",
    }
    assert 'data-key="risk"' in page.read_text(encoding="utf-8")


def test_the_deviation_of_samples_is_shown(run: Path) -> None:
    put_scan(run / "anna_t1_synth-t2_std.nii.gz", seed=2)
    case = islands(make_report(run).path)["case-a"]
    assert [volume["name"] for volume in case["pictures"]["volumes"]] == ["source", "synthetic", "deviation"]


def test_broken_cases_are_rows_with_flags(run: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "anna_t1.nii.gz"
    put_case(run, "cut", scan).write_bytes(b"\x1f\x8b no volume")
    put_case(run, "gone", scan).unlink()
    put_case(
        run,
        "wild",
        scan,
        model="?",
        source=7,
        sources=3,
        scope_warnings="x",
        risk={"score": float("nan")},
        notes={},
        seconds="long",
    )
    put_case(run, "bare", scan).with_name("bare_synth-t2.json").write_text("{")
    nibabel.save(Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), put_case(run, "flat", scan))
    names = ("cut", "gone", "wild", "bare", "flat")
    rows = [(name, "done", "x", "", "t2", f"{name}_synth-t2.nii.gz") for name in names]
    put_table(run, *rows, ("out", "done", "1", "", "t2", "../scans/anna_t1.nii.gz"), ("no", "failed"), ("odd", "?"))
    told = islands(make_report(run).path)
    assert set(told) == {*names, "out", "no"}
    assert {name: kinds(case) for name, case in told.items()} == {
        "cut": ["broken"],
        "gone": ["broken"],
        "wild": ["page"],
        "bare": ["broken", "page"],
        "flat": ["broken"],
        "out": ["broken", "broken"],
        "no": ["failed"],
    }
    assert told["wild"]["pictures"] is not None


def test_a_failure_is_told_without_names_of_files(run: Path) -> None:
    put_table(run, ("case-b", "failed", "0.1", "Meier Berta t1.nii.gz is damaged: it ends. Copy it.", "t2", "x.nii.gz"))
    text = make_report(run).path.read_text(encoding="utf-8")
    assert "A file is damaged: it ends. Copy it." in text
    assert "Berta" not in text


def test_nothing_of_a_patient_but_the_id_of_the_case(run: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "anna_t1.nii.gz"
    image = nibabel.load(scan)
    image.header["descrip"] = b"Anna Meier 1970"
    nibabel.save(image, scan)
    put_case(run, "anna_t1", scan, notes=["anna_t1.nii.gz: Anna had two volumes in anna_t1.nii.gz"])
    (run / "run.json").write_text(json.dumps({"failures": [{"command": f"imputer synth {scan}"}], "seconds": 3}))
    text = make_report(run).path.read_text(encoding="utf-8")
    for word in ("anna_t1", "Meier", "1970", str(tmp_path), "scans"):
        assert word not in text, word
    assert "case-a" in text


def test_any_folder_of_synthetic_volumes_has_a_page(tmp_path: Path) -> None:
    scan = put_scan(tmp_path / "sub-1" / "t1.nii.gz")
    put_case(tmp_path / "sub-1", "t1", scan)
    (tmp_path / "sub-1" / "other.json").write_text('{"synthetic": 1}')
    (tmp_path / ".hidden").mkdir()
    shutil.copy(tmp_path / "sub-1" / "t1_synth-t2.json", tmp_path / ".hidden" / "x.json")
    made = make_report(tmp_path, tmp_path / "page.html")
    assert made.without_source == 0  # it lies beside the result
    assert list(islands(made.path)) == ["sub-1/t1"]


def test_where_there_is_nothing_to_show_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        make_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no results"):
        make_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_is_there_stays(run: Path) -> None:
    (run / "report.html").write_text("mine")
    with pytest.raises(OutputError):
        make_report(run)
    assert (run / "report.html").read_text() == "mine"


def test_progress_is_told_and_can_end_the_work(run: Path) -> None:
    told: list[tuple[int, int]] = []
    make_report(run, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 1)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_report(run, run / "other.html", progress=stop)
    assert not (run / "other.html").exists()
