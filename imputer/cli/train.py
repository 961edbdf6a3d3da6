"""``imputer train``: models from the user's own volumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from imputer.cli import options
from imputer.cli.output import Reporter, reports_errors, show_fields
from imputer.cli.train_settings import completed, slice_data, slice_options
from imputer.modality import parse_modality

if TYPE_CHECKING:
    from imputer.train.aldm_config import AldmConfig
    from imputer.train.config import TrainConfig
    from imputer.train.disdiff_config import DisDiffTrainConfig

    AnyConfig = TypeVar("AnyConfig", TrainConfig, DisDiffTrainConfig, AldmConfig)

app = typer.Typer(no_args_is_help=True)

_DATA = "The data"
_NETWORK = "The training"

Source = Annotated[
    list[Path],
    typer.Option(
        metavar="DIR",
        rich_help_panel=_DATA,
        help="Folder of volumes of the first contrast (--from). One for each --from, or one for all.",
    ),
]
Target = Annotated[
    Path, typer.Option(metavar="DIR", rich_help_panel=_DATA, help="Folder of volumes of the second contrast (--to).")
]
RunFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run: settings, log, checkpoints, models.")
]
From = Annotated[
    list[str],
    typer.Option(
        "--from",
        metavar="MOD",
        autocompletion=options.complete_modality,
        help="Modality in --source. Several enter together (SynDiff, --paired).",
    ),
]
To = Annotated[
    str, typer.Option("--to", metavar="MOD", autocompletion=options.complete_modality, help="Modality in --target.")
]
Paired = Annotated[
    bool,
    typer.Option("--paired", rich_help_panel=_DATA, help="The contrasts of a patient belong together."),
]
Register = Annotated[
    bool, typer.Option("--register", rich_help_panel=_DATA, help="Align pairs rigidly before they are used.")
]
Holdout = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", rich_help_panel=_DATA, help="Score, never train on, cases with this in their name."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", rich_help_panel=_DATA, help="Leave out cases with this in their name."),
]
Steps = Annotated[int | None, typer.Option(min=1, rich_help_panel=_NETWORK, help="Optimiser steps.")]
Direction = Annotated[
    str | None,
    typer.Option(
        metavar="both|forward|backward", rich_help_panel=_NETWORK, help="What to learn; one alone needs --paired."
    ),
]
Initial = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="MODEL",
        autocompletion=options.complete_model,
        rich_help_panel=_NETWORK,
        help="Model to train on, with its network: id, hf://owner/repo or file (SynDiff: needs --paired).",
    ),
]
Crop = Annotated[
    str | None, typer.Option(metavar="HxW", rich_help_panel=_NETWORK, help="Pixels of a training slice, e.g. 256x256.")
]
Batch = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, rich_help_panel=_NETWORK, help="Slices or volumes a step and device."),
]
Seed = Annotated[
    int | None, typer.Option(min=0, rich_help_panel=_NETWORK, help="Of weights, order, noise and augmentation.")
]
Precision = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=_NETWORK, help="32-true, or with CUDA bf16-mixed or 16-mixed."),
]
Accelerator = Annotated[
    str | None, typer.Option("--device", "-d", metavar="NAME", rich_help_panel=_NETWORK, help="auto, cpu, cuda or mps.")
]
Devices = Annotated[int | None, typer.Option(min=1, rich_help_panel=_NETWORK, help="How many of them.")]
Others = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", rich_help_panel=_NETWORK, help="Any other setting, for instance width=32."
    ),
]
Data = Annotated[
    Path, typer.Option(metavar="DIR", rich_help_panel=_DATA, help="Folder of volumes; their names tell the contrasts.")
]
Modalities = Annotated[
    str | None,
    typer.Option(
        metavar="MOD,MOD...", rich_help_panel=_DATA, help="Contrasts to learn, in this order; subjects may lack some."
    ),
]
Stages = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME...", rich_help_panel=_NETWORK, help="Stages: autoencoder, spade, diffusion, projector."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the run.")]


@app.callback()
def train() -> None:
    """Train models on your own volumes; needs the extra `train`."""


@app.command()
@reports_errors
def syndiff(
    source: Source,
    target: Target,
    output: RunFolder,
    from_: From = ["t1"],  # noqa: B006 - Typer never changes it
    to: To = "t2",
    paired: Paired = False,
    register: Register = False,
    holdout: Holdout = None,
    exclude: Exclude = None,
    direction: Direction = None,
    initial: Initial = None,
    steps: Steps = None,
    crop: Crop = None,
    batch_size: Batch = None,
    seed: Seed = None,
    precision: Precision = None,
    device: Accelerator = None,
    devices: Devices = None,
    others: Others = None,
    resume: Resume = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Train SynDiff on two folders of NIfTI volumes; one run gives both directions.

    Volumes may differ in size and pixel spacing; folders are searched with their sub-folders. Prints the paths of
    the models. With --paired several sources may enter together; any of them may be missing later, and in some cases.

    Example: imputer train syndiff --source scans/t1 --target scans/t2 --output run
    """
    from imputer.train.config import TrainConfig

    config = _from_model(TrainConfig(**slice_data(locals())), initial)
    direction = direction or ("forward" if config.other_sources else None)
    config = completed(config, {**slice_options(locals()), "direction": direction}, others or [])
    _train(config, Reporter(quiet=quiet, log_json=log_json, progress=not no_progress), resume=resume, dry_run=dry_run)


@app.command()
@reports_errors
def disdiff(
    source: Source,
    target: Target,
    output: RunFolder,
    from_: From = ["t1"],  # noqa: B006 - Typer never changes it
    to: To = "t2",
    paired: Paired = False,
    register: Register = False,
    holdout: Holdout = None,
    exclude: Exclude = None,
    initial: Initial = None,
    steps: Steps = None,
    crop: Crop = None,
    batch_size: Batch = None,
    seed: Seed = None,
    precision: Precision = None,
    device: Accelerator = None,
    devices: Devices = None,
    others: Others = None,
    resume: Resume = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Train DisDiff on two folders of NIfTI volumes; one model makes both contrasts, in the look of any scan.

    It learns apart what a scan shows and how its contrast and scanner show it. Data as for 'train syndiff', several
    sources with --paired too; then it makes the target alone. Prints the path of the model.

    Example: imputer train disdiff --source scans/t1 --target scans/t2 --output run
    """
    from imputer.train.disdiff_config import DisDiffTrainConfig

    config = _from_model(DisDiffTrainConfig(**slice_data(locals())), initial)
    config = completed(config, slice_options(locals()), others or [])
    _train(config, Reporter(quiet=quiet, log_json=log_json, progress=not no_progress), resume=resume, dry_run=dry_run)


@app.command()
@reports_errors
def aldm(
    data: Data,
    output: RunFolder,
    modalities: Modalities = None,
    stages: Stages = None,
    register: Register = False,
    holdout: Holdout = None,
    exclude: Exclude = None,
    initial: Initial = None,
    batch_size: Batch = None,
    seed: Seed = None,
    precision: Precision = None,
    device: Accelerator = None,
    devices: Devices = None,
    others: Others = None,
    resume: Resume = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Train ALDM on a folder of NIfTI volumes: one 3-D model from every contrast to every other.

    Its stages follow one another: autoencoder, MS-SPADE (spade), latent diffusion, and the projector that samples in
    four steps. Prints the path of the model.

    Example: imputer train aldm --data scans --modalities t1,t2,flair --output run
    """
    from imputer.train.aldm_config import AldmConfig

    config = AldmConfig(
        data_dir=str(data),
        output=str(output),
        register=register,
        holdout=tuple(holdout or ()),
        exclude=tuple(exclude or ()),
    )
    config = _from_model(config, initial)
    given: dict[str, Any] = {
        "modalities": tuple(parse_modality(each).value for each in modalities.split(",")) if modalities else None,
        "stages": tuple(each.strip() for each in stages.split(",")) if stages else None,
        "batch_size": batch_size,
        "seed": seed,
        "precision": precision,
        "accelerator": device,
        "devices": devices,
    }
    config = completed(config, given, others or [])
    report = Reporter(quiet=quiet, log_json=log_json, progress=not no_progress)
    _train_aldm(config, report, resume=resume, dry_run=dry_run)


def _from_model(config: AnyConfig, initial: str | None) -> AnyConfig:
    """The settings with those of the model that the run starts from; as they are where it starts from none."""
    if initial is None:
        return config
    from imputer.train.aldm_config import AldmConfig
    from imputer.train.initial import taken_over
    from imputer.weights.find import find_model, matching
    from imputer.weights.hub import SCHEME

    # Of a repository with several models the one of the run's pair.
    several = initial.startswith(SCHEME) and len(matching(initial)) > 1
    source, target = (
        (config.sources[0], parse_modality(config.target))
        if several and not isinstance(config, AldmConfig)
        else (None, None)
    )
    return taken_over(config, find_model(initial, source, target).path)


def _train(config: TrainConfig | DisDiffTrainConfig, report: Reporter, *, resume: bool, dry_run: bool) -> None:
    from imputer.train.start import plan, start

    if dry_run:
        _show_plan(config, *plan(config))
        return
    with report.running():
        follow = _Follow(report, config.log_every)
        told = partial(follow, "training", config.steps)
        for path in start(config, resume=resume, on_message=report.note, on_step=told):
            typer.echo(str(path))


def _train_aldm(config: AldmConfig, report: Reporter, *, resume: bool, dry_run: bool) -> None:
    from imputer.train.aldm_start import plan, start

    if dry_run:
        _show_plan(config, *plan(config))
        return
    with report.running():
        follow = _Follow(report, config.log_every)

        def told(stage: str, done: int, losses: dict[str, float]) -> None:
            follow(stage, getattr(config, f"{stage}_steps"), done, losses)

        typer.echo(str(start(config, resume=resume, on_message=report.note, on_step=told)))


def _show_plan(
    config: TrainConfig | DisDiffTrainConfig | AldmConfig, training: Sequence[object], held_out: Sequence[object]
) -> None:
    show_fields({"cases to train on": len(training), "cases held out": len(held_out), **asdict(config)})


class _Follow:
    """What to do after each step: move the bar, or, where there is none, say a line now and then."""

    def __init__(self, report: Reporter, log_every: int) -> None:
        self._report, self._log_every = report, log_every
        self._stage, self._began, self._first = "", 0.0, 0

    def __call__(self, stage: str, steps: int, done: int, losses: dict[str, float]) -> None:
        """Tell of a stage's step; what an earlier part of the run had done does not count for its speed."""
        if stage != self._stage:
            self._stage, self._began, self._first = stage, time.monotonic(), done - 1
        self._report.step(stage, done, steps)
        if self._report.has_bar or done % self._log_every:
            return
        left = (time.monotonic() - self._began) / (done - self._first) * (steps - done)
        values = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
        named = "" if stage == "training" else f"{stage}: "
        self._report.note(f"{named}step {done}/{steps}  {left / 60:.0f} min left  {values}")
