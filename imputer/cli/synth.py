"""``imputer synth``: one case."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imputer.cli import options
from imputer.cli.output import Reporter, output_folder, reports_errors
from imputer.errors import UsageError
from imputer.files import is_nifti_name, synthetic_name
from imputer.modality import Modality, parse_modality, split_role

if TYPE_CHECKING:
    from imputer.case import Outcome, Settings
    from imputer.sources import Given

app = typer.Typer()

Jobs = list[tuple[Modality, Path]]  # each target with the file that it is written to
# Options that are arguments of the spine itself.
_OF_THE_RUN = ("beside", "model", "device", "anatomy", "offline", "dry_run")

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MOD=]INPUT",
        help="Volume (.nii, .nii.gz, .mha, .nrrd, .mgz), or a DICOM folder, zip or file. Several contrasts for a model "
        "that takes them together.",
    ),
]
NamedInputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="[MOD=]PATH", help="The same as an option; t1=PATH says what it is."),
]


@app.command()
@reports_errors
def synth(
    inputs: Inputs = None,
    named: NamedInputs = None,
    to: options.TargetModalities = [],  # noqa: B006 - Typer never changes it
    output: options.Output = None,
    from_: options.SourceModality = None,
    model: options.Model = None,
    style_from: options.StyleFrom = None,
    device: options.Device = "auto",
    steps: options.Steps = None,
    fast: options.Fast = False,
    sampler: options.Sampler = None,
    eta: options.Eta = None,
    batch_size: options.BatchSize = "auto",
    precision: options.Precision = "auto",
    seed: options.Seed = 0,
    samples: options.Samples = 1,
    output_type: options.OutputTypes = None,
    series: options.Series = None,
    select: options.Select = None,
    reference_dicom: options.ReferenceDicom = None,
    series_number: options.SeriesNumber = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    preview: options.Preview = False,
    force: options.Force = False,
    anatomy: options.Anatomy = None,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    log_json: options.LogJson = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Make a contrast that is missing from one that is there, or from several.

    Writes t1_synth-t2.nii.gz beside t1.nii.gz, on the grid of the input, with a .json of how it was made; from a DICOM
    series, a new series in a folder beside it. The paths of the volumes go to stdout, one a line; everything else to
    stderr. The result is synthetic: not for diagnosis.

    Several inputs, each another contrast, go into a model that takes them together; t1=PATH says what one is where its
    name does not. The first one gives the grid. They are put onto it by their headers, and not registered.

    Example: imputer synth t1.nii.gz --to t2
    """
    given_inputs = _inputs(inputs or [], named or [], from_)
    source, origin = given_inputs[0]
    beside = _beside(given_inputs)
    kinds = _kinds(source, output_type or [], output, reference_dicom)
    jobs = _jobs(source, options.chosen_targets(to), output, kinds)
    options.checked_device(device)
    given = locals()
    report = Reporter(quiet=quiet, verbose=verbose, log_json=log_json, progress=not no_progress)
    _run(source, jobs, _settings(given), report, {name: given[name] for name in _OF_THE_RUN})


def _settings(given: dict[str, Any]) -> Settings:
    """What holds for every target, from the options."""
    from imputer.case import Settings

    return Settings(
        to=given["jobs"][0][0],
        from_=given["origin"],
        style_from=given["style_from"],
        steps=options.chosen_steps(given["steps"], fast=given["fast"]),
        sampler=options.checked_sampler(given["sampler"]),
        eta=given["eta"],
        batch_size=options.checked_batch_size(given["batch_size"]),
        precision=options.checked_precision(given["precision"]),
        seed=given["seed"],
        samples=given["samples"],
        output_types=given["kinds"],
        series=given["series"],
        select=tuple(given["select"] or ()),
        reference_dicom=given["reference_dicom"],
        series_number=given["series_number"],
        overwrite=given["overwrite"],
        preview=given["preview"],
        force=given["force"],
    )


def _run(source: Path, jobs: Jobs, settings: Settings, report: Reporter, run: dict[str, Any]) -> None:
    """Make the targets one after the other; nothing is made before all that can be checked is."""
    from imputer.synth import synthesise_each

    needs_folder = len(jobs) > 1 or "dicom" in settings.output_types
    with output_folder(jobs[0][1].parent) if needs_folder else nullcontext():
        report.note(f"{source.name} -> {', '.join(target.value for target, _ in jobs)}", level=1)
        with report.running():
            outcomes = synthesise_each(source, dict(jobs), settings, progress=report.step, **run)
        while True:
            with report.running():
                outcome = next(outcomes, None)
            if outcome is None:
                return
            _say(outcome, report, dry_run=run["dry_run"])


def _say(outcome: Outcome, report: Reporter, *, dry_run: bool) -> None:
    for warning in outcome.warnings:
        report.warning(warning)
    why = f" ({'; '.join(outcome.reasons)})" if outcome.reasons else ""
    report.note(f"Model: {outcome.record['model']['id']}{why}")
    for planned in outcome.planned if dry_run else ():
        report.note(f"Would write {planned}")
    for image in outcome.images:
        report.event("done", output=str(image), dry_run=dry_run)
        typer.echo(str(image))


def _inputs(inputs: list[str], named: list[str], from_: str | None) -> list[tuple[Path, Modality | None]]:
    """The inputs, at least one, each with the modality that was given for it, if any; UsageError for contradictions."""
    given = [split_role(text) for text in [*inputs, *named]]
    if not given:
        raise UsageError("There is no input.", remedy="Example: imputer synth t1.nii.gz --to t2.")
    said = parse_modality(from_) if from_ is not None else None
    if said is None:
        return given
    if len(given) > 1:
        raise UsageError("--from says what one input is.", remedy="With several write t1=PATH for each.")
    path, role = given[0]
    if role is not None and role is not said:
        raise UsageError(f"The input is said to be {role.value} and, by --from, {said.value}.", remedy="Say it once.")
    return [(path, said)]


def _beside(inputs: list[tuple[Path, Modality | None]]) -> list[Given]:
    """The sources beside the first one; UsageError where two are said to be the same contrast."""
    if len(inputs) == 1:
        return []
    from imputer.sources import Given, check_roles

    check_roles(role for _, role in inputs)
    return [Given(path, role) for path, role in inputs[1:]]


def _kinds(source: Path, asked: list[str], output: Path | None, reference: Path | None) -> tuple[str, ...]:
    from imputer.io.dispatch import is_dicom
    from imputer.results import kinds_of

    return kinds_of(asked, output, is_dicom=is_dicom(source), has_reference=reference is not None)


def _jobs(source: Path, targets: list[Modality], output: Path | None, kinds: tuple[str, ...]) -> Jobs:
    """Each target with what it is written to: a NIfTI file, or where DICOM alone is written the series' folder."""
    if len(targets) == 1 and output is not None and not output.is_dir() and "dicom" not in kinds:
        return [(targets[0], output)]
    if len(targets) == 1 and output is not None and is_nifti_name(output):
        return [(targets[0], output)]
    if output is not None and output.is_file():
        raise UsageError(f"{output.name} is a file.", remedy="Several targets and DICOM need a folder after --output.")
    source = source.resolve() if source.name in ("", "..") else source
    folder = source.parent if output is None else output
    ending = ".nii.gz" if "nifti" in kinds else ""
    return [(target, folder / (synthetic_name(source, target.value) + ending)) for target in targets]
