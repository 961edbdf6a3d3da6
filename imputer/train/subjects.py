"""Training data of whole volumes: subjects with whatever contrasts they have, on one grid each, and patches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from imputer.errors import InputError
from imputer.io.dispatch import load
from imputer.modality import Modality, guess_modality
from imputer.preprocess.recipe import Recipe
from imputer.train.augment import Strength, contrast, uniform
from imputer.train.data import case_name, matches, volumes_below
from imputer.train.register import align_rigidly

BACKGROUND = -1.0
SHOWN_ABOVE = -0.94  # 3 % of white: what is not background
MARGIN = 4  # voxels kept around it


@dataclass(frozen=True)
class Subject:
    """One subject's volumes by contrast; some may be missing."""

    name: str
    volumes: dict[Modality, Path]


@dataclass(frozen=True)
class Contrasts:
    """A subject's volumes on one grid: class number to (I, J, K) float16 in [-1, 1]."""

    name: str
    arrays: dict[int, NDArray[np.float16]]


def find_subjects(folder: Path, modalities: Sequence[Modality], *, exclude: Sequence[str] = ()) -> list[Subject]:
    """Match the volumes below a folder by relative path and name without the modality; sorted by name.

    Raises InputError where the folder is missing or two files are the same contrast of one subject.
    """
    found: dict[str, dict[Modality, Path]] = {}
    for path in volumes_below(folder):
        modality = guess_modality(path)
        if modality is None or modality not in modalities:
            continue
        volumes = found.setdefault(case_name(path, folder), {})
        if modality in volumes:
            both = f"{volumes[modality].name} and {path.name}"
            raise InputError(f"Two files are the same {modality} of one subject: {both}.", remedy="Remove one.")
        volumes[modality] = path
    subjects = [Subject(name, volumes) for name, volumes in sorted(found.items())]
    return [subject for subject in subjects if not matches(subject.name, exclude)]


def load_contrasts(subject: Subject, modalities: Sequence[Modality], recipe: Recipe, *, register: bool) -> Contrasts:
    """Load a subject's contrasts on the grid of its first one, cut to what that shows.

    Parameters
    ----------
    modalities : contrasts in class order; the first that the subject has gives the grid.
    recipe : orientation, voxel size and intensity; no box.
    register : align the others rigidly on the first.
    """
    present = [modality for modality in modalities if modality in subject.volumes]
    still = load(subject.volumes[present[0]])
    arrays: dict[int, NDArray[np.float16]] = {}
    box: tuple[slice, ...] | None = None
    for modality in present:
        volume = still if modality == present[0] else load(subject.volumes[modality])
        if volume is not still:
            volume = align_rigidly(volume, still, search=register)
        array = recipe.forward(volume)[0][0, 0]
        box = _shown(array) if box is None else box
        arrays[modalities.index(modality)] = array[box].astype(np.float16)
    return Contrasts(subject.name, arrays)


def _shown(array: NDArray[np.float32]) -> tuple[slice, ...]:
    """Box of what is not background, with a margin."""
    shown = array > SHOWN_ABOVE
    slices = []
    for axis in range(3):
        places = np.flatnonzero(shown.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (int(places[0]), int(places[-1])) if len(places) else (0, array.shape[axis] - 1)
        slices.append(slice(max(first - MARGIN, 0), last + 1 + MARGIN))
    return tuple(slices)


class PatchSampler:
    """Draws cubes of single contrasts, (B, 1, S, S, S) float32 in [-1, 1]; subjects weigh the same, then contrasts.

    Parameters
    ----------
    subjects : what to draw from.
    side : S.
    flip : probability that an axis is mirrored.
    strength : how far intensities are changed.
    """

    def __init__(self, subjects: Sequence[Contrasts], side: int, *, flip: float, strength: Strength) -> None:
        self._subjects, self._side, self._flip, self._strength = subjects, side, flip, strength

    def batch(self, count: int, generator: Generator) -> Tensor:
        """Draw `count` patches."""
        return torch.stack([self._draw(generator) for _ in range(count)])

    def _draw(self, generator: Generator) -> Tensor:
        arrays = list(self._subjects[_choose(len(self._subjects), generator)].arrays.values())
        array = arrays[_choose(len(arrays), generator)]
        starts = [_choose(max(length - self._side, 0) + 1, generator) for length in array.shape]
        cut = array[tuple(slice(start, start + self._side) for start in starts)]
        patch = torch.from_numpy(cut.astype(np.float32))[None]
        missing = [self._side - length for length in reversed(patch.shape[1:])]
        patch = F.pad(patch, [each for length in missing for each in (0, length)], value=BACKGROUND)
        axes = [axis for axis in (1, 2, 3) if uniform(generator, 0, 1) < self._flip]
        return changed(patch.flip(axes), self._strength, generator)


def changed(volume: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Change the intensities of a volume (1, I, J, K) in [-1, 1] as another scanner would."""
    return contrast((volume + 1) / 2, strength, generator).clamp(0, 1) * 2 - 1


def _choose(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def padded(array: NDArray[np.float16], multiple: int) -> Tensor:
    """Return a volume as (1, 1, I, J, K) float32, padded with background on both sides to multiples."""
    volume = torch.from_numpy(array.astype(np.float32))[None, None]
    pads: list[int] = []
    for length in reversed(array.shape):
        more = -length % multiple
        pads += [more // 2, more - more // 2]
    return F.pad(volume, pads, value=BACKGROUND)
