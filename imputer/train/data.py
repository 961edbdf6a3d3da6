"""Training data: folders of NIfTI become stacks of slices; a batch is a function of the step alone.

Nothing is remembered between steps: which slices, which augmentation and which noise a step sees follows from the run's
seed and the step's number, so a resumed run goes on exactly as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from imputer.errors import InputError, UsageError
from imputer.io.dispatch import READ, load, peek
from imputer.io.names import key_of, without_modality
from imputer.methods.slices import slices_with_head
from imputer.modality import Modality, guess_modality
from imputer.preprocess.box import BACKGROUND
from imputer.preprocess.orient import Orient
from imputer.preprocess.recipe import Recipe
from imputer.preprocess.regrid import regrid
from imputer.seeds import derive_seed
from imputer.train import augment
from imputer.train.register import alignment
from imputer.train.tilt import draw
from imputer.volume import Volume


@dataclass(frozen=True)
class Case:
    """One patient's volumes: where they lie; either may be missing in unpaired data, and any of several sources.

    `others` are the sources that enter together with the first one.
    """

    name: str
    source: Path | None
    target: Path | None
    others: tuple[Path | None, ...] = ()

    @property
    def sources(self) -> tuple[Path | None, ...]:
        """All sources, in the order of their channels."""
        return self.source, *self.others

    @property
    def is_whole(self) -> bool:
        """Whether the target is there and at least one source."""
        return self.target is not None and any(self.sources)


@dataclass(frozen=True)
class Stack:
    """Slices of one volume, (S, 1, H, W) float16 in [-1, 1]; in paired data also the other contrast.

    Of N sources `slices` is (S, N, H, W); `present` tells which of them the case has, the others are background.
    """

    name: str
    slices: NDArray[np.float16]
    partner: NDArray[np.float16] | None = None
    present: tuple[bool, ...] = (True,)

    def of_source(self, number: int) -> Stack:
        """The same with one source of several alone."""
        return replace(self, slices=self.slices[:, number : number + 1], present=(self.present[number],))


def find_cases(
    source_dir: Path,
    target_dir: Path,
    source: Modality,
    target: Modality,
    *,
    others: Sequence[tuple[Path, Modality]] = (),
    exclude: Sequence[str] = (),
) -> list[Case]:
    """Match the volumes of two folders by relative path and name without the modality; sorted by name.

    `others` are folders and modalities of sources that enter together with the first one. Raises InputError where a
    folder is missing or holds no volume of its modality.
    """
    found: dict[str, dict[Modality, Path]] = {}
    for folder, modality in ((source_dir, source), *others, (target_dir, target)):
        paths = list(_volumes(folder, modality))
        if not paths:
            raise InputError(f"Folder {folder.name} holds no {modality} volume.", remedy="NIfTI files are expected.")
        for path in paths:
            volumes = found.setdefault(case_name(path, folder), {})
            if modality in volumes:
                both = f"{volumes[modality].name} and {path.name}"
                raise InputError(f"Two files are the same {modality} of one case: {both}.", remedy="Remove one.")
            volumes[modality] = path
    cases = [
        Case(name, paths.get(source), paths.get(target), tuple(paths.get(other) for _, other in others))
        for name, paths in sorted(found.items())
    ]
    for volumes in found.values():
        mixed = [str(modality) for modality, path in volumes.items() if list(volumes.values()).count(path) > 1]
        if mixed:
            raise InputError(
                f"The names in folder {source_dir.name} do not tell {' from '.join(mixed)}.",
                remedy="Put the modality into the names, or use two folders.",
            )
    return [case for case in cases if not matches(case.name, exclude)]


def matches(name: str, texts: Iterable[str]) -> bool:
    """Tell whether a case name contains one of the texts."""
    return any(text in name for text in texts)


def _volumes(folder: Path, modality: Modality) -> Iterable[Path]:
    """Yield the folder's volumes of a modality; files whose names tell no modality count when none does."""
    paths = volumes_below(folder)
    guesses = {path: guess_modality(path) for path in paths}
    named = [path for path in paths if guesses[path] == modality]
    return named or [path for path in paths if guesses[path] is None]


class Named(Protocol):
    """What has a name to be held out by: a case, a subject."""

    @property
    def name(self) -> str:
        """The name."""
        ...


Anyone = TypeVar("Anyone", bound=Named)


def held_apart(cases: Sequence[Anyone], texts: Sequence[str]) -> tuple[list[Anyone], list[Anyone]]:
    """Divide cases into those to train on and those whose name contains one of the texts.

    Raises UsageError for a text that holds nobody out: a slip of the pen would train on the test patient.
    """
    for text in texts:
        if not any(text in case.name for case in cases):
            raise UsageError(f"No case has {text!r} in its name.", remedy="Check --holdout.")
    training = [case for case in cases if not matches(case.name, texts)]
    return training, [case for case in cases if matches(case.name, texts)]


def volumes_below(folder: Path) -> list[Path]:
    """Return all volumes below a folder, sorted; InputError where it does not exist."""
    if not folder.is_dir():
        raise InputError(f"Folder {folder.name} does not exist.", remedy="Give a folder of NIfTI volumes.")
    return sorted(path for path in folder.rglob("*") if path.name.endswith(READ) and path.is_file())


def case_name(path: Path, folder: Path) -> str:
    """Name a case by its path below the folder, without suffixes and the words that tell the modality."""
    return str(path.relative_to(folder).parent / key_of(without_modality(path.name)))


def load_pair(case: Case, fixed: str, *, register: bool) -> tuple[Volume, Volume]:
    """Load a case's (fixed, moving) volumes, the moving one resampled to the grid of the fixed one.

    `fixed` is "source" or "target". Raises UsageError where one of the two is missing.
    """
    (source,), target = load_together(replace(case, others=()), fixed, register=register)
    assert source is not None
    return (source, target) if fixed == "source" else (target, source)


@dataclass(frozen=True)
class Together:
    """The volumes of a case as they are, and how they lie to one of them.

    Parameters
    ----------
    still : the volume whose places are those of the case.
    volumes : sources, None for one that is missing, then the target.
    ways : for each the transform from places of `still` to its own, LPS mm.
    """

    still: Volume
    volumes: list[Volume | None]
    ways: list[sitk.Transform]

    @classmethod
    def load(cls, case: Case, fixed: str, *, register: bool) -> Together:
        """Load a case; parameters and errors as those of `load_together`."""
        if not case.is_whole or case.target is None:
            raise UsageError(
                f"Case {case.name} has only one of the two contrasts.", remedy="Leave it out or train unpaired."
            )
        first = next(path for path in case.sources if path is not None)
        still_path = first if fixed == "source" else case.target
        still = load(still_path)
        paths = (*case.sources, case.target)
        volumes = [None if path is None else still if path == still_path else load(path) for path in paths]
        ways = [
            alignment(still if volume is None else volume, still, search=register and volume not in (None, still))
            for volume in volumes
        ]
        return cls(still, volumes, ways)

    def on_grid(self, *, smooth: bool) -> list[Volume | None]:
        """Return the volumes on the grid of `still`; see `regrid` for `smooth`, which spares the target."""
        last = len(self.volumes) - 1
        return [
            volume if volume is None or volume is self.still
            else regrid(volume, self.still, way, smooth=smooth and number != last)
            for number, (volume, way) in enumerate(zip(self.volumes, self.ways, strict=True))
        ]  # fmt: skip


def load_together(case: Case, fixed: str, *, register: bool) -> tuple[list[Volume | None], Volume]:
    """Load a case's sources, None for one that is missing, and its target, all on one grid.

    `fixed` is "source", for the grid of the first source that is there, or "target". Raises UsageError where there is
    no source or no target, InputError where two volumes cannot be aligned.
    """
    # As in synthesis, where sources beside the first one are smoothed before they are resampled to larger voxels.
    return _divided(Together.load(case, fixed, register=register).on_grid(smooth=bool(case.others)))


def _divided(volumes: list[Volume | None]) -> tuple[list[Volume | None], Volume]:
    *sources, target = volumes
    assert target is not None
    return sources, target


def paired_stack(case: Case, grid: str, recipes: tuple[Recipe, Recipe], *, register: bool) -> Stack:
    """Make a case's stack on the grid of its source or target; `slices` are the source's, `partner` the target's."""
    return _stack(case.name, load_together(case, grid, register=register), recipes)


def tilted_stacks(
    case: Case, recipes: tuple[Recipe, Recipe], *, register: bool, count: int, pixel_mm: float, seed: int
) -> list[Stack]:
    """Make stacks of a case on `count` tilted grids through its warped volumes; see `imputer.train.tilt`.

    `pixel_mm` is about the size of the grids' pixels; the draws follow from `seed` and the case's name.
    """
    together = Together.load(case, "source", register=register)
    made = []
    for number in range(count):
        generator = np.random.default_rng(derive_seed(seed, "tilt", case.name, number))
        volumes = draw(together.still, pixel_mm, generator).volumes(together.volumes, together.ways)
        made.append(_stack(case.name, _divided(volumes), recipes))
    return made


def _stack(name: str, volumes: tuple[list[Volume | None], Volume], recipes: tuple[Recipe, Recipe]) -> Stack:
    sources, target = volumes
    partner, _ = recipes[1].forward(target)
    missing = np.full_like(partner, BACKGROUND)
    slices = np.concatenate([missing if each is None else recipes[0].forward(each)[0] for each in sources], axis=1)
    keep = slices_with_head(slices) & slices_with_head(partner)
    present = tuple(each is not None for each in sources)
    return Stack(name, slices[keep].astype(np.float16), partner[keep].astype(np.float16), present)


def voxel_sizes(paths: Iterable[Path]) -> dict[str, list[float]]:
    """Return least and greatest pixel and distance of axial slices of volumes, in mm: part of a model's scope."""
    spacings = [Orient().spacing(peek(path).affine) for path in paths]
    pixels = [size for across, down, _ in spacings for size in (across, down)]
    slices = [between for _, _, between in spacings]
    return {
        key: [round(min(sizes), 3), round(max(sizes), 3)] for key, sizes in (("pixel_mm", pixels), ("slice_mm", slices))
    }


def unpaired_stack(name: str, path: Path, recipe: Recipe) -> Stack:
    """Make the stack of one volume."""
    slices, _ = recipe.forward(load(path))
    return Stack(name, slices[slices_with_head(slices)].astype(np.float16))


def swapped(stack: Stack) -> Stack:
    """Exchange source and target of a paired stack."""
    assert stack.partner is not None
    return replace(stack, slices=stack.partner, partner=stack.slices)


class SliceSampler:
    """Draws batches of slices, (B, 1, H, W) float32 in [-1, 1]; volumes weigh by their number of slices.

    Of N sources the first of a pair is (B, N, H, W).

    Parameters
    ----------
    stacks : what to draw from; all paired or none.
    size : height and width of a batch.
    augmented : warp source and target together and change the source's intensities.
    balanced : volumes weigh the same instead, so that thin slices do not outnumber thick ones.
    strength : how far augmentation changes intensities.
    dropout : probability that one of several sources is left out: background instead; one of them always stays.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        size: tuple[int, int],
        *,
        augmented: bool,
        balanced: bool = False,
        strength: augment.Strength = augment.STRENGTHS["strong"],
        dropout: float = 0.0,
    ) -> None:
        self.stacks, self.size, self.augmented = [stack for stack in stacks if len(stack.slices)], size, augmented
        self._index = [(number, k) for number, stack in enumerate(self.stacks) for k in range(len(stack.slices))]
        if not self._index:
            raise InputError("No slice with content is left to train on.")
        self._balanced, self._strength, self._dropout = balanced, strength, dropout

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, count: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Draw `count` slices and, for paired stacks, their partners."""
        drawn = [self._draw(place, generator) for place in self._places(count, generator)]
        partners = [partner for _, partner in drawn if partner is not None]
        return torch.stack([source for source, _ in drawn]), torch.stack(partners) if partners else None

    def _places(self, count: int, generator: Generator) -> list[tuple[int, int]]:
        """Draw (volume, slice) of each image of a batch."""
        if not self._balanced:
            picks = torch.randint(len(self._index), (count,), generator=generator)
            return [self._index[int(pick)] for pick in picks]
        numbers = torch.randint(len(self.stacks), (count,), generator=generator).tolist()
        sizes = [len(self.stacks[number].slices) for number in numbers]
        return [
            (number, int(torch.randint(size, (), generator=generator)))
            for number, size in zip(numbers, sizes, strict=True)
        ]

    def _draw(self, place: tuple[int, int], generator: Generator) -> tuple[Tensor, Tensor | None]:
        number, k = place
        stack = self.stacks[number]
        channels = [stack.slices[k]] if stack.partner is None else [stack.slices[k], stack.partner[k]]
        both = torch.from_numpy(np.concatenate(channels).astype(np.float32))
        both = augment.spatial(both, self.size, generator) if self.augmented else augment.place(both, self.size)
        if stack.partner is None:
            return both, None
        count = len(stack.present)
        kept = self._kept(stack.present, generator)
        sources = [self._changed(both[n : n + 1], generator, kept=n in kept) for n in range(count)]
        return torch.cat(sources), both[count:]

    def _kept(self, present: tuple[bool, ...], generator: Generator) -> list[int]:
        """Draw the sources that stay, of those that the case has."""
        there = [number for number, is_there in enumerate(present) if is_there]
        if len(there) == 1 or self._dropout == 0:
            return there
        kept = [number for number in there if augment.uniform(generator, 0, 1) >= self._dropout]
        return kept or [there[int(torch.randint(len(there), (), generator=generator))]]

    def _changed(self, source: Tensor, generator: Generator, *, kept: bool) -> Tensor:
        """Change the intensities of a source (1, H, W) on its own, or leave it out."""
        if not kept:
            return torch.full_like(source, BACKGROUND)
        return augment.intensity(source, generator, self._strength) if self.augmented else source
