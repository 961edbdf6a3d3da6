"""Model packages of random weights, made for a run: what they show is a matter of speed alone."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.measures import randomise
from imputer.diffusion.schedule import Schedule
from imputer.methods import syndiff
from imputer.modality import Modality
from imputer.nets.checkpoint import write_package
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.preprocess.recipe import default_recipe

KINDS = {
    # Of the size of the SynDiff authors' generator.
    "released": (NCSNppConfig(), Schedule()),
    # Little work for the network, in one step: what is left is the work beside it. Five levels, for the lowest one has
    # attention.
    "smallest": (
        NCSNppConfig(
            width=4, channel_multipliers=(1, 1, 1, 1, 1), blocks_per_level=1, attention_levels=(), latent_size=4,
            latent_width=4, latent_layers=1,
        ),
        Schedule(steps=1),
    ),
}  # fmt: skip


def add_model(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add the options that say which model; `chosen_model` reads them."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", default=default, help="an id or a file; left out, the one that is there")
    which.add_argument("--random", choices=sorted(KINDS), help="one of random weights that is made for this run")


def chosen_model(options: argparse.Namespace, folder: Path) -> str | None:
    """Return the model to name on command lines, which is written into `folder` where it is a random one."""
    return (
        str(write_random(folder / f"{options.random}.safetensors", options.random)) if options.random else options.model
    )


def write_random(path: Path, kind: str) -> Path:
    """Write a model from T1 to T2 of one of the `KINDS`, pixels of 0.9 mm."""
    config, schedule = KINDS[kind]
    torch.manual_seed(0)
    network = NCSNpp(config)
    randomise(network)
    header = syndiff.header(
        config, schedule, default_recipe(multiple=config.size_multiple), Modality.T1, Modality.T2,
        output_scale=1000.0, shared_noise=False, about={"id": f"random-{kind}", "scope": {"body_part": "head"}},
    )  # fmt: skip
    write_package(path, network.state_dict(), header)
    return path
