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
from imputer.methods.slices import SliceMethod
from imputer.modality import Modality
from imputer.report.metrics import paired_scores
from imputer.train.augment import place
from imputer.train.data import Stack


@dataclass(frozen=True)
class HeldOut:
    """Slices of a case that is never trained on: source and target (S, 1, H, W) in [-1, 1] on the model's grid."""

    name: str
    source: NDArray[np.float32]
    target: NDArray[np.float32]

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
        return HeldOut(stack.name, source, target)


def score(
    model: SliceMethod, pair: tuple[Modality, Modality], cases: Sequence[HeldOut], picture: Path, *, seed: int
) -> dict[str, float]:
    """Return mean PSNR and SSIM over the cases and write rows of source, synthetic and target; `pair` is those two."""
    values: list[dict[str, float]] = []
    rows: list[NDArray[np.float32]] = []
    for case in cases:
        options = RunOptions(case=case.name, source=pair[0], target=pair[1], seed=seed)
        synthetic = model.run(case.source, options)
        values.append(paired_scores(as_volume(case.target), as_volume(synthetic)))
        middle = len(synthetic) // 2
        rows.append(np.hstack([images[middle, 0] for images in (case.source, synthetic, case.target)]))
    return report(values, rows, picture)


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
