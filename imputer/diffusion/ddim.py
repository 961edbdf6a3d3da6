"""DDIM sampling of latents with a network that predicts the noise (ALDM, section 3.2; Song et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imputer.diffusion.adversarial import Noise

FEWEST, MOST = 2, 500  # reverse steps


@dataclass(frozen=True)
class LinearSchedule:
    """The scaled-linear schedule of ALDM: sqrt(beta) rises linearly over `times` instants.

    Parameters
    ----------
    times : number of instants that the network was trained on.
    beta_start, beta_end : first and last beta.
    """

    times: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0195

    def __post_init__(self) -> None:
        """ValueError where the numbers make no tables: they may come from a foreign file."""
        if type(self.times) is not int or not 4 <= self.times <= 10_000:
            raise ValueError("times is not within 4 to 10000")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError("beta_start and beta_end are not within 0 to 1")

    @cached_property
    def alpha_bars(self) -> NDArray[np.float64]:
        """abar_t = product of 1 - beta up to t, float64, (times,)."""
        betas = np.linspace(np.sqrt(self.beta_start), np.sqrt(self.beta_end), self.times, dtype=np.float64) ** 2
        return np.asarray(np.cumprod(1 - betas), dtype=np.float64)

    def ddim_times(self, steps: int) -> NDArray[np.int64]:
        """Return the times of so many steps, ascending: 1, 1 + times/steps, ...; ValueError unless they divide them."""
        if not FEWEST <= steps <= min(MOST, self.times // 2) or self.times % steps:
            raise ValueError(f"{steps} steps do not divide {self.times} times")
        return np.arange(0, self.times, self.times // steps, dtype=np.int64) + 1

    def possible_steps(self) -> list[int]:
        """Return all numbers of steps that `ddim_times` takes."""
        return [steps for steps in range(FEWEST, min(MOST, self.times // 2) + 1) if self.times % steps == 0]

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `LinearSchedule(**fields)` rebuilds it."""
        return asdict(self)


def sample_ddim(
    predict_noise: Callable[[Tensor, int], Tensor],
    x_T: Tensor,
    schedule: LinearSchedule,
    noise: Noise,
    *,
    steps: int,
    eta: float = 1.0,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Run the reverse process from x_T ~ N(0, I), (B, C, I, J, K), to the clean latent.

    Parameters
    ----------
    predict_noise : predicts eps from (x, t); called once a step, from the largest time down.
    noise : gives the fresh noise of each step where eta is above 0.
    steps : number of reverse steps, a divisor of the schedule's times.
    eta : 0 deterministic, 1 as noisy as the released sampler.
    on_step : called with t after each step.
    """
    x = x_T
    times = schedule.ddim_times(steps)
    for number in reversed(range(steps)):
        t = int(times[number])
        here = float(schedule.alpha_bars[t])
        before = float(schedule.alpha_bars[times[number - 1] if number else 0])  # abar[0], not 1, ends the chain
        sigma = eta * float(np.sqrt((1 - before) / (1 - here) * (1 - here / before)))
        eps = predict_noise(x, t)
        x_0 = (x - float(np.sqrt(1 - here)) * eps) / float(np.sqrt(here))
        x = float(np.sqrt(before)) * x_0 + float(np.sqrt(1 - before - sigma**2)) * eps
        if sigma > 0:
            x = x + sigma * noise.normal(*x.shape[1:])
        if on_step is not None:
            on_step(t)
    return x
