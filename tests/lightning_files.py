"""Checkpoints as Lightning 1.x writes them, and those of the ALDM authors' three trainings among them."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from golden_weights import fill, fill_all
from torch import Tensor

CASE = json.loads((Path(__file__).parent / "data" / "aldm_tiny.json").read_text())
CALLBACKS = "pytorch_lightning.callbacks.model_checkpoint"


@contextmanager
def lightning() -> Iterator[type]:
    """Lightning's package with one class of a callback, which pickle names and nobody has installed."""
    parts = CALLBACKS.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]
    callback = type("ModelCheckpoint", (), {"__module__": CALLBACKS})
    assert not any(name in sys.modules for name in names)
    sys.modules.update({name: ModuleType(name) for name in names})
    vars(sys.modules[CALLBACKS])["ModelCheckpoint"] = callback
    try:
        yield callback
    finally:
        for name in names:
            del sys.modules[name]


def write_checkpoint(path: Path, state: object, *, legacy: bool = False, **more: Any) -> Path:
    """Write a state dictionary with all that Lightning puts beside it."""
    adam = {"step": 5, "exp_avg": torch.zeros(3), "exp_avg_sq": torch.ones(3)}
    groups = [{"lr": 1e-5, "betas": (0.5, 0.9), "params": [0]}]
    best = {"monitor": "val/rec_loss", "best_model_score": torch.tensor(0.1), "best_model_path": "a.ckpt"}
    if isinstance(state, Mapping):
        state = OrderedDict(state)
        state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    with lightning() as callback:
        content = {
            "epoch": 3,
            "global_step": 5000,
            "pytorch-lightning_version": "1.4.2",
            "state_dict": state,
            "callbacks": {callback: best},
            "optimizer_states": [{"state": {0: adam}, "param_groups": groups}],
            "lr_schedulers": [{"last_epoch": 3, "_last_lr": [1e-5], "lr_lambdas": [None]}],
            "hparams_name": "kwargs",
            **more,
        }
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@cache
def golden(part: str) -> dict[str, Tensor]:
    """The golden's weights of a part; not to be changed."""
    return fill_all(CASE[part])


def first_stage(*, spade: bool = True) -> dict[str, Tensor]:
    """The first stage of the golden; without MS-SPADE it is that of stage 1."""
    return {key: value for key, value in golden("first_stage_state").items() if spade or "spade" not in key}


def trained_first_stage(*, spade: bool = True) -> dict[str, Tensor]:
    """The same with what its training leaves beside it."""
    loss = {"loss.discriminator.main.0.weight": torch.ones(4, 1, 4, 4, 4), "loss.logvar": torch.zeros(())}
    return {**first_stage(spade=spade), **loss}


def latent_diffusion(*, average: bool = True) -> dict[str, Tensor]:
    """The whole of ALDM: the golden's UNet is the running average, or the raw one where there is no average."""
    unet = golden("unet_state")
    state = {name: torch.full((1000,), 0.5) for name in ("betas", "alphas_cumprod", "sqrt_recipm1_alphas_cumprod")}
    if average:
        state |= {f"model.diffusion_model.{key}": fill(f"raw.{key}", value.shape) for key, value in unet.items()}
        state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5000, dtype=torch.int)}
        state |= {"model_ema." + f"diffusion_model.{key}".replace(".", ""): value for key, value in unet.items()}
    else:
        state |= {f"model.diffusion_model.{key}": value for key, value in unet.items()}
    return state | {f"first_stage_model.{key}": value for key, value in trained_first_stage().items()}
