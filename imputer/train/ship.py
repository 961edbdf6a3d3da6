"""Recipes of a run's data and the model packages that come out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from imputer.diffusion.schedule import Schedule
from imputer.methods import disdiff, syndiff
from imputer.modality import Modality
from imputer.nets.checkpoint import write_package
from imputer.nets.disdiff import DisDiff
from imputer.preprocess.intensity import Intensity
from imputer.preprocess.orient import Orient
from imputer.preprocess.recipe import Recipe, default_recipe
from imputer.preprocess.resample import Resample
from imputer.preprocess.slices import Slices
from imputer.train.config import SliceConfig, TrainConfig
from imputer.train.diffusive import network_config
from imputer.train.disdiff_config import DisDiffTrainConfig
from imputer.train.parts import halved
from imputer.train.seen import NOTHING, Seen

OUTPUT_SCALE = 4000.0  # written intensity of white: brain tissue comes out near 1000, as scanners have it


def data_recipe(config: SliceConfig, white: float) -> Recipe:
    """Return the recipe of training data: the model's own without the box, since training cuts its own."""
    return Recipe((Orient(), Resample(config.pixel_mm), Intensity(white=white), Slices()))


def export_syndiff(
    config: TrainConfig,
    schedule: Schedule,
    tensors: Mapping[str, Tensor],
    source: Modality,
    target: Modality,
    folder: Path,
    sizes: Mapping[str, list[float]],
    seen: Seen = NOTHING,
) -> Path:
    """Write the generator of a direction as a model package, fp16, and return its path.

    Of several sources `source` is the first one; a model that learnt to do without some requires none.
    `sizes` are the least and greatest `pixel_mm` and `slice_mm` of the sources that it learnt from.
    `seen` tells of all volumes that it learnt from.
    """
    white = config.source_white if source == config.sources[0] else config.target_white
    others = config.sources[1:]  # one direction is learnt where there are any
    sources = (source, *others)
    network = network_config(config)
    name = "-".join((syndiff.NAME, *sources, target))
    said: dict[str, object] = {"sources": list(map(str, sources))} if others else {"source": str(source)}
    header = syndiff.header(
        network, schedule, default_recipe(config.pixel_mm, white, network.size_multiple), source, target,
        output_scale=OUTPUT_SCALE, shared_noise=config.shared_noise,
        about=_about(config, name, f"SynDiff {' + '.join(sources)} to {target}", syndiff.CITATION,
                     {**said, "target": str(target), **sizes}, seen, sources),
        others=others, fusion=config.fusion,
        required=() if config.source_dropout > 0 or config.fusion == syndiff.MEAN else sources,
    )  # fmt: skip
    return _written(name, tensors, header, folder)


def export_disdiff(
    config: DisDiffTrainConfig,
    schedule: Schedule,
    network: DisDiff,
    folder: Path,
    sizes: Iterable[Mapping[str, list[float]]],
    seen: Seen = NOTHING,
) -> Path:
    """Write the model between the contrasts as a package, fp16, and return its path.

    `sizes` are those of each contrast, `seen` tells of all volumes that it learnt from.
    """
    shape, joint = network.config, bool(config.other_sources)
    contrasts = (*shape.sources, *shape.targets) if joint else shape.targets
    name = "-".join([disdiff.NAME, *contrasts])
    title = (
        f"DisDiff {' + '.join(shape.sources)} to {shape.targets[0]}" if joint else f"DisDiff {' and '.join(contrasts)}"
    )
    header = disdiff.header(
        shape, schedule, default_recipe(config.pixel_mm, config.source_white, shape.size_multiple),
        output_scale=OUTPUT_SCALE, shared_noise=config.shared_noise,
        about=_about(config, name, title, disdiff.CITATION, _span(sizes), seen, shape.sources), joint=joint,
    )  # fmt: skip
    return _written(name, network.state_dict(), header, folder)


def _span(sizes: Iterable[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Return the least and the greatest of several spans, by name."""
    result: dict[str, list[float]] = {}
    for each in sizes:
        for key, span in each.items():
            known = [*result.get(key, ()), *span]
            result[key] = [min(known), max(known)]
    return result


def _about(
    config: SliceConfig,
    name: str,
    title: str,
    citation: str,
    scope: Mapping[str, object],
    seen: Seen,
    sources: Sequence[str],
) -> dict[str, object]:
    return {
        "id": name,
        "version": config.version,
        "title": config.title or title,
        "licence": config.licence,
        "citation": citation,
        "trained_on": config.trained_on,
        "scope": {"body_part": "head", "plane": "axial", **scope, "measured": seen.of(sources)},
        "fingerprints": list(seen.fingerprints),
    }


def _written(name: str, tensors: Mapping[str, Tensor], header: Mapping[str, object], folder: Path) -> Path:
    path = folder / "models" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_package(path, halved(tensors), header, overwrite=True)
    return path
