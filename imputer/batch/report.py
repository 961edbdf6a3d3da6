"""The page of a run: what its tables and sidecars say, and pictures of its volumes and of their sources.

A case that cannot be read is a row with a flag; it never stops the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imputer import __version__
from imputer.batch.jobs import DONE, FAILED
from imputer.batch.places import Place, places_of
from imputer.batch.results import Result, find_results, read_sidecar
from imputer.batch.run_facts import case_facts, run_facts
from imputer.batch.sources import SourceNotShown, find_source
from imputer.errors import ImputerError, InputError
from imputer.files import is_nifti_name, strip_suffixes
from imputer.io.dispatch import load
from imputer.preprocess.orient import Orient
from imputer.processors import processors
from imputer.report import page
from imputer.report.page import Flag, PageCase, write_page
from imputer.report.page_images import Detail, Pictures, detail_for, pictures_of
from imputer.report.wording import RESULT, SOURCE, without_names
from imputer.volume import Volume, farthest_apart

NAME = "report.html"
_AT_ONCE = 4  # cases; each has up to three volumes in memory
_HIGH_RISK = 0.5  # score from which on a case is flagged for it
_AXES = Orient("LPS")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Made:
    """What came of a page: where it lies, its size in bytes, the cases on it, and those whose source it lacks."""

    path: Path
    size: int
    cases: int
    without_source: int


def make_report(
    run: Path,
    output: Path | None = None,
    *,
    sources: Path | None = None,
    overwrite: bool = False,
    results: Sequence[Result] | None = None,
    progress: Progress = lambda done, total: None,
) -> Made:
    """Write the page of a run.

    Parameters
    ----------
    run : folder that `imputer batch` wrote, or any folder of synthetic volumes with their sidecars.
    output : HTML file; None: `report.html` in the folder.
    sources : folder to look for sources in, beside the places that the batch noted.
    results : of the run, where they are known already; None: as `find_results`.
    progress : called with the number of cases that are done, and of all; what it raises ends the work.

    Raises
    ------
    ImputerError
        InputError where the folder holds no results, OutputError where the page exists already (without `overwrite`)
        or cannot be written.
    """
    path = run / NAME if output is None else output
    found = list(find_results(run) if results is None else results)
    detail = detail_for(len(found))
    maker = _Maker(run, detail, places_of(run), sources)
    cases = list(maker.cases(found, progress))
    size = write_page(
        path,
        cases,
        run=run_facts(run, maker.records),
        detail=detail,
        version=__version__,
        overwrite=overwrite,
    )
    alone = sum(any(flag.kind == page.PAGE for flag in case.flags) for case in cases)
    return Made(path, size, len(cases), alone)


@dataclass
class _Maker:
    """Turns results into rows of the page, several at once; `records` grows meanwhile."""

    run: Path
    detail: Detail
    places: Mapping[str, Place]
    sources: Path | None
    records: list[dict[str, Any]] = field(default_factory=list)

    def cases(self, results: Sequence[Result], progress: Progress) -> Iterator[PageCase]:
        """Rows in the order of the results."""
        pool = ThreadPoolExecutor(min(_AT_ONCE, processors()), thread_name_prefix="report")
        try:
            for done, case in enumerate(pool.map(self.case, results), 1):
                progress(done, len(results))
                yield case
        finally:
            pool.shutdown(cancel_futures=True)

    def case(self, result: Result) -> PageCase:
        """One row; whatever goes wrong is a flag."""
        record = read_sidecar(result.sidecar) if result.sidecar is not None and result.status == DONE else None
        place = self._place(result)
        names = {name: SOURCE for name in (*_names(record), place.path.name if place else "") if name != result.case}
        if result.output is not None:
            names[result.output.name] = RESULT
        flags = _told_flags(result, record)
        pictures: Pictures | None = None
        facts = case_facts(record)
        if result.status == DONE:
            try:
                pictures, more = self._pictures(result, record, place)
                flags += more
            except ImputerError as error:
                flags.append(Flag(page.BROKEN, f"The synthetic volume cannot be shown. {error.message}"))
            except Exception as error:  # of a foreign library, at a damaged file: the other cases are to be shown
                flags.append(Flag(page.BROKEN, f"The synthetic volume cannot be shown ({type(error).__name__})."))
        if record is not None:
            self.records.append(record)
        return PageCase(
            name=result.case,
            contrast=_contrast(result, record),
            status=result.status,
            seconds=result.seconds or None,
            flags=tuple(Flag(flag.kind, without_names(flag.text, names)) for flag in flags),
            risk=_risk(record)[0],
            facts=tuple(facts),
            pictures=pictures,
        )

    def _place(self, result: Result) -> Place | None:
        if result.output is None or not result.output.is_relative_to(self.run):
            return None
        return self.places.get(result.output.relative_to(self.run).as_posix())

    def _pictures(
        self, result: Result, record: Mapping[str, Any] | None, place: Place | None
    ) -> tuple[Pictures, list[Flag]]:
        if result.output is None:
            raise InputError("It would lie outside the folder of the run.")
        flags: list[Flag] = []
        made = _in_order(load(_volume(result.output)))
        volumes = [("synthetic", made.array)]
        try:
            source = find_source(self.run, result.output, record, place, self.sources)
            volumes.insert(0, ("source", _on_grid_of(made, _in_order(source)).array))
        except SourceNotShown as error:
            flags.append(Flag(page.PAGE, str(error)))
        deviation = result.deviation
        if deviation is not None and deviation.is_file():
            try:
                volumes.append(("deviation", _on_grid_of(made, _in_order(load(deviation))).array))
            except (ImputerError, SourceNotShown):
                flags.append(Flag(page.BROKEN, "The deviation of the samples cannot be read."))
        return pictures_of(volumes, made.spacing, self.detail), flags


def _volume(output: Path) -> Path:
    """The file or folder to read: the output type that was asked for may be another than the name's."""
    if output.exists():
        return output
    other = output.with_name(strip_suffixes(output) if is_nifti_name(output) else output.name + ".nii.gz")
    return other if other.exists() else output


def _in_order(volume: Volume) -> Volume:
    return _AXES.forward(volume)[0]


def _on_grid_of(reference: Volume, other: Volume) -> Volume:
    same = other.shape == reference.shape
    if not same or farthest_apart(other.affine, reference.affine, reference.shape) > min(reference.spacing):
        raise SourceNotShown("The source lies on another grid than the synthetic volume; it is not shown.")
    return other


def _told_flags(result: Result, record: Mapping[str, Any] | None) -> list[Flag]:
    """What the tables and the sidecar say of a case, with names of files as they stand there."""
    if result.status == FAILED:
        return [Flag(page.FAILED, result.message or "It failed; no reason is noted.")]
    if result.status != DONE:
        return [Flag(page.OPEN, "It was not made in this run.")]
    if record is None:
        return [Flag(page.BROKEN, "Its sidecar is missing or cannot be read.")]
    scope = _texts(record.get("scope_warnings"))
    flags = [Flag(page.SCOPE, text) for text in scope]
    score, reasons = _risk(record)
    if score is not None and score >= _HIGH_RISK:
        others = [reason for reason in reasons if reason not in scope]
        flags.append(Flag(page.RISK, " ".join([f"The risk score is {score:.2f} of 1.", *others])))
    return flags + [Flag(page.NOTE, text) for text in _texts(record.get("notes"))]


def _risk(record: Mapping[str, Any] | None) -> tuple[float | None, list[str]]:
    """Risk score in [0, 1] and its reasons; None where the sidecar has none."""
    told = None if record is None else record.get("risk")
    score = told.get("score") if isinstance(told, Mapping) else told
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        return None, []
    return float(score), _texts(told.get("reasons")) if isinstance(told, Mapping) else []


def _texts(told: Any) -> list[str]:
    return [str(each) for each in told] if isinstance(told, list) else []


def _contrast(result: Result, record: Mapping[str, Any] | None) -> str:
    target = (result.target or str((record or {}).get("to") or "")).upper()
    joint = [str(each.get("modality")) for each in _mappings((record or {}).get("sources"))]
    source = "+".join(joint) or str((record or {}).get("from") or "")
    return f"{source.upper()} → {target}" if source and target else target


def _mappings(told: Any) -> list[Mapping[str, Any]]:
    return [each for each in told if isinstance(each, Mapping)] if isinstance(told, list) else []


def _names(record: Mapping[str, Any] | None) -> list[str]:
    """Names of the inputs that a sidecar tells."""
    record = record or {}
    told = _mappings([record.get("source"), record.get("style")]) + _mappings(record.get("sources"))
    return [each["file"] for each in told if isinstance(each.get("file"), str)]
