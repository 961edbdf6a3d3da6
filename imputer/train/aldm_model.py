"""The model of a training run: its shape up to a stage, its tensors from the stage before, how it is run and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imputer.diffusion.schedule import Schedule
from imputer.errors import ModelError
from imputer.methods import aldm as method
from imputer.methods.base import Identity
from imputer.modality import Modality, parse_modality
from imputer.nets.aldm import AutoencoderModel, make_aldm
from imputer.nets.checkpoint import load_strictly, read_header, read_tensors
from imputer.preprocess.recipe import Recipe, aldm_recipe
from imputer.train.aldm_config import STAGES, AldmConfig, first_stage_config, unet_config

# Tensors that a stage makes afresh; all others come from the stage before, or from the starting model.
FRESH = {
    "autoencoder": ("first_stage.",),
    "spade": ("first_stage.spade.",),
    "diffusion": ("unet.",),
    "projector": ("projector.",),
}


def modalities_of(config: AldmConfig) -> list[Modality]:
    """Return the contrasts in the order of the model's classes."""
    return [parse_modality(each) for each in config.modalities]


def recipe_of(config: AldmConfig, model: AutoencoderModel) -> Recipe:
    """Return the recipe that feeds the trained model."""
    return aldm_recipe(config.voxel_mm, config.white, model.size_multiple)


def projector_schedule(config: AldmConfig) -> Schedule:
    """Return the schedule of the projector's chain."""
    return Schedule(steps=config.projector_steps_back)


def inference_method(config: AldmConfig, model: AutoencoderModel) -> method.Aldm:
    """Return the model as `synth` runs it."""
    modalities = modalities_of(config)
    document = method.header(
        model, recipe_of(config, model), modalities, modalities,
        output_scale=1.0, about={}, projector_schedule=projector_schedule(config),
        latent_limit=config.latent_limit or None,
    )  # fmt: skip
    return method.build(document, model, Identity("in training"))


def starting_tensors(config: AldmConfig) -> dict[str, Tensor]:
    """Return the tensors of the starting model.

    Raises ModelError where it is none of ALDM's, or was made with other settings than the run's.
    """
    path = Path(config.initial)
    stored = read_header(path)
    if stored.get("method") != method.NAME:
        raise ModelError(f"{path.name} is no ALDM model.", remedy="Give one that train aldm has made.")
    differing = [name for name, given, ours in _compared(config, stored) if given != ours]
    if differing:
        raise ModelError(
            f"{path.name} was made with other settings: {', '.join(differing)}.",
            remedy="Give the settings that it was trained with.",
        )
    return read_tensors(path)


def _compared(config: AldmConfig, stored: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what must be the same in a starting model and in the run: its name, as stored, as set."""
    network, whole = stored.get("network") or {}, shaped(config, STAGES[-1])
    yield "targets", stored.get("targets"), [str(each) for each in modalities_of(config)]
    yield (
        "voxels or intensities",
        _without_box(stored.get("recipe") or []),
        _without_box(recipe_of(config, whole).to_json()),
    )
    found, first = network.get("first_stage") or {}, _as_stored(asdict(whole.first_stage.config))
    free = {"classes"} if found.get("classes") else {"classes", "spade_widths", "spade_hidden"}  # no MS-SPADE yet
    yield "first stage", {**found, **dict.fromkeys(free)}, {**first, **dict.fromkeys(free)}
    for part in ("unet", "projector"):
        if network.get(part) is not None:
            yield part, network[part], _as_stored(asdict(unet_config(config)))


def _without_box(recipe: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps that decide what the network sees: the box of a first stage alone may be smaller."""
    return [step for step in recipe if step.get("step") != "box3d"]


def _as_stored(shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as JSON has it."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in shape.items()}


def shaped(config: AldmConfig, stage: str) -> AutoencoderModel:
    """Return the model up to a stage on the meta device: only its shape counts."""
    with torch.device("meta"):
        return _fresh(config, stage)


def _fresh(config: AldmConfig, stage: str) -> AutoencoderModel:
    first, place = first_stage_config(config), STAGES.index(stage)
    if place == 0:
        return make_aldm(replace(first, classes=0))
    unet = unet_config(config)
    return make_aldm(first, unet if place >= 2 else None, unet if place >= 3 else None)


def filled(config: AldmConfig, stage: str, tensors: Mapping[str, Tensor]) -> AutoencoderModel:
    """Return the model up to a stage with tensors of the stages before; what the stage trains may be fresh.

    Raises ModelError where other tensors are missing or have another shape.
    """
    model = _fresh(config, stage)
    wanted = {name: tensors[name] for name in model.state_dict() if name in tensors}
    fresh = {name: value for name, value in model.state_dict().items() if name.startswith(FRESH[stage])}
    if not fresh.keys() <= wanted.keys():
        wanted = {**wanted, **fresh}
    try:
        load_strictly(model, wanted, "the starting model")
    except ModelError as error:
        raise ModelError(str(error), remedy="Give its settings, or train the stages before as well.") from error
    return model
