"""Scores and pictures of held-out subjects after a stage of ALDM's training, on the model's voxels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imputer.methods.aldm import Aldm
from imputer.methods.base import RunOptions
from imputer.methods.latents import DDIM
from imputer.nets.aldm import AutoencoderModel
from imputer.report.metrics import paired_scores
from imputer.train.scores import report
from imputer.train.subjects import Contrasts, padded

SHORT_CHAIN = 4  # DDIM steps of the scores in training; the released 200 take minutes


@torch.inference_mode()
def score_reconstruction(model: AutoencoderModel, subjects: Sequence[Contrasts], picture: Path) -> dict[str, float]:
    """Return mean PSNR and SSIM of the autoencoder's reconstructions and write rows of volume and reconstruction."""
    device = next(model.parameters()).device
    values: list[dict[str, float]] = []
    rows: list[NDArray[np.float32]] = []
    for subject in subjects:
        for array in subject.arrays.values():
            volume = padded(array, model.size_multiple)
            again = model.decode(model.encode(volume.to(device))).cpu().clamp(-1, 1)
            values.append(_scores(volume.numpy(), again.numpy()))
            rows.append(_row([volume.numpy(), again.numpy()]))
    return report(values, rows, picture)


def score_translation(
    method: Aldm, subjects: Sequence[Contrasts], *, pairs: int, seed: int, picture: Path
) -> dict[str, float]:
    """Return mean PSNR and SSIM of up to `pairs` translations a subject; rows of source, synthetic and target.

    The method's targets are in the order of the subjects' classes; its best sampler is used, DDIM in few steps.
    """
    multiple = method.network.size_multiple
    short = {"steps": SHORT_CHAIN, "eta": 0.0} if method.default.name == DDIM else {}
    values: list[dict[str, float]] = []
    rows: list[NDArray[np.float32]] = []
    for subject in subjects:
        for source, target in list(permutations(subject.arrays, 2))[:pairs]:
            volumes = [padded(subject.arrays[index], multiple).numpy() for index in (source, target)]
            options = RunOptions(subject.name, seed, target=method.targets[target], **short)  # type: ignore[arg-type]
            synthetic = method.run(volumes[0], options)
            values.append(_scores(volumes[1], synthetic))
            rows.append(_row([volumes[0], synthetic, volumes[1]]))
    return report(values, rows, picture)


def _scores(target: NDArray[np.float32], synthetic: NDArray[np.float32]) -> dict[str, float]:
    return paired_scores(*((np.asarray(each[0, 0], dtype=np.float32) + 1) / 2 for each in (target, synthetic)))


def _row(volumes: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Middle axial and sagittal slice of volumes (1, 1, I, J, K), anterior and superior upwards."""
    views = []
    for volume in volumes:
        i, _, k = (length // 2 for length in volume.shape[2:])
        for view in (volume[0, 0, :, ::-1, k].T, volume[0, 0, i, :, ::-1].T):
            views.append(np.pad(view, ((0, max(0, volume.shape[3] - view.shape[0])), (0, 0)), constant_values=-1.0))
    return np.hstack(views)
