"""weights_manifest.toml: every entry is complete and true, and the wheel takes it along."""

from __future__ import annotations

import hashlib
import re
import runpy
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from imputer.errors import ModelError
from imputer.modality import Modality
from imputer.weights import manifest

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = manifest.entries()
LARGEST = 40e6  # bytes, all embedded models together


def test_the_four_pairs_are_there() -> None:
    pairs = {(entry.source, entry.target) for entry in ENTRIES if entry.embedded}
    assert pairs == {
        (Modality.T1, Modality.T2),
        (Modality.T2, Modality.T1),
        (Modality.T1, Modality.FLAIR),
        (Modality.T2, Modality.FLAIR),
    }


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_is_complete_and_true(entry: manifest.Entry) -> None:
    assert entry.id == f"{entry.method}-{entry.source}-{entry.target}"
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.licence == "CC-BY-4.0"
    assert "Ljubljana" in entry.trained_on  # CC-BY: credit is due
    assert entry.title and entry.citation and entry.version
    assert entry.path == ROOT / entry.file
    assert entry.path.stat().st_size == entry.bytes
    assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
    assert manifest.verified_path(entry) == entry.path


def test_the_embedded_models_are_small() -> None:
    assert 0 < sum(entry.bytes for entry in ENTRIES) <= LARGEST


def test_find_and_candidates() -> None:
    assert manifest.find("syndiff-t1-t2").pair == "t1->t2"
    assert [entry.id for entry in manifest.candidates(Modality.T1)] == ["syndiff-t1-t2", "syndiff-t1-flair"]
    assert [entry.id for entry in manifest.candidates(target=Modality.T1)] == ["syndiff-t2-t1"]
    assert manifest.candidates(Modality.T1, Modality.CT) == ()
    with pytest.raises(ModelError, match=r"no model 'nonsense'.*syndiff-t2-flair"):
        manifest.find("nonsense")


@pytest.fixture
def entry(tmp_path: Path) -> manifest.Entry:
    """An entry whose file is sound, in a temporary folder (an absolute `file` overrides the package's folder)."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    return replace(ENTRIES[0], file=str(file), bytes=7, sha256=digest)


def test_a_sound_file_has_no_fault(entry: manifest.Entry) -> None:
    assert manifest.fault(entry) is None


@pytest.mark.parametrize(
    ("content", "problem"), [(b"weightz", "SHA-256"), (b"weight", "6 bytes, the manifest says 7"), (None, "missing")]
)
def test_a_damaged_file_is_not_used(entry: manifest.Entry, content: bytes | None, problem: str) -> None:
    if content is None:
        entry.path.unlink()
    else:
        entry.path.write_bytes(content)
    assert problem in str(manifest.fault(entry))
    with pytest.raises(ModelError, match="not usable"):
        manifest.verified_path(entry)


@pytest.mark.parametrize(
    "text",
    ["not toml", "format = 2\nmodel = []", "format = 1", 'format = 1\n[[model]]\nid = "x"', "format = 1\nmodel = 3"],
)
def test_a_broken_manifest_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights_manifest.toml"
    path.write_text(text)
    with pytest.raises(ModelError, match="cannot be read"):
        manifest.read(path)


def test_refreshing_changes_hash_and_size_only(tmp_path: Path) -> None:
    text = (ROOT / "weights_manifest.toml").read_text(encoding="utf-8")
    for number, entry in enumerate(ENTRIES):
        (tmp_path / entry.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / entry.file).write_bytes(b"x" * (number + 1))
    tool = runpy.run_path(str(ROOT / "tools" / "refresh_manifest.py"))
    path = tmp_path / "weights_manifest.toml"
    path.write_text(tool["with_hashes"](text, tmp_path), encoding="utf-8")
    wanted = [
        replace(entry, bytes=number + 1, sha256=hashlib.sha256(b"x" * (number + 1)).hexdigest())
        for number, entry in enumerate(ENTRIES)
    ]
    assert list(manifest.read(path)) == wanted
    kept = [line for line in text.splitlines() if not line.startswith(("sha256", "bytes"))]
    assert [line for line in path.read_text().splitlines() if not line.startswith(("sha256", "bytes"))] == kept


def test_the_manifest_is_found_beside_the_package_here() -> None:
    assert manifest.manifest_path() == ROOT / "weights_manifest.toml"


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
    assert {entry.file for entry in ENTRIES} <= names
    assert not any(name.startswith(("tests/", "tools/")) for name in names)
