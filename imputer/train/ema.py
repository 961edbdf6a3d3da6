"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MovingAverage:
    """Holds an averaged float32 copy of a module's parameters, on the module's device."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone().float() for name, value in module.state_dict().items()}
        self._updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's weights; the decay starts at (1 + n) / (10 + n), so that the start is forgotten."""
        self._updates += 1
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        for name, value in module.state_dict().items():
            self.tensors[name].lerp_(value.float(), 1 - decay)

    def state_dict(self) -> dict[str, object]:
        """Return what `load_state_dict` needs for an exact resume."""
        return {"updates": self._updates, "tensors": self.tensors}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore the averaged tensors and the number of updates."""
        updates, tensors = state["updates"], state["tensors"]
        assert isinstance(updates, int) and isinstance(tensors, dict)
        self._updates = updates
        for name, value in tensors.items():
            assert isinstance(value, Tensor)
            self.tensors[name].copy_(value)
