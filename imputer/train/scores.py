"""Scores and pictures of held-out cases during training: a few slices a case, on the model's pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imputer.files import replacing
from imputer.methods.base import RunOptions
from imputer.methods.slices import BACKGROUND, SliceMethod
from imputer.modality import Modality
from imputer.report.metrics import paired_scores
from imputer.train.augment import place
from imputer.train.data import Stack


@dataclass(frozen=True)
class HeldOut:
    """Slices of a case that is never trained on: source and target (S, 1, H, W) in [-1, 1] on the model's grid.

    Of N sources `source` is (S, N, H, W); `present` tells which of them the case has.
    """

    name: str
    source: NDArray[np.float32]
    target: NDArray[np.float32]
    present: tuple[bool, ...] = (True,)

    @staticmethod
    def make(stack: Stack, count: int, multiple: int) -> HeldOut:
        """Take `count` evenly spaced slices of a paired stack, padded to the network's multiple."""
        assert stack.partner is not None
        picks = np.unique(np.linspace(0, len(stack.slices) - 1, count).round().astype(int))
        size = tuple(-(-length // multiple) * multiple for length in stack.slices.shape[2:])
        source, target = (
            np.stack([place(torch.from_numpy(x.astype(np.float32)), (size[0], size[1])).numpy() for x in slices[picks]])
            for slices in (stack.slices, stack.partner)
        )
        return HeldOut(stack.name, source, target, stack.present)

    def only(self, channel: int) -> NDArray[np.float32]:
        """The sources, all but one of them left out."""
        source = np.full_like(self.source, BACKGROUND)
        source[:, channel] = self.source[:, channel]
        return source


def score(
    model: SliceMethod, pair: tuple[Modality, Modality], cases: Sequence[HeldOut], picture: Path, *, seed: int
) -> dict[str, float]:
    """Return mean PSNR and SSIM over the cases and write rows of source, synthetic and target; `pair` is those two.

    Of several sources "psnr" is that of all that a case has, and "psnr.t1" that of T1 alone where cases have it.
    """
    sources = model.sources if model.joint else pair[:1]

    def scored(case: HeldOut, given: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, float]]:
        synthetic = model.run(given, RunOptions(case=case.name, source=pair[0], target=pair[1], seed=seed))
        return synthetic, paired_scores(as_volume(case.target), as_volume(synthetic))

    values: list[dict[str, float]] = []
    alone: dict[Modality, list[dict[str, float]]] = {}
    rows: list[NDArray[np.float32]] = []
    for case in cases:
        synthetic, value = scored(case, case.source)
        values.append(value)
        there = [channel for channel, is_there in enumerate(case.present) if is_there]
        for channel in there if len(sources) > 1 else ():
            own = scored(case, case.only(channel))[1] if len(there) > 1 else value
            alone.setdefault(sources[channel], []).append(own)
        middle = len(synthetic) // 2
        rows.append(np.hstack([*case.source[middle], synthetic[middle, 0], case.target[middle, 0]]))
    of_one = {f"{key}.{source}": mean for source, own in alone.items() for key, mean in _means(own).items()}
    return report(values, rows, picture) | of_one


def as_volume(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn slices (S, 1, H, W) in [-1, 1] into (I, J, K) in [0, 1]."""
    return np.asarray((stack[:, 0].transpose(2, 1, 0) + 1) / 2, dtype=np.float32)


def report(
    values: Sequence[Mapping[str, float]], rows: Sequence[NDArray[np.float32]], picture: Path
) -> dict[str, float]:
    """Return the mean PSNR and SSIM and write the rows as a picture; nothing of nothing."""
    if not values:
        return {}
    _write_picture(rows, picture)
    return _means(values)


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([value[key] for value in values])) for key in ("psnr", "ssim")}


def _write_picture(rows: Sequence[NDArray[np.float32]], path: Path) -> None:
    """Write rows of images in [-1, 1] below each other as a PNG."""
    from PIL import Image

    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1])), constant_values=-1.0) for row in rows]
    grey = (np.clip((np.vstack(padded) + 1) / 2, 0, 1) * 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, overwrite=True) as temporary:
        Image.fromarray(grey).save(temporary)
