"""Proof of compatibility: the outputs of the authors' networks and sampler, recorded from their code.

`tests/data/syndiff_*.npz` hold what the authors' code gave with pseudo-random weights (see tests/golden_weights.py);
the files are copies of the developers' `../shared/goldens`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_weights import Replay, fill_all
from torch import Tensor

from imputer.diffusion.adversarial import sample
from imputer.diffusion.schedule import Schedule
from imputer.nets.ncsnpp import NCSNpp
from imputer.pretrained.load import load_generator
from imputer.pretrained.official_syndiff import infer_config

DATA = Path(__file__).parent / "data"
TOLERANCE = 1e-5


@pytest.fixture(params=["tiny", "six"])
def golden(request: pytest.FixtureRequest) -> tuple[NCSNpp, dict[str, Tensor], dict[str, Any]]:
    case = json.loads((DATA / f"syndiff_{request.param}.json").read_text())
    weights = fill_all(case["state"])
    generator = NCSNpp(infer_config(weights, "golden")).eval()
    generator.load_state_dict(weights)
    with np.load(DATA / f"syndiff_{request.param}.npz") as arrays:
        recorded = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return generator, recorded, case["config"]


def test_network_and_sampler_reproduce_the_authors_outputs(golden: tuple[NCSNpp, dict[str, Tensor], Any]) -> None:
    generator, recorded, _ = golden
    latents = iter(recorded["latents"])
    outputs: list[Tensor] = []
    states: list[Tensor] = []

    def denoise(x_t: Tensor, t: int) -> Tensor:
        states.append(x_t)
        steps = torch.full((len(x_t),), t)
        outputs.append(generator(torch.cat([x_t, recorded["source"]], dim=1), steps, next(latents)))
        return outputs[-1][:, :1]

    with torch.inference_mode():
        result = sample(denoise, recorded["x_T"], Schedule(), Replay(recorded["noises"]))
    assert (torch.stack(outputs) - recorded["generator_outputs"]).abs().max() < TOLERANCE
    assert (torch.stack([*states[1:], result]) - recorded["x_after_step"]).abs().max() < TOLERANCE


def test_schedule_tables_are_the_authors(golden: tuple[NCSNpp, dict[str, Tensor], Any]) -> None:
    _, recorded, _ = golden
    schedule = Schedule()
    pairs = {
        "betas": schedule.betas,
        "alphas_cumprod": schedule.alpha_bars,
        "posterior_mean_coef1": schedule.posterior_x0,
        "posterior_mean_coef2": schedule.posterior_xt,
        "posterior_variance": schedule.posterior_std**2,
    }
    for name, ours in pairs.items():
        np.testing.assert_allclose(ours, recorded[name].numpy(), atol=1e-6, err_msg=name)


def test_configuration_is_inferred_from_the_shapes(golden: tuple[NCSNpp, dict[str, Tensor], dict[str, Any]]) -> None:
    generator, _, theirs = golden
    ours = generator.config
    levels = range(len(theirs["ch_mult"]))
    assert ours.width == theirs["num_channels_dae"]
    assert list(ours.channel_multipliers) == theirs["ch_mult"]
    assert ours.blocks_per_level == theirs["num_res_blocks"]
    assert (ours.latent_size, ours.latent_width) == (theirs["nz"], theirs["z_emb_dim"])
    at = tuple(level for level in levels if theirs["image_size"] >> level in theirs["attn_resolutions"])
    assert ours.attention_levels == at


def test_released_configuration_has_the_released_size() -> None:
    """39.7 M parameters in 548 tensors."""
    from imputer.nets.ncsnpp import NCSNppConfig

    with torch.device("meta"):
        state = NCSNpp(NCSNppConfig()).state_dict()
    assert len(state) == 548
    assert round(sum(tensor.numel() for tensor in state.values()) / 1e5) == 397
    assert infer_config(state, "released") == NCSNppConfig()


def test_bare_generator_of_the_authors_file_gives_the_recorded_output() -> None:
    generator = load_generator(DATA / "syndiff_tiny.pth")
    with np.load(DATA / "syndiff_tiny.npz") as arrays:
        x = torch.from_numpy(np.concatenate([arrays["x_T"], arrays["source"]], axis=1))
        with torch.inference_mode():
            out = generator(x, torch.full((len(x),), 3), torch.from_numpy(arrays["latents"][0]))
        assert np.abs(out.numpy() - arrays["generator_outputs"][0]).max() < TOLERANCE


@pytest.mark.gpu
def test_cuda_agrees_with_the_recorded_output() -> None:
    generator = load_generator(DATA / "syndiff_tiny.pth").cuda()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with np.load(DATA / "syndiff_tiny.npz") as arrays:
        x = torch.from_numpy(np.concatenate([arrays["x_T"], arrays["source"]], axis=1)).cuda()
        with torch.inference_mode():
            out = generator(x, torch.full((len(x),), 3).cuda(), torch.from_numpy(arrays["latents"][0]).cuda())
        assert np.abs(out.cpu().numpy() - arrays["generator_outputs"][0]).max() < 1e-4
