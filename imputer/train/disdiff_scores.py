"""What DisDiff's disentanglement is to keep to, measured during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imputer.methods.base import to_array, to_tensor
from imputer.methods.disdiff import DisDiff
from imputer.nets.disdiff import Decoder
from imputer.report.metrics import paired_scores
from imputer.train.augment import place
from imputer.train.data import Stack
from imputer.train.disdiff import agreement
from imputer.train.scores import HeldOut, as_volume

Slices = NDArray[np.float32]


@dataclass(frozen=True)
class Swapper:
    """Encoders of a model, and the decoders of training, both by modality."""

    model: DisDiff
    decoders: Mapping[str, Decoder]

    def swapped(self, x: Tensor, own: str, other: str, attribute: Tensor) -> Tensor:
        """Return images x of the modality `own` as ones of `other` with an attribute (B, size) (Eq. 9)."""
        image: Tensor = self.decoders[other](self.model.network.encode(x, own), attribute)
        return image


@torch.inference_mode()
def cycle_scores(swapper: Swapper, training: Mapping[str, Slices]) -> dict[str, float]:
    """Return `MODALITY.cycle_psnr`, dB: what swapping to the other's mean attribute and back keeps of training slices.

    Parameters
    ----------
    training : slices (S, 1, H, W) in [-1, 1] of both modalities.
    """
    network, results = swapper.model.network, {}
    for own, other in permutations(training, 2):
        x = to_tensor(training[own], swapper.model.device)
        mean = network.default_attribute(other)
        assert mean is not None
        there = swapper.swapped(x, own, other, mean.expand(len(x), -1))
        back = swapper.swapped(there, other, own, network.attribute_of(x, own))
        results[f"{own}.cycle_psnr"] = paired_scores(as_volume(training[own]), as_volume(to_array(back)))["psnr"]
    return results


@torch.inference_mode()
def content_scores(model: DisDiff, held_out: Sequence[HeldOut]) -> dict[str, float]:
    """Return how far content, of the middle slices of held-out cases, tells cases apart and contrasts not.

    `content.same` is the mean cosine of the contents of a case's two contrasts, `content.other` of those of two cases;
    what cannot be had of so few is left out.
    """
    cases = [_contents(model, case, _largest(held_out)) for case in held_out if all(case.present)]
    results = {}
    for name, pairs in (
        ("content.same", cases),
        ("content.other", [(one[0], other[1]) for one, other in permutations(cases, 2)]),
    ):
        if pairs:
            results[name] = float(torch.stack([agreement(*pair) for pair in pairs]).mean())
    return results


def _largest(cases: Sequence[HeldOut]) -> tuple[int, int]:
    """Height and width that hold the slices of all cases."""
    height, width = (max(case.source.shape[axis] for case in cases) for axis in (2, 3))
    return height, width


def _contents(model: DisDiff, case: HeldOut, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Content (1, C, h, w) of the middle slice of a case's source and target, or of its first two sources."""
    found = []
    second = case.source[:, 1:2] if model.joint else case.target
    for slices, modality in zip((case.source[:, :1], second), model.sources, strict=False):
        image = place(torch.from_numpy(slices[len(slices) // 2]), size)[None].to(model.device)
        found.append(model.network.encode(image, modality))
    return found[0], found[1]


def spread(stacks: Sequence[Stack], size: tuple[int, int], most: int) -> Slices:
    """Return up to `most` slices, evenly spread over the targets of stacks, cut or padded to one size."""
    every = [each for stack in stacks for each in (stack.slices if stack.partner is None else stack.partner)]
    picks = np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int))
    return np.stack([place(torch.from_numpy(every[k].astype(np.float32)), size).numpy() for k in picks])
