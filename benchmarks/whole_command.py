"""Seconds and peak memory of the whole `imputer synth` command, start-up included, on a head phantom.

Example:
    python benchmarks/whole_command.py --shape 256 256 48 --runs 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imputer.io.dispatch import save
from imputer.modality import Modality
from imputer.phantom import make_head


def main() -> None:
    """Print one JSON object: medians over the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 48))
    parser.add_argument("--spacing", type=float, nargs=3, default=(0.9, 0.9, 3.0))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--to", default="t2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--machine", default=platform.processor() or platform.machine())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "t1.nii.gz"
        head = make_head([Modality.T1], shape=tuple(options.shape), spacing=tuple(options.spacing))[Modality.T1]
        save(head, source, like=head, description="phantom")
        command = [
            sys.executable,
            "-m",
            "imputer",
            "synth",
            str(source),
            "--to",
            options.to,
            "--device",
            options.device,
        ]
        seconds = [_seconds([*command, "--overwrite", "-q"]) for _ in range(options.runs)]
        start_up = [_seconds([sys.executable, "-m", "imputer", "--help"]) for _ in range(options.runs)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    result = {
        "machine": options.machine,
        "cores": os.cpu_count(),
        "device": options.device,
        "shape": options.shape,
        "spacing_mm": options.spacing,
        "synth_seconds": statistics.median(seconds),
        "help_seconds": statistics.median(start_up),
        "peak_mib": round(peak),
        "runs": options.runs,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


def _seconds(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - started, 2)


if __name__ == "__main__":
    main()
