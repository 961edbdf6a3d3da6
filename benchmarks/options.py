"""What the command lines of the benchmarks share: their options, the loop over what grows, the file of results."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measures import LONG_SIDE, machine

Growth = Mapping[str, Sequence[int]]  # what can grow, and the values that it takes unless told otherwise
Measure = Callable[[Mapping[str, Any]], dict[str, Any]]  # from settings to results


def make_parser(doc: str | None, *, rounds: int, growth: Growth) -> argparse.ArgumentParser:
    """Make a parser with the options of every benchmark that takes rounds."""
    parser = make_plain_parser(doc)
    parser.add_argument("--rounds", type=int, default=rounds, help="in each of which every variant has its turn")
    parser.add_argument("--grow", choices=sorted(growth), help="measure ours alone at growing values")
    parser.add_argument("--values", type=int, nargs="*", help="of what grows")
    return parser


def make_plain_parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="JSON of the results; of what grows, written after each value")
    parser.add_argument("--machine", default="", help="what its owner calls the processor")
    return parser


def add_precisions(parser: argparse.ArgumentParser, default: Sequence[str] = ()) -> None:
    """Add the options of a benchmark that times a network."""
    parser.add_argument("--precisions", nargs="*", default=list(default), help="beside fp32")
    parser.add_argument("--matrices", type=int, default=LONG_SIDE, help="side of those whose product is timed")


def measure(options: argparse.Namespace, growth: Growth, settings: Mapping[str, Any], once: Measure) -> None:
    """Measure once, or at each value of what grows; write JSON with --output."""
    results: dict[str, Any] = {**machine(options.machine), "settings": settings, "rounds": options.rounds}
    if options.grow is None:
        _write(options, {**results, **once(settings)})
        return
    rows = []
    for value in options.values or growth[options.grow]:
        print(f"{options.grow} {value}", flush=True)
        rows.append({options.grow: value, **once({**settings, options.grow: value})})
        _write(options, {**results, "grows": options.grow, "rows": rows})


def _write(options: argparse.Namespace, results: Mapping[str, Any]) -> None:
    if options.output:
        write_json(options.output, results)


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """Write results; what is infinite, the PSNR of equal results, is null, for JSON has no number for it."""
    text = json.dumps(_finite(results), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value
