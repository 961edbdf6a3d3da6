"""The goldens' recipe for pseudo-random weights: a tensor from its name alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor


class Replay:
    """Noise source that replays recorded draws (n, B, ...)."""

    def __init__(self, draws: Tensor) -> None:
        self._draws: Iterator[Tensor] = iter(draws)

    def normal(self, *shape: int) -> Tensor:
        """Return the next recorded draw."""
        draw = next(self._draws)
        assert tuple(draw.shape[1:]) == shape
        return draw


def fill(name: str, shape: Iterable[int]) -> Tensor:
    """Return the float32 tensor of a parameter."""
    shape = tuple(shape)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    noise = generator.standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        noise /= np.sqrt(max(1, int(np.prod(shape[1:]))))
    else:
        noise *= np.float32(0.1)
        if name.endswith("style.bias"):
            noise[: shape[0] // 2] += 1
        elif name.endswith("weight"):
            noise += 1
    return torch.from_numpy(np.ascontiguousarray(noise))


def fill_all(shapes: Mapping[str, Iterable[int]]) -> dict[str, Tensor]:
    """Return a whole state dictionary."""
    return {name: fill(name, shape) for name, shape in shapes.items()}
