"""imputer demo: the first minute works with nothing but the package."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from .conftest import Run, assert_refused

NAMES = ["t1.nii.gz", "t1_synth-t2.nii.gz", "t2.nii.gz", "demo.png"]


def test_the_demo_makes_volumes_and_a_picture(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    result = run("demo", "-o", folder, "--size", "64x72x5", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(folder / name) for name in NAMES]
    assert "imputer synth" in result.stderr
    made, own = (nibabel.load(folder / name) for name in ("t1_synth-t2.nii.gz", "t2.nii.gz"))
    assert made.shape == own.shape == (64, 72, 5)
    np.testing.assert_array_equal(made.affine, own.affine)
    np.testing.assert_allclose(made.header.get_zooms(), (160 / 64, 192 / 72, 144 / 5), rtol=1e-6)
    assert np.ptp(np.asarray(made.dataobj)) > 0
    assert json.loads((folder / "t1_synth-t2.json").read_text(encoding="utf-8"))["synthetic"] is True
    with Image.open(folder / "demo.png") as picture:
        assert min(picture.size) > 100
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, "t1_synth-t2.json"])


def test_the_demo_overwrites_only_when_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "demo.png").write_bytes(b"mine")
    arguments = ("demo", "-o", tmp_path, "--size", "64x72x2", "--device", "cpu")
    assert_refused(run(*arguments), 6, "demo.png", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["demo.png"]
    assert run(*arguments, "--overwrite").exit_code == 0
    assert (tmp_path / "demo.png").read_bytes() != b"mine"


@pytest.mark.parametrize("size", ["64", "64x72", "axbxc", "64x72x0", "9999x64x4", "8x8x8"])
def test_a_wrong_size_is_two(run: Run, tmp_path: Path, size: str) -> None:
    assert_refused(run("demo", "-o", tmp_path / "demo", "--size", size), 2, size)
    assert not (tmp_path / "demo").exists()


def test_a_folder_that_cannot_be_made_is_six(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(run("demo", "-o", tmp_path / "file" / "demo", "--size", "64x72x2"), 6)
