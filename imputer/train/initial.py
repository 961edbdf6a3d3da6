"""What a starting model tells of a run: its network, its voxels, its intensities. The run takes them over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from imputer.errors import ModelError
from imputer.methods import aldm, disdiff, syndiff
from imputer.nets.checkpoint import read_header
from imputer.train.aldm_config import AldmConfig
from imputer.train.config import TrainConfig
from imputer.train.disdiff_config import DisDiffTrainConfig

AnyConfig = TypeVar("AnyConfig", TrainConfig, DisDiffTrainConfig, AldmConfig)
_GENERATOR = (
    "width", "channel_multipliers", "blocks_per_level", "attention_levels", "latent_size", "latent_width",
)  # fmt: skip
_FIRST_STAGE = (
    "width", "channel_multipliers", "blocks_per_level", "latent_channels", "codebook_size", "groups",
)  # fmt: skip
_SPADE = ("spade_widths", "spade_hidden")
_UNET = {  # as the settings of a run call what the network has
    "width": "unet_width",
    "channel_multipliers": "unet_multipliers",
    "blocks_per_level": "unet_blocks",
    "attention_factors": "attention_factors",
    "head_channels": "head_channels",
    "condition": "condition",
    "groups": "unet_groups",
}


@dataclass(frozen=True)
class Header:
    """A starting model's header, of which every part may be missing or be something else.

    Parameters
    ----------
    content : as `imputer.nets.checkpoint.read_header` gives it.
    """

    content: Mapping[str, Any]

    def table(self, *path: str) -> Mapping[str, Any]:
        """Return the table at a path of names; an empty one where there is none."""
        found: Any = self.content
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    @property
    def white(self) -> Any:
        """The intensity mapped to 1, in units of the volume's mean as in all runs; None where it is in others."""
        intensity = self.step("intensity")
        return intensity.get("white") if intensity.get("scale") == "global_mean" else None

    def step(self, name: str) -> Mapping[str, Any]:
        """Return the recipe's step of that name; an empty table where there is none."""
        steps = self.content.get("recipe")
        steps = steps if isinstance(steps, list) else []
        return next((each for each in steps if isinstance(each, Mapping) and each.get("step") == name), {})


def taken_over(config: AnyConfig, path: Path) -> AnyConfig:
    """Return the settings of a run with those that its starting model, a package, asks for; it becomes `initial`.

    They are what its tensors have to fit: the shape of the networks, the size of pixels or voxels, the intensity mapped
    to 1, the reverse steps; of SynDiff also the direction. What comes of a model has its licence, unless another one is
    given. Raises ModelError where the file is no package, or one of
    another method.
    """
    header = Header(read_header(path))
    if isinstance(config, TrainConfig):
        method, told = syndiff.NAME, _syndiff(header, config)
    elif isinstance(config, DisDiffTrainConfig):
        method, told = disdiff.NAME, _disdiff(header)
    else:
        method, told = aldm.NAME, _aldm(header)
    if header.content.get("method") != method:
        raise ModelError(
            f"{path.name} is no model that 'train {method}' can start from.", remedy=f"Give one of the method {method}."
        )
    settings: dict[str, Any] = {"initial": str(path)}
    licence = header.table("about").get("licence")
    for name, value in chain(told, [("licence", licence)]):
        if value is not None:
            settings[name] = _like(getattr(config, name), value, f"{path.name} has no usable {name} in its header.")
    return replace(config, **settings)


def _like(known: Any, value: Any, otherwise: str) -> Any:
    """Return a header's value as a setting of the kind that is known; ModelError where it is of another kind."""
    if isinstance(known, tuple):
        kind = type(known[0]) if known else str
        if isinstance(value, list) and all(type(each) is kind for each in value):
            return tuple(value)
    elif isinstance(known, float) and type(value) in (int, float):
        return float(value)
    elif type(value) is type(known):
        return value
    raise ModelError(otherwise, remedy="Get the model anew, or train one.")


def _syndiff(header: Header, config: TrainConfig) -> Iterator[tuple[str, Any]]:
    yield from _picked(header.table("network"), _GENERATOR)
    yield from _of_slices(header)
    backward = (header.content.get("source"), header.content.get("target")) == (config.target, config.source)
    yield "direction", "backward" if backward else "forward"
    yield "target_white" if backward else "source_white", header.white
    if config.other_sources:
        yield "fusion", header.content.get("fusion")


def _disdiff(header: Header) -> Iterator[tuple[str, Any]]:
    network, generator = header.table("network"), header.table("network", "generator")
    yield from _picked(network, ("content_width", "content_blocks", "shared_blocks", "attribute_width"))
    yield from _picked(generator, _GENERATOR)
    yield from _of_slices(header)
    attribute, latent = network.get("attribute_size"), generator.get("latent_size")
    if isinstance(attribute, int) and isinstance(latent, int):
        yield "latent_size", latent - attribute  # a generator is given both as one
        yield "disentangle", attribute > 0
        yield "attribute_size", attribute or None
    channels = generator.get("image_channels")
    yield "content_maps", channels - 1 if isinstance(channels, int) else None
    yield from ((name, header.white) for name in ("source_white", "target_white"))


def _of_slices(header: Header) -> Iterator[tuple[str, Any]]:
    yield "pixel_mm", header.step("resample").get("spacing_mm")
    yield "diffusion_steps", header.table("schedule").get("steps")
    yield "shared_noise", header.content.get("shared_noise")


def _aldm(header: Header) -> Iterator[tuple[str, Any]]:
    first = header.table("network", "first_stage")
    unet = header.table("network", "unet") or header.table("network", "projector")
    yield "modalities", header.content.get("targets")
    yield from _picked(first, _FIRST_STAGE)
    if first.get("classes"):  # else MS-SPADE is not in it yet
        yield from _picked(first, _SPADE)
    yield from ((ours, unet.get(theirs)) for theirs, ours in _UNET.items())
    inputs, channels = unet.get("inputs"), first.get("latent_channels")
    yield "source_latent", inputs == 3 * channels if inputs and channels else None
    yield "voxel_mm", header.step("isotropic").get("mm")
    yield "white", header.white
    yield "projector_steps_back", header.table("projector_schedule").get("steps")
    yield "latent_limit", header.content.get("latent_limit", 0.0)


def _picked(table: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    yield from ((name, table.get(name)) for name in names)
