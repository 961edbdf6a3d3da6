"""Variance-preserving schedule of the few-step adversarial diffusion of SynDiff.

The continuous process is sampled at n + 1 instants; the tables hold what the n large steps between them need. Where the
paper's Eqs. 10 and 14 are misprinted, the formulas here are those that the released checkpoints were trained with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_STEPS = 10_000
LARGEST_BETA = 1e3  # far more noise than makes any image unrecognisable
FIRST_INSTANT = 1e-3  # tau_0: the process does not start at exactly 0


@dataclass(frozen=True)
class Schedule:
    """Tables by step index t = 0..n-1 (0 = the last reverse step), float64, shape (n,).

    Parameters
    ----------
    steps : number n of reverse steps.
    beta_min, beta_max : noise rates of the variance-preserving process at its start and end.
    """

    steps: int = 4
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        """ValueError where the numbers make no tables: they may come from a foreign file."""
        if type(self.steps) is not int or not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps is not within 1 to {MOST_STEPS}")
        if not 0 < self.beta_min <= self.beta_max < LARGEST_BETA:
            raise ValueError(f"beta_min and beta_max are not above 0 and below {LARGEST_BETA:g}")

    @cached_property
    def betas(self) -> NDArray[np.float64]:
        """beta_t = 1 - abar(tau_{t+1}) / abar(tau_t)."""
        tau = np.arange(self.steps + 1) / self.steps * (1 - FIRST_INSTANT) + FIRST_INSTANT
        abar = np.exp(-0.5 * tau**2 * (self.beta_max - self.beta_min) - tau * self.beta_min)
        betas: NDArray[np.float64] = np.asarray(1 - abar[1:] / abar[:-1], dtype=np.float64)
        return betas

    @cached_property
    def alphas(self) -> NDArray[np.float64]:
        """a_t = 1 - beta_t."""
        return 1 - self.betas

    @cached_property
    def alpha_bars(self) -> NDArray[np.float64]:
        """A_t = a_0 ... a_t: the share of x_0's variance that is left in x_{t+1}."""
        return np.asarray(np.cumprod(self.alphas), dtype=np.float64)

    @cached_property
    def alpha_bars_before(self) -> NDArray[np.float64]:
        """A_{t-1}, with A_{-1} = 1: the clean image."""
        return np.append(np.ones(1), self.alpha_bars[:-1])

    @cached_property
    def posterior_x0(self) -> NDArray[np.float64]:
        """Weight of x_0 in the posterior mean: sqrt(A_{t-1}) beta_t / (1 - A_t)."""
        return np.sqrt(self.alpha_bars_before) * self.betas / (1 - self.alpha_bars)

    @cached_property
    def posterior_xt(self) -> NDArray[np.float64]:
        """Weight of x_t in the posterior mean: sqrt(a_t) (1 - A_{t-1}) / (1 - A_t)."""
        return np.sqrt(self.alphas) * (1 - self.alpha_bars_before) / (1 - self.alpha_bars)

    @cached_property
    def posterior_std(self) -> NDArray[np.float64]:
        """Standard deviation of the posterior: sqrt(beta_t (1 - A_{t-1}) / (1 - A_t)); 0 at t = 0."""
        return np.sqrt(self.betas * (1 - self.alpha_bars_before) / (1 - self.alpha_bars))

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `Schedule(**fields)` rebuilds it."""
        return asdict(self)
