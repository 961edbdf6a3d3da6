"""The schedule: its formulas, evaluated by another way, and what they must do at the ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imputer.diffusion.schedule import Schedule


def abar(tau: float, low: float = 0.1, high: float = 20.0) -> float:
    return math.exp(-0.5 * tau**2 * (high - low) - tau * low)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_share_of_the_image_that_is_left_follows_the_process(steps: int) -> None:
    schedule = Schedule(steps)
    for t in range(steps):
        tau = (t + 1) / steps * 0.999 + 0.001
        assert schedule.alpha_bars[t] == pytest.approx(abar(tau) / abar(0.001))
    assert schedule.alpha_bars[-1] < 1e-4  # nothing but noise at the start of the reverse process


def test_posterior_is_bayes_rule() -> None:
    """Of x_{t-1} given x_t and x_0, both Gaussian: the product of two normal densities."""
    schedule = Schedule()
    x_0, x_t = 0.7, -0.4
    for t in range(1, schedule.steps):
        prior_mean, prior_variance = math.sqrt(schedule.alpha_bars[t - 1]) * x_0, 1 - schedule.alpha_bars[t - 1]
        a, beta = schedule.alphas[t], schedule.betas[t]
        precision = 1 / prior_variance + a / beta
        mean = (prior_mean / prior_variance + math.sqrt(a) * x_t / beta) / precision
        assert schedule.posterior_x0[t] * x_0 + schedule.posterior_xt[t] * x_t == pytest.approx(mean)
        assert schedule.posterior_std[t] ** 2 == pytest.approx(1 / precision)


def test_last_step_returns_the_estimate_itself() -> None:
    schedule = Schedule()
    assert schedule.posterior_x0[0] == pytest.approx(1, abs=1e-15)
    assert schedule.posterior_xt[0] == schedule.posterior_std[0] == 0


def test_tables_have_one_entry_a_step() -> None:
    for name in ("betas", "alphas", "alpha_bars", "alpha_bars_before", "posterior_x0", "posterior_xt", "posterior_std"):
        table = getattr(Schedule(6), name)
        assert table.shape == (6,) and table.dtype == np.float64 and np.isfinite(table).all()


def test_json_rebuilds_the_schedule() -> None:
    schedule = Schedule(8, 0.2, 15.0)
    assert Schedule(**schedule.to_json()) == schedule
