"""What must be quick and light: the help, the lists and the look at a header load no torch, nor more than they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

# Runs the command in a process of its own and then says which of the heavy packages it has loaded.
_PROGRAM = """
import sys
from imputer.cli.app import app
try:
    app(sys.argv[1:], prog_name="imputer")
except SystemExit as stop:
    code = stop.code
heavy = ("torch", "nibabel", "SimpleITK", "scipy", "skimage", "huggingface_hub", "pydicom", "PIL")
print("loaded:", *sorted(set(heavy) & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def loaded_by(*arguments: str) -> set[str]:
    """Heavy packages that a command loads; the command must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].removeprefix("loaded:").split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["synth", "--help"], ["train", "--help"], ["models", "list"]]
)
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(*arguments) == set()


def test_doctor_loads_no_torch() -> None:
    assert loaded_by("doctor") == set()


def test_inspect_loads_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "t1.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4)), path)
    loaded = loaded_by("inspect", str(path))
    assert "nibabel" in loaded  # the probe can see
    assert not loaded & {"torch", "skimage", "huggingface_hub"}


def test_import_of_the_package_is_light_and_complete() -> None:
    program = "import sys, imputer; print('torch' in sys.modules, 'numpy' in sys.modules, *sorted(imputer.__all__))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "False",
        "False",
        *("Volume", "__version__", "load", "load_generator", "load_model", "synthesise"),
    ]


def test_the_public_names_exist() -> None:
    import imputer

    for name in imputer.__all__:
        assert getattr(imputer, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = imputer.nonsense
