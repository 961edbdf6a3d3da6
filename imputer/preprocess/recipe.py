"""A recipe: the steps from a volume to a stack, as data that travels with a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from imputer.errors import ModelError
from imputer.preprocess.box import Box
from imputer.preprocess.intensity import Intensity
from imputer.preprocess.orient import Orient
from imputer.preprocess.resample import Resample
from imputer.preprocess.slices import Slices
from imputer.preprocess.step import Stack, Step, Undo
from imputer.volume import Volume

_STEPS: dict[str, type[Orient] | type[Resample] | type[Intensity] | type[Box] | type[Slices]] = {
    "orient": Orient,
    "resample": Resample,
    "intensity": Intensity,
    "box": Box,
    "slices": Slices,
}


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which a volume takes them; the last, and only the last, is `Slices`."""

    steps: tuple[Step | Slices, ...]

    def __post_init__(self) -> None:
        places = [index for index, step in enumerate(self.steps) if isinstance(step, Slices)]
        if places != [len(self.steps) - 1]:
            raise ModelError("A recipe ends with the step slices, and has it only once.")

    @classmethod
    def from_json(cls, data: list[dict[str, Any]]) -> Recipe:
        """Recipe of `to_json`; ModelError for a step or a setting that does not exist."""
        return cls(tuple(_step_from_json(item) for item in data))

    def to_json(self) -> list[dict[str, Any]]:
        """One dict a step: its name under "step", and its settings."""
        names: dict[type, str] = {kind: name for name, kind in _STEPS.items()}
        return [{"step": names[type(step)], **_settings(step)} for step in self.steps]

    def forward(self, volume: Volume) -> tuple[Stack, list[Undo]]:
        """Stack (S, 1, H, W) float32 in [-1, 1] of a volume, and one record a step for `inverse`.

        Raises
        ------
        InputError
            Where the volume holds nothing above 0, or its pixels are absurdly large.
        """
        undo: list[Undo] = []
        for step in self.steps:
            if isinstance(step, Slices):
                stack, record = step.forward(volume)
                return stack, [*undo, record]
            volume, record = step.forward(volume)
            undo.append(record)
        raise AssertionError("a recipe ends with slices")  # __post_init__ saw to it

    def inverse(self, stack: Stack, undo: list[Undo], like: Volume, *, scale: float | None = None) -> Volume:
        """Volume of a stack, on the grid of `like`, the volume that the records come from.

        Parameters
        ----------
        stack : Stack
            (S, 1, H, W) in [-1, 1], of the shape that `forward` gave.
        undo : list of dict
            Records of `forward`, also after a way through JSON.
        like : Volume
            Gives shape, affine and origin. The modality of the result is left open.
        scale : float or None
            Value that 1 stands for in the result; None for that of the volume that went in.
        """
        if len(undo) != len(self.steps):
            raise ValueError(f"{len(undo)} records do not fit {len(self.steps)} steps")
        last = self.steps[-1]
        if not isinstance(last, Slices):
            raise AssertionError("a recipe ends with slices")  # __post_init__ saw to it
        volume = last.inverse(np.asarray(stack, dtype=np.float32), undo[-1])
        for step, record in zip(reversed(self.steps[:-1]), reversed(undo[:-1]), strict=True):
            if isinstance(step, Slices):
                continue
            known = record if scale is None or not isinstance(step, Intensity) else {**record, "scale": scale}
            volume = step.inverse(volume, known)
        return replace(like.with_array(volume.array), modality=None)


def default_recipe(pixel_mm: float = 0.9, white: float = 4.0, multiple: int = 32) -> Recipe:
    """What our own models take: pixels of `pixel_mm` mm, `white` times the tissue's mean as 1, a box round the head."""
    return Recipe((Orient(), Resample(pixel_mm), Intensity(white=white), Box(multiple), Slices()))


def released_recipe(image_size: int = 256) -> Recipe:
    """What the checkpoints of the SynDiff authors take: 256 x 256 pixels of any size, padded with background.

    They scaled each volume by its mean and then by a constant of their training set, which is not known; a high
    percentile of the volume stands for both.
    """
    return Recipe(
        (Orient(), Intensity("percentile", white=1.0, percentile=99.9), Box(size=(image_size, image_size)), Slices())
    )


def _step_from_json(item: dict[str, Any]) -> Step | Slices:
    settings = dict(item)
    name = settings.pop("step", None)
    if name not in _STEPS:
        raise ModelError(f"The recipe has an unknown step {name!r}.", remedy=f"Known are: {', '.join(_STEPS)}.")
    try:
        return _STEPS[name](**settings)
    except TypeError as error:
        raise ModelError(f"The settings of the step {name!r} of the recipe do not fit.") from error


def _settings(step: Step | Slices) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(step).items()}
