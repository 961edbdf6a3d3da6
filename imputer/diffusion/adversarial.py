"""Few-step reverse diffusion with a generator that estimates x_0 (SynDiff, section III-B; also DisDiff).

A sampler is a function over a denoiser: it knows neither the network nor the source image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from imputer.diffusion.schedule import Schedule


class Denoiser(Protocol):
    """Estimate x_0 (B, 1, H, W) from x_t (B, 1, H, W) and the step index t; draws its own latent."""

    def __call__(self, x_t: Tensor, t: int) -> Tensor: ...


class Noise(Protocol):
    """Source of standard normal draws, (B, *shape)."""

    def normal(self, *shape: int) -> Tensor: ...


def posterior_step(x_0: Tensor, x_t: Tensor, t: int, schedule: Schedule, noise: Tensor | None) -> Tensor:
    """Return x_{t-1} from the estimate x_0 and x_t: posterior mean plus std times noise (Eqs. 13-14).

    `noise` may be None at t = 0, where the variance is 0.
    """
    mean = float(schedule.posterior_x0[t]) * x_0 + float(schedule.posterior_xt[t]) * x_t
    return mean if noise is None else mean + float(schedule.posterior_std[t]) * noise


def sample(
    denoise: Denoiser,
    x_T: Tensor,
    schedule: Schedule,
    noise: Noise,
    on_step: Callable[[int], None] | None = None,
    *,
    stop_after: int | None = None,
) -> Tensor:
    """Run the reverse process from x_T ~ N(0, I), (B, 1, H, W), to the image, in [-1, 1] up to the generator's range.

    Parameters
    ----------
    denoise : estimates x_0 at a step; called once a step, t = n-1 .. 0.
    noise : gives the fresh noise of each step but the last.
    on_step : called with t after each step.
    stop_after : return the estimate of x_0 after so many steps; None: all n, where the last one's posterior is x_0.
    """
    x = x_T
    last = 0 if stop_after is None else schedule.steps - stop_after
    for t in reversed(range(last, schedule.steps)):
        x_0 = denoise(x, t)
        if t == last and stop_after is not None:
            x = x_0
        else:
            x = posterior_step(x_0, x, t, schedule, noise.normal(*x.shape[1:]) if t > 0 else None)
        if on_step is not None:
            on_step(t)
    return x
