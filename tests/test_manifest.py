"""weights_manifest.toml: every entry is complete and true, the tool keeps it so, and the wheel takes it along."""

from __future__ import annotations

import hashlib
import json
import runpy
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imputer.errors import ModelError
from imputer.io.dispatch import load
from imputer.modality import Modality
from imputer.preprocess.fingerprint import fingerprint
from imputer.weights import manifest
from imputer.weights.manifest import Embedded, Entry, ImportOnly

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "weights_manifest.toml"
RESULTS = ROOT / "benchmarks" / "results" / "embedded_scores.json"
ENTRIES = manifest.entries()
EMBEDDED = [entry for entry in ENTRIES if entry.embedded]
TO_IMPORT = [entry for entry in ENTRIES if not entry.embedded]
LARGEST = 40 * 2**20  # bytes, all embedded models together

# Where the authors put their releases, looked up; any other address in the manifest is a mistake.
PAGES = {"syndiff": "https://github.com/icon-lab/SynDiff", "aldm": "https://github.com/jongdory/ALDM"}


def file_of(entry: Entry) -> str:
    assert isinstance(entry.home, Embedded)
    return entry.home.file


def test_it_lists_what_exists_the_embedded_ones_first() -> None:
    assert [(entry.id, entry.pair) for entry in ENTRIES] == [
        ("syndiff-t1-t2", "t1->t2"),
        ("syndiff-t2-t1", "t2->t1"),
        ("syndiff-t1-flair", "t1->flair"),
        ("syndiff-t2-flair", "t2->flair"),
        ("syndiff-t2-t1-flair", "t2+t1->flair"),
        ("disdiff-t1-t2", "t1/t2->t1/t2"),
        ("aldm-t1-t1ce-t2-flair", "t1/t1ce/t2/flair->t1/t1ce/t2/flair"),
        ("syndiff-ixi-t1-pd", "t1->pd"),
        ("syndiff-ixi-pd-t1", "pd->t1"),
        ("syndiff-brats-t1-t2", "t1->t2"),
        ("syndiff-brats-t2-t1", "t2->t1"),
        ("aldm-brats2021-autoencoder", "t1/t1ce/t2/flair->t1/t1ce/t2/flair"),
    ]
    assert [entry.embedded for entry in ENTRIES] == [True] * 7 + [False] * 5


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_says_what_must_be_said(entry: Entry) -> None:
    assert entry.scope.anatomy == "brain"
    assert entry.scope.note
    assert 0.3 < entry.scope.pixel_mm[0] <= entry.scope.pixel_mm[1] <= entry.scope.slice_mm[1] < 10
    assert any(name in entry.citation for name in ("Ozbey", "Kim & Park", "Kim and Park", "Zhang"))
    for text in (entry.licence.code, entry.licence.weights, entry.licence.data, entry.trained_on):
        assert "TODO" not in text and "unknown" not in text


@pytest.mark.parametrize("entry", EMBEDDED, ids=lambda entry: entry.id)
def test_an_embedded_entry_is_true(entry: Entry) -> None:
    assert entry.is_runnable
    of_pair = (*entry.sources, *entry.targets) if entry.method == "syndiff" else entry.targets
    assert entry.id == "-".join([entry.method, *of_pair])
    assert (entry.licence.weights, entry.licence.non_commercial) == ("CC-BY-4.0", False)
    assert "Ljubljana" in entry.trained_on and "CC-BY" in entry.licence.data  # credit is due
    file = ROOT / file_of(entry)
    assert file.parent == ROOT / "imputer" / "assets"
    assert file.stat().st_size == entry.bytes
    assert hashlib.sha256(file.read_bytes()).hexdigest() == entry.sha256


def _label(entry: Entry, row: dict[str, Any]) -> str:
    """What a score's case is called: with its pair, where the model makes many."""
    has_many = len(entry.sources) * len(entry.targets) > 1
    return f"{row['case']}, {row['pair'].replace('-', ' to ')}" if has_many else row["case"]


@pytest.mark.parametrize("entry", EMBEDDED, ids=lambda entry: entry.id)
def test_the_scores_are_the_measured_ones(entry: Entry) -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    measured = {_label(entry, row): row for row in rows if row["model"] == entry.id}
    assert len(entry.scores) == 2 * len(measured) > 0
    for score in entry.scores:
        column, tolerance = {"PSNR (dB)": ("psnr", 0.0051), "SSIM": ("ssim", 0.00051)}[score.metric]
        row = measured[score.case]
        assert score.value == pytest.approx(row[column], abs=tolerance)
        assert score.baseline == pytest.approx(row[f"mapping_{column}"], abs=tolerance)
        assert score.baseline is not None and (score.value > score.baseline or entry.method == "aldm")
        assert "held out" in score.data and score.baseline_name


@pytest.mark.parametrize("entry", TO_IMPORT, ids=lambda entry: entry.id)
def test_what_others_released_is_told_not_fetched(entry: Entry) -> None:
    assert isinstance(entry.home, ImportOnly)
    assert not entry.is_runnable
    assert entry.home.url == PAGES[entry.method]
    assert entry.licence.weights == "not stated" and entry.licence.non_commercial
    assert entry.scores == ()  # we measured none
    if entry.method == "syndiff":
        number = 1 if entry.targets == (Modality.T1,) else 2
        command = (
            f"imputer models import gen_diffusive_{number}_50.pth --from {entry.sources[0]} --to {entry.targets[0]}"
        )
        assert command in entry.home.instructions
    else:
        classes = ",".join(entry.targets)
        assert f"imputer models import STAGE2.ckpt --targets {classes} --output" in entry.home.instructions
        assert f"--id {entry.id}." in entry.home.instructions


def test_the_embedded_models_are_small() -> None:
    assert 0 < sum(entry.bytes for entry in EMBEDDED) <= LARGEST


def test_a_model_is_found_by_its_id() -> None:
    assert manifest.find("syndiff-t1-t2") == ENTRIES[0]
    assert manifest.find("other", [replace(ENTRIES[0], id="other")]).id == "other"
    with pytest.raises(ModelError, match=r"no model 'nonsense'\. Models: .*syndiff-t2-flair"):
        manifest.find("nonsense")
    with pytest.raises(
        ModelError, match=r"no model 'syndiff-t1-t2'\. Did you mean syndiff-t1-t3\? Models: syndiff-t1-t3"
    ):
        manifest.find("syndiff-t1-t2", [replace(ENTRIES[0], id="syndiff-t1-t3")])


@pytest.mark.parametrize("typed", ["syndif-t1-flair", "SynDiff-T1-FLAIR", "syndiff_t1_flair"])
def test_near_ids_are_suggested(typed: str) -> None:
    with pytest.raises(ModelError, match=r"Did you mean syndiff-t1-flair\b"):
        manifest.find(typed)


def test_the_manifest_is_found_beside_the_package_here() -> None:
    assert manifest.manifest_path() == MANIFEST


def test_the_manifest_is_fresh() -> None:
    tool = [sys.executable, str(ROOT / "tools" / "refresh_manifest.py"), "--check"]
    assert subprocess.run(tool, check=False).returncode == 0, "run tools/refresh_manifest.py"


DATA = ROOT.parent / "shared/data/open_ms"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the developers' ../shared/data/open_ms")
def test_what_the_manifest_tells_of_the_training_volumes_is_true() -> None:
    tool = [sys.executable, str(ROOT / "tools" / "describe_training.py"), "--data", str(DATA), "--check"]
    assert subprocess.run(tool, check=False).returncode == 0, "run tools/describe_training.py"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the developers' ../shared/data/open_ms")
@pytest.mark.parametrize("case", ["native/patient04", "mni/patient26"])
def test_the_held_out_cases_are_not_among_them(case: str) -> None:
    learnt = {each for entry in EMBEDDED for each in entry.fingerprints}
    held_out = {fingerprint(load(path)) for path in (DATA / case).glob("*.nii.gz")}
    assert len(learnt) >= 18 and len(held_out) >= 3 and not learnt & held_out


def test_refreshing_takes_hash_size_and_scores_and_leaves_the_rest(tmp_path: Path) -> None:
    text = MANIFEST.read_text(encoding="utf-8")
    for number, entry in enumerate(EMBEDDED):
        (tmp_path / file_of(entry)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file_of(entry)).write_bytes(b"x" * (number + 1))
    row = {"case": "anna", "psnr": 31.126, "ssim": 0.5, "mapping_psnr": 20.0, "mapping_ssim": 0.25}
    rows = [{"model": entry.id, "pair": "t1-t2", **row} for entry in EMBEDDED[:3]]
    del rows[1]["mapping_psnr"]
    tool = runpy.run_path(str(ROOT / "tools" / "refresh_manifest.py"))
    refreshed = tool["refreshed"](text, tmp_path, rows)
    assert tool["refreshed"](refreshed, tmp_path, rows) == refreshed

    result = manifest.parse(refreshed, "refreshed")
    for number, (entry, now) in enumerate(zip(EMBEDDED, result, strict=False)):
        wanted = replace(entry, bytes=number + 1, sha256=hashlib.sha256(b"x" * (number + 1)).hexdigest())
        assert replace(now, scores=()) == replace(wanted, scores=())
    assert result[len(EMBEDDED) :] == ENTRIES[len(EMBEDDED) :]
    values = [
        [(score.case, score.metric, score.value, score.baseline) for score in now.scores]
        for now in result[: len(EMBEDDED)]
    ]
    psnr, ssim = ("anna", "PSNR (dB)", 31.13, 20.0), ("anna", "SSIM", 0.5, 0.25)
    assert values == [[psnr, ssim], [(*psnr[:3], None), ssim], [psnr, ssim], [], [], [], []]

    def comments(content: str) -> list[str]:
        return [line for line in content.splitlines() if line.startswith("#")]

    assert comments(refreshed) == comments(text)


def test_the_wheel_holds_manifest_and_weights(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling, of the dev extra")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "imputer/weights_manifest.toml" in names
    assert "imputer/py.typed" in names
    assert {file_of(entry) for entry in EMBEDDED} <= names
    assert not any(name.startswith(("tests/", "tools/")) for name in names)
