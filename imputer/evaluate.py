"""Predictions against their references: pairs of files to figures, and the figures of many cases in few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imputer.errors import InputError, UsageError
from imputer.io.pairs import Pair, Pairs, find_pairs, sidecar_of
from imputer.report.calibration import Calibration
from imputer.report.protocols import chosen
from imputer.report.statistics import Comparison, Summary, compare, summarise
from imputer.scored import Figures, Scored, Settings, score_pair

NORMALISE = ("auto", "none", "mean")
CALIBRATION = ("spearman", "ause", "ause_random", "coverage_1", "coverage_2", "coverage_3")


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how.

    Attributes
    ----------
    prediction, reference : two files, or two folders whose cases are matched by name.
    against : predictions of another method, for a paired comparison.
    mask, roi : a file for all cases, or a folder with one for each: what is scored, and a region that is scored apart.
    protocol : "syndiff", "aldm", "synthrad", or None for our own way.
    domain : "mr" or "ct"; None: told by the reference's name.
    normalise : "none", "mean" (each volume over its own mean), or "auto": "mean" where a sidecar says that the
        grey values of a prediction have no unit.
    data_range : for PSNR and SSIM; None: as the protocol has it.
    resample : whether what lies on another grid may be put onto the reference's.
    seed : of the bootstrap.
    """

    prediction: Path
    reference: Path
    against: Path | None = None
    mask: Path | None = None
    roi: Path | None = None
    protocol: str | None = None
    domain: str | None = None
    normalise: str = "auto"
    data_range: float | None = None
    resample: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Group:
    """The cases of one contrast in few numbers; by name of a figure.

    Attributes
    ----------
    contrast : "" where names tell none.
    cases : how many.
    figures, roi, calibration, against : over the cases that have them.
    comparison : prediction less the other method, whole region and region apart; empty without one.
    """

    contrast: str
    cases: int
    figures: dict[str, Summary]
    roi: dict[str, Summary]
    calibration: dict[str, Summary]
    against: dict[str, Summary]
    comparison: dict[str, Comparison]
    roi_comparison: dict[str, Comparison]


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes
    ----------
    cases : sorted by name.
    failed : (case, sentence) of those that could not be scored.
    groups : one for each contrast.
    pairs : what was matched, and what was not.
    warnings : sentences about the whole.
    """

    cases: tuple[Scored, ...]
    failed: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    pairs: Pairs
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 all scored, 8 some failed, 9 all failed."""
        return 0 if not self.failed else 8 if self.cases else 9


def evaluate(request: Request, *, on_case: Callable[[int, int], None] = lambda done, total: None) -> Evaluation:
    """Score predictions against their references.

    In folders a case that cannot be scored does not stop the others.

    Parameters
    ----------
    on_case : called with the number of cases done and their total.

    Raises
    ------
    UsageError
        Where settings do not go together, or a library is not installed.
    InputError
        Where nothing matches; of two files also where they cannot be scored.
    """
    check(request)
    pairs = find_pairs(
        request.prediction, request.reference, against=request.against, mask=request.mask, roi=request.roi
    )
    settings = _settings(request, pairs)
    cases: list[Scored] = []
    failed: list[tuple[str, str]] = []
    for done, pair in enumerate(pairs.pairs):
        on_case(done, len(pairs.pairs))
        try:
            cases.append(_scored(pair, request, settings))
        except InputError as error:
            if not pairs.folders:
                raise
            failed.append((pair.case, str(error)))
    on_case(len(pairs.pairs), len(pairs.pairs))
    groups = tuple(_group(contrast, cases, request.seed) for contrast in dict.fromkeys(map(_contrast, cases)))
    return Evaluation(tuple(cases), tuple(failed), groups, pairs, tuple(_warnings(request, pairs)))


def check(request: Request) -> None:
    """UsageError where the settings of a request do not go together."""
    if request.normalise not in NORMALISE:
        raise UsageError(f"There is no way {request.normalise!r} to normalise.", remedy="Use auto, none or mean.")
    if request.domain is not None:
        chosen(None, request.domain)
    protocol = chosen(request.protocol, request.domain or "mr")
    if request.data_range is not None and not request.data_range > 0:
        raise UsageError("The data range must be above 0.")
    fixed = protocol if protocol.is_preset or request.domain == "ct" else None
    if fixed is None:
        return
    said = f"The protocol {fixed.name}" if fixed.is_preset else "Of CT, imputer"
    if request.data_range is not None:
        raise UsageError(f"{said} has a data range of its own.", remedy="Leave --data-range out.")
    if request.mask is not None and fixed.mask == "none":
        raise UsageError(f"{said} has no mask.", remedy="Leave --mask out, or use --roi.")
    if request.normalise != "auto" and fixed.normalise not in ("free", request.normalise):
        raise UsageError(f"{said} has a normalisation of its own.", remedy="Leave --normalise out.")
    if request.domain is not None and fixed.domain != request.domain:
        raise UsageError(f"{said} is for {fixed.domain}.", remedy="Leave --domain out.")


def calibration_figures(found: Calibration | None) -> Figures:
    """Figures of a calibration by the names of `CALIBRATION`; none of none."""
    if found is None:
        return {}
    return dict(zip(CALIBRATION, (found.spearman, found.ause, found.ause_random, *found.coverage), strict=True))


def _settings(request: Request, pairs: Pairs) -> Settings:
    normalise: Literal["none", "mean"] = "mean" if request.normalise == "mean" else "none"
    if request.normalise == "auto" and any(_has_no_unit(pair) for pair in pairs.pairs):
        normalise = "mean"
    return Settings(
        request.protocol, request.domain, normalise, request.data_range, request.resample, skip_empty_roi=pairs.folders
    )


def _has_no_unit(pair: Pair) -> bool:
    """Whether the sidecar of a prediction, of either method, says that its grey values have no unit."""
    for prediction in (pair.prediction, pair.against):
        scale = sidecar_of(prediction).get("intensity_scale") if prediction is not None else None
        if isinstance(scale, dict) and str(scale.get("unit", "")).startswith("arbitrary"):
            return True
    return False


def _scored(pair: Pair, request: Request, settings: Settings) -> Scored:
    if request.mask is not None and pair.mask is None:
        raise InputError("No mask belongs to this case.", remedy="Name it like the case, e.g. p1_mask.nii.gz.")
    return score_pair(pair, settings)


def _warnings(request: Request, pairs: Pairs) -> list[str]:
    found = list(pairs.problems)
    if pairs.predictions:
        found.append(f"{len(pairs.predictions)} x a prediction has no reference: {', '.join(pairs.predictions)}.")
    if pairs.references:
        found.append(f"{len(pairs.references)} x a reference has no prediction: {', '.join(pairs.references)}.")
    lacking = [pair.case for pair in pairs.pairs if request.against is not None and pair.against is None]
    if lacking:
        found.append(f"{len(lacking)} x no prediction of the other method: {', '.join(lacking)}.")
    unmarked = [pair.case for pair in pairs.pairs if request.roi is not None and pair.roi is None]
    if unmarked:
        found.append(f"{len(unmarked)} x no region: {', '.join(unmarked)}.")
    return found


def _contrast(case: Scored) -> str:
    return "" if case.modality is None else str(case.modality)


def _group(contrast: str, cases: Sequence[Scored], seed: int) -> Group:
    mine = [case for case in cases if _contrast(case) == contrast]
    both = [(case.own, case.against) for case in mine if case.against is not None]
    return Group(
        contrast,
        len(mine),
        figures=_summaries([case.own.figures for case in mine], seed),
        roi=_summaries([case.own.roi or {} for case in mine], seed),
        calibration=_summaries([calibration_figures(case.own.calibration) for case in mine], seed),
        against=_summaries([other.figures for _, other in both], seed),
        comparison=_comparisons([(own.figures, other.figures) for own, other in both], seed),
        roi_comparison=_comparisons([(own.roi or {}, other.roi or {}) for own, other in both], seed),
    )


def _summaries(figures: Sequence[Figures], seed: int) -> dict[str, Summary]:
    found = {name: summarise(_values(figures, name), seed=seed) for name in _names(figures)}
    return {name: summary for name, summary in found.items() if summary is not None}


def _comparisons(figures: Sequence[tuple[Figures, Figures]], seed: int) -> dict[str, Comparison]:
    own, other = [first for first, _ in figures], [second for _, second in figures]
    found = {name: compare(_values(own, name), _values(other, name), seed=seed) for name in _names(own)}
    return {name: comparison for name, comparison in found.items() if comparison is not None}


def _names(figures: Sequence[Figures]) -> list[str]:
    return list(dict.fromkeys(name for each in figures for name in each))


def _values(figures: Sequence[Figures], name: str) -> list[float]:
    """One value a case, NaN where it has none."""
    values = [each.get(name) for each in figures]
    return [float("nan") if value is None else value for value in values]
