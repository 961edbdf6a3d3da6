"""PSNR and SSIM of models on held-out cases, beside the best intensity mapping fitted on the training cases.

Runs the whole path, from file to file grid, as `imputer synth` does. The reference is aligned rigidly to the source and
resampled to its grid; scores are those of `imputer.report.metrics.paired_scores` on axial slices. Sharpness is the mean
in-plane gradient of the synthetic volume in units of the reference's (1: as sharp; the mapping keeps the source's).
Structure tells how far the edges of the synthetic volume run with the source's, true structure how far the reference's
do. Of several sources (t1+t2-flair) the first gives the grid; all go in as they are, by their headers.

Example:
    python benchmarks/score_models.py --data ../shared/data/open_ms --holdout patient04 --holdout patient26
    python benchmarks/score_models.py --data DATA --holdout patient04 --model aldm-t1-t1ce-t2-flair --pairs t1-t2 t2-t1
    python benchmarks/score_models.py --data DATA --holdout patient04 --model joint.safetensors --pairs t1+t2-flair
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measures import axial, edge_agreement, edges, head_of
from numpy.typing import NDArray

from imputer.modality import Modality, parse_modality
from imputer.report.metrics import paired_scores
from imputer.synth import synthesise
from imputer.train.data import Case, find_cases, load_pair, matches
from imputer.volume import Volume

BINS = 256
BRIGHTEST = 6.0  # of the mapping's input, in units of the mean over the head


def main() -> None:
    """Score each pair and print a table; write JSON with --output."""
    options = _arguments()
    rows = []
    for pair in options.pairs:
        sources, target = pair.split("-")
        rows += _score_pair(options, [parse_modality(each) for each in sources.split("+")], parse_modality(target))
    for row in rows:
        print("  ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    if options.output:
        machine = {"machine": platform.machine(), "processor": options.machine, "python": platform.python_version()}
        options.output.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--holdout", action="append", default=[])
    parser.add_argument("--pairs", nargs="+", default=["t1-t2", "t2-t1", "t1-flair", "t2-flair"])
    parser.add_argument("--models", type=Path, help="folder of SynDiff packages, one a pair; default: embedded ones")
    parser.add_argument("--model", help="id or file of one model for all pairs")
    parser.add_argument("--pictures", type=Path, help="folder for the synthetic volumes and a picture of each")
    parser.add_argument("--no-mapping", action="store_true", help="leave the intensity mapping out")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--machine", default=platform.processor())
    return parser.parse_args()


def _score_pair(options: argparse.Namespace, sources: Sequence[Modality], target: Modality) -> list[dict[str, Any]]:
    source, *others = sources
    places = [(options.data, other) for other in others]
    found = find_cases(options.data, options.data, source, target, others=places)
    cases = [case for case in found if case.target and all(case.sources)]
    held_out = [case for case in cases if matches(case.name, options.holdout)]
    training = [case for case in cases if not matches(case.name, options.holdout)]
    mapping = None if options.no_mapping or others else _fit_mapping(training)
    rows = []
    for case in held_out:
        given, reference = (axial(volume) for volume in load_pair(case, "source", register=True))
        row: dict[str, Any] = {"pair": f"{'+'.join(sources)}-{target}", "case": case.name}
        if mapping is not None:
            mapped = paired_scores(reference.array, mapping[_bins(given.array)])
            row |= {f"mapping_{key}": value for key, value in mapped.items()}
        started = time.monotonic()
        synthetic, row["model"] = _synthesise(options, case, sources, target)
        row["seconds"] = time.monotonic() - started
        made, head = axial(synthetic).array, head_of(given.array)
        row |= paired_scores(reference.array, made)
        row["sharpness"] = edges(made) / edges(reference.array)
        row["structure"] = edge_agreement(made, given.array, head)
        row["true_structure"] = edge_agreement(reference.array, given.array, head)
        print(row, flush=True)
        rows.append(row)
    return rows


def _synthesise(
    options: argparse.Namespace, case: Case, sources: Sequence[Modality], target: Modality
) -> tuple[Volume, str]:
    """Return the synthetic volume and the id of the model that made it."""
    pair = f"{'+'.join(sources)}-{target}"
    model = options.models / f"syndiff-{pair}.safetensors" if options.models else options.model
    output = None
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        output = options.pictures / f"{case.name.replace('/', '_')}_{pair}.nii.gz"
    given = {source: path for source, path in zip(sources, case.sources, strict=True) if path is not None}
    outcome = synthesise(
        given, to=target, model=model, output=output, steps=options.steps,
        preview=output is not None, overwrite=True,
    )  # fmt: skip
    return outcome.volume, outcome.record["model"]["id"]


def _bins(array: NDArray[np.float32]) -> NDArray[np.intp]:
    """Bin intensities in units of the mean over the head."""
    head = array[head_of(array)]
    scaled = np.clip(array / (head.mean() * BRIGHTEST), 0, 1)
    return np.asarray((scaled * (BINS - 1)).round(), dtype=np.intp)


def _fit_mapping(cases: list[Case]) -> NDArray[np.float64]:
    """Return the mean target intensity of each bin of source intensity: the best mapping in the mean square."""
    sums, counts = np.zeros(BINS), np.zeros(BINS)
    for case in cases:
        given, reference = load_pair(case, "source", register=True)
        bins, values = _bins(given.array).ravel(), (reference.array / reference.array.mean()).ravel()
        sums += np.bincount(bins, weights=values, minlength=BINS)
        counts += np.bincount(bins, minlength=BINS)
    seen = np.flatnonzero(counts)
    return np.interp(np.arange(BINS), seen, sums[seen] / counts[seen])


if __name__ == "__main__":
    main()
