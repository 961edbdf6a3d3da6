"""Proof of compatibility: the outputs of the ALDM authors' networks and sampler, recorded from their code.

`tests/data/aldm_tiny.*` are copies of the developers' `../shared/goldens/aldm_tiny`; the weights are pseudo-random (see
tests/golden_weights.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import Replay, fill_all
from torch import Tensor

from imputer.diffusion.ddim import LinearSchedule, sample_ddim
from imputer.nets.latent_unet3d import LatentUNet, LatentUNetConfig
from imputer.nets.vqgan3d import FirstStage, FirstStageConfig

DATA = Path(__file__).parent / "data"
CASE = json.loads((DATA / "aldm_tiny.json").read_text())
TARGET = CASE["target_class"]
TOLERANCE = 1e-5  # of the largest value


@pytest.fixture(scope="module")
def first_stage() -> FirstStage:
    module = FirstStage(FirstStageConfig(width=32, codebook_size=64)).eval()
    module.load_state_dict(fill_all(CASE["first_stage_state"]))
    return module


@pytest.fixture(scope="module")
def unet() -> LatentUNet:
    module = LatentUNet(LatentUNetConfig(width=32)).eval()
    module.load_state_dict(fill_all(CASE["unet_state"]))
    return module


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    with np.load(DATA / "aldm_tiny.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < TOLERANCE


@torch.inference_mode()
def test_the_first_stage_gives_the_authors_latents_and_volumes(
    first_stage: FirstStage, recorded: dict[str, Tensor]
) -> None:
    assert_close(first_stage.features(recorded["source"]), recorded["pre_quant"])
    assert_close(first_stage.encode(recorded["source"]), recorded["z_source"])
    assert_close(first_stage.to_target(recorded["z_source"], TARGET), recorded["z_target_like"])
    assert_close(first_stage.decode(recorded["z_source"]), recorded["decoded_source"])
    assert_close(first_stage.decode(recorded["z_target_like"]), recorded["decoded_target_like"])


@torch.inference_mode()
def test_the_unet_predicts_the_authors_noise(unet: LatentUNet, recorded: dict[str, Tensor]) -> None:
    latents = torch.cat([recorded[name] for name in ("x_T", "z_source", "z_target_like")], dim=1)
    assert_close(unet(latents, 777, TARGET), recorded["eps_t777"])


def test_the_schedule_is_the_authors(recorded: dict[str, Tensor]) -> None:
    schedule = LinearSchedule()
    np.testing.assert_allclose(schedule.alpha_bars, recorded["alphas_cumprod"].numpy(), rtol=1e-12)
    for steps in (4, 10):
        assert schedule.ddim_times(steps).tolist() == recorded[f"ddim{steps}_eta0_timesteps"].tolist()


@pytest.mark.parametrize(("steps", "eta"), [(4, 0), (4, 1), (10, 0)])
@torch.inference_mode()
def test_ddim_gives_the_authors_samples(
    first_stage: FirstStage, unet: LatentUNet, recorded: dict[str, Tensor], steps: int, eta: int
) -> None:
    name = f"ddim{steps}_eta{eta}"

    def predict_noise(x: Tensor, t: int) -> Tensor:
        out: Tensor = unet(torch.cat([x, recorded["z_source"], recorded["z_target_like"]], dim=1), t, TARGET)
        return out

    noise = Replay(recorded.get(f"{name}_noises", torch.empty(0)))
    latent = sample_ddim(predict_noise, recorded["x_T"], LinearSchedule(), noise, steps=steps, eta=eta)
    assert_close(latent, recorded[f"{name}_latent"])
    assert_close(first_stage.decode(latent), recorded[f"{name}_image"])


def test_steps_that_do_not_divide_the_times_are_refused() -> None:
    schedule = LinearSchedule()
    assert {2, 4, 5, 10, 200, 500} <= set(schedule.possible_steps())
    for steps in (0, 1, 3, 7, 1000):
        with pytest.raises(ValueError, match="do not divide"):
            schedule.ddim_times(steps)


def test_the_released_configuration_has_the_size_of_the_released_weights() -> None:
    with torch.device("meta"):
        first, unet = FirstStage(FirstStageConfig()), LatentUNet(LatentUNetConfig())
    counts = [sum(each.numel() for each in module.parameters()) for module in (first, unet)]
    assert [round(count / 1e6) for count in counts] == [25, 33]
