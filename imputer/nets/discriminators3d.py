"""Three-dimensional discriminators of ALDM's training: patches of volumes, classes of latents, steps of the chain."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.latent_unet3d import sinusoid
from imputer.nets.layers3d import conv3

SLOPE = 0.2  # of every LeakyReLU


class PatchDiscriminator3d(nn.Module):
    """4 x 4 x 4 convolutions of strides 2, 2, 1, 1: one logit, or one a class, for each overlapping patch.

    Parameters
    ----------
    inputs : channels of what is judged.
    width : channels of the first level.
    outputs : logits a patch: 1, or the classes and fake.
    stride : of the first two levels; 1 for latents, which are small already.
    """

    def __init__(self, inputs: int = 1, width: int = 32, outputs: int = 1, *, stride: int = 2) -> None:
        super().__init__()
        kernel, padding = (4, 1) if stride == 2 else (3, 1)
        layers: list[nn.Module] = []
        for before, after in pairwise([inputs, width, 2 * width]):
            layers += [nn.Conv3d(before, after, kernel, stride=stride, padding=padding), nn.LeakyReLU(SLOPE)]
        layers += [conv3(2 * width, 4 * width), nn.InstanceNorm3d(4 * width), nn.LeakyReLU(SLOPE)]
        layers.append(conv3(4 * width, outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of logits (B, outputs, i, j, k) for x (B, inputs, I, J, K)."""
        logits: Tensor = self.layers(x)
        return logits


class DownBlock3d(nn.Module):
    """LeakyReLU, conv, time bias, LeakyReLU, mean of 2 x 2 x 2, conv, plus the skip."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.first, self.second = conv3(inputs, outputs), conv3(outputs, outputs)
        self.time = nn.Linear(time_width, outputs)
        self.skip = nn.Conv3d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (B, in, I, J, K) to (B, out, I/2, J/2, K/2); embedding (B, time_width)."""
        h = self.first(F.leaky_relu(x, SLOPE)) + self.time(embedding)[:, :, None, None, None]
        h = self.second(F.avg_pool3d(F.leaky_relu(h, SLOPE), 2))
        out: Tensor = h + self.skip(F.avg_pool3d(x, 2))
        return out


class LatentDiscriminator(nn.Module):
    """D(z_{t-1}, z_t, t): is z_{t-1} a plausible step back from z_t? SynDiff's, for latents of any size from 8 on.

    Parameters
    ----------
    channels : of a latent.
    width : channels of the first level; then 2 and 4 times this.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width))
        self.stem = conv3(2 * channels, width)
        self.blocks = nn.ModuleList(DownBlock3d(a, b, width) for a, b in pairwise([width, 2 * width, 4 * width]))
        self.last = conv3(4 * width, 4 * width)
        self.head = nn.Linear(4 * width, 1)

    def forward(self, z_before: Tensor, z_t: Tensor, t: Tensor) -> Tensor:
        """Return logits (B,); z_before = z_{t-1} and z_t are (B, C, I, J, K), t (B,) int64."""
        embedding = self.time(sinusoid(t, self.width))
        h = self.stem(torch.cat([z_before, z_t], dim=1))
        for block in self.blocks:
            h = block(h, embedding)
        h = F.leaky_relu(self.last(F.leaky_relu(h, SLOPE)), SLOPE)
        logits: Tensor = self.head(h.mean(dim=(2, 3, 4)))[:, 0]
        return logits
