"""Flicker between slices: one noise for the whole volume against one for each slice.

In the two planes that cut across the slices, flicker shows as change along k. For each volume: the mean absolute change
from slice to slice over the head, and the mean absolute second difference (which anatomy, being smooth, has less of
than noise), both divided by the volume's mean over the head; beside them the same figures of the real target.

Example:
    python benchmarks/slice_consistency.py ../shared/data/open_ms/native/patient04/study1_T1W.nii.gz --to t2
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from measures import axial, flicker, head_of

from imputer.io.dispatch import load
from imputer.methods.base import RunOptions
from imputer.modality import parse_modality
from imputer.pretrained.load import load_model
from imputer.weights.choice import choose
from imputer.weights.manifest import entries


def main() -> None:
    """Print one JSON object a volume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="+")
    parser.add_argument("--to", required=True)
    parser.add_argument("--model")
    parser.add_argument("--reference", type=Path, help="the real target, for one source on the same grid")
    options = parser.parse_args()
    for path in options.source:
        print(json.dumps({"file": path.name, **_compare(path, options)}), flush=True)


def _compare(path: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    source = load(path)
    assert source.modality is not None
    name = options.model or choose(entries(), source.modality, parse_modality(options.to)).entry.id
    model = load_model(name)
    stack, undo = model.recipe.forward(source)
    head = head_of(axial(source).array)
    figures = {}
    base = RunOptions(case=path.name)
    for label, shared in (("shared", True), ("independent", False)):
        made = model.run(stack, replace(base, shared_noise=shared))
        volume = model.recipe.inverse(made, undo, source, scale=model.output_scale)
        figures[label] = flicker(axial(volume).array, head)
    if options.reference:
        figures["real"] = flicker(axial(load(options.reference)).array, head)
    return figures


if __name__ == "__main__":
    main()
