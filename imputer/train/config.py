"""Hyper-parameters of a training run: frozen, written into the run's folder as TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import Field, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from imputer.errors import UsageError
from imputer.files import replacing
from imputer.modality import Modality, parse_modality

SETTINGS = "config.toml"  # in the folder of a run
# What a resumed run may change: where things lie, where it runs, what it is called, how often it reports.
FREE = {
    "output", "initial", "accelerator", "title", "licence", "trained_on", "version", "log_every", "checkpoint_every",
    "validate_every",
}  # fmt: skip


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class LoopSettings(Protocol):
    """What the training loop asks of the settings of any method."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        ...

    @property
    def log_every(self) -> int:
        """Steps between log lines."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""
        ...

    @property
    def validate_every(self) -> int:
        """Steps between scores of held-out cases; 0: only at the end."""
        ...


Settings = TypeVar("Settings", bound=Dataclass)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings that the training runs of all methods have."""

    output: str
    """Folder of the run: configuration, logs, checkpoints, sample pictures, models."""
    register: bool = False
    """Align the contrasts of a case rigidly before training and before scoring (mutual information)."""
    holdout: tuple[str, ...] = ()
    """Cases whose name contains one of these texts are never trained on; scored instead."""
    exclude: tuple[str, ...] = ()
    """Cases whose name contains one of these texts are left out altogether."""
    title: str = ""
    """Title of the exported models."""
    licence: str = "unspecified"
    """Licence of the exported weights."""
    trained_on: str = ""
    """Data that the models were trained on, as the sidecar and the card say it."""
    version: str = "1"
    """Version of the exported weights."""
    batch_size: int = 1
    """Slices, patches or latents a step and device."""
    discriminator_rate: float = 1e-4
    """Adam's learning rate of all discriminators."""
    final_rate: float = 1e-5
    """Learning rate at the end of the cosine."""
    ema: float = 0.999
    """Decay of the moving average of the generators' weights, a step."""
    r1_gamma: float = 1.0
    """Weight of the R1 gradient penalty."""
    r1_every: int = 10
    """Steps between R1 penalties."""
    seed: int = 0
    """Seed of weights, order, noise and augmentation."""
    precision: str = "32-true"
    """Lightning Fabric precision: 32-true, bf16-mixed or 16-mixed (CUDA)."""
    accelerator: str = "auto"
    """Lightning Fabric accelerator: auto, cpu, cuda or mps."""
    devices: int = 1
    """Devices; more than one trains with distributed data parallel."""
    log_every: int = 20
    """Steps between log lines."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class SliceConfig(RunConfig):
    """Settings of all trainings of adversarial diffusion on the slices of two contrasts: SynDiff and DisDiff."""

    source_dir: str
    """Folder of NIfTI volumes of the first contrast; searched recursively."""
    target_dir: str
    """Folder of NIfTI volumes of the second contrast; may be the same folder."""
    source: str = "t1"
    """Modality of the first contrast."""
    target: str = "t2"
    """Modality of the second contrast."""
    paired: bool = False
    """Condition on the real source of the same patient and add the pixel loss (the paper's own extension)."""
    other_sources: tuple[str, ...] = ()
    """Modalities that enter together with the source; paired, forward only. Cases may lack all but one of them all."""
    other_source_dirs: tuple[str, ...] = ()
    """Their folders, in the same order; empty: that of the source."""
    initial: str = ""
    """Model package to start from; empty: fresh weights. SynDiff's is that of the one direction that is learnt; of
    several sources it may know some only. DisDiff's has all but the decoders and the discriminators."""
    source_dropout: float = 0.25
    """With several sources: probability that one is left out of a training slice, never all; 0: the model needs all."""

    steps: int = 20000
    """Optimiser steps."""
    crop: tuple[int, int] = (256, 256)
    """Height and width of training slices, pixels."""
    pixel_mm: float = 1.0
    """Pixel size of the slices, mm; volumes are resampled in plane unless within 12 % of it."""
    source_white: float = 4.0
    """Intensity mapped to 1 in the first contrast, in units of the volume's mean over the head."""
    target_white: float = 4.0
    """The same for the second contrast."""

    width: int = 64
    """Channels of the generator's first level."""
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Channels of each level in units of the width."""
    blocks_per_level: int = 2
    """Residual blocks a level."""
    attention_levels: tuple[int, ...] = (4,)
    """Levels with self-attention; 0 is full resolution."""
    latent_size: int = 100
    """Length of the latent z."""
    latent_width: int = 256
    """Width of the latent mapping network."""
    discriminator_width: int = 64
    """Channels of the discriminators (ngf)."""
    diffusion_steps: int = 4
    """Reverse steps n."""
    shared_noise: bool = True
    """Whether the trained model gives all slices of a volume the same noise by default."""

    generator_rate: float = 1.6e-4
    """Adam's learning rate of all generators."""
    warmup: int = 0
    """Steps of linear warm-up of the learning rates."""
    cycle_weight: float = 0.5
    """L1 cycle loss of the non-diffusive module, of DisDiff's disentanglement."""
    pixel_weight: float = 0.5
    """L1 between the diffusive estimate and the real target."""
    structure_weight: float = 0.0
    """1 - SSIM between the diffusive estimate and the real target; beyond the paper, 0 leaves it out."""
    patch_weight: float = 0.0
    """Paired only: patch discriminator on the diffusive estimate; beyond the paper, 0 leaves it out."""
    adversarial_weight: float = 1.0
    """Weight of the diffusive module's adversarial loss in the generator's loss; 0 trains without discriminators."""
    adversarial_crop: int = 0
    """Side of the random square that the time-conditional discriminator sees, pixels; 0: whole slices."""
    rollout: float = 0.0
    """Paired only: share of steps whose x_t comes from the generator's own chain instead of the true x_0."""

    both_grids: bool = False
    """Paired only: each pair also on the grid of its target, which is then the one that was not resampled."""
    tilted_grids: int = 0
    """Paired only: each pair also on so many grids of clinical slices, tilted and warped in three dimensions."""
    balance: bool = False
    """Volumes weigh the same, whatever their number of slices; else slices do."""
    augment: bool = True
    """Flips, affine and elastic warps, and on the source bias field, gamma, noise and resolution."""
    intensity_strength: str = "strong"
    """How far augmentation changes the source's gain, gamma and bias field: strong, weak or none."""

    validate_every: int = 2000
    """Steps between scores and pictures of held-out cases; 0: only at the end."""
    validation_slices: int = 12
    """Slices of each held-out volume that are scored during training."""

    @property
    def sources(self) -> tuple[Modality, ...]:
        """All modalities that enter, in the order of their channels. UsageError for an unknown one."""
        return tuple(parse_modality(name) for name in (self.source, *self.other_sources))


@dataclass(frozen=True, kw_only=True)
class TrainConfig(SliceConfig):
    """Settings of `imputer train syndiff`; the defaults are the paper's where it has one."""

    direction: str = "both"
    """both, forward (source to target) or backward; one alone needs paired data."""
    resnet_width: int = 64
    """Channels of the non-diffusive generators' stem."""
    fusion: str = "channels"
    """Of several sources: channels, all in one call of the network; or mean, the mean of its estimates from each
    alone: then every training slice shows one, whatever `source_dropout` is."""


# What the numbers that all runs have may be, both ends included.
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("batch_size", "r1_every", "devices", "log_every", "checkpoint_every"), (1, 10**9)),
    **dict.fromkeys(("discriminator_rate", "final_rate"), (0, 10)),
    "ema": (0, 1),
    "r1_gamma": (0, 10**6),
}


def check_numbers(config: Dataclass, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raise UsageError where a number is outside its limits, `limits` and `LIMITS`; NaN is outside of any."""
    for name, (low, high) in {**LIMITS, **limits}.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise UsageError(f"The setting {name} is {value}.", remedy=f"Give a number within {low:g} to {high:g}.")


def write_config(config: Dataclass, path: Path, *, overwrite: bool = True) -> None:
    """Write the configuration as TOML."""
    lines = [f"{key} = {_toml(value)}" for key, value in asdict(config).items()]
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_config(path: Path, kind: type[Settings]) -> Settings:
    """Read what `write_config` wrote of a kind of configuration; UsageError names unknown settings."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path.name} is not a readable training configuration.") from error
    known = {field.name for field in fields(kind)}
    unknown = sorted(table.keys() - known)
    if unknown:
        raise UsageError(f"{path.name} has unknown settings: {', '.join(unknown)}.")
    values: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in table.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{path.name} lacks the folders of its data or its output.") from error


def refuse_changes(config: Dataclass, before: Dataclass, free: Collection[str]) -> None:
    """Raise UsageError where a resumed run would not go on as it began: it would match no run of either settings.

    `free` names what may change beside `FREE`.
    """
    now, then = asdict(config), asdict(before)
    names = [name for name in now if name not in FREE and name not in free and now[name] != then[name]]
    changed = [f"{name} was {then[name]}, now {now[name]}" for name in names]
    if changed:
        raise UsageError(
            f"The run began with other settings: {'; '.join(changed)}.",
            remedy="Give the same ones, or train into a new folder (with --init to start from this run's model).",
        )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML escapes as JSON does, and DEL
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)
