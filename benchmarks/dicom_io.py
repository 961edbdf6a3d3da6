"""Seconds of reading a DICOM series and of writing a derived one, beside SimpleITK's reading of the same files.

Example:
    python benchmarks/dicom_io.py --slices 200 --size 256 --runs 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from imputer import __version__
from imputer.io.dicom.read import read_dicom
from imputer.io.dicom.write import Synthesis, write_dicom
from imputer.modality import Modality
from imputer.volume import Volume

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # the maker of phantom series lies there


def main() -> None:
    """Print one JSON object: medians over the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--series", type=Path, help="A real series instead of a phantom.")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--machine", default=platform.processor() or platform.machine())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.series or _phantom(Path(folder) / "source", options.size, options.slices)
        volume = read_dicom(source)  # warms the file cache
        synthesis = Synthesis(
            source=volume.modality or Modality.T1,
            target=Modality.T2,
            model_id="benchmark",
            model_version="1",
            weights_sha256="0" * 64,
            steps=4,
            seed=0,
            imputer_version=__version__,
        )
        reading, writing, other = [], [], []
        for run in range(options.runs):
            target = Path(folder) / f"made{run}"
            reading.append(_seconds(partial(read_dicom, source)))
            writing.append(_seconds(partial(write_dicom, volume, target, like=_series(volume), synthesis=synthesis)))
            other.append(_seconds(partial(_simpleitk, source)))
    result = {
        "machine": options.machine,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "source": options.series.name if options.series else "phantom",
        "shape": volume.shape,
        "runs": options.runs,
        "read_s": statistics.median(reading),
        "write_s": statistics.median(writing),
        "simpleitk_read_s": statistics.median(other),
        "read_over_simpleitk": statistics.median(reading) / statistics.median(other),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


def _phantom(folder: Path, size: int, slices: int) -> Path:
    from dicom_phantom import make_series

    make_series(folder, shape=(size, size, slices))
    return folder


def _series(volume: Volume) -> Any:
    assert volume.origin is not None
    return volume.origin.header


def _simpleitk(folder: Path) -> None:
    """Read the pixels as its users do; without the checks that ours makes."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.Execute()


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
