"""A recipe: the steps from a volume to a stack, as data that travels with a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from imputer.errors import ModelError
from imputer.preprocess.box import BACKGROUND, FOREGROUND_ABOVE, Box
from imputer.preprocess.box3d import Box3d
from imputer.preprocess.intensity import Intensity
from imputer.preprocess.isotropic import Isotropic
from imputer.preprocess.orient import Orient
from imputer.preprocess.percentiles import Percentiles
from imputer.preprocess.resample import Resample
from imputer.preprocess.slices import Slices
from imputer.preprocess.step import Stack, Step, Undo, shown
from imputer.preprocess.whole import Whole
from imputer.volume import Volume

Last = Slices | Whole  # what a recipe ends with: from a volume to a stack
_STEPS: dict[str, Callable[..., Step | Last]] = {
    "orient": Orient,
    "resample": Resample,
    "isotropic": Isotropic,
    "intensity": Intensity,
    "percentiles": Percentiles,
    "box": Box,
    "box3d": Box3d,
    "slices": Slices,
    "whole": Whole,
}
_SCALED = (Intensity, Percentiles)  # steps whose way back can end in another unit
_FITTED = (Box, Box3d)  # steps that look at where a volume shows something


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which a volume takes them; the last, and only the last, is `Slices` or `Whole`."""

    steps: tuple[Step | Last, ...]

    def __post_init__(self) -> None:
        places = [index for index, step in enumerate(self.steps) if isinstance(step, Last)]
        if places != [len(self.steps) - 1]:
            raise ModelError("A recipe ends with the step slices or the step whole, and has none of them before.")

    @classmethod
    def from_json(cls, data: object) -> Recipe:
        """Recipe of `to_json`; ModelError for what is none, and for a step or a setting that does not exist."""
        if not isinstance(data, list):
            raise ModelError("A recipe is a list of steps.")
        return cls(tuple(_step_from_json(item) for item in data))

    def to_json(self) -> list[dict[str, Any]]:
        """One dict a step: its name under "step", and its settings."""
        names = {kind: name for name, kind in _STEPS.items()}
        return [{"step": names[type(step)], **_settings(step)} for step in self.steps]

    def forward(self, volume: Volume) -> tuple[Stack, list[Undo]]:
        """Stack of a volume, and one record a step for `inverse`.

        The stack is (S, 1, H, W) float32 after `Slices` and (1, 1, I, J, K) after `Whole`; in [-1, 1], but for the few
        voxels that `Percentiles` leaves beyond.

        Raises
        ------
        InputError
            Where the volume holds nothing above 0, is nearly constant, or its pixels are absurdly large.
        """
        undo: list[Undo] = []
        for step in self.steps:
            if isinstance(step, Last):
                stack, record = step.forward(volume)
                return stack, [*undo, record]
            volume, record = step.forward(volume)
            undo.append(record)
        raise AssertionError("a recipe ends with a stack")  # __post_init__ saw to it

    def forward_together(self, volumes: Sequence[Volume]) -> tuple[list[Stack], list[list[Undo]]]:
        """Stacks of several volumes of one grid, of one shape, with the records of each for `inverse`.

        Intensities are fitted to each volume on its own; a box is fitted to what any of them shows.
        """
        moved = list(volumes)
        undos: list[list[Undo]] = [[] for _ in moved]
        for step in self.steps:
            if isinstance(step, Last):
                break
            if isinstance(step, _FITTED):
                brightest = moved[0].with_array(np.maximum.reduce([each.array for each in moved]))
                boxed, shared = step.forward(brightest)
                made = [(step.repeat(each, shared["start"], boxed.shape), shared) for each in moved]
            else:
                made = [step.forward(each) for each in moved]
            moved = [volume for volume, _ in made]
            for records, (_, record) in zip(undos, made, strict=True):
                records.append(record)
        last = self.steps[-1]
        assert isinstance(last, Last)  # __post_init__ saw to it
        stacks = [last.forward(each) for each in moved]
        return [stack for stack, _ in stacks], [[*u, record] for u, (_, record) in zip(undos, stacks, strict=True)]

    def inverse(self, stack: Stack, undo: list[Undo], like: Volume, *, scale: float | None = None) -> Volume:
        """Volume of a stack, on the grid of `like`, the volume that the records come from.

        Parameters
        ----------
        stack : Stack
            In [-1, 1], of the shape that `forward` gave.
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
        if not isinstance(last, Last):
            raise AssertionError("a recipe ends with a stack")  # __post_init__ saw to it
        volume = last.inverse(np.asarray(stack, dtype=np.float32), undo[-1])
        for step, record in zip(reversed(self.steps[:-1]), reversed(undo[:-1]), strict=True):
            if isinstance(step, Last):
                continue
            known = record if scale is None or not isinstance(step, _SCALED) else {**record, "scale": scale}
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


def aldm_recipe(mm: float = 1.0, white: float = 4.0, multiple: int = 16, margin: int = 4) -> Recipe:
    """What our own models of whole volumes take: voxels of `mm` mm, the intensities of `default_recipe`, a 3-D box."""
    box = Box3d(multiple, margin, above=FOREGROUND_ABOVE, background=BACKGROUND)
    return Recipe((Orient("RAS"), Isotropic(mm), Intensity(white=white), box, Whole()))


def aldm_released_recipe() -> Recipe:
    """What the checkpoints of the ALDM authors take: 144 x 192 x 144 voxels of 1 mm round what is above 0, scaled by
    percentiles. They cut larger heads; here the grid grows instead.
    """
    box = Box3d(16, least=(144, 192, 144))
    return Recipe((Orient("RAS"), Isotropic(1.0), box, Percentiles(), Whole()))


def _step_from_json(item: object) -> Step | Last:
    settings = dict(item) if isinstance(item, dict) else {"step": item}
    name = settings.pop("step", None)
    if not isinstance(name, str) or name not in _STEPS:
        raise ModelError(f"The recipe has an unknown step {shown(name)}.", remedy=f"Known are: {', '.join(_STEPS)}.")
    try:
        return _STEPS[name](**settings)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"The settings of the step {name!r} of the recipe do not fit.") from error


def _settings(step: Step | Last) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(step).items()}
