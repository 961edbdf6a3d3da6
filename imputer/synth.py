"""The spine: one case from its file to the synthetic volume's file, by the stages of `imputer.case`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imputer.case import (
    Loaded,
    Outcome,
    Prepared,
    Settings,
    draw_case,
    finish_case,
    model_for,
    prepare_case,
    read_cases,
)
from imputer.errors import UsageError
from imputer.methods.base import Method, choose_device
from imputer.modality import Modality, parse_modality
from imputer.pretrained.load import build_model
from imputer.sources import Given, check_roles
from imputer.volume import Volume
from imputer.weights.find import Found
from imputer.weights.hub import Progress

__all__ = ["Outcome", "synthesise", "synthesise_each"]


def synthesise(
    source: Path | str | Volume | Mapping[str, Path | str | Volume],
    *,
    to: Modality | str,
    from_: Modality | str | None = None,
    model: str | Path | Method | None = None,
    style_from: Path | str | None = None,
    device: str = "auto",
    steps: int | None = None,
    sampler: str | None = None,
    eta: float | None = None,
    batch_size: int | str = "auto",
    precision: str = "auto",
    seed: int = 0,
    samples: int = 1,
    output: Path | str | None = None,
    output_types: Sequence[str] = (),
    series: str | None = None,
    select: Sequence[str] = (),
    reference_dicom: Path | str | None = None,
    series_number: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    preview: bool = False,
    force: bool = False,
    anatomy: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Make the contrast `to` of one case.

    Parameters
    ----------
    source : file, DICOM folder or zip, or volume of the contrast that is there; for a model that takes several together
        a mapping from modality to each, of which the first gives the grid and the headers of the result.
    to, from_ : modalities; `from_` None: told by the file's name or the sequence parameters of a DICOM series.
    model : id, `hf://owner/repo[@revision]`, model package or loaded method; None: the best fitting one.
    style_from : scan of the contrast `to` whose look the result shall have, of a model of DisDiff; "t2=PATH" says what
        it is. `to` may then be the source's own contrast. None: the average look of the training data.
    device : auto, cpu, cuda, cuda:N or mps.
    steps : reverse steps; of an adversarial model at most its own number, fewer end at an earlier estimate.
    sampler, eta : of a model that has several samplers: projector, ddim or none; and the noise of ddim, 0 to 1.
    batch_size : slices at once on an accelerator, or "auto"; a CPU takes one at a time.
    precision : auto, fp32, bf16 or fp16.
    seed : same seed, same volume, whatever the batch size.
    samples : draw several; the result is their mean, and the standard deviation is written beside it.
    output : NIfTI file or DICOM folder to write, with its sidecar; None: only return the volume.
    output_types : of "nifti" and "dicom"; empty: NIfTI where `output` is named so, else as the input is.
    series, select : which DICOM series (UID, number or description), and which of several volumes in it; of the first.
    reference_dicom : DICOM series that a source of another kind was converted from, for DICOM output.
    series_number : of the new DICOM series; None: told by that of the source.
    overwrite : replace existing files.
    dry_run : do all but the synthesis and the writing.
    preview : also write a picture.
    force : run although the input is outside the model's scope.
    anatomy : what the volume shows, e.g. "brain"; where models differ in it, the fitting one is taken.
    offline : never use the network, not even for a model that is not here yet.
    progress : called with (stage, done, total).

    Raises
    ------
    ImputerError
        UsageError, InputError, ModelError, DeviceError or OutputError; nothing half-written remains.
    """
    first, *others = _given(source, from_)
    settings = Settings(
        to=parse_modality(str(to)),
        from_=first.role,
        style_from=str(style_from) if style_from is not None else None,
        steps=steps,
        sampler=sampler,
        eta=eta,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
        samples=samples,
        output_types=tuple(output_types),
        series=series,
        select=tuple(select),
        reference_dicom=Path(reference_dicom) if reference_dicom is not None else None,
        series_number=series_number,
        overwrite=overwrite,
        preview=preview,
        force=force,
    )
    outcomes = synthesise_each(
        first.source,
        {settings.to: Path(output) if output is not None else None},
        settings,
        beside=others,
        model=model, device=device, anatomy=anatomy, offline=offline, dry_run=dry_run, progress=progress,
    )  # fmt: skip
    return next(outcomes)


def _given(
    source: Path | str | Volume | Mapping[str, Path | str | Volume], from_: Modality | str | None
) -> list[Given]:
    """The sources as they were given, the first one first."""
    if not isinstance(source, Mapping):
        role = parse_modality(str(from_)) if from_ is not None else None
        return [Given(source if isinstance(source, Volume) else Path(source), role)]
    if not source or from_ is not None:
        raise UsageError("The sources are none, or named twice.", remedy="Give {'t1': path, ...}, and leave from_ out.")
    given = [
        Given(each if isinstance(each, Volume) else Path(each), parse_modality(str(role)))
        for role, each in source.items()
    ]
    check_roles(each.role for each in given)
    return given


def synthesise_each(
    source: Path | Volume,
    outputs: Mapping[Modality, Path | None],
    settings: Settings,
    *,
    beside: Sequence[Given] = (),
    model: str | Path | Method | None = None,
    device: str = "auto",
    anatomy: str | None = None,
    offline: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Make several contrasts of one case, which is read once.

    Everything is checked, read and prepared before this returns; a contrast is made and written as its outcome is
    asked for. A model that makes several of them is loaded once.

    Parameters
    ----------
    outputs : modalities to make, each with the file or DICOM folder to write; None: only return the volume.
    settings : of all of them; `to` is not used, `from_` is what the first source is.
    beside : more sources of the same case, for a model that takes several together.
    model, device, anatomy, offline, dry_run, progress : as in `synthesise`.

    Raises
    ------
    ImputerError
        As `synthesise`.
    """
    started = time.monotonic()
    cases = read_cases(source, outputs, settings, beside)
    loaded: dict[Path, Method] = {}
    every: list[tuple[Prepared, Settings]] = []
    for target, case in cases.items():
        method, found = _method(model, case, target, device, anatomy, loaded, offline=offline, progress=progress)
        own = replace(settings, to=target)
        every.append((prepare_case(case, method, found, own, every[-1][0] if every else None), own))
    if dry_run:
        return iter([prepared.outcome for prepared, _ in every])
    return _made(every, time.monotonic() - started, progress)


def _made(every: list[tuple[Prepared, Settings]], seconds: float, progress: Progress | None) -> Iterator[Outcome]:
    """Draw and write what is prepared; each counts the seconds of reading and preparing as its own."""
    while every:
        prepared, settings = every.pop(0)
        case = replace(prepared.case, started=time.monotonic() - seconds)
        yield finish_case(replace(prepared, case=case), draw_case(prepared, progress), settings)


def _method(
    model: str | Path | Method | None,
    case: Loaded,
    target: Modality,
    device: str,
    anatomy: str | None,
    loaded: dict[Path, Method],
    *,
    offline: bool,
    progress: Progress | None,
) -> tuple[Method, Found | None]:
    """Load the model, the best fitting one where none is named; `loaded` holds those that are there already."""
    if model is not None and not isinstance(model, str | Path):
        return model, None
    place = choose_device(device)
    beside = case.roles[1:]
    found = model_for(
        case.volume, target, model, anatomy,
        beside=beside, styled=case.style is not None, offline=offline, progress=progress,
    )  # fmt: skip
    if found.path not in loaded:
        loaded[found.path] = build_model(found, place)
    return loaded[found.path], found
