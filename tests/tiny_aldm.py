"""An ALDM that is as small as it can be: what the tests of its method, its packages and the spine share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golden_weights import fill_all

from imputer.methods import aldm
from imputer.methods.base import Identity
from imputer.modality import Modality
from imputer.nets.aldm import AutoencoderModel, make_aldm
from imputer.nets.checkpoint import write_package
from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig
from imputer.preprocess.recipe import Recipe, aldm_recipe

FIRST_STAGE = FirstStageConfig(width=4, groups=4, codebook_size=16, spade_widths=(8,), spade_hidden=4)
UNET = LatentUNetConfig(width=8, groups=4, head_channels=8)
MODALITIES = (Modality.T1, Modality.T1CE, Modality.T2, Modality.FLAIR)
RECIPE = aldm_recipe(mm=4.0)
ABOUT: dict[str, Any] = {"id": "tiny-aldm", "version": "3", "licence": "CC0-1.0", "scope": {"body_part": "head"}}
ALL, WITHOUT_PROJECTOR, FIRST_STAGE_ALONE = "projector", "ddim", "none"  # by the sampler that such a model has


def make_network(parts: str = ALL, first_stage: FirstStageConfig = FIRST_STAGE) -> AutoencoderModel:
    """Return a network whose pseudo-random weights make every input matter."""
    unet = None if parts == FIRST_STAGE_ALONE else UNET
    network = make_aldm(first_stage, unet, UNET if parts == ALL else None)
    network.load_state_dict(fill_all({name: value.shape for name, value in network.state_dict().items()}))
    return network.eval().requires_grad_(False)


def make_header(network: AutoencoderModel, recipe: Recipe = RECIPE, **settings: Any) -> dict[str, Any]:
    """Return the header of a package of the network."""
    about = {**ABOUT, **settings.pop("about", {})}
    sources, targets = settings.pop("sources", MODALITIES), settings.pop("targets", MODALITIES)
    return aldm.header(network, recipe, sources, targets, output_scale=1000.0, about=about, **settings)


def make_method(parts: str = ALL, recipe: Recipe = RECIPE) -> aldm.Aldm:
    """Return a method from any to any of four modalities that needs no file."""
    network = make_network(parts)
    return aldm.build(make_header(network, recipe), network, Identity("tiny-aldm"))


def write_model(path: Path, parts: str = ALL, recipe: Recipe = RECIPE, **settings: Any) -> Path:
    """Write the tiny model as a package."""
    network = make_network(parts)
    write_package(path, network.state_dict(), make_header(network, recipe, **settings))
    return path
