"""A batch against as many single commands on the same cases: seconds, peak memory, share of time the device waited.

In each round, one after the other: the batch, then a command for each of its cases; their volumes are compared, too
(they should be the same). Prints medians with the least and the greatest round.

    python -m benchmarks.batch --cases 8 --shape 96 112 12 --spacing 2 2 12
    python -m benchmarks.batch --random smallest                    the share that is not synthesis
    python -m benchmarks.batch --grow cases --random smallest       how cost grows: the batch alone, 1 to 100 cases
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.commands import IMPUTER, run
from benchmarks.measures import difference, spread
from benchmarks.options import make_parser, measure
from benchmarks.random_models import add_model, chosen_model
from imputer.files import synthetic_name
from imputer.io.dispatch import load, save
from imputer.modality import Modality
from imputer.phantom import make_head

GROWTH = {"cases": (1, 2, 5, 10, 20, 50, 100)}
HEADS = 5  # that differ; more cases are the same ones again
TO = "t2"


def main() -> None:
    """Measure, print a table; write JSON with --output."""
    options = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = chosen_model(options, Path(folder))
        settings = {
            "model": options.random or model,
            **{name: getattr(options, name) for name in ("device", "cases", "shape", "spacing", "precision")},
        }
        ways = ["--to", TO, "--device", options.device, "--precision", options.precision, "-q"]
        ways += ["--model", model] if model is not None else []

        def once(settings: Mapping[str, Any]) -> dict[str, Any]:
            alone = options.no_singles or options.grow is not None
            return _spreads([_round(settings, ways, alone=alone) for _ in range(options.rounds)])

        measure(options, GROWTH, settings, once)


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=3, growth=GROWTH)
    add_model(parser, None)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--shape", type=int, nargs=3, default=[96, 112, 12])
    parser.add_argument("--spacing", type=float, nargs=3, default=[2.0, 2.0, 12.0])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-singles", action="store_true", help="the batch alone")
    return parser.parse_args()


def _round(settings: Mapping[str, Any], ways: list[str], *, alone: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        sources, results = Path(folder) / "in", Path(folder) / "out"
        sources.mkdir()
        _write_heads(sources, settings)
        batch = run([*IMPUTER, "batch", str(sources), str(results), *ways])
        told = json.loads((results / "run.json").read_text(encoding="utf-8"))
        found = {
            "batch seconds": batch.seconds,
            "seconds a case": batch.seconds / settings["cases"],
            "device waited, share": told["device_waited_seconds"] / batch.seconds,
            "batch peak bytes": float(batch.peak_bytes),
        }
        if alone:
            return found
        paths = sorted(sources.glob("*.nii.gz"))
        singles = [run([*IMPUTER, "synth", str(path), *ways]) for path in paths]
        seconds = sum(each.seconds for each in singles)
        return {
            **found,
            "singles seconds": seconds,
            "single peak bytes": float(max(each.peak_bytes for each in singles)),
            "singles over batch": seconds / batch.seconds,
            "greatest difference": max(_difference(path, results) for path in paths),
        }


def _write_heads(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the sources of the cases."""
    shape, spacing = tuple(settings["shape"]), tuple(settings["spacing"])
    for number in range(settings["cases"]):
        head = make_head([Modality.T1], shape=shape, spacing=spacing, seed=number % HEADS)[Modality.T1]
        save(head, folder / f"case{number:04d}_t1.nii.gz", like=head, description="phantom")


def _difference(source: Path, results: Path) -> float:
    """Return the greatest difference of what the batch and the single command have made of a source."""
    name = synthetic_name(source, TO) + ".nii.gz"
    one, other = (load(each / name).array for each in (source.parent, results))
    return difference(one, other, span=float(one.max()))["max"]


def _spreads(rounds: list[dict[str, float]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in rounds[0]:
        of_rounds = [each[name] for each in rounds]
        if name in ("batch peak bytes", "single peak bytes", "greatest difference"):
            found[name] = max(of_rounds)
            print(f"{name:24} {found[name]:g}", flush=True)
            continue
        found[name] = spread(of_rounds)
        print(f"{name:24} {found[name]['median']:.4f} ({found[name]['least']:.4f}-{found[name]['greatest']:.4f})")
    return found


if __name__ == "__main__":
    main()
