"""Networks in training: each with its optimiser and, where it is shipped, its averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from imputer.errors import ImputerError
from imputer.train.ema import MovingAverage

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ASTRAY = "Train into a new folder with lower learning rates (--set), or in 32-true."
Losses = dict[str, Tensor]
BETAS = (0.5, 0.9)  # of Adam


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in float16, as they are shipped; ImputerError where that does not hold them."""
    halves = {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in halves.values()):
        raise ImputerError("The training went astray: its weights are no numbers any more.", remedy=ASTRAY)
    return halves


class Parts:
    """The networks of a trainer by name.

    Parameters
    ----------
    fabric : device, precision and distribution.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.plain: dict[str, nn.Module] = {}
        self.averages: dict[str, MovingAverage] = {}
        self._optimisers: dict[str, torch.optim.Optimizer] = {}
        self._rates: dict[str, float] = {}

    def add(self, name: str, network: nn.Module, *, rate: float, ema: float | None = None) -> nn.Module:
        """Hand a network with a fresh Adam to the engine and return it wrapped; `ema` also averages its weights."""
        optimiser = torch.optim.Adam(network.parameters(), lr=rate, betas=BETAS)
        self.plain[name], self._rates[name] = network, rate
        if ema is not None:
            self.averages[name] = MovingAverage(network.to(self._fabric.device), ema)
        wrapped, handed = self._fabric.setup(network, optimiser)
        self._optimisers[name] = handed
        module: nn.Module = wrapped
        return module

    def set_rates(self, number: int, *, steps: int, final: float, warmup: int) -> None:
        """Set every learning rate for a step: cosine from the full one to `final`, after a linear warm-up."""
        warm = min(1.0, (number + 1) / warmup) if warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * number / max(steps, 1)))
        for name, optimiser in self._optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = (final + (self._rates[name] - final) * fall) * warm

    def update(self, names: Iterable[str], loss: Tensor) -> None:
        """Take one step of the named networks down the loss. ImputerError where it is not finite."""
        if not torch.isfinite(loss):
            raise ImputerError("The training went astray: its loss is no number any more.", remedy=ASTRAY)
        optimisers = [self._optimisers[name] for name in names]
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        for optimiser in optimisers:
            optimiser.step()

    def average(self) -> None:
        """Let the averaged weights follow."""
        for name, average in self.averages.items():
            average.update(self.plain[name])

    def state(self) -> dict[str, Any]:
        """Return weights, averages and optimiser states by network."""
        return {
            "networks": {name: network.state_dict() for name, network in self.plain.items()},
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "precision": self._fabric.strategy.precision.state_dict(),  # the scale of float16's losses
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        for name, network in self.plain.items():
            network.load_state_dict(state["networks"][name])
        for name, average in self.averages.items():
            average.load_state_dict(state["averages"][name])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self._fabric.strategy.precision.load_state_dict(state["precision"])
