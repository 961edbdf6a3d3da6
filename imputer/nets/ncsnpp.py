"""NCSN++ generator of SynDiff and DisDiff: (x_t, source, t, z) -> x_0.

SynDiff (Ozbey et al., IEEE TMI 2023), section III-D, with the facts that the paper leaves open taken from the released
checkpoints, whose tensor names this module keeps: every layer but the latent mapping sits in one flat list
`all_modules`, consumed in the order of the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.layers import (
    NIN,
    NORM_EPSILON,
    SQRT_HALF,
    Attention,
    PixelNorm,
    PyramidDown,
    ResidualBlock,
    conv,
    group_count,
    linear,
    sinusoid,
)
from imputer.nets.limits import check_limits

# What a configuration may say at least and at most; the released one is far from either end.
_LIMITS = {
    "width": (4, 4096),
    "channel_multipliers": (1, 64),
    "blocks_per_level": (1, 32),
    "attention_levels": (0, 15),
    "image_channels": (2, 64),
    "latent_size": (1, 65536),
    "latent_width": (1, 65536),
    "latent_layers": (1, 64),
}
_MOST_LEVELS = 16


@dataclass(frozen=True)
class NCSNppConfig:
    """Shape of the generator; the defaults are the released configuration (39.7 M parameters).

    Parameters
    ----------
    width : channels of the first level (nf).
    channel_multipliers : channels of each level in units of `width`; their number is the number of levels.
    blocks_per_level : residual blocks a level on the way down; one more on the way up.
    attention_levels : levels (0 = full resolution) with an attention block after each residual block.
    image_channels : noisy target plus the sources, and as many outputs; only output channel 0 is the estimate of x_0.
    latent_size : length of z (nz).
    latent_width : width of the latent mapping network and its embedding.
    latent_layers : linear layers of the latent mapping network.
    """

    width: int = 64
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks_per_level: int = 2
    attention_levels: tuple[int, ...] = (4,)
    image_channels: int = 2
    latent_size: int = 100
    latent_width: int = 256
    latent_layers: int = 4

    def __post_init__(self) -> None:
        """ValueError where a number is none, or beyond any network: the layers are made before weights are compared."""
        check_limits(self, _LIMITS)
        if not 1 <= self.levels <= _MOST_LEVELS or any(level >= self.levels for level in self.attention_levels):
            raise ValueError(f"the levels are not 1 to {_MOST_LEVELS}, or attention is on one that is not there")

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.channel_multipliers)

    @property
    def size_multiple(self) -> int:
        """Height and width of the input must be multiples of this number of pixels."""
        return 1 << (self.levels - 1)

    def channels(self, level: int) -> int:
        """Feature channels at a level."""
        return self.width * self.channel_multipliers[level]


class NCSNpp(nn.Module):
    """Generator of SynDiff's diffusive module; estimates x_0 in one call (Eq. 11).

    Call it as `generator(x, t, z)` with x (B, image_channels, H, W) in [-1, 1] (channel 0 the noisy target x_t, then
    the sources), t (B,) int64 step indices 0..n-1 (0 = the last step before the clean image) and z (B, latent_size)
    from N(0, I). H and W are multiples of `config.size_multiple`. Returns (B, image_channels, H, W) in (-1, 1).
    """

    def __init__(self, config: NCSNppConfig) -> None:
        super().__init__()
        self.config = config
        self.z_transform = _latent_mapping(config)
        self.all_modules = nn.ModuleList(_layers(config))

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Estimate x_0 in channel 0; see the class for shapes."""
        layers = iter(self.all_modules)
        x = x.to(self.dtype)
        zemb = self.z_transform(z)
        temb = next(layers)(sinusoid(t, self.config.width).to(zemb.dtype))
        temb = F.silu(next(layers)(F.silu(temb)))
        h, skips = self._down(x, layers, temb, zemb)
        h = next(layers)(h, temb, zemb)
        h = next(layers)(h)
        h = next(layers)(h, temb, zemb)
        h = self._up(h, skips, layers, temb, zemb)
        h = F.silu(next(layers)(h), inplace=not torch.is_grad_enabled())
        return torch.tanh(next(layers)(h))

    @property
    def dtype(self) -> torch.dtype:
        """Of the maps and their weights."""
        last = self.all_modules[-1]
        assert isinstance(last, nn.Conv2d)
        return last.weight.dtype

    def in_dtype(self, dtype: torch.dtype) -> NCSNpp:
        """Return a copy whose maps and their weights are of another dtype.

        The embeddings of time and latent stay float32: they cost a thousandth of the work, and every map hangs on them.
        """
        copied = deepcopy(self)
        for module in copied.modules():
            if isinstance(module, nn.Conv2d | nn.GroupNorm | NIN):
                module.to(dtype)
        return copied

    def _down(self, x: Tensor, layers: Iterator[nn.Module], temb: Tensor, zemb: Tensor) -> tuple[Tensor, list[Tensor]]:
        config = self.config
        pyramid, h = x, next(layers)(x)
        skips = [h]
        for level in range(config.levels):
            for _ in range(config.blocks_per_level):
                h = next(layers)(h, temb, zemb)
                if level in config.attention_levels:
                    h = next(layers)(h)
                skips.append(h)
            if level < config.levels - 1:
                h = next(layers)(h, temb, zemb)
                pyramid = h = (next(layers)(pyramid) + h) * SQRT_HALF
                skips.append(h)
        return h, skips

    def _up(self, h: Tensor, skips: list[Tensor], layers: Iterator[nn.Module], temb: Tensor, zemb: Tensor) -> Tensor:
        config = self.config
        for level in reversed(range(config.levels)):
            for _ in range(config.blocks_per_level + 1):
                h = next(layers)(torch.cat([h, skips.pop()], dim=1), temb, zemb)
            if level in config.attention_levels:
                h = next(layers)(h)
            if level > 0:
                h = next(layers)(h, temb, zemb)
        return h


def _latent_mapping(config: NCSNppConfig) -> nn.Sequential:
    layers: list[nn.Module] = [PixelNorm()]
    inputs = config.latent_size
    for _ in range(config.latent_layers):
        layers += [linear(inputs, config.latent_width), nn.SiLU()]
        inputs = config.latent_width
    return nn.Sequential(*layers)


def _layers(config: NCSNppConfig) -> Iterator[nn.Module]:
    """Yield the layers in the order in which `NCSNpp.forward` consumes them."""
    width, time_width, images = config.width, 4 * config.width, config.image_channels

    def block(inputs: int, outputs: int, *, up: bool = False, down: bool = False) -> ResidualBlock:
        return ResidualBlock(inputs, outputs, time_width, config.latent_width, up=up, down=down)

    yield linear(width, time_width)
    yield linear(time_width, time_width)
    yield conv(images, width)
    channels, pyramid_channels, skips = width, images, [width]
    for level in range(config.levels):
        for _ in range(config.blocks_per_level):
            yield block(channels, config.channels(level))
            channels = config.channels(level)
            if level in config.attention_levels:
                yield Attention(channels)
            skips.append(channels)
        if level < config.levels - 1:
            yield block(channels, channels, down=True)
            yield PyramidDown(pyramid_channels, channels)
            pyramid_channels = channels
            skips.append(channels)
    yield block(channels, channels)
    yield Attention(channels)
    yield block(channels, channels)
    for level in reversed(range(config.levels)):
        for _ in range(config.blocks_per_level + 1):
            yield block(channels + skips.pop(), config.channels(level))
            channels = config.channels(level)
        if level in config.attention_levels:
            yield Attention(channels)
        if level > 0:
            yield block(channels, channels, up=True)
    yield nn.GroupNorm(group_count(channels), channels, eps=NORM_EPSILON)
    yield conv(channels, images, scale=1e-10)
