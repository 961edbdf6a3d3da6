"""imputer models: results as text and JSON, damage found, foreign checkpoints refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imputer.weights import manifest

from .conftest import Run, assert_refused

IDS = ["syndiff-t1-t2", "syndiff-t2-t1", "syndiff-t1-flair", "syndiff-t2-flair"]


def test_list(run: Run) -> None:
    result = run("models", "list")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, *rows = [line.split() for line in result.stdout.splitlines()]
    assert heading == ["ID", "FROM", "TO", "METHOD", "SIZE", "LICENCE"]
    assert [row[:4] for row in rows] == [[name, *name.split("-")[1:], "syndiff"] for name in IDS]


def test_list_as_json(run: Run) -> None:
    result = run("models", "list", "--json")
    assert result.exit_code == 0
    records = json.loads(result.stdout)
    assert [record["id"] for record in records] == IDS
    assert {record["licence"] for record in records} == {"CC-BY-4.0"}


def test_info(run: Run) -> None:
    record = json.loads(run("models", "info", "syndiff-t2-flair", "--json").stdout)
    assert (record["from"], record["to"], record["embedded"]) == ("t2", "flair", True)
    text = run("models", "info", "syndiff-t2-flair").stdout
    assert [line.split()[0] for line in text.splitlines()] == list(record)


@pytest.mark.parametrize("command", ["info", "path", "verify"])
def test_an_unknown_id_is_four_and_says_which_exist(run: Run, command: str) -> None:
    assert_refused(run("models", command, "nonsense"), 4, "nonsense", *IDS)


def test_path(run: Run) -> None:
    result = run("models", "path", "syndiff-t1-t2")
    assert result.exit_code == 0
    assert Path(result.stdout.strip()).is_file()
    assert json.loads(run("models", "path", "syndiff-t1-t2", "--json").stdout)["path"] == result.stdout.strip()


def test_verify(run: Run) -> None:
    result = run("models", "verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()] == [[name, "sound"] for name in IDS]


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One model, whose file has changed since the manifest was written."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"not what it was")
    entry = replace(manifest.entries()[0], file=str(file), bytes=15)
    monkeypatch.setattr(manifest, "entries", lambda: (entry,))
    return file


def test_verify_finds_damage(run: Run, damaged: Path) -> None:
    for arguments in (("models", "verify"), ("models", "verify", "syndiff-t1-t2"), ("doctor",)):
        result = run(*arguments)
        assert result.exit_code == 4
        assert "SHA-256" in result.stdout
        assert result.stderr.startswith("imputer: error: Not usable: syndiff-t1-t2.")
    record = json.loads(run("models", "verify", "--json").stdout)
    assert record == [{"id": "syndiff-t1-t2", "sound": False, "problem": manifest.fault(manifest.entries()[0])}]


def test_a_damaged_model_is_not_used(run: Run, damaged: Path, t1: Path) -> None:
    assert_refused(run("synth", t1, "--to", "t2"), 4, "SHA-256")
    assert list(t1.parent.iterdir()) == [t1]


def test_path_of_a_missing_file(run: Run, damaged: Path) -> None:
    damaged.unlink()
    assert_refused(run("models", "path", "syndiff-t1-t2"), 4, "missing")


class Payload:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the code in the checkpoint ran",)


def write_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"module.all_modules.0.weight": Payload()}))


def write_torch_code(path: Path) -> None:
    torch.save({"module.all_modules.0.weight": Payload()}, path)


def write_nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense")


def write_other_network(path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3, 3)}, path)


def write_numbers(path: Path) -> None:
    torch.save({"conv.weight": 3}, path)


@pytest.mark.parametrize(
    "write",
    [write_code, write_torch_code, write_nonsense, write_other_network, write_numbers],
    ids=lambda w: w.__name__,
)
def test_a_wrong_checkpoint_is_four_and_leaves_nothing(
    run: Run, tmp_path: Path, write: object, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "gen_diffusive_2_50.pth"
    write(checkpoint)  # type: ignore[operator]
    result = run("models", "import", checkpoint, "--from", "t1", "--to", "t2")
    assert_refused(result, 4)
    assert "the code in the checkpoint ran" not in result.output + capfd.readouterr().out
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_import_of_a_missing_checkpoint(run: Run, tmp_path: Path) -> None:
    result = run("models", "import", tmp_path / "absent.pth", "--from", "t1", "--to", "t2")
    assert result.exit_code in (3, 4)
    assert_refused(result, result.exit_code, "absent.pth")


def test_import_with_an_unknown_modality(run: Run, tmp_path: Path) -> None:
    assert_refused(run("models", "import", tmp_path / "x.pth", "--from", "t1", "--to", "t7"), 2, "t7", "flair")
