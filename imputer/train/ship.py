"""Recipes of a run's data and the model packages that come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from imputer.diffusion.schedule import Schedule
from imputer.methods import syndiff as method
from imputer.modality import Modality
from imputer.nets.checkpoint import write_package
from imputer.preprocess.intensity import Intensity
from imputer.preprocess.orient import Orient
from imputer.preprocess.recipe import Recipe, default_recipe
from imputer.preprocess.resample import Resample
from imputer.preprocess.slices import Slices
from imputer.train.config import TrainConfig
from imputer.train.parts import halved
from imputer.train.syndiff import network_config

OUTPUT_SCALE = 4000.0  # written intensity of white: brain tissue comes out near 1000, as scanners have it


def data_recipe(config: TrainConfig, white: float) -> Recipe:
    """Return the recipe of training data: the model's own without the box, since training cuts its own."""
    return Recipe((Orient(), Resample(config.pixel_mm), Intensity(white=white), Slices()))


def model_recipe(config: TrainConfig, white: float) -> Recipe:
    """Return the recipe that feeds the trained model."""
    return default_recipe(config.pixel_mm, white, network_config(config).size_multiple)


def export_model(
    config: TrainConfig,
    schedule: Schedule,
    tensors: Mapping[str, Tensor],
    source: Modality,
    target: Modality,
    folder: Path,
    sizes: Mapping[str, list[float]],
) -> Path:
    """Write the generator of a direction as a model package, fp16, and return its path.

    `sizes` are the least and greatest `pixel_mm` and `slice_mm` of the sources that it learnt from.
    """
    white = config.source_white if str(source) == config.source else config.target_white
    name = f"{method.NAME}-{source}-{target}"
    about = {
        "id": name,
        "version": config.version,
        "title": config.title or f"SynDiff {source} to {target}",
        "licence": config.licence,
        "citation": method.CITATION,
        "trained_on": config.trained_on,
        "scope": {"source": str(source), "target": str(target), "body_part": "head", "plane": "axial", **sizes},
    }
    header = method.header(
        network_config(config), schedule, model_recipe(config, white), source, target,
        output_scale=OUTPUT_SCALE, shared_noise=config.shared_noise, about=about,
    )  # fmt: skip
    path = folder / "models" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_package(path, halved(tensors), header, overwrite=True)
    return path
