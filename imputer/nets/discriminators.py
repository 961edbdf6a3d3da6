"""Discriminators of SynDiff: time-conditional for the diffusive module, patch-wise for the non-diffusive one."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets import fir
from imputer.nets.layers import SQRT_HALF, conv, linear, sinusoid
from imputer.nets.resnet import normal_weights_

SLOPE = 0.2  # of every LeakyReLU
TIME_WIDTH = 256
STD_GROUP = 4  # images that share one minibatch standard deviation, at most


class DownBlock(nn.Module):
    """LeakyReLU, 3x3, time bias, LeakyReLU, FIR-down, 3x3; the skip is FIR-down and 1x1; sum / sqrt 2."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.first = conv(inputs, outputs)
        self.time = linear(time_width, outputs)
        self.second = conv(outputs, outputs, scale=1e-10)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """Map x (B, in, H, W) to (B, out, H/2, W/2)."""
        h = self.first(F.leaky_relu(x, SLOPE)) + self.time(temb)[:, :, None, None]
        h = self.second(fir.downsample(F.leaky_relu(h, SLOPE)))
        out: Tensor = (h + self.skip(fir.downsample(x))) * SQRT_HALF
        return out


class TimeConditionalDiscriminator(nn.Module):
    """D(x_{t-1}, x_t, t): is x_{t-1} a plausible step back from x_t? (Eqs. 12 and 15)

    Parameters
    ----------
    width : the paper's ngf; channels go 2, 4, 8, 8, 8, 8, 8 times this.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [2 * width, 4 * width, *[8 * width] * 5]
        self.time = nn.ModuleList([linear(TIME_WIDTH, TIME_WIDTH), linear(TIME_WIDTH, TIME_WIDTH)])
        self.stem = conv(2, channels[0], kernel=1)
        self.blocks = nn.ModuleList(DownBlock(inputs, outputs, TIME_WIDTH) for inputs, outputs in pairwise(channels))
        self.last = conv(channels[-1] + 1, channels[-1])
        self.head = linear(channels[-1], 1)

    def forward(self, x_before: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return logits (B,); x_before = x_{t-1} and x_t (B, 1, H, W), H and W multiples of 64; t (B,) int64."""
        temb = sinusoid(t, TIME_WIDTH)
        for layer in self.time:
            temb = F.leaky_relu(layer(temb), SLOPE)
        h = self.stem(torch.cat([x_before, x_t], dim=1))
        for block in self.blocks:
            h = block(h, temb)
        h = F.leaky_relu(self.last(append_batch_std(h)), SLOPE)
        logits: Tensor = self.head(h.sum(dim=(2, 3)))[:, 0]
        return logits


def append_batch_std(x: Tensor) -> Tensor:
    """Append one channel to x (B, C, H, W): the mean standard deviation within groups of min(4, B) images."""
    batch, channels, height, width = x.shape
    group = min(STD_GROUP, batch)
    if batch % group:
        group = batch
    grouped = x.view(group, batch // group, channels, height, width)
    std = torch.sqrt(grouped.var(dim=0, unbiased=False) + 1e-8).mean(dim=(1, 2, 3))
    return torch.cat([x, std.repeat(group)[:, None, None, None].expand(batch, 1, height, width)], dim=1)


class PatchDiscriminator(nn.Module):
    """4x4 convolutions, strides 2, 2, 2, 1, 1: one logit for each overlapping patch of the image."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
        for inputs, outputs, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(inputs * width, outputs * width, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(outputs * width),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        layers.append(nn.Conv2d(8 * width, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(normal_weights_)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of logits (B, 1, h, w) for x (B, 1, H, W)."""
        logits: Tensor = self.layers(x)
        return logits
