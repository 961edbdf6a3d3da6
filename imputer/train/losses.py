"""Losses of adversarial diffusion (SynDiff, section III-C)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def real_loss(logits: Tensor) -> Tensor:
    """Non-saturating loss of logits that should say real: mean softplus(-D)."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Tensor) -> Tensor:
    """Loss of logits that should say synthetic: mean softplus(D)."""
    return F.softplus(logits).mean()


def gradient_penalty(logits: Tensor, x: Tensor, gamma: float) -> Tensor:
    """R1: gamma/2 times the batch mean of the squared norm of dD/dx (Eq. 12); keeps the graph for the backward pass."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gamma * gradient.flatten(1).square().sum(dim=1).mean()
