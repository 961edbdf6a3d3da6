"""What the tests of the commands share: a runner, and small volumes to give to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import pytest
from nibabel.nifti1 import Nifti1Image
from typer.testing import CliRunner, Result

from imputer.cli.app import app
from imputer.modality import Modality
from imputer.phantom import make_head

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the developer's shell reaches a test, and no test reaches the developer's cache."""
    for name in ("IMPUTER_DEVICE", "IMPUTER_OFFLINE", "IMPUTER_WEIGHTS_PATH", "HF_HUB_OFFLINE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def run() -> Run:
    """Run ``imputer`` with these arguments in this process; anything that str() makes a word is one."""

    def call(*arguments: object, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="imputer", env=env)

    return call


@pytest.fixture
def t1(tmp_path: Path) -> Path:
    """A small T1 of a head phantom, thick slices, ``t1.nii.gz`` alone in a folder of its own."""
    folder = tmp_path / "scan"
    folder.mkdir()
    volume = make_head([Modality.T1], shape=(64, 72, 5), spacing=(2.5, 2.7, 25.0), seed=3)[Modality.T1]
    nibabel.save(Nifti1Image(volume.array, volume.affine), folder / "t1.nii.gz")
    return folder / "t1.nii.gz"


def assert_refused(result: Result, code: int, *words: str) -> None:
    """The command failed as it should: exit code, nothing on stdout, one line on stderr with these words in it."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("imputer: error: ")
    assert "Traceback" not in lines[0]
    for word in words:
        assert word in lines[0]
