"""Losses against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from imputer.train.losses import Critic, fake_loss, real_loss, structure_loss


def test_the_penalty_is_the_squared_norm_of_the_analytic_gradient() -> None:
    """D(x) = w . x + |x|^2 / 2 has the gradient w + x."""
    generator = torch.Generator().manual_seed(0)

    class Quadratic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.randn((1, 2, 3), generator=generator))

        def forward(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
            return factor * (self.w * x + x.square() / 2).sum(dim=(1, 2, 3))

    network = Quadratic()
    x = torch.randn((4, 1, 2, 3), generator=generator)
    logits, penalty = Critic(network)(x, torch.ones(4), gamma=0.8)
    gradient = (network.w + x).detach()
    assert torch.allclose(logits, network(x, torch.ones(4)))
    assert torch.allclose(penalty, 0.4 * gradient.square().sum(dim=(1, 2, 3)).mean())
    (slope,) = torch.autograd.grad(penalty, network.w)  # the discriminator learns from it
    assert torch.allclose(slope, 0.8 * gradient.mean(dim=0))
    assert float(Critic(network)(x, torch.ones(4))[1]) == 0


def test_an_undecided_discriminator_costs_log_two() -> None:
    for loss in (real_loss, fake_loss):
        assert float(loss(torch.zeros(3, 1, 2, 2))) == pytest.approx(math.log(2))


def test_a_discriminator_that_is_right_costs_nothing_and_one_that_is_wrong_its_logit() -> None:
    sure = torch.full((2,), 30.0)
    assert float(real_loss(sure)) == pytest.approx(0, abs=1e-6)
    assert float(fake_loss(-sure)) == pytest.approx(0, abs=1e-6)
    assert float(real_loss(-sure)) == pytest.approx(30)
    assert float(fake_loss(sure)) == pytest.approx(30)


def test_the_structure_loss_is_one_minus_the_metric() -> None:
    from skimage.metrics import structural_similarity

    generator = torch.Generator().manual_seed(1)
    target = torch.rand((1, 1, 24, 20), generator=generator) * 0.6
    estimate = (target + 0.05 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    peak = float(target.max())
    images = [(x / peak)[0, 0].double().numpy() for x in (target, estimate)]
    expected = structural_similarity(*images, data_range=1.0, use_sample_covariance=False)
    assert float(structure_loss(estimate * 2 - 1, target * 2 - 1)) == pytest.approx(1 - expected, abs=1e-5)
    assert float(structure_loss(target, target)) == pytest.approx(0, abs=1e-6)
