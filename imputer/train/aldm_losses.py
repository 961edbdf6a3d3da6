"""Losses of ALDM's stages: pure functions of networks, data and draws."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 7  # voxels


def codebook_loss(z: Tensor, entries: Tensor, commitment: float) -> Tensor:
    """Pull the entries towards the latents, and by `commitment` the latents towards the entries (section 3.1)."""
    return F.mse_loss(entries, z.detach()) + commitment * F.mse_loss(z, entries.detach())


def straight_through(z: Tensor, entries: Tensor) -> Tensor:
    """Return the entries, with the gradient of z: the choice of an entry has none of its own."""
    return z + (entries - z).detach()


def hinge_real(logits: Tensor) -> Tensor:
    """Discriminator's hinge loss of what is real: mean max(0, 1 - D)."""
    return F.relu(1 - logits).mean()


def hinge_fake(logits: Tensor) -> Tensor:
    """Discriminator's hinge loss of what is synthetic: mean max(0, 1 + D)."""
    return F.relu(1 + logits).mean()


def class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of a map of logits (B, n, i, j, k) with one class a volume (B,)."""
    return F.cross_entropy(logits, classes[:, None, None, None].expand(-1, *logits.shape[2:]))


def structure_loss_3d(estimate: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM of volumes (B, 1, I, J, K) in [-1, 1], window 7 x 7 x 7, range 1 (Wang et al., IEEE TIP 2004)."""
    x, y = (estimate + 1) / 2, (target + 1) / 2

    def mean(volume: Tensor) -> Tensor:
        return F.avg_pool3d(volume, SSIM_WINDOW, stride=2)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    ssim = likeness / ((mean_x**2 + mean_y**2 + 1e-4) * (variance_x + variance_y + 9e-4))
    return 1 - ssim.mean()


def noisy(z: Tensor, noise: Tensor, alpha_bars: Tensor, t: Tensor) -> Tensor:
    """Return z_t = sqrt(abar_t) z + sqrt(1 - abar_t) noise for latents (B, C, i, j, k) and times (B,)."""
    share = alpha_bars[t].reshape(-1, 1, 1, 1, 1)
    return share.sqrt() * z + torch.sqrt(1 - share) * noise
