"""Losses of adversarial diffusion (SynDiff, section III-C)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def real_loss(logits: Tensor) -> Tensor:
    """Non-saturating loss of logits that should say real: mean softplus(-D)."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Tensor) -> Tensor:
    """Loss of logits that should say synthetic: mean softplus(D)."""
    return F.softplus(logits).mean()


def structure_loss(estimate: Tensor, target: Tensor, *, stride: int = 1, least_peak: float = 1e-3) -> Tensor:
    """1 - SSIM of images (B, 1, H, W) or volumes (B, 1, I, J, K) in [-1, 1], in windows of 7 along each axis.

    Wang et al., IEEE TIP 2004, with the constants 0.01 and 0.03. It asks for the target's local contrast, which L1
    alone blurs away where the source leaves doubt; the metric of the reports is the same function.

    Parameters
    ----------
    stride : of the windows; above 1 some are left out.
    least_peak : the range is the target's own maximum in [0, 1], and this at least: empty targets have none.
    """
    pool = F.avg_pool2d if target.dim() == 4 else F.avg_pool3d
    peak = ((target + 1) / 2).amax(dim=tuple(range(1, target.dim())), keepdim=True).clamp(min=least_peak)
    x, y = (estimate + 1) / 2 / peak, (target + 1) / 2 / peak

    def mean(image: Tensor) -> Tensor:
        averaged: Tensor = pool(image, kernel_size=7, stride=stride)
        return averaged

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    return 1 - (likeness / ((mean_x**2 + mean_y**2 + 1e-4) * (variance_x + variance_y + 9e-4))).mean()


class Critic(nn.Module):
    """A discriminator that also gives its gradient penalty, within one call.

    Mixed precision hooks what a network returns, and lets no gradient but the training's own through the hook.

    Parameters
    ----------
    network : discriminator, called with what it judges and its conditions.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *conditions: Tensor, gamma: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return logits and the R1 penalty, 0 where gamma is 0.

        R1 is gamma/2 times the batch mean of the squared norm of dD/dx (Eq. 12); it keeps the graph for the backward
        pass.
        """
        if gamma == 0:
            return self.network(x, *conditions).float(), x.new_zeros(())
        with torch.autocast(x.device.type, enabled=False):  # second derivatives are too coarse in half precision
            x = x.detach().float().requires_grad_()
            exact = [each.float() if each.is_floating_point() else each for each in conditions]
            logits = self.network(x, *exact)
            (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
            return logits, 0.5 * gamma * gradient.flatten(1).square().sum(dim=1).mean()
