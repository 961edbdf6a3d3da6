"""A DisDiff that is as small as it can be: what the tests of its networks, its packages and the spine share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from golden_weights import fill_all

from imputer.diffusion.schedule import Schedule
from imputer.methods import disdiff
from imputer.methods.base import Identity
from imputer.nets.checkpoint import write_package
from imputer.nets.disdiff import DisDiff, DisDiffConfig
from imputer.nets.ncsnpp import NCSNppConfig
from imputer.preprocess.recipe import default_recipe

GENERATOR = NCSNppConfig(
    width=8,
    channel_multipliers=(1, 1, 2),
    blocks_per_level=1,
    attention_levels=(),
    image_channels=3,
    latent_size=7,
    latent_width=8,
    latent_layers=2,
)
CONFIG = DisDiffConfig(
    sources=("t1", "t2"),
    targets=("t1", "t2"),
    generator=GENERATOR,
    content_width=4,
    content_blocks=1,
    attribute_width=4,
    attribute_size=3,
)
JOINT = replace(CONFIG, targets=("flair",))
WITHOUT_ATTRIBUTES = replace(CONFIG, attribute_size=0)
RECIPE = default_recipe(pixel_mm=4.0, multiple=CONFIG.size_multiple)


def make_network(config: DisDiffConfig = CONFIG) -> DisDiff:
    """Return a network whose pseudo-random weights make every input matter."""
    network = DisDiff(config)
    network.load_state_dict(fill_all({name: value.shape for name, value in network.state_dict().items()}))
    return network.eval().requires_grad_(False)


def make_header(config: DisDiffConfig = CONFIG, *, joint: bool = False) -> dict[str, Any]:
    """Return the header of a package of the tiny model."""
    about = {"id": "tiny-disdiff", "version": "2", "licence": "CC0-1.0", "scope": {"body_part": "head"}}
    return disdiff.header(config, Schedule(), RECIPE, output_scale=1000.0, shared_noise=False, about=about, joint=joint)


def make_method(config: DisDiffConfig = CONFIG, *, joint: bool = False) -> disdiff.DisDiff:
    """Return a method between T1 and T2, or of a configuration of its own, that needs no file."""
    return disdiff.build(make_header(config, joint=joint), make_network(config), Identity("tiny-disdiff"))


def write_model(path: Path, config: DisDiffConfig = CONFIG) -> Path:
    """Write the tiny model as a package."""
    write_package(path, make_network(config).state_dict(), make_header(config))
    return path
