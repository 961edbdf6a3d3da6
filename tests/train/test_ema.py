"""The moving average: formula, start, and an exact way through a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imputer.train.ema import MovingAverage


def set_weight(module: nn.Linear, value: float) -> nn.Linear:
    with torch.no_grad():
        module.weight.fill_(value)
    return module


def test_the_average_follows_the_decay_after_a_quick_start() -> None:
    module = set_weight(nn.Linear(1, 1), 0.0)
    average = MovingAverage(module, decay=0.3)
    expected = 0.0
    for step in range(1, 12):
        average.update(set_weight(module, float(step)))
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert float(average.tensors["weight"]) == pytest.approx(expected, rel=1e-6)


def test_the_average_is_no_view_of_the_weights() -> None:
    module = set_weight(nn.Linear(1, 1), 1.0)
    average = MovingAverage(module, decay=0.9)
    set_weight(module, 5.0)
    assert float(average.tensors["weight"]) == 1.0


def test_it_is_float32_whatever_the_network_is() -> None:
    module = nn.Linear(2, 2).bfloat16()
    average = MovingAverage(module, decay=0.9)
    average.update(module)
    assert {tensor.dtype for tensor in average.tensors.values()} == {torch.float32}


def test_a_restored_average_goes_on_exactly() -> None:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    average = MovingAverage(module, decay=0.99)
    average.update(set_weight(module, 0.3))
    restored = MovingAverage(nn.Linear(3, 2), decay=0.99)
    restored.load_state_dict(average.state_dict())
    for each in (average, restored):
        each.update(set_weight(module, 0.7))
    assert all(torch.equal(average.tensors[name], restored.tensors[name]) for name in average.tensors)
