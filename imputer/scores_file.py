"""An evaluation as data: one record for JSON and for the screen, one table for CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imputer import __version__
from imputer.evaluate import CALIBRATION, Evaluation, Group, calibration_figures
from imputer.files import replacing
from imputer.report.calibration import FRACTIONS, Calibration
from imputer.report.statistics import CONFIDENCE, RESAMPLES, Comparison, Summary
from imputer.scored import Figures, Score, Scored

METRICS = ("psnr", "ssim", "mae", "mae_hu", "nmse", "ms_ssim")
ABOUT = ("mask", "crop", "normalisation", "data_range_is")
COLUMNS = (
    *("case", "contrast", "method", "region", "prediction", "reference", "protocol"),
    *METRICS,
    *CALIBRATION,
    *("data_range", "slices", "voxels"),
    *ABOUT,
    "note",
)


def as_record(found: Evaluation) -> dict[str, Any]:
    """Everything as plain values for JSON; a figure that is missing or infinite is null, and a note says why."""
    protocols = {case.protocol.name: case.protocol for case in found.cases}
    return {
        "imputer": __version__,
        "protocols": {name: {"domain": each.domain, "source": each.source} for name, each in protocols.items()},
        "interval": {"of": "mean", "confidence": CONFIDENCE, "bootstrap_resamples": RESAMPLES},
        "cases": [_case(case) for case in found.cases],
        "groups": [_group(group) for group in found.groups],
        "failed": [{"case": name, "message": message} for name, message in found.failed],
        "unmatched": {"predictions": list(found.pairs.predictions), "references": list(found.pairs.references)},
        "warnings": _warnings(found),
        "notes": _notes(found),
    }


def write_csv(path: Path, found: Evaluation, *, overwrite: bool = False) -> None:
    """Write one line for each case, method and region; of a case that failed its name and the reason.

    OutputError where the file exists (without `overwrite`) or cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for case in found.cases:
        table.writerows(_lines(case))
    table.writerows({"case": name, "note": f"failed: {message}"} for name, message in found.failed)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _warnings(found: Evaluation) -> list[str]:
    own = [f"{case.case}: {warning}" for case in found.cases for warning in case.warnings]
    return [*found.warnings, *own, *(f"{name}: not scored: {message}" for name, message in found.failed)]


def _notes(found: Evaluation) -> list[str]:
    """What is noted of cases, once each."""
    notes: dict[str, list[str]] = {}
    for case in found.cases:
        for score in (case.own, case.against):
            for note in score.notes if score is not None else ():
                notes.setdefault(note, []).append(case.case)
    return [f"{_few(cases)}: {note}" for note, cases in notes.items()]


def _few(cases: list[str]) -> str:
    cases = list(dict.fromkeys(cases))
    return cases[0] if len(cases) == 1 else f"{len(cases)} cases"


def _case(case: Scored) -> dict[str, Any]:
    return {
        "case": case.case,
        "contrast": None if case.modality is None else str(case.modality),
        "reference": case.reference,
        "protocol": case.protocol.name,
        **_score(case.own),
        **({} if case.against is None else {"against": _score(case.against)}),
        "warnings": list(case.warnings),
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "prediction": score.prediction,
        "figures": _finite(score.figures),
        "roi": None if score.roi is None else _finite(score.roi),
        "calibration": None if score.calibration is None else _calibration(score.calibration),
        "data_range": score.data_range,
        "slices": score.slices,
        "voxels": score.voxels,
        **_about(score),
        "notes": list(score.notes),
    }


def _about(score: Score) -> dict[str, str]:
    words = dict(score.about)
    words["data_range_is"] = words.pop("data_range")
    return words


def _calibration(found: Calibration) -> dict[str, Any]:
    curves = {"removed": FRACTIONS.tolist(), "error": list(found.curve), "ideal": list(found.ideal)}
    sizes = {"voxels": found.voxels, "mean_deviation": found.mean_deviation, "mean_error": found.mean_error}
    return {**calibration_figures(found), **sizes, "sparsification": curves}


def _group(group: Group) -> dict[str, Any]:
    def plain(found: Mapping[str, Summary] | Mapping[str, Comparison]) -> dict[str, Any]:
        return {name: asdict(each) for name, each in found.items()}

    return {
        "contrast": group.contrast or None,
        "cases": group.cases,
        "figures": plain(group.figures),
        "roi": plain(group.roi),
        "calibration": plain(group.calibration),
        "against": plain(group.against),
        "comparison": plain(group.comparison),
        "roi_comparison": plain(group.roi_comparison),
    }


def _lines(case: Scored) -> Iterator[dict[str, object]]:
    for method, score in (("prediction", case.own), ("against", case.against)):
        if score is None:
            continue
        shared = {
            "case": case.case,
            "contrast": "" if case.modality is None else str(case.modality),
            "method": method,
            "prediction": score.prediction,
            "reference": case.reference,
            "protocol": case.protocol.name,
            "data_range": score.data_range,
            **_about(score),
        }
        sizes = {"slices": score.slices, "voxels": score.voxels, "note": " ".join((*case.warnings, *score.notes))}
        yield shared | {"region": "all"} | sizes | _written(score.figures | calibration_figures(score.calibration))
        if score.roi is not None:
            yield shared | {"region": "roi"} | _written(score.roi)


def _written(figures: Figures) -> dict[str, object]:
    return {name: "" if value is None else value for name, value in figures.items()}


def _finite(figures: Figures) -> Figures:
    return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}
