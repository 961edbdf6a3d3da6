"""ALDM of the released size, random weights: 4 steps against the authors' 200 on the same networks, parts and memory.

Each part is timed on its own; the whole volume is the encoder, MS-SPADE, the sampling and the decoder.

Example:
    python benchmarks/aldm_speed.py --size 144 192 144 --output results.json
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from imputer.diffusion.adversarial import sample
from imputer.diffusion.ddim import LinearSchedule, sample_ddim
from imputer.diffusion.noise import SliceNoise
from imputer.diffusion.schedule import Schedule
from imputer.nets.aldm import ALDM
from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig

TARGET = 2


def main() -> None:
    """Time the parts and print a table; write JSON with --output."""
    options = _arguments()
    device = torch.device(options.device)
    torch.manual_seed(0)
    model = ALDM(FirstStageConfig(), LatentUNetConfig(), LatentUNetConfig()).eval().requires_grad_(False).to(device)
    for part in (model.first_stage.encoder, model.first_stage.decoder):
        part.to(memory_format=torch.channels_last_3d)  # as `imputer.methods.aldm` has them
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        seconds = _times(model, torch.rand(1, 1, *options.size, device=device) * 2 - 1, options.steps)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident_bytes()
    few, many = (seconds[f"sampling {steps}"] for steps in options.steps)
    rest = sum(seconds[name] for name in ("encoder", "MS-SPADE", "decoder"))
    results = {
        "machine": platform.machine(), "processor": options.machine, "device": options.device,
        "torch": torch.__version__, "threads": torch.get_num_threads(), "precision": options.precision,
        "size": options.size,
        "seconds": seconds, "sampling ratio": many / few, "whole ratio": (rest + many) / (rest + few),
        "peak bytes": memory,
    }  # fmt: skip
    print(json.dumps(results, indent=2))
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=[144, 192, 144])
    parser.add_argument("--steps", type=int, nargs=2, default=[4, 200])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--machine", default=platform.processor())
    return parser.parse_args()


def _times(model: ALDM, x: Tensor, steps: list[int]) -> dict[str, float]:
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Tensor]) -> Tensor:
        started = time.monotonic()
        result = call()
        if x.device.type == "cuda":
            torch.cuda.synchronize()
        seconds[name] = time.monotonic() - started
        print(f"{name}: {seconds[name]:.2f} s", file=sys.stderr, flush=True)
        return result

    small = torch.zeros(1, 1, 16, 16, 16, device=x.device)  # what a device does the first time it does it now
    warm = model.encode(small)
    model.decode(model.project(warm, warm, model.to_target(warm, TARGET), 0, TARGET))
    z = timed("encoder", lambda: model.encode(x))
    like = timed("MS-SPADE", lambda: model.to_target(z, TARGET))
    noise = SliceNoise(0, "benchmark", [0], device=x.device)
    start = noise.normal(*z.shape[1:])
    latent = timed(
        f"sampling {steps[0]}",
        lambda: sample(
            lambda z_t, t: model.project(z_t, z, like, t, TARGET), start, Schedule(steps=steps[0]), noise
        ),
    )  # fmt: skip
    timed(
        f"sampling {steps[1]}",
        lambda: sample_ddim(
            lambda z_t, t: model.denoise(z_t, z, like, t, TARGET), start, LinearSchedule(), noise, steps=steps[1]
        ),
    )  # fmt: skip
    timed("decoder", lambda: model.decode(latent))
    return seconds


def _resident_bytes() -> int:
    """Return the most memory that the process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
