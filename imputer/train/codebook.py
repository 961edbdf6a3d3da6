"""Entries of a codebook taken from the data."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

SAME = 0.02  # latents nearer to each other than this share of their spread count as one


def entries_of(features: Tensor, count: int, generator: Generator) -> Tensor:
    """Return `count` different latents out of features (N, C); where there are fewer, some come again.

    The background of a volume gives the same latent thousands of times, so that a plain draw would be full of it.
    """
    grid = SAME * features.std().clamp(min=1e-6)
    _, cells = torch.unique(torch.round(features / grid), dim=0, return_inverse=True)
    first = torch.full((int(cells.max()) + 1,), len(features), dtype=torch.int64, device=features.device)
    first.scatter_reduce_(0, cells, torch.arange(len(features), device=features.device), "amin")
    order = torch.randperm(len(first), generator=generator).to(features.device)
    picks = first[order[torch.arange(count, device=features.device) % len(order)]]
    return features[picks]
