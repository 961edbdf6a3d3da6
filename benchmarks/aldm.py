"""ALDM of the released size, random weights: few steps against many on the same networks, parts and memory.

Few are of the projector, many of the authors' DDIM. In each round every part is timed on its own: the whole volume is
the encoder, MS-SPADE, the sampling and the decoder. Each precision has a process of its own, which keeps the memory
that is freed, as the command does; its decoded volume of few steps is compared with that of float32 (PSNR of a range
of 2). Nothing is extrapolated: 200 steps take as long as they take, and --steps 4 20 has fewer.

    python -m benchmarks.aldm --output results.json                 144 x 192 x 144, 4 steps against 200
    python -m benchmarks.aldm --device cuda --precisions fp16 bf16 --rounds 3
    python -m benchmarks.aldm --model aldm-t1-t1ce-t2-flair --size 96 112 96 --steps 4 20
    python -m benchmarks.aldm --grow size                           how cost grows: cubes, few steps alone
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.measures import counts, finish, matrix_products, spread
from benchmarks.options import add_precisions, make_parser, measure
from benchmarks.paired import Parts, Times, Variant, compete, from_the_first
from imputer.diffusion.adversarial import sample
from imputer.diffusion.ddim import LinearSchedule, sample_ddim
from imputer.diffusion.noise import SliceNoise
from imputer.diffusion.schedule import Schedule
from imputer.methods.aldm import network_from_header
from imputer.methods.base import PRECISIONS
from imputer.nets.aldm import ALDM
from imputer.nets.checkpoint import read_header
from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig
from imputer.pretrained.load import load_generator
from imputer.weights.find import find_model

TARGET = 2
GROWTH = {"size": (32, 48, 64, 80, 96, 112, 128, 144)}  # voxels of an edge
ENCODER, SPADE, DECODER = "encoder", "MS-SPADE", "decoder"


def main() -> None:
    """Measure, print a table; write JSON with --output."""
    options = _arguments()
    names = ("model", "device", "size", "steps", "threads", "matrices")
    settings = {name: getattr(options, name) for name in names}
    settings["steps"] = settings["steps"][:1] if options.grow else settings["steps"]

    def once(settings: Mapping[str, Any]) -> dict[str, Any]:
        size = settings["size"]
        cube = {"size": [size] * 3 if isinstance(size, int) else size}
        return _compare({**settings, **cube}, ["fp32", *options.precisions], options.rounds)

    measure(options, GROWTH, settings, once)


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=3, growth=GROWTH)
    add_precisions(parser)
    parser.add_argument("--model", default="", help="an embedded model, or an ALDM file; else the released shape")
    parser.add_argument("--size", type=int, nargs=3, default=[144, 192, 144])
    parser.add_argument("--steps", type=int, nargs=2, default=[4, 200], help="few, of the projector; many, of DDIM")
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


def _compare(settings: Mapping[str, Any], precisions: Sequence[str], rounds: int) -> dict[str, Any]:
    variants = [Variant(each, _build, {**settings, "precision": each}, warms_up=False) for each in precisions]
    times = compete(variants, rounds=rounds, threads=settings["threads"])
    work = _work(settings)
    products = matrix_products(
        precisions, settings["device"], threads=settings["threads"], side=settings["matrices"]
    )  # fmt: skip
    rows = []
    for precision in precisions:
        row = {"variant": precision, **_row(times[precision], settings["steps"], work, products[precision])}
        row["from the first"] = from_the_first(times[precisions[0]], times[precision])
        rows.append(row)
        _say(row)
    return {
        "shape": settings["size"],
        "matrix product gflop per second": {name: value / 1e9 for name, value in products.items()},
        "variants": rows,
    }


def _row(times: Times, steps: Sequence[int], work: Mapping[str, tuple[int, int]], product: float) -> dict[str, Any]:
    """What a precision took: its parts, and the whole volume in few steps and in many."""
    parts = {}
    for name, seconds in times.parts.items():
        flops, moved = work[name]
        rate = flops / spread(seconds)["median"]
        parts[name] = {
            "seconds": spread(seconds), "tflop": flops / 1e12, "megabyte of maps, fp32": moved / 1e6,
            "gflop per second": rate / 1e9, "floor": flops / product, "of a matrix product": rate / product,
        }  # fmt: skip
    once = [dict(zip(times.parts, each, strict=True)) for each in zip(*times.parts.values(), strict=True)]
    wholes = [[_whole(each, count) for each in once] for count in steps]
    found: dict[str, Any] = {
        "parts": parts,
        "whole volume seconds": {str(count): spread(each) for count, each in zip(steps, wholes, strict=True)},
        "peak bytes": times.peak_bytes,
        "page faults": times.page_faults,
    }
    if len(steps) > 1:
        few, many = steps
        found["sampling ratio"] = spread([each[_sampling(many)] / each[_sampling(few)] for each in once])
        found["whole ratio"] = spread([slow / fast for fast, slow in zip(*wholes, strict=True)])
    return found


def _whole(seconds: Mapping[str, float], steps: int) -> float:
    return sum(seconds[name] for name in (ENCODER, SPADE, _sampling(steps), DECODER))


def _sampling(steps: int) -> str:
    return f"sampling {steps}"


def _say(row: Mapping[str, Any]) -> None:
    apart = row["from the first"]
    print(f"{row['variant']}: {row['peak bytes'] / 2**20:.0f} MiB, max {apart['max']:.1e}, {apart['psnr']:.1f} dB")
    for name, part in row["parts"].items():
        print(
            f"    {name:14} {_said(part['seconds'])} s  {part['tflop']:8.3f} TFLOP  "
            f"{part['megabyte of maps, fp32']:8.0f} MB  {part['gflop per second']:8.1f} "
            f"GFLOP/s ({part['of a matrix product']:.0%}), floor {part['floor']:.2f} s"
        )
    for steps, seconds in row["whole volume seconds"].items():
        print(f"    whole volume, {steps} steps: {_said(seconds)} s")
    if "whole ratio" in row:
        print(f"    sampling x{_said(row['sampling ratio'])}, whole volume x{_said(row['whole ratio'])}", flush=True)


def _said(found: Mapping[str, float]) -> str:
    return f"{found['median']:.2f} ({found['least']:.2f}-{found['greatest']:.2f})"


def _build(settings: Mapping[str, Any]) -> Callable[[], Parts]:
    """Make one volume in few steps and, where there are, again in many; the result is that of few."""
    device, dtype = torch.device(settings["device"]), PRECISIONS[settings["precision"]]
    network = _network(settings["model"]).to(device)
    for part in (network.first_stage.encoder, network.first_stage.decoder):
        part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # as `imputer.methods.aldm` does
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(1, 1, *settings["size"], generator=generator) * 2 - 1).to(device)

    def make(x: Tensor, steps: Sequence[int]) -> Parts:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return _timed(network, x, steps)

    make(torch.zeros(1, 1, *[network.size_multiple] * 3, device=device), [1])  # what comes the first time comes now
    return lambda: make(x, settings["steps"])


def _network(model: str) -> ALDM:
    """Return the network to time; random weights where no model is named."""
    if not model:
        torch.manual_seed(0)
        return ALDM(FirstStageConfig(), LatentUNetConfig(), LatentUNetConfig()).eval().requires_grad_(False)
    network = load_generator(model)
    assert isinstance(network, ALDM)
    return network


def _timed(network: ALDM, x: Tensor, steps: Sequence[int]) -> Parts:
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Tensor]) -> Tensor:
        started = time.perf_counter()
        result = call().float()
        finish(result)
        seconds[name] = time.perf_counter() - started
        return result

    z = timed(ENCODER, lambda: network.encode(x))
    like = timed(SPADE, lambda: network.to_target(z, TARGET))
    noise = SliceNoise(0, "benchmark", [0], device=x.device)
    start = noise.normal(*z.shape[1:])

    def project(x_t: Tensor, t: int) -> Tensor:
        return network.project(x_t, z, like, t, TARGET).float()

    def denoise(x_t: Tensor, t: int) -> Tensor:
        return network.denoise(x_t, z, like, t, TARGET).float()

    few, *many = steps
    latent = timed(_sampling(few), lambda: sample(project, start, Schedule(steps=few), noise))
    for count in many:
        timed(_sampling(count), partial(sample_ddim, denoise, start, LinearSchedule(), noise, steps=count))
    return Parts(timed(DECODER, lambda: network.decode(latent)), seconds)


def _work(settings: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """What `counts` tells of each part, without computing: tensors that have a shape alone go through the network."""
    header = read_header(find_model(settings["model"]).path) if settings["model"] else None
    with FakeTensorMode():
        network = _network("") if header is None else network_from_header(header, settings["model"])
        assert isinstance(network, ALDM)
        x = torch.empty(1, 1, *settings["size"])
        factor = network.first_stage.config.factor
        z = torch.empty(1, network.first_stage.config.latent_channels, *(size // factor for size in settings["size"]))
        found = {
            ENCODER: counts(lambda: network.encode(x)),
            SPADE: counts(lambda: network.to_target(z, TARGET)),
            DECODER: counts(lambda: network.decode(z)),
        }
        few, *many = settings["steps"]
        steps = {few: counts(lambda: network.project(z, z, z, 0, TARGET))}
        steps |= {count: counts(lambda: network.denoise(z, z, z, 0, TARGET)) for count in many}
    return found | {_sampling(count): (count * flops, count * moved) for count, (flops, moved) in steps.items()}


if __name__ == "__main__":
    main()
