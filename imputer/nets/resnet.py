"""Non-diffusive ResNet generator of SynDiff (section III-D): translates one contrast into the other in one pass.

Used in training only, where it makes the source estimates that condition the diffusive generators on unpaired data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualPair(nn.Module):
    """Two reflection-padded 3x3 convolutions with instance norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the body's output to x (B, C, H, W)."""
        out: Tensor = x + self.body(x)
        return out


class ResNetGenerator(nn.Module):
    """7x7 stem, two stride-2 convolutions, residual blocks, two transposed convolutions, 7x7 head, tanh.

    Parameters
    ----------
    width : channels of the stem; four times as many in the middle.
    blocks : residual blocks in the middle.
    """

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        layers = encoder_layers(width, blocks)
        for channels in (4 * width, 2 * width):
            up = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
            layers += [up, *_norm_relu(channels // 2)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7)]
        self.layers = nn.Sequential(*layers)
        self.apply(normal_weights_)

    def forward(self, x: Tensor) -> Tensor:
        """Translate x (B, 1, H, W) in [-1, 1]; H and W multiples of 4."""
        return torch.tanh(self.layers(x))


def encoder_layers(width: int, blocks: int) -> list[nn.Module]:
    """Return the way down: (B, 1, H, W) to (B, 4 * width, H/4, W/4) by a 7x7 stem, two strides of 2, and the blocks."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(1, width, 7), *_norm_relu(width)]
    for channels in (width, 2 * width):
        layers += [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), *_norm_relu(2 * channels)]
    return layers + [ResidualPair(4 * width) for _ in range(blocks)]


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]


def normal_weights_(module: nn.Module) -> None:
    """Fill a convolution's weights from N(0, 0.02) and its bias with zeros."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
