"""The generator of SynDiff in variants beside each other: one forward, against the plain one.

The released configuration with random weights, or an embedded model with its own. Prints for each variant the median
seconds, how many times faster it is than the plain forward (`benchmarks.plain`), the same against the plain one whose
process keeps its memory, how far its output is from float32, and its speed against a product of large matrices (which
convolutions may pass: no ceiling).

    python -m benchmarks.generator                                  the released configuration, 256 x 256
    python -m benchmarks.generator --batch 4 --rounds 5
    python -m benchmarks.generator --model syndiff-t1-t2 --output results.json
    python -m benchmarks.generator --grow size                      how cost grows: size, batch
    python -m benchmarks.generator --device cuda --batch 16
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measures import machine
from benchmarks.paired import Variant, compete, difference, ratio
from benchmarks.plain import plain
from imputer.methods.base import PRECISIONS
from imputer.methods.syndiff import SynDiff
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.pretrained.load import load_model

GROWTH = {"size": (128, 192, 256, 384, 512), "batch": (1, 2, 4, 8, 16, 32, 64)}
LONG_SIDE = 4096  # of the matrices


def main() -> None:
    """Compare, print a table; write JSON with --output."""
    options = _arguments()
    settings = {name: getattr(options, name) for name in ("model", "device", "batch", "size", "threads")}
    if options.grow:
        rows = [
            {options.grow: value, **_compare({**settings, options.grow: value}, options.rounds, _ours_only(options))}
            for value in options.values or GROWTH[options.grow]
        ]
        results: dict[str, Any] = {"rows": rows}
    else:
        results = _compare(settings, options.rounds, _variants(options))
    results = {**machine(options.machine), "settings": settings, "rounds": options.rounds, **results}
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="an embedded model, or a SynDiff file; else the released shape")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precisions", nargs="*", default=["bf16"], help="beside fp32")
    parser.add_argument("--grow", choices=sorted(GROWTH), help="time ours alone at growing values")
    parser.add_argument("--values", type=int, nargs="*", help="of what grows")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--machine", default="")
    return parser.parse_args()


def _variants(options: argparse.Namespace) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield name, settings and whether memory is kept, the plain one first."""
    yield "plain", {"plain": True, "precision": "fp32"}, False
    if options.device == "cpu":
        yield "plain, memory kept", {"plain": True, "precision": "fp32"}, True
    if options.batch > 1:
        yield "plain, one by one", {"plain": True, "precision": "fp32", "at_once": 1}, False
    yield from _ours_only(options)


def _ours_only(options: argparse.Namespace) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    at_once = 1 if options.device == "cpu" else options.batch  # as `imputer.methods.slices` has it
    for precision in ("fp32", *options.precisions):
        yield f"ours, {precision}", {"plain": False, "precision": precision, "at_once": at_once}, True


def _compare(
    settings: Mapping[str, Any], rounds: int, variants: Iterator[tuple[str, Mapping[str, Any], bool]]
) -> dict[str, Any]:
    entrants = [Variant(name, _build, {**settings, **own}, keeps_memory=kept) for name, own, kept in variants]
    times = compete(entrants, rounds=rounds, threads=settings["threads"])
    network = _network(settings)
    flops, moved = _counts(network, *_inputs(network, {**settings, "batch": 1, "device": "cpu"}))
    products = _products(settings)
    first = times[entrants[0].name]
    kept = times.get("plain, memory kept")
    rows = []
    for entrant in entrants:
        each = times[entrant.name]
        row = {
            "variant": entrant.name,
            "seconds": each.median,
            "rounds": each.seconds,
            "faster than plain": ratio(first, each),
            **({"faster than plain, memory kept": ratio(kept, each)} if kept is not None else {}),
            "page faults": each.page_faults,
            "peak bytes": each.peak_bytes,
            "gflop per second": flops * settings["batch"] / each.median / 1e9,
            "of a matrix product": flops * settings["batch"] / each.median / products[entrant.settings["precision"]],
            "from the first": difference(first, each),
        }
        rows.append(row)
        _say(row)
    return {
        "gflop a slice": flops / 1e9, "megabyte of maps a slice, fp32": moved / 1e6,
        "matrix product gflop per second": {name: value / 1e9 for name, value in products.items()},
        "variants": rows,
    }  # fmt: skip


def _say(row: Mapping[str, Any]) -> None:
    faster, apart = row["faster than plain"], row["from the first"]
    print(
        f"{row['variant']:20} {row['seconds']:8.3f} s  x{faster['median']:.2f} ({faster['least']:.2f}-"
        f"{faster['greatest']:.2f})  {row['gflop per second']:7.1f} GFLOP/s ({row['of a matrix product']:.0%})  "
        f"max {apart['max']:.1e}  {apart['psnr']:.1f} dB  {row['page faults']} page faults",
        flush=True,
    )


def _network(settings: Mapping[str, Any]) -> NCSNpp:
    """Return the network to time; of random weights those that begin at zero too, so that every part tells."""
    if settings["model"]:
        method = load_model(settings["model"], device="cpu")
        assert isinstance(method, SynDiff)
        return method.generator
    torch.manual_seed(0)
    network = NCSNpp(NCSNppConfig()).eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.copy_(torch.randn_like(module.weight) / module.weight[0].numel() ** 0.5)
    return network


def _inputs(network: NCSNpp, settings: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Images, steps and latents of a batch, the same in every process."""
    config, count, size = network.config, settings["batch"], settings["size"]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, config.image_channels, size, size, generator=generator).clamp_(-1, 1)
    z = torch.randn(count, config.latent_size, generator=generator)
    t = torch.arange(count) % 4
    return x.to(settings["device"]), t.to(settings["device"]), z.to(settings["device"])


def _build(settings: Mapping[str, Any]) -> Callable[[], Tensor]:
    """Make one forward of a batch, `at_once` slices at a time."""
    network = _network(settings)
    dtype = PRECISIONS[settings["precision"]]
    if settings["plain"]:
        network = plain(network)
    elif dtype != torch.float32:
        network = network.in_dtype(dtype)
    network.to(settings["device"])
    x, t, z = _inputs(network, settings)
    if not settings["plain"]:
        x = x.contiguous(memory_format=torch.channels_last)
    parts = [each.split(settings.get("at_once") or len(x)) for each in (x, t, z)]

    def forward() -> Tensor:
        return torch.cat([network(*part) for part in zip(*parts, strict=True)])

    return forward


def _counts(network: NCSNpp, x: Tensor, t: Tensor, z: Tensor) -> tuple[int, int]:
    """Operations of a forward of one slice, and bytes that its convolutions read and write of maps, float32."""
    moved = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += 4 * (inputs[0].numel() + output.numel())

    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(x, t, z)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops(), moved


def _products(settings: Mapping[str, Any]) -> dict[str, float]:
    """Operations a second of a product of large matrices, the best of five."""
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    found = {}
    for precision, dtype in PRECISIONS.items():
        if precision == "fp16" and settings["device"] == "cpu":
            continue
        one, other, product = (torch.randn(LONG_SIDE, LONG_SIDE, device=settings["device"]).to(dtype) for _ in range(3))
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            torch.mm(one, other, out=product)
            if product.device.type == "cuda":
                torch.cuda.synchronize(product.device)
            seconds.append(time.perf_counter() - started)
        found[precision] = 2 * LONG_SIDE**3 / min(seconds)
    return found


if __name__ == "__main__":
    main()
