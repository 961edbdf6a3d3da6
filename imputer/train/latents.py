"""Latents of the training subjects, made once by the frozen first stage; pairs of them are drawn in every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from imputer.errors import InputError
from imputer.nets.aldm import AutoencoderModel
from imputer.seeds import derive_seed
from imputer.train.augment import Strength
from imputer.train.subjects import Contrasts, changed, padded

LEFT_RIGHT = 2  # axis of a volume (1, 1, I, J, K) in RAS order that runs from left to right


@dataclass(frozen=True)
class LatentPair:
    """Latents (B, C, i, j, k) of source and target, and the class numbers (B,) of both."""

    source: Tensor
    target: Tensor
    source_class: Tensor
    target_class: Tensor


@dataclass(frozen=True)
class SubjectLatents:
    """Latents (C, I, J, K) of one mirroring of a subject, by class: as they are, and with other intensities."""

    plain: dict[int, Tensor]
    changed: dict[int, list[Tensor]]


class LatentBank:
    """Draws cubes of latents of two contrasts of one subject.

    Parameters
    ----------
    latents : of every subject with two contrasts or more, and of every mirroring.
    crop : side of the cubes; an axis that is shorter in some subject is cut to its length everywhere.
    multiple : the sides are multiples of this.
    """

    def __init__(self, latents: Sequence[SubjectLatents], crop: int, multiple: int) -> None:
        self._latents = list(latents)
        if not self._latents:
            raise InputError("No subject has two contrasts.", remedy="Translation is learnt from pairs.")
        shapes = [next(iter(each.plain.values())).shape[1:] for each in self._latents]
        self._size = [min(crop, *lengths) // multiple * multiple for lengths in zip(*shapes, strict=True)]

    def batch(self, count: int, generator: Generator) -> LatentPair:
        """Draw `count` pairs: subject, two contrasts, version of the source's intensities, place."""
        drawn = [self._draw(generator) for _ in range(count)]
        sources, targets, source_classes, target_classes = zip(*drawn, strict=True)
        return LatentPair(
            torch.stack(sources), torch.stack(targets), torch.tensor(source_classes), torch.tensor(target_classes)
        )

    def _draw(self, generator: Generator) -> tuple[Tensor, Tensor, int, int]:
        def choose(below: int) -> int:
            return int(torch.randint(below, (), generator=generator))

        latents = self._latents[choose(len(self._latents))]
        classes = sorted(latents.plain)
        source = classes.pop(choose(len(classes)))
        target = classes[choose(len(classes))]
        versions = [latents.plain[source], *latents.changed[source]]
        z_source, z_target = versions[choose(len(versions))], latents.plain[target]
        starts = [choose(length - side + 1) for length, side in zip(z_target.shape[1:], self._size, strict=True)]
        place = (slice(None), *(slice(start, start + side) for start, side in zip(starts, self._size, strict=True)))
        return z_source[place], z_target[place], source, target


@torch.no_grad()
def encode_subjects(
    model: AutoencoderModel,
    subjects: Sequence[Contrasts],
    *,
    multiple: int,
    variants: int,
    strength: Strength,
    seed: int,
) -> Iterator[SubjectLatents]:
    """Yield the quantised latents of each subject with two contrasts, as it lies and mirrored left to right.

    Parameters
    ----------
    model : its encoder is on its device.
    multiple : volumes are padded to multiples of this.
    variants : versions of each contrast with other intensities.
    strength : how far these are changed.
    seed : of the changes.
    """
    device = next(model.parameters()).device
    for subject in subjects:
        if len(subject.arrays) < 2:
            continue
        generator = torch.Generator("cpu").manual_seed(derive_seed(seed, "latents", subject.name))
        volumes = {index: padded(array, multiple) for index, array in subject.arrays.items()}
        versions = {
            index: [volume, *(changed(volume[0], strength, generator)[None] for _ in range(variants))]
            for index, volume in volumes.items()
        }
        for mirrored in (False, True):
            latents = {
                index: [_encoded(model, volume.flip(LEFT_RIGHT) if mirrored else volume, device) for volume in each]
                for index, each in versions.items()
            }
            yield SubjectLatents(
                {index: each[0] for index, each in latents.items()},
                {index: each[1:] for index, each in latents.items()},
            )


def _encoded(model: AutoencoderModel, volume: Tensor, device: torch.device) -> Tensor:
    return model.encode(volume.to(device))[0].float().cpu().clone()
