"""One case in four stages, so that many cases can overlap: read and check, prepare, draw on the device, undo and write.

Files are touched by the first and the last stage only, the network by the third.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, UsageError
from imputer.io.dispatch import in_order_of, is_dicom, load
from imputer.methods.base import Method, RunOptions, check_style, choose_precision
from imputer.modality import Modality, split_role
from imputer.preprocess.orient import Orient
from imputer.report.provenance import RunRecord
from imputer.results import Images, Plan, check_outputs, kinds_of, plan_of, write_results
from imputer.scope import cautions, scope_findings, target_findings
from imputer.sources import (
    Companion,
    Given,
    case_of,
    check_sources,
    holds_dicom,
    modality_of,
    read_companions,
    stack_of,
)
from imputer.style import read_style, style_stack
from imputer.told import notes_of, record_of, synthesis_of
from imputer.volume import Volume
from imputer.weights.find import Found, find_model
from imputer.weights.hub import Progress
from imputer.weights.package import non_commercial_notice


@dataclass(frozen=True)
class Settings:
    """What holds for every case of a run; `imputer.synth.synthesise` explains each."""

    to: Modality
    from_: Modality | None = None
    style_from: str | None = None
    steps: int | None = None
    sampler: str | None = None
    eta: float | None = None
    batch_size: int | str = "auto"
    precision: str = "auto"
    seed: int = 0
    samples: int = 1
    output_types: tuple[str, ...] = ()
    series: str | None = None
    select: tuple[str, ...] = ()
    reference_dicom: Path | None = None
    series_number: int | None = None
    overwrite: bool = False
    preview: bool = False
    force: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Parameters
    ----------
    volume : the synthetic volume on the source's grid; of a dry run the source itself.
    path, sidecar, preview, std : the files written; None where none was.
    series : folder of the DICOM series written; None where none was.
    record : the sidecar's content.
    warnings : what the user should know.
    reasons : why the model was chosen; empty where it was named.
    planned : the files that were, or would be, written.
    images : those of them that are the synthetic volume: NIfTI file, folder of a DICOM series.
    """

    volume: Volume
    path: Path | None = None
    sidecar: Path | None = None
    preview: Path | None = None
    std: Path | None = None
    series: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reasons: tuple[str, ...] = ()
    planned: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Loaded:
    """A case after the first stage.

    Parameters
    ----------
    volume : the source, its modality told.
    like : the DICOM series that DICOM output takes its headers from; None where NIfTI alone is written.
    plan : the files to write, checked.
    started : time.monotonic() when the case began.
    style : scan of the target whose look the result shall have; None: that of the training data.
    beside : the sources beside the first one, on its grid.
    """

    volume: Volume
    like: Volume | None
    plan: Plan
    started: float
    beside: tuple[Companion, ...] = ()
    style: Volume | None = None

    @property
    def roles(self) -> tuple[Modality, ...]:
        """Which contrasts the sources are, the first one's before the others."""
        assert self.volume.modality is not None
        return self.volume.modality, *(each.role for each in self.beside)


@dataclass(frozen=True)
class Prepared:
    """A case after the second stage: `stack` as its method takes it, float32 in [-1, 1], with what undoes it."""

    case: Loaded
    method: Method
    stack: NDArray[np.float32]
    undo: list[dict[str, Any]]
    options: RunOptions
    run: RunRecord
    outcome: Outcome


def read_case(source: Path | Volume, output: Path | None, settings: Settings, beside: Sequence[Given] = ()) -> Loaded:
    """Read the source, and those beside it, after checking that its outputs can be written.

    Raises
    ------
    ImputerError
        UsageError, InputError or OutputError.
    """
    return read_cases(source, {settings.to: output}, settings, beside)[settings.to]


def read_cases(
    source: Path | Volume,
    outputs: Mapping[Modality, Path | None],
    settings: Settings,
    beside: Sequence[Given] = (),
) -> dict[Modality, Loaded]:
    """Read a source once for several targets, each with its output; else as `read_case`, but for `settings.to`.

    `beside` are more sources of the same case, which are brought onto the grid of the first one.
    """
    started = time.monotonic()
    has_reference = settings.reference_dicom is not None
    plans, kinds = {}, {}
    for target, output in outputs.items():
        kinds[target] = kinds_of(
            settings.output_types, output, is_dicom=holds_dicom(source), has_reference=has_reference
        )
        plans[target] = plan_of(output, kinds[target], samples=settings.samples, preview=settings.preview)
        style_path = [] if settings.style_from is None else [split_role(settings.style_from)[0]]
        for each in (source, *(given.source for given in beside), *style_path):
            check_outputs(plans[target], None if isinstance(each, Volume) else each, overwrite=settings.overwrite)
    paths = [path for plan in plans.values() for path in plan.paths()]
    if len(set(paths)) < len(paths):
        raise UsageError("Several targets would be written to one file.", remedy="Give each a name of its own.")
    volume = _loaded(source, settings, tuple(outputs))
    like = _like(volume, settings) if any("dicom" in each for each in kinds.values()) else None
    style = read_style(settings.style_from, tuple(outputs)) if settings.style_from is not None else None
    companions = read_companions(volume, beside, tuple(outputs), force=settings.force)
    return {
        target: Loaded(volume, like if "dicom" in kinds[target] else None, plans[target], started, companions, style)
        for target in outputs
    }


def model_for(
    volume: Volume,
    target: Modality,
    model: str | Path | None,
    anatomy: str | None = None,
    *,
    beside: Sequence[Modality] = (),
    styled: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
    at_hand: Mapping[str, Path] | None = None,
) -> Found:
    """Find the model of a case: the one that is named, else the best fitting one. Raises ModelError.

    `beside` are the contrasts of more sources, which it has to take together with the first one; `styled` tells whether
    it has to give the result the look of a reference scan.
    """
    return find_model(
        model,
        volume.modality if volume.modality != target else None,  # of a style its own contrast is made, of any model
        target,
        beside=beside,
        spacing_mm=Orient().spacing(volume.affine),
        anatomy=anatomy,
        styled=styled,
        offline=offline,
        progress=progress,
        at_hand=at_hand,
    )


def prepare_case(
    case: Loaded, method: Method, found: Found | None, settings: Settings, before: Prepared | None = None
) -> Prepared:
    """Bring a case into the form that its method takes.

    `found` tells why the method was chosen; `before` is the same source prepared for another target.

    Raises
    ------
    ImputerError
        ModelError where the method takes other sources or makes another target, InputError where the case is outside
        the method's scope, UsageError or DeviceError for settings that make no sense.
    """
    volume = case.volume
    if case.style is not None:
        check_style(method)
    check_sources(method, case.roles, settings.to)
    is_own = volume.modality == settings.to  # of its own contrast, in another look: no pair, no choice
    sizes_are_told = found is not None and found.entry is not None and not is_own
    others = [each.volume for each in case.beside]
    scope = scope_findings(volume, method, others, force=settings.force, sizes_are_told=sizes_are_told)
    scope += [*target_findings(settings.to), *cautions(found.cautions if found else ())]
    scope += cautions(caution for each in case.beside for caution in each.cautions)
    options = _options(case, method, settings)
    if case.style is not None:
        style, of_style = style_stack(case.style, method, force=settings.force)
        options, scope = replace(options, style=style), [*scope, *of_style]
    sampling = method.sampling(options)
    if sampling.steps == 0 and settings.samples > 1:
        raise UsageError("Without a sampler all samples are the same.", remedy="Leave --samples out.")
    if before is not None and _fed_alike(before.method, method):
        stack, undo = before.stack, before.undo
    else:
        stack, undo = stack_of(method, volume, case.beside)
    run = RunRecord(
        sampling.steps, settings.samples, settings.seed, options.precision, str(method.device), 0.0,
        sampling.name, sampling.eta,
    )  # fmt: skip
    outcome = Outcome(
        volume,
        record=record_of(volume, case.beside, settings.to, method, run, scope, undo, case.style),
        warnings=[*_licence_warnings(method), *(each.text for each in scope), *notes_of(volume, case.beside)],
        reasons=found.reasons if found else (),
        planned=case.plan.paths(),
        images=case.plan.images(),
    )
    return Prepared(case, method, stack, undo, options, run, outcome)


def draw_case(prepared: Prepared, progress: Progress | None = None) -> list[NDArray[np.float32]]:
    """Run the method, once for each sample; each result is like the stack. Raises DeviceError."""
    drawn = _draws(prepared.method, prepared.stack, prepared.options, prepared.run.samples, progress)
    prepared.outcome.record.update(prepared.options.remarks)
    if "tiles" in prepared.options.remarks:
        count = prepared.options.remarks["tiles"]["count"]
        prepared.outcome.warnings.append(f"Memory did not hold the whole volume: it was made in {count} tiles.")
    return drawn


def finish_case(prepared: Prepared, drawn: list[NDArray[np.float32]], settings: Settings) -> Outcome:
    """Bring results back onto the grid of the source and write the files.

    Raises
    ------
    OutputError
        Where they cannot be written; nothing half-written remains.
    """
    case, method, outcome = prepared.case, prepared.method, prepared.outcome
    volume, like = case.volume, case.like
    undone = [method.recipe.inverse(each, prepared.undo, volume, scale=method.output_scale) for each in drawn]
    result, std = _combine(volume, settings.to, undone)
    outcome.record["seconds"] = round(time.monotonic() - case.started, 3)
    series = in_order_of(result, like) if like is not None else None
    images = Images(volume, result, std, series, tuple(each.placed for each in case.beside))
    more = write_results(
        images,
        case.plan,
        outcome.record,
        synthesis_of(case.roles, settings.to, method, prepared.run) if like is not None else None,
        series_number=settings.series_number,
        overwrite=settings.overwrite,
    )
    files: dict[str, Any] = {name: getattr(case.plan, name) for name in ("sidecar", "preview", "std", "series")}
    return replace(outcome, volume=result, path=case.plan.volume, warnings=[*outcome.warnings, *more], **files)


def _loaded(source: Path | Volume, settings: Settings, targets: Sequence[Modality]) -> Volume:
    """Load the source with its modality; of a folder of DICOM series the one that fits."""
    said = settings.from_

    def fits(modality: Modality | None) -> bool:
        return modality == said if said is not None else modality is not None and modality not in targets

    if isinstance(source, Volume):
        volume = source
    else:
        of_source = settings.reference_dicom is None  # else --series and --select speak of the reference
        series, select = (settings.series, settings.select) if of_source else (None, ())
        volume = load(source, series=series, select=select, fits=fits)
    other_than = targets if settings.style_from is None else ()  # a scan may be given another look
    return replace(volume, modality=modality_of(volume, said, other_than))


def _like(volume: Volume, settings: Settings) -> Volume:
    """Return the DICOM series, as a volume, that DICOM output takes its headers from; checked before any work."""
    if settings.reference_dicom is None:
        return volume
    if holds_dicom(volume):
        raise UsageError("The input is a DICOM series itself.", remedy="Leave --reference-dicom out.")
    if not is_dicom(settings.reference_dicom):
        raise InputError("The reference is no DICOM series.", remedy="Give a folder, a zip or a multi-frame file.")
    like = load(
        settings.reference_dicom,
        series=settings.series,
        select=settings.select,
        fits=lambda modality: modality == volume.modality,
    )
    in_order_of(volume, like)  # raises where the grids differ
    return like


def _batch_size(batch_size: int | str) -> int | None:
    """Return the number of slices at once, None for "auto"."""
    if batch_size == "auto":
        return None
    try:
        number = int(batch_size)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"The batch size is {batch_size}.", remedy="Give a number above 0, or auto.")
    return number


def _fed_alike(one: Method, other: Method) -> bool:
    """Whether two models take the same stack of the same sources."""
    return (one.recipe, one.joint) == (other.recipe, other.joint) and (not one.joint or one.sources == other.sources)


def _options(case: Loaded, method: Method, settings: Settings) -> RunOptions:
    return RunOptions(
        case=case_of(case.volume, case.beside),
        target=settings.to,
        source=case.volume.modality,
        seed=settings.seed,
        steps=settings.steps,
        sampler=settings.sampler,
        eta=settings.eta,
        batch_size=_batch_size(settings.batch_size),
        precision=choose_precision(settings.precision, method.device),
    )


def _licence_warnings(method: Method) -> list[str]:
    identity = method.identity
    return [non_commercial_notice(identity.id, identity.licence)] if identity.non_commercial else []


def _draws(
    method: Method, stack: NDArray[np.float32], options: RunOptions, samples: int, progress: Progress | None
) -> list[NDArray[np.float32]]:
    """Run the method once for each sample; the first sample of several is the single one of the same seed."""
    done, total = 0, samples * method.units(stack, options)

    def count(units: int) -> None:
        nonlocal done
        done += units
        if progress is not None:
            progress("synthesis", done, total)

    cases = [options.case, *(f"{options.case}/{number}" for number in range(1, samples))]
    return [method.run(stack, replace(options, case=case), count) for case in cases]


def _combine(source: Volume, target: Modality, drawn: list[Volume]) -> tuple[Volume, Volume | None]:
    """Return the mean of the samples, in whole numbers as scanners write them, and their standard deviation."""
    if len(drawn) == 1:
        mean, std = drawn[0].array, None
    else:
        arrays = np.stack([each.array for each in drawn])
        mean = arrays.mean(axis=0)
        std = source.with_array(arrays.std(axis=0, ddof=1), modality=target)
    return source.with_array(np.rint(mean), modality=target), std
