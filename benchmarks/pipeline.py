"""One case from file to file on a head phantom: the `imputer synth` command, and the same work stage by stage.

In each round, one after the other: `imputer --help`, then for each variant (precision, kind of file) the command and
`benchmarks.stages`, each in a process of its own. Prints medians with the least and the greatest round; what the
command takes beside the network (its seconds less those of the network stage of the same round); peak memory of the
command; the network's speed against a product of large matrices (which convolutions may pass: no ceiling), and its
floor: the seconds that its operations would take at the speed of that product. Each variant's volume is compared with
that of fp32. Sizes that no head has are measured too (--force).

    python -m benchmarks.pipeline                                   256 x 256 x 180 voxels of 0.9 x 0.9 x 1 mm
    python -m benchmarks.pipeline --precisions bf16 --rounds 3 --output results.json
    python -m benchmarks.pipeline --random released --device cuda --precisions fp16 bf16
    python -m benchmarks.pipeline --grow slices                     how cost grows: slices, size (pixels of a side)
    python -m benchmarks.pipeline --grow size --random smallest     the same beside the network
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.commands import IMPUTER, PYTHON, Ran, run
from benchmarks.measures import difference, matrix_products, spread
from benchmarks.options import add_precisions, make_parser, measure
from benchmarks.random_models import add_model, chosen_model
from benchmarks.stages import NETWORK, STAGES, WARM_NETWORK
from imputer.io.dispatch import load, save
from imputer.modality import Modality
from imputer.phantom import make_head

GROWTH = {"slices": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512), "size": (128, 192, 256, 384, 512)}
COMPRESSED, PLAIN = ".nii.gz", ".nii"


@dataclass(frozen=True)
class Way:
    """A variant: in which precision, and what is written."""

    precision: str
    ending: str = COMPRESSED

    @property
    def name(self) -> str:
        """As in the table."""
        return f"{self.precision}, {self.ending}"


@dataclass(frozen=True)
class Round:
    """What a variant took once: the command, and the stages."""

    command: Ran
    stages: Ran

    @property
    def found(self) -> dict[str, Any]:
        """What `benchmarks.stages` has printed."""
        found: dict[str, Any] = json.loads(self.stages.output)
        return found

    @property
    def beside(self) -> float:
        """Seconds of the command but for the network's."""
        network: float = self.found["seconds"][NETWORK]
        return self.command.seconds - network


class Bench:
    """A phantom in a folder, and the commands that make another contrast of it."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], model: str | None) -> None:
        self.folder = folder
        self.source = folder / "t1.nii.gz"
        pixel, slice_mm = settings["spacing"]
        self.shape = (settings["size"], settings["size"], settings["slices"])
        head = make_head([Modality.T1], shape=self.shape, spacing=(pixel, pixel, slice_mm))[Modality.T1]
        save(head, self.source, like=head, description="phantom", overwrite=True)
        self._of_both = ["--to", settings["to"], "--device", settings["device"]]
        self._of_both += ["--model", model] if model is not None else []

    def once(self, way: Way, *, counts_too: bool) -> Round:
        """Run the command, then the stages; these count the network's operations too, after all that is timed."""
        command = [*IMPUTER, "synth", str(self.source), "-o", str(self.written(way, "command"))]
        command += ["--overwrite", "--force", "-q"]
        stages = [*PYTHON, "benchmarks.stages", str(self.source), str(self.written(way, "stages"))]
        stages += ["--count"] if counts_too else []
        of_both = [*self._of_both, "--precision", way.precision]
        return Round(run([*command, *of_both]), run([*stages, *of_both]))

    def written(self, way: Way, by: str) -> Path:
        """Where a variant writes."""
        return self.folder / f"{way.precision}-{by}{way.ending}"

    def apart(self, one: Path, other: Path) -> dict[str, float]:
        """Return the differences of two volumes; the PSNR of the range from 0 to the first one's maximum."""
        first = load(one).array
        return difference(first, load(other).array, span=float(first.max()))


def main() -> None:
    """Measure, print a table; write JSON with --output."""
    options = _arguments()
    ways = [Way("fp32"), *map(Way, options.precisions)]
    ways += [] if options.grow else [Way("fp32", PLAIN)]
    names = ("device", "size", "slices", "spacing", "to", "matrices")
    with tempfile.TemporaryDirectory() as folder:
        model = chosen_model(options, Path(folder))
        settings = {"model": options.random or model, **{name: getattr(options, name) for name in names}}

        def once(settings: Mapping[str, Any]) -> dict[str, Any]:
            return _compare(Bench(Path(folder), settings, model), settings, ways, options.rounds)

        measure(options, GROWTH, settings, once)


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=5, growth=GROWTH)
    add_precisions(parser)
    add_model(parser, "syndiff-t1-t2")
    parser.add_argument("--to", default="t2")
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    parser.add_argument("--slices", type=int, default=180)
    parser.add_argument("--spacing", type=float, nargs=2, default=[0.9, 1.0], help="of pixels and of slices, mm")
    return parser.parse_args()


def _compare(bench: Bench, settings: Mapping[str, Any], ways: Sequence[Way], rounds: int) -> dict[str, Any]:
    helps: list[Ran] = []
    taken: dict[Way, list[Round]] = {way: [] for way in ways}
    for _ in range(rounds):
        helps.append(run([*IMPUTER, "--help"]))
        for way in ways:
            taken[way].append(bench.once(way, counts_too=len(taken[ways[0]]) == 0))
    work = taken[ways[0]][0].found
    products = matrix_products((way.precision for way in ways), settings["device"], side=settings["matrices"])
    print(f"imputer --help: {_said(spread([each.seconds for each in helps]))}")
    print(
        f"network: {work['flops'] / 1e9:.1f} GFLOP and {work['map bytes'] / 1e6:.0f} MB of maps (fp32), "
        f"{work['slices']} slices with anything in them"
    )
    rows = []
    for way in ways:
        row = {"variant": way.name, **_row(taken[way], work["flops"], products[way.precision])}
        row["from the first"] = bench.apart(bench.written(ways[0], "command"), bench.written(way, "command"))
        row["stages from the command"] = bench.apart(bench.written(way, "command"), bench.written(way, "stages"))
        rows.append(row)
        _say(row)
    return {
        "shape": bench.shape,
        "help seconds": spread([each.seconds for each in helps]),
        "slices with anything in them": work["slices"],
        "network gflop": work["flops"] / 1e9,
        "network megabyte of maps, fp32": work["map bytes"] / 1e6,
        "matrix product gflop per second": {name: value / 1e9 for name, value in products.items()},
        "variants": rows,
    }


def _row(rounds: Sequence[Round], flops: int, product: float) -> dict[str, Any]:
    """What a variant took; `flops` of the network's, `product` the operations a second of a matrix product."""
    found = [each.found for each in rounds]
    stages = {
        stage: spread([each["seconds"][stage] for each in found])
        for stage in (*STAGES, WARM_NETWORK)
        if stage in found[0]["seconds"]
    }
    network = stages.get(WARM_NETWORK, stages[NETWORK])["median"]
    return {
        "seconds": spread([each.command.seconds for each in rounds]),
        "rounds": [each.command.seconds for each in rounds],
        "stages": stages,
        "beside the network": spread([each.beside for each in rounds]),
        "peak bytes": max(each.command.peak_bytes for each in rounds),
        "device peak bytes": max(each["device peak bytes"] for each in found),
        "network gflop per second": flops / network / 1e9,
        "network floor": flops / product,
        "of a matrix product": flops / network / product,
    }


def _say(row: Mapping[str, Any]) -> None:
    apart = row["from the first"]
    print(
        f"{row['variant']}: {_said(row['seconds'])}, {row['peak bytes'] / 2**20:.0f} MiB; beside the network "
        f"{_said(row['beside the network'])}; from the first: max {apart['max']:g}, {apart['psnr']:.1f} dB; "
        f"stages from the command: max {row['stages from the command']['max']:g}"
    )
    for stage, seconds in row["stages"].items():
        print(f"    {stage:20} {_said(seconds)}")
    print(
        f"    network: {row['network gflop per second']:.1f} GFLOP/s, floor {row['network floor']:.3f} s "
        f"({row['of a matrix product']:.0%} of a matrix product)",
        flush=True,
    )


def _said(seconds: Mapping[str, float]) -> str:
    return f"{seconds['median']:.3f} s ({seconds['least']:.3f}-{seconds['greatest']:.3f})"


if __name__ == "__main__":
    main()
