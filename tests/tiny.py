"""Models and heads that are as small as they can be: what the tests of networks, methods and the spine share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
from golden_weights import fill_all
from nibabel.nifti1 import Nifti1Image

from imputer.diffusion.schedule import Schedule
from imputer.methods import syndiff
from imputer.methods.base import Identity
from imputer.modality import Modality
from imputer.nets.checkpoint import write_package
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.phantom import make_head
from imputer.preprocess.recipe import default_recipe

CONFIG = NCSNppConfig(
    width=8,
    channel_multipliers=(1, 1, 2),
    blocks_per_level=1,
    attention_levels=(2,),
    latent_size=4,
    latent_width=8,
    latent_layers=2,
)
RECIPE = default_recipe(pixel_mm=4.0, multiple=CONFIG.size_multiple)
GRID: dict[str, Any] = {"shape": (44, 52, 6), "spacing": (4.0, 4.0, 20.0)}


def make_generator(config: NCSNppConfig = CONFIG) -> NCSNpp:
    """Return a generator whose pseudo-random weights make every input matter, which fresh ones do not."""
    generator = NCSNpp(config)
    generator.load_state_dict(fill_all({name: value.shape for name, value in generator.state_dict().items()}))
    return generator.eval().requires_grad_(False)


def make_method(*, shared_noise: bool = False) -> syndiff.SynDiff:
    """Return a method from T1 to T2 that needs no file."""
    return syndiff.SynDiff(
        make_generator(), Schedule(), RECIPE, Modality.T1, Modality.T2,
        output_scale=1000.0, identity=Identity("tiny"), shared_noise=shared_noise,
    )  # fmt: skip


def make_header(source: Modality = Modality.T1, target: Modality = Modality.T2) -> dict[str, Any]:
    """Return the header of the tiny model's package."""
    about = {
        "id": "tiny",
        "version": "7",
        "licence": "CC0-1.0",
        "citation": "nobody",
        "scope": {"body_part": "head"},
    }
    return syndiff.header(
        CONFIG, Schedule(), RECIPE, source, target, output_scale=1000.0, shared_noise=False, about=about
    )


def write_model(path: Path, source: Modality = Modality.T1, target: Modality = Modality.T2) -> Path:
    """Write the tiny model as a package."""
    write_package(path, make_generator().state_dict(), make_header(source, target))
    return path


def write_head(path: Path, modality: Modality, seed: int = 0, **grid: Any) -> Path:
    """Write one contrast of a head phantom as NIfTI."""
    volume = make_head([modality], seed=seed, **{**GRID, **grid})[modality]
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(Nifti1Image(volume.array, volume.affine), path)
    return path
