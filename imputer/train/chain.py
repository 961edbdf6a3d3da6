"""The forward and the reverse chain of adversarial diffusion in training: t and noise per row, any number of axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from imputer.diffusion.adversarial import posterior_step
from imputer.diffusion.schedule import Schedule

CLEAN_STD = 1e-4  # noise on x_0 where x_{t-1} is the clean image itself


class Chain:
    """The schedule's tables on the device of the training.

    Parameters
    ----------
    schedule : of the diffusion.
    device : where the images are.
    """

    def __init__(self, schedule: Schedule, device: torch.device) -> None:
        self.schedule = schedule
        names = ("alphas", "betas", "alpha_bars_before", "posterior_x0", "posterior_xt", "posterior_std")
        self._tables = {
            name: torch.tensor(getattr(schedule, name), dtype=torch.float32, device=device) for name in names
        }

    def _at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        return self._tables[name][t].reshape(-1, *[1] * (like.dim() - 1))

    def diffuse(self, x_0: Tensor, t: Tensor, before: Tensor, forward: Tensor) -> tuple[Tensor, Tensor]:
        """Return a pair (x_{t-1}, x_t) of the forward process of x_0 (B, ...) from two noises (Eqs. 1 and 8)."""
        share = self._at("alpha_bars_before", t, x_0)
        std = torch.sqrt(1 - share).clamp(min=CLEAN_STD)
        x_before = share.sqrt() * x_0 + std * before
        x_t = self._at("alphas", t, x_0).sqrt() * x_before + self._at("betas", t, x_0).sqrt() * forward
        return x_before, x_t

    def step_back(self, estimate: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_{t-1} from the posterior of the estimate of x_0 and x_t (Eqs. 13-14)."""
        mean = self._at("posterior_x0", t, x_t) * estimate + self._at("posterior_xt", t, x_t) * x_t
        return mean + self._at("posterior_std", t, x_t) * noise

    @torch.no_grad()
    def rollout(
        self, estimate: Callable[[Tensor, Tensor], Tensor], x_T: Tensor, wanted: Tensor, generator: Generator
    ) -> Tensor:
        """Return x_t for each row from the generator's own chain, from the noise x_T down to its t in `wanted` (B,).

        `estimate` gives x_0 of (x_t, t (B,)).
        """
        x, result = x_T, x_T.clone()
        for t in reversed(range(self.schedule.steps)):
            rows = wanted == t
            result[rows] = x[rows]
            if not bool((wanted < t).any()):
                break
            x_0 = estimate(x, torch.full_like(wanted, t))
            noise = torch.randn(x.shape, generator=generator).to(x.device)
            x = posterior_step(x_0, x, t, self.schedule, noise)
        return result
