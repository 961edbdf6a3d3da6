"""The generator of SynDiff in variants beside each other: one forward, against the plain one.

The released configuration with random weights, or an embedded model with its own. Prints for each variant the median
seconds, how many times faster it is than the plain forward (`benchmarks.plain`), the same against the plain one whose
process keeps its memory, how far its output is from float32, and its speed against a product of large matrices (which
convolutions may pass: no ceiling) with the seconds that the operations would take at that one's speed, the floor.

    python -m benchmarks.generator                                  the released configuration, 256 x 256
    python -m benchmarks.generator --batch 4 --rounds 5
    python -m benchmarks.generator --model syndiff-t1-t2 --output results.json
    python -m benchmarks.generator --grow size                      how cost grows: size, batch
    python -m benchmarks.generator --device cuda --batch 16 --candidates
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.candidates import CANDIDATES
from benchmarks.measures import counts, matrix_products, randomise
from benchmarks.options import add_precisions, make_parser, measure
from benchmarks.paired import Variant, compete, from_the_first, ratio
from benchmarks.plain import plain
from imputer.methods.base import PRECISIONS
from imputer.methods.graphs import record_on_cuda
from imputer.methods.syndiff import SynDiff
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.pretrained.load import load_model

_SETTINGS = ("model", "device", "batch", "size", "threads", "matrices", "candidates")
GROWTH = {"size": (128, 192, 256, 384, 512), "batch": (1, 2, 4, 8, 16, 32, 64)}


def main() -> None:
    """Compare, print a table; write JSON with --output."""
    options = _arguments()
    settings = {name: getattr(options, name) for name in _SETTINGS}
    variants = _ours_only if options.grow else _variants

    def once(settings: Mapping[str, Any]) -> dict[str, Any]:
        return _compare(settings, options.rounds, variants(settings, options.precisions))

    measure(options, GROWTH, settings, once)


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=7, growth=GROWTH)
    add_precisions(parser, ["bf16"])
    parser.add_argument("--model", default="", help="an embedded model, or a SynDiff file; else the released shape")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--candidates", action="store_true", help="also what is to be measured first, see there")
    return parser.parse_args()


Way = tuple[str, Mapping[str, Any], bool]  # name, settings, whether memory is kept


def _variants(settings: Mapping[str, Any], precisions: Sequence[str]) -> Iterator[Way]:
    """Yield the variants, the plain one first."""
    yield "plain", {"plain": True, "precision": "fp32"}, False
    if settings["device"] == "cpu":
        yield "plain, memory kept", {"plain": True, "precision": "fp32"}, True
    if settings["batch"] > 1:
        yield "plain, one by one", {"plain": True, "precision": "fp32", "at_once": 1}, False
    yield from _ours_only(settings, precisions)


def _ours_only(settings: Mapping[str, Any], precisions: Sequence[str]) -> Iterator[Way]:
    at_once = 1 if settings["device"] == "cpu" else settings["batch"]  # as `imputer.methods.slices` has it
    for precision in ("fp32", *precisions):
        own = {"plain": False, "precision": precision, "at_once": at_once}
        yield f"ours, {precision}", own, True
        if settings["device"] != "cpu":
            yield f"ours, {precision}, replayed", {**own, "replayed": True}, True
        for candidate in CANDIDATES if settings["candidates"] else ():
            yield f"{candidate}, {precision}", {**own, "candidate": candidate}, True


def _compare(settings: Mapping[str, Any], rounds: int, variants: Iterator[Way]) -> dict[str, Any]:
    entrants = [Variant(name, _build, {**settings, **own}, keeps_memory=kept) for name, own, kept in variants]
    times = compete(entrants, rounds=rounds, threads=settings["threads"])
    network = _network(settings)
    one = _inputs(network, {**settings, "batch": 1, "device": "cpu"})
    flops, moved = counts(lambda: network(*one))
    products = matrix_products(
        (entrant.settings["precision"] for entrant in entrants),
        settings["device"], threads=settings["threads"], side=settings["matrices"],
    )  # fmt: skip
    print(f"{flops / 1e9:.2f} GFLOP and {moved / 1e6:.1f} MB of maps (fp32) a slice")
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
            "floor": flops * settings["batch"] / products[entrant.settings["precision"]],
            "of a matrix product": flops * settings["batch"] / each.median / products[entrant.settings["precision"]],
            "from the first": from_the_first(first, each),
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
        f"{faster['greatest']:.2f})  {row['gflop per second']:7.1f} GFLOP/s ({row['of a matrix product']:.0%}, floor "
        f"{row['floor']:.3f} s)  max {apart['max']:.1e}  {apart['psnr']:.1f} dB  {row['page faults']} page faults",
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
    randomise(network)
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
    if candidate := settings.get("candidate"):
        network = CANDIDATES[candidate](network)
    network.to(settings["device"])
    x, t, z = _inputs(network, settings)
    x = x.contiguous(memory_format=_layout(network))
    parts = list(zip(*(each.split(settings.get("at_once") or len(x)) for each in (x, t, z)), strict=True))
    run = record_on_cuda(network, parts[0]) if settings.get("replayed") else network

    def forward() -> Tensor:
        return torch.cat([run(*part) for part in parts])

    return forward


def _layout(network: NCSNpp) -> torch.memory_format:
    """Return the layout of a network's weights; convolutions go on in that of the images where the two differ."""
    last = network.all_modules[-1]
    assert isinstance(last, torch.nn.Conv2d)
    is_last = last.weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


if __name__ == "__main__":
    main()
