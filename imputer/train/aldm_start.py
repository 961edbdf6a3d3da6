"""From a configuration to a finished ALDM: subjects, engine, and one training loop a stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from imputer.errors import DeviceError, InputError, UsageError, is_out_of_memory
from imputer.files import make_folder, replacing
from imputer.methods import aldm as method
from imputer.modality import parse_modality
from imputer.nets.aldm import ALDM, AutoencoderModel
from imputer.nets.checkpoint import read_tensors, write_package
from imputer.preprocess.intensity import Intensity
from imputer.preprocess.isotropic import Isotropic
from imputer.preprocess.orient import Orient
from imputer.preprocess.recipe import Recipe
from imputer.preprocess.whole import Whole
from imputer.seeds import derive_seed
from imputer.train import loop
from imputer.train.aldm_config import STAGES, AldmConfig
from imputer.train.aldm_model import (
    filled,
    inference_method,
    modalities_of,
    projector_schedule,
    recipe_of,
    shaped,
    starting_tensors,
)
from imputer.train.aldm_scores import score_reconstruction, score_translation
from imputer.train.aldm_stages import AutoencoderStage, DiffusionStage, ProjectorStage, SpadeStage, Stage
from imputer.train.augment import strength_of
from imputer.train.config import SETTINGS, check_numbers, read_config, refuse_changes, write_config
from imputer.train.data import held_apart, voxel_sizes
from imputer.train.engine import launch
from imputer.train.latents import LatentBank, encode_subjects
from imputer.train.parts import halved
from imputer.train.seen import look_at
from imputer.train.ship import OUTPUT_SCALE
from imputer.train.subjects import Contrasts, PatchSampler, Subject, find_subjects, load_contrasts

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MODEL = "aldm.safetensors"
WEIGHTS = ("codebook", "commitment", "structure", "patch", "cycle", "class", "adversarial", "pixel")
# What the numbers of the settings may be, both ends included, beside those of every run.
LIMITS = {
    **dict.fromkeys(("patch", "latent_crop", "projector_steps_back", "discriminator_width"), (1, 10**6)),
    **{f"{stage}_steps": (1, 10**9) for stage in STAGES},
    **{f"{stage}_rate": (0, 10) for stage in STAGES},
    **dict.fromkeys(("flip", "codebook_after", "unquantised_share", "rollout"), (0, 1)),
    **dict.fromkeys(("variants", "warmup", "validate_every", "validation_pairs"), (0, 10**6)),
    **{f"{name}_weight": (0, 10**6) for name in WEIGHTS},
    "latent_beta": (0, 100),
    "latent_limit": (0, 10**6),
    "voxel_mm": (0.1, 20),
    "white": (0.1, 100),
}
# May change on resume, beside what always may.
FREE = {"data_dir", "validation_pairs", "stages"}


def check(config: AldmConfig) -> None:
    """Raise UsageError for settings that contradict each other."""
    modalities = [parse_modality(each) for each in config.modalities]
    if len(modalities) < 2 or len(set(modalities)) < len(modalities):
        raise UsageError("ALDM needs two different modalities or more.", remedy="Example: --modalities t1,t2,flair.")
    places = [STAGES.index(stage) for stage in config.stages if stage in STAGES]
    if len(places) < len(config.stages) or not places or places != list(range(places[0], places[-1] + 1)):
        raise UsageError(f"The stages must be some of {', '.join(STAGES)}, in this order and without gaps.")
    if places[0] > 0 and not config.initial:
        raise UsageError(f"The stage {config.stages[0]} needs a trained model.", remedy="Give it with --init.")
    strength_of(config.intensity_strength)
    check_numbers(config, LIMITS)
    try:
        model = shaped(config, config.stages[-1])
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"These settings make no network: {error}.", remedy="Change them with --set.") from error
    if config.patch % model.size_multiple:
        raise UsageError(f"The patch's side must be a multiple of {model.size_multiple}.", remedy="Change --set patch.")
    smallest = max(8, model.size_multiple // model.first_stage.config.factor)  # 8: of the discriminator
    if config.latent_crop < smallest:
        raise UsageError(f"The setting latent_crop must be at least {smallest}.")


def plan(config: AldmConfig) -> tuple[list[Subject], list[Subject]]:
    """Return the subjects to train on and those held out.

    Raises UsageError or InputError where nothing is left to train on.
    """
    check(config)
    subjects = find_subjects(Path(config.data_dir), modalities_of(config), exclude=config.exclude)
    training, held_out = held_apart(subjects, config.holdout)
    needed = 1 if config.stages == STAGES[:1] else 2
    learnt = {modality for each in training if len(each.volumes) >= needed for modality in each.volumes}
    missing = [modality for modality in modalities_of(config) if modality not in learnt]
    if missing:
        beside = " beside another contrast" if needed > 1 else ""
        raise UsageError(
            f"No subject to train on has {' or '.join(missing)}{beside}; the names of the files must tell it.",
            remedy="Leave it out of --modalities, or add such scans.",
        )
    return training, held_out


def start(
    config: AldmConfig,
    *,
    resume: bool = False,
    on_message: Callable[[str], None] = loop.silent,
    on_step: Callable[[str, int, dict[str, float]], None] | None = None,
) -> Path:
    """Train all stages and return the model package.

    `on_step` is told the stage, the number of its steps done and their losses.
    """
    training, held_out = plan(config)
    folder = Path(config.output)
    fabric = launch(config.accelerator, config.devices, config.precision)
    tensors = starting_tensors(config) if config.initial else {}
    for stage in config.stages:
        loop.prepare_folder(folder / stage, resume=resume)
    if resume and (folder / SETTINGS).exists():
        refuse_changes(config, read_config(folder / SETTINGS, AldmConfig), FREE)
    write_config(config, folder / SETTINGS)
    if not fabric.is_global_zero:  # one process of several speaks
        on_message, on_step = loop.silent, None
    on_message(f"{len(training)} subjects to train on, {len(held_out)} held out; preparing volumes")
    data = _Data(config, fabric, training, held_out)
    for stage in config.stages:
        path = folder / stage / "models" / MODEL
        if not (resume and path.exists()):
            on_message(f"stage {stage}, {getattr(config, f'{stage}_steps')} steps, on {fabric.device}")
            _train(config, stage, fabric, data, tensors, folder / stage, resume=resume, on_step=on_step)
            fabric.barrier()
        tensors = read_tensors(path)
    final = folder / "models" / MODEL
    if fabric.is_global_zero:
        make_folder(final.parent)
        with replacing(final, overwrite=True) as temporary:
            shutil.copyfile(path, temporary)
    return final


def _train(
    config: AldmConfig,
    stage: str,
    fabric: Fabric,
    data: _Data,
    tensors: Mapping[str, Tensor],
    folder: Path,
    *,
    resume: bool,
    on_step: Callable[[str, int, dict[str, float]], None] | None,
) -> None:
    torch.manual_seed(derive_seed(config.seed, "weights", stage))
    model = filled(config, stage, tensors).to(fabric.device)
    trainer = _Exporting(data.stage(stage, model), config, data, folder)
    told = None if on_step is None else lambda done, losses: on_step(stage, done, losses)
    loop.run(trainer, trainer.stage.settings, folder, resume=resume, on_step=told)


class _Data:
    """Volumes of the subjects, read once, and their latents, made once for the first stage that they come from."""

    def __init__(
        self, config: AldmConfig, fabric: Fabric, training: Sequence[Subject], held_out: Sequence[Subject]
    ) -> None:
        self._config, self._fabric = config, fabric
        self._strength = strength_of(config.intensity_strength)
        recipe = Recipe((Orient("RAS"), Isotropic(config.voxel_mm), Intensity(white=config.white), Whole()))
        self._training, self.held_out = (
            [_loaded(subject, config, recipe) for subject in subjects] for subjects in (training, held_out)
        )
        self.present = sorted({index for subject in self._training for index in subject.arrays})
        volumes = [each for subject in training for each in subject.volumes.items()]
        self.sizes, self.seen = voxel_sizes(path for _, path in volumes), look_at(volumes, config.initial)
        self._bank: LatentBank | None = None

    def stage(self, stage: str, model: AutoencoderModel) -> Stage:
        """Return a stage with what it trains on."""
        config, fabric = self._config, self._fabric
        if stage == "autoencoder":
            patches = PatchSampler(self._training, config.patch, flip=config.flip, strength=self._strength)
            return AutoencoderStage(config, fabric, model, patches)
        bank = self._latents(model)
        if stage == "spade":
            return SpadeStage(config, fabric, model, bank)
        assert isinstance(model, ALDM)
        return (DiffusionStage if stage == "diffusion" else ProjectorStage)(config, fabric, model, bank)

    def _latents(self, model: AutoencoderModel) -> LatentBank:
        if self._bank is None:
            config = self._config
            whole = shaped(config, STAGES[-1])  # the same latents whatever stage asks for them first
            latents = encode_subjects(
                model.eval(), self._training, multiple=whole.size_multiple,
                variants=config.variants, strength=self._strength, seed=config.seed,
            )  # fmt: skip
            multiple = whole.size_multiple // whole.first_stage.config.factor
            self._bank = LatentBank(list(latents), config.latent_crop, multiple)
        return self._bank


def _loaded(subject: Subject, config: AldmConfig, recipe: Recipe) -> Contrasts:
    """Load a subject; errors name it, since its files may be called as those of any other."""
    try:
        return load_contrasts(subject, modalities_of(config), recipe, register=config.register)
    except InputError as error:
        raise InputError(f"Subject {subject.name}: {error.message}", remedy=error.remedy) from error


class _Exporting:
    """A stage as the loop drives it: with scores and export; see `imputer.train.loop.Trainer`."""

    def __init__(self, stage: Stage, config: AldmConfig, data: _Data, folder: Path) -> None:
        self.stage, self._config, self._data, self._folder = stage, config, data, folder
        self.is_main = stage.is_main

    def step(self, number: int) -> dict[str, float]:
        """Train one step."""
        return self.stage.step(number)

    def state(self) -> dict[str, Any]:
        """Return everything that a resume needs."""
        return self.stage.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.stage.load_state(state)

    def validate(self, number: int) -> dict[str, float]:
        """Score held-out subjects with the averaged weights."""
        config, held_out = self._config, self._data.held_out
        if not held_out:
            return {}
        model = filled(config, self.stage.name, self.stage.averaged()).to(self.stage.fabric.device).eval()
        picture = self._folder / "samples" / f"{number:07d}.png"
        try:
            if self.stage.name == "autoencoder":
                return score_reconstruction(model, held_out, picture)
            method = inference_method(config, model)
            return score_translation(method, held_out, pairs=config.validation_pairs, seed=config.seed, picture=picture)
        except (RuntimeError, MemoryError, DeviceError) as error:
            if isinstance(error, DeviceError) or is_out_of_memory(error):
                return {}  # what was trained is worth more than its scores
            raise

    def export(self) -> list[Path]:
        """Write the model package of the stage, fp16."""
        config, modalities = self._config, modalities_of(self._config)
        model = shaped(config, self.stage.name)
        present = [modalities[index] for index in self._data.present]
        about = {
            "id": "-".join([method.NAME, *modalities]),
            "version": config.version,
            "title": config.title or f"ALDM {', '.join(present)}",
            "licence": config.licence,
            "citation": method.CITATION,
            "trained_on": config.trained_on,
            "scope": {"body_part": "head", **self._data.sizes, "measured": self._data.seen.of(present)},
            "fingerprints": list(self._data.seen.fingerprints),
        }
        document = method.header(
            model, recipe_of(config, model), present, modalities,
            output_scale=OUTPUT_SCALE, about=about, projector_schedule=projector_schedule(config),
            latent_limit=config.latent_limit or None,
        )  # fmt: skip
        tensors = halved(self.stage.averaged())
        path = self._folder / "models" / MODEL
        make_folder(path.parent)
        write_package(path, tensors, document, overwrite=True)
        return [path]
