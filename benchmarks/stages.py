"""The work of `imputer synth` stage by stage in this process, by the same calls; JSON of the seconds on stdout.

`benchmarks.pipeline` runs it beside the command. On CUDA the network also runs a second time, warmed up (ALDM then
without its encoder, for it keeps the latents of the last source).

    python -m benchmarks.stages t1.nii.gz out.nii.gz --to t2 --model syndiff-t1-t2
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands import STARTED

if TYPE_CHECKING:
    from imputer.case import Prepared

_HERE = time.monotonic()  # where nobody says when the process began
STAGES = START_UP, READ, MODEL, PREPARE, NETWORK, WRITE = (
    "start-up", "read", "model", "prepare", "network", "undo and write"
)  # fmt: skip
WARM_NETWORK = "network, warmed up"


class Stopwatch:
    """Seconds of one stage after the other."""

    def __init__(self, started: float) -> None:
        self._last = started
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage."""
        _finish_device()
        now = time.monotonic()
        self.seconds[stage] = now - self._last
        self._last = now


def main() -> None:
    """Make one contrast of one case; print what each stage took."""
    watch = Stopwatch(float(os.environ.get(STARTED, _HERE)))
    options = _arguments()
    prepared = _made(options, watch)
    found: dict[str, Any] = {"seconds": watch.seconds, "device peak bytes": _device_peak()}
    if options.count:
        found.update(_counted(prepared))
    print(json.dumps(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--to", required=True)
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--count", action="store_true", help="also count the network's operations")
    return parser.parse_args()


def _made(options: argparse.Namespace, watch: Stopwatch) -> Prepared:
    """Do what the command does, in its order: `imputer.cli.app`, then `imputer.synth.synthesise_each`."""
    from imputer.cli.app import set_up_process

    set_up_process()
    import imputer.synth  # noqa: F401 - the command loads it
    from imputer.case import Settings, draw_case, finish_case, model_for, prepare_case, read_cases
    from imputer.methods.base import choose_device
    from imputer.modality import parse_modality
    from imputer.pretrained.load import build_model

    target = parse_modality(options.to)
    settings = Settings(to=target, precision=options.precision, output_types=("nifti",), overwrite=True, force=True)
    watch.lap(START_UP)
    case = read_cases(options.source, {target: options.result}, settings)[target]
    watch.lap(READ)
    place = choose_device(options.device)
    found = model_for(case.volume, target, options.model)
    method = build_model(found, place)
    watch.lap(MODEL)
    prepared = prepare_case(case, method, found, settings)
    watch.lap(PREPARE)
    drawn = draw_case(prepared)
    watch.lap(NETWORK)
    finish_case(prepared, drawn, settings)
    watch.lap(WRITE)
    if place.type == "cuda":
        draw_case(prepared)
        watch.lap(WARM_NETWORK)
    return prepared


def _counted(prepared: Prepared) -> dict[str, int]:
    """Operations of the network stage, and bytes that its convolutions read and write of maps, float32.

    Slices are all alike: one is counted for all that are not empty.
    """
    from benchmarks.measures import counts
    from imputer.methods.slices import filled_slices

    options = replace(prepared.options, precision="fp32")
    of_slices = prepared.stack.ndim == 4
    filled = filled_slices(prepared.stack) if of_slices else [0]
    flops, moved = counts(lambda: prepared.method.run(prepared.stack[filled[:1]], options)) if filled else (0, 0)
    return {"flops": flops * len(filled), "map bytes": moved * len(filled), "slices": len(filled) if of_slices else 0}


def _finish_device() -> None:
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _device_peak() -> int:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0


if __name__ == "__main__":
    main()
