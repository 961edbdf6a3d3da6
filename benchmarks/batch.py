"""A batch against as many single commands on the same cases: seconds, peak memory, share of time the device waited.

Example:
    python benchmarks/batch.py --cases 8 --shape 96 112 12 --spacing 2 2 12
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
    """Print one JSON object: medians over the rounds, in each of which both ways run one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 112, 12))
    parser.add_argument("--spacing", type=float, nargs=3, default=(2.0, 2.0, 12.0))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", help="A small model shows the share that is not synthesis.")
    parser.add_argument("--no-singles", action="store_true", help="Only the batch: for its memory on many cases.")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--machine", default=platform.processor() or platform.machine())
    options = parser.parse_args()
    rounds = [_round(options) for _ in range(options.rounds)]
    result = {
        "machine": options.machine,
        "cores": os.cpu_count(),
        "device": options.device,
        "cases": options.cases,
        "shape": options.shape,
        "rounds": options.rounds,
        **{name: statistics.median(each[name] for each in rounds) for name in rounds[0]},
        "batch_peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


def _round(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in", Path(folder) / "out"
        source.mkdir()
        for number in range(options.cases):
            head = make_head(
                [Modality.T1], shape=tuple(options.shape), spacing=tuple(options.spacing), seed=number % 5
            )[Modality.T1]
            save(head, source / f"case{number:04d}_t1.nii.gz", like=head, description="phantom")
        command = [sys.executable, "-m", "imputer"]
        ways = ["--to", "t2", "--device", options.device, "-q", *(["--model", options.model] if options.model else [])]
        batch = _seconds([*command, "batch", str(source), str(out), *ways])
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))
        found = {"batch_s": batch, "device_waited_share": run["device_waited_seconds"] / batch}
        if options.no_singles:
            return found
        single = sum(_seconds([*command, "synth", str(path), *ways]) for path in sorted(source.glob("*_t1.nii.gz")))
        return {"singles_s": single, **found, "singles_over_batch": single / batch}


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
