"""What half precision does to the results of models: all reverse steps in it against all in fp32, on real scans.

Of each model that takes a source's contrast, to each of its targets: evenly spread slices that show a head, of ALDM the
middle of the volume. Differences are of values in [-1, 1], the PSNR of a range of 2. Not how fast it is: on a CPU fp16,
which imputer refuses there, is slow, but its rounding is that of the format.

    python -m benchmarks.precision t1.nii.gz t2.nii.gz --output results.json
    python -m benchmarks.precision t1.nii.gz --models my.safetensors --precisions bf16 --device cuda
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measures import difference, machine
from benchmarks.options import make_plain_parser, write_json
from imputer.io.dispatch import load
from imputer.methods.base import Method, RunOptions
from imputer.methods.slices import SliceMethod, slices_with_head
from imputer.modality import Modality
from imputer.pretrained.load import load_model
from imputer.sources import stack_of
from imputer.volume import Volume
from imputer.weights.manifest import entries

RANGE = 2.0


def main() -> None:
    """Measure, print a line for each result; write JSON with --output."""
    options = _arguments()
    sources = [load(path) for path in options.sources]
    names = options.models or [entry.id for entry in entries() if entry.embedded]
    rows = []
    for name in names:
        model = load_model(name, device=options.device)
        for row in _rows(model, sources, options):
            print(json.dumps(row), flush=True)
            rows.append({"model": name, **row})
    if options.output:
        found = {**machine(options.machine), "slices": options.slices, "box": options.box, "rows": rows}
        write_json(options.output, found)


def _arguments() -> argparse.Namespace:
    parser = make_plain_parser(__doc__)
    parser.add_argument("sources", type=Path, nargs="+", metavar="SCAN", help="its name tells the contrast")
    parser.add_argument("--models", nargs="*", help="ids or files; left out, all embedded ones")
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp16"])
    parser.add_argument("--slices", type=int, default=8, help="of each scan")
    parser.add_argument("--box", type=int, nargs=3, default=(48, 56, 48), metavar="VOXELS", help="of ALDM's volumes")
    return parser.parse_args()


def _rows(model: Method, sources: list[Volume], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for source in sources:
        targets = [target for target in model.targets if target != source.modality]
        if source.modality not in model.sources:
            continue
        whole, _ = stack_of(model, source, ())
        stack = _chosen(whole, options.slices) if isinstance(model, SliceMethod) else _middle(whole, options.box)
        for target in targets:
            yield from _compared(model, stack, source.modality, target, options.precisions)


def _chosen(stack: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return evenly spread slices with a head."""
    filled = np.flatnonzero(slices_with_head(stack))
    chosen: NDArray[np.float32] = stack[filled[np.linspace(0, len(filled) - 1, count + 2).round().astype(int)[1:-1]]]
    return chosen


def _middle(stack: NDArray[np.float32], box: Sequence[int]) -> NDArray[np.float32]:
    """Return the middle of a volume (1, 1, I, J, K)."""
    starts = [max(0, (length - size) // 2) for length, size in zip(stack.shape[2:], box, strict=True)]
    i, j, k = (slice(start, start + size) for start, size in zip(starts, box, strict=True))
    return stack[:, :, i, j, k].copy()


def _compared(
    model: Method, stack: NDArray[np.float32], source: Modality, target: Modality, precisions: list[str]
) -> Iterator[dict[str, Any]]:
    whole = RunOptions(case="precision", source=source, target=target, precision="fp32")
    expected = model.run(stack, whole)
    for precision in precisions:
        made = model.run(stack, replace(whole, precision=precision))
        pair = {"source": source.value, "target": target.value, "precision": precision}
        yield {**pair, **difference(expected, made, RANGE)}


if __name__ == "__main__":
    main()
