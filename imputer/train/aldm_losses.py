"""Losses of ALDM's stages: pure functions of networks, data and draws."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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


def latent_loss(estimate: Tensor, target: Tensor, beta: float) -> Tensor:
    """Return the L1 loss of latents, quadratic where they differ by less than `beta`; 0: L1 everywhere.

    Most of a latent is background, which a fresh network already has right: there L1 pulls with full force at the
    least deviation, and holds the whole output where it is.
    """
    return F.smooth_l1_loss(estimate, target, beta=beta)


def noisy(z: Tensor, noise: Tensor, alpha_bars: Tensor, t: Tensor) -> Tensor:
    """Return z_t = sqrt(abar_t) z + sqrt(1 - abar_t) noise for latents (B, C, i, j, k) and times (B,)."""
    share = alpha_bars[t].reshape(-1, 1, 1, 1, 1)
    return share.sqrt() * z + torch.sqrt(1 - share) * noise
