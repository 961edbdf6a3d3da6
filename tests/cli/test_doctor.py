"""imputer doctor: what is here, as text and as JSON, also where torch does not load."""

from __future__ import annotations

import json
import subprocess

import pytest
import torch

import imputer
from imputer.weights.manifest import entries

from .conftest import Run


def test_as_json(run: Run) -> None:
    result = run("doctor", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    record = json.loads(result.stdout)
    assert record["imputer"] == imputer.__version__
    assert record["packages"]["torch"] == torch.__version__
    assert record["devices"][-1] == "cpu"
    assert record["threads"] >= 1
    assert set(record["models"].values()) == {"sound"}
    assert len(record["models"]) == len([entry for entry in entries() if entry.embedded])


def test_as_text(run: Run) -> None:
    text = run("doctor").stdout
    for words in ("python", torch.__version__, "syndiff-t1-t2", "sound", "cpu"):
        assert words in text


def test_a_torch_that_does_not_load_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fail)
    record = json.loads(run("doctor", "--json").stdout)
    assert record["devices"] == []
    assert "torch does not load" in record["problem"]
