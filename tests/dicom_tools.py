"""What several DICOM tests share: a synthesis to write, real series beside the repository, other people's programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from imputer.io.dicom.frames import DicomSeries
from imputer.io.dicom.read import read_dicom
from imputer.io.dicom.write import Synthesis
from imputer.modality import Modality
from imputer.volume import Volume

REAL = Path(__file__).resolve().parents[2] / "shared/data/dicom"  # developers have it; see docs/dicom.md
SHA = "0123456789abcdef" * 4
# The tool of 2022 does not know SyntheticData, which came to the standard in 2024.
KNOWN_TO_BE_UNKNOWN = (
    "Error - </(0008,001c)> - Attribute with an even group number is not a recognized standard attribute"
)


def synthesis(target: Modality = Modality.T2, **changes: Any) -> Synthesis:
    """What is said of a series that the tests write."""
    settings: dict[str, Any] = {
        "source": Modality.T1,
        "target": target,
        "model_id": "syndiff-t1-t2",
        "model_version": "1",
        "weights_sha256": SHA,
        "steps": 4,
        "seed": 7,
        "imputer_version": "0.1.0",
        "licence": "CC-BY-4.0",
    }
    return Synthesis(**{**settings, **changes})


def read(path: Path, **options: Any) -> tuple[Volume, DicomSeries]:
    """A series as a volume and as what is written like."""
    volume = read_dicom(path, **options)
    assert volume.origin is not None and isinstance(volume.origin.header, DicomSeries)
    return volume, volume.origin.header


def real(name: str) -> Path:
    """A real series; the test is skipped where it is absent."""
    path = REAL / name
    if not path.exists():
        pytest.skip(f"needs the real series ../shared/data/dicom/{name}, which is not in the repository")
    return path


def need(program: str) -> str:
    """Path of a program; the test is skipped where it is absent."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}, which is not installed")
    return found


def run(program: str, *arguments: str | Path, timeout: float = 60) -> str:
    """Both outputs of a program that is done by itself, whatever its exit code, which says nothing in some of them."""
    command = [need(program), *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def iod_errors(files: Iterable[Path]) -> set[str]:
    """Errors of dciodvfy, which looks at one file a time."""
    lines = {line for file in files for line in run("dciodvfy", "-new", file).splitlines()}
    return {line for line in lines if line.startswith("Error")}


def entity_differences(files: Iterable[Path]) -> set[str]:
    """What dcentvfy finds to differ in one patient, study or frame of reference; without the names of the files."""
    lines = run("dcentvfy", *files).splitlines()
    return {re.sub(r" for file .*", "", line) for line in lines if line.strip()}


def converted(folder: Path, out: Path) -> Any:
    """What dcm2niix makes of a folder with one series, in the order of axes nearest to RAS."""
    out.mkdir()
    text = run("dcm2niix", "-b", "n", "-z", "n", "-f", "out", "-o", out, folder)
    images = list(out.glob("*.nii"))
    assert len(images) == 1, text
    return nib.as_closest_canonical(nib.load(images[0]))


def files_in(folder: Path) -> list[Path]:
    """The files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file())
