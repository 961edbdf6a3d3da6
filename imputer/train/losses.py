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


def structure_loss(estimate: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM of images (B, 1, H, W) in [-1, 1], window 7 x 7, range: each target's own maximum.

    Wang et al., IEEE TIP 2004, with the constants 0.01 and 0.03. It asks for the target's local contrast, which L1
    alone blurs away where the source leaves doubt; the metric of the reports is the same function.
    """
    peak = ((target + 1) / 2).amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3)
    x, y = (estimate + 1) / 2 / peak, (target + 1) / 2 / peak

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, kernel_size=7, stride=1)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    return 1 - (likeness / ((mean_x**2 + mean_y**2 + 1e-4) * (variance_x + variance_y + 9e-4))).mean()


def gradient_penalty(logits: Tensor, x: Tensor, gamma: float) -> Tensor:
    """R1: gamma/2 times the batch mean of the squared norm of dD/dx (Eq. 12); keeps the graph for the backward pass."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gamma * gradient.flatten(1).square().sum(dim=1).mean()
