"""Samplers of an ALDM beside each other on held-out subjects: PSNR, SSIM, sharpness, seconds and slice consistency.

Runs the whole path on each source, on its own grid. The reference is aligned rigidly to the source; scores are those of
`imputer.report.metrics.paired_scores`. Curvature is the mean absolute second difference from slice to slice within the
head; beside it stand those of the real target and of the model that `imputer synth` would take (SynDiff).

Example:
    python benchmarks/score_aldm.py aldm.safetensors --data ../shared/data/open_ms --holdout patient26
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from measures import axial, edges, flicker, head_of
from numpy.typing import NDArray

from imputer.errors import ModelError
from imputer.methods.base import Method, RunOptions
from imputer.modality import Modality
from imputer.pretrained.load import load_model
from imputer.report.metrics import paired_scores
from imputer.train.data import Case, load_pair, matches
from imputer.train.subjects import Subject, find_subjects
from imputer.volume import Volume
from imputer.weights.choice import choose
from imputer.weights.manifest import entries

SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "MS-SPADE alone": {"sampler": "none"},
    "projector, 4 steps": {"sampler": "projector", "steps": 4},
    "DDIM, 4 steps, eta 0": {"sampler": "ddim", "steps": 4, "eta": 0.0},
    "DDIM, 4 steps, eta 1": {"sampler": "ddim", "steps": 4, "eta": 1.0},
    "DDIM, 200 steps, eta 1": {"sampler": "ddim", "steps": 200, "eta": 1.0},
}


def main() -> None:
    """Score each sampler and pair and print a line each; write JSON with --output."""
    options = _arguments()
    method = load_model(options.model, device=options.device)
    rows = []
    for subject in find_subjects(options.data, list(method.targets)):
        if matches(subject.name, options.holdout):
            for source, target in permutations([each for each in method.targets if each in subject.volumes], 2):
                if not options.pairs or f"{source}-{target}" in options.pairs:
                    rows += _score(options, method, subject, source, target)
    if options.output:
        machine = {"machine": platform.machine(), "processor": options.machine, "python": platform.python_version()}
        options.output.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--holdout", action="append", default=[])
    parser.add_argument("--pairs", nargs="*", help="e.g. t1-t2; default: all")
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--machine", default=platform.processor())
    return parser.parse_args()


def _score(
    options: argparse.Namespace, method: Method, subject: Subject, source: Modality, target: Modality
) -> list[dict[str, Any]]:
    case = Case(subject.name, subject.volumes[source], subject.volumes[target])
    given, reference = load_pair(case, "source", register=True)
    real = axial(reference).array
    head = head_of(axial(given).array)
    about = {"case": subject.name, "pair": f"{source}-{target}"}
    rows = [{**about, "sampler": "real target", **flicker(real, head)}]

    def add(name: str, made: NDArray[np.float32], seconds: float) -> None:
        scores = {**paired_scores(real, made), "sharpness": edges(made) / edges(real), **flicker(made, head)}
        rows.append({**about, "sampler": name, **scores, "seconds": seconds})
        _show(rows[-1])

    _show(rows[0])
    stack, undo = method.recipe.forward(given)
    for name in options.samplers:
        run = RunOptions(subject.name, target=target, precision=options.precision, **SAMPLERS[name])
        started = time.monotonic()
        made = method.recipe.inverse(method.run(stack, run), undo, given, scale=method.output_scale)
        add(name, axial(made).array, time.monotonic() - started)
    other = _syndiff(given, source, target)
    if other is not None:
        add("SynDiff", *other)
    return rows


def _show(row: Mapping[str, Any]) -> None:
    said = (f"{key} {value:.4g}" if isinstance(value, float) else str(value) for key, value in row.items())
    print("  ".join(said), flush=True)


def _syndiff(given: Volume, source: Modality, target: Modality) -> tuple[NDArray[np.float32], float] | None:
    """Return what the embedded model of the pair makes, and its seconds; None where there is none."""
    try:
        model = load_model(choose(entries(), source, target).entry.id)
    except ModelError:
        return None
    stack, undo = model.recipe.forward(given)
    started = time.monotonic()
    made = model.run(stack, RunOptions("case", target=target))
    volume = model.recipe.inverse(made, undo, given, scale=model.output_scale)
    return axial(volume).array, time.monotonic() - started


if __name__ == "__main__":
    main()
