"""Three-dimensional discriminators of ALDM's training: patches of volumes, classes of latents, steps of the chain."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.latent_unet3d import cosines_first
from imputer.nets.layers3d import conv3

SLOPE = 0.2  # of every LeakyReLU
# Side of the latents from which half precision is used. On maps of 2 x 2 x 2, a quarter of less than this, gradients
# of bfloat16 convolutions on a CPU were seen to be NaN now and then (torch 2.13).
SMALLEST_HALF = 16


class PatchDiscriminator3d(nn.Module):
    """Four convolutions, the first two of stride 2 on volumes: one logit, or one a class, for each overlapping patch.

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
    """D(z_{t-1}, z_t, t, conditions): is z_{t-1} a plausible step back from z_t? SynDiff's, for latents from 8 on.

    It knows what the projector knows: without source, target-like latent and class it could not tell a plausible latent
    of another patient, or of another contrast.

    Parameters
    ----------
    channels : of a latent.
    classes : number of target modalities.
    width : channels of the first level; then 2 and 4 times this.
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width))
        self.target = nn.Embedding(classes, width)
        self.stem = conv3(4 * channels, width)
        self.blocks = nn.ModuleList(DownBlock3d(a, b, width) for a, b in pairwise([width, 2 * width, 4 * width]))
        self.last = conv3(4 * width, 4 * width)
        self.head = nn.Linear(4 * width, 1)

    def forward(
        self, z_before: Tensor, z_t: Tensor, t: Tensor, z_source: Tensor, z_target_like: Tensor, classes: Tensor
    ) -> Tensor:
        """Return logits (B,); the latents, z_before = z_{t-1}, are (B, C, I, J, K), t and classes (B,) int64."""
        latents = torch.cat([z_before, z_t, z_source, z_target_like], dim=1)
        if min(latents.shape[2:]) < SMALLEST_HALF:
            with torch.autocast(latents.device.type, enabled=False):
                return self._logits(latents.float(), t, classes)
        return self._logits(latents, t, classes)

    def _logits(self, latents: Tensor, t: Tensor, classes: Tensor) -> Tensor:
        embedding = self.time(cosines_first(t, self.width)) + self.target(classes)
        h = self.stem(latents)
        for block in self.blocks:
            h = block(h, embedding)
        h = F.leaky_relu(self.last(F.leaky_relu(h, SLOPE)), SLOPE)
        logits: Tensor = self.head(h.mean(dim=(2, 3, 4)))[:, 0]
        return logits
