"""The sampler: a function over a denoiser."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imputer.diffusion.adversarial import posterior_step, sample
from imputer.diffusion.noise import SliceNoise
from imputer.diffusion.schedule import Schedule

SHAPE = (3, 1, 4, 6)


def image() -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noise() -> SliceNoise:
    return SliceNoise(0, "case", range(SHAPE[0]))


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_a_denoiser_that_knows_the_image_gives_it_back_exactly(steps: int) -> None:
    source = noise()
    result = sample(lambda x_t, t: image(), source.normal(*SHAPE[1:]), Schedule(steps), source)
    assert torch.equal(result, image())


def test_steps_come_in_order_and_are_told_after_the_denoiser() -> None:
    events: list[str] = []

    def denoise(x_t: Tensor, t: int) -> Tensor:
        events.append(f"denoise {t}")
        return x_t

    sample(denoise, image(), Schedule(3), noise(), lambda t: events.append(f"done {t}"))
    assert events == ["denoise 2", "done 2", "denoise 1", "done 1", "denoise 0", "done 0"]


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_stopping_early_returns_the_estimate_of_that_step(stop_after: int) -> None:
    estimates: list[Tensor] = []

    def denoise(x_t: Tensor, t: int) -> Tensor:
        estimates.append(0.5 * x_t + t)
        return estimates[-1]

    result = sample(denoise, image(), Schedule(), noise(), stop_after=stop_after)
    assert len(estimates) == stop_after
    assert torch.equal(result, estimates[-1])


def test_stopping_after_all_steps_is_not_stopping() -> None:
    def run(stop_after: int | None) -> Tensor:
        return sample(lambda x_t, t: torch.tanh(x_t), image(), Schedule(), noise(), stop_after=stop_after)

    assert torch.equal(run(4), run(None))


def test_each_step_is_a_draw_from_the_posterior() -> None:
    schedule, seen = Schedule(2), []

    def denoise(x_t: Tensor, t: int) -> Tensor:
        seen.append(x_t)
        return 0.5 * x_t

    sample(denoise, image(), schedule, noise())
    expected = posterior_step(0.5 * image(), image(), 1, schedule, noise().normal(*SHAPE[1:]))
    assert torch.equal(seen[1], expected)
    mean = posterior_step(0.5 * image(), image(), 1, schedule, None)
    spread = (expected - mean) / noise().normal(*SHAPE[1:])
    assert torch.allclose(spread, torch.tensor(float(schedule.posterior_std[1])), atol=1e-4)
