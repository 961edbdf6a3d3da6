"""ALDM's first stage: a 3-D VQ-GAN that takes a volume to a latent of a quarter of its size, and back (section 3.1).

Kim & Park, Adaptive latent diffusion model for 3D medical image to image translation, WACV 2024; the shapes are those
of the released checkpoints, whose names the parameters bear.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.layers3d import Upsample, conv3
from imputer.nets.limits import check_limits
from imputer.nets.ms_spade import MultiSwitchableSpade
from imputer.nets.slabwise import norm_silu_conv, slabs

NORM_EPSILON = 1e-6
# What a configuration may say at least and at most; the released one is far from either end.
_LIMITS = {
    "width": (1, 4096),
    "channel_multipliers": (1, 64),
    "blocks_per_level": (1, 32),
    "latent_channels": (1, 4096),
    "codebook_size": (1, 1 << 20),
    "groups": (1, 4096),
    "classes": (0, 64),
    "spade_widths": (1, 4096),
    "spade_hidden": (1, 4096),
}
MOST_LEVELS = 8
_MOST_SPADE_BLOCKS = 32
SEARCHED_AT_ONCE = 16384  # latent voxels whose distances to all entries of the codebook are held at once


@dataclass(frozen=True)
class FirstStageConfig:
    """Shape of the autoencoder and of MS-SPADE; the defaults are the released ones.

    Parameters
    ----------
    width : channels of the first level.
    channel_multipliers : channels of each level in units of the width; each level but the last halves the size.
    blocks_per_level : residual blocks a level; the decoder has one more.
    latent_channels : channels of the latent.
    codebook_size : entries of the codebook.
    groups : groups of every group norm; all widths are multiples of it.
    classes : target modalities that MS-SPADE knows; 0 leaves it out.
    spade_widths : channels between MS-SPADE's blocks.
    spade_hidden : channels of its modulation networks.
    """

    width: int = 64
    channel_multipliers: tuple[int, ...] = (1, 1, 2)
    blocks_per_level: int = 1
    latent_channels: int = 4
    codebook_size: int = 8192
    groups: int = 32
    classes: int = 4
    spade_widths: tuple[int, ...] = (128, 256, 128)
    spade_hidden: int = 64

    def __post_init__(self) -> None:
        """ValueError where a number is none, or beyond any network: they may come from a foreign file."""
        check_limits(self, _LIMITS)
        if not 1 <= len(self.channel_multipliers) <= MOST_LEVELS or len(self.spade_widths) >= _MOST_SPADE_BLOCKS:
            raise ValueError(f"the levels are not 1 to {MOST_LEVELS}, or MS-SPADE has too many blocks")
        if self.width % self.groups:
            raise ValueError(f"width {self.width} is no multiple of the {self.groups} groups")

    @property
    def factor(self) -> int:
        """Voxels of the volume a voxel of the latent, along each axis."""
        return int(2 ** (len(self.channel_multipliers) - 1))

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [self.width * multiplier for multiplier in self.channel_multipliers]


class ResidualBlock(nn.Module):
    """Group norm, swish, conv, twice, plus x (1 x 1 x 1 where channels change)."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=NORM_EPSILON)
        self.conv1 = conv3(inputs, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=NORM_EPSILON)
        self.conv2 = conv3(outputs, outputs)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, in, I, J, K) to (B, out, I, J, K)."""
        h = norm_silu_conv(self.norm1, self.conv1, x)
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut(x)
        return norm_silu_conv(self.norm2, self.conv2, h, plus=x)


class Downsample(nn.Module):
    """Pad one zero at the end of each axis, then a 3 x 3 x 3 convolution of stride 2 without padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Halve x (B, C, I, J, K)."""
        parts = []
        for planes in slabs(x, multiple=2):
            after = int(planes.stop == x.shape[2])
            parts.append(self.conv(F.pad(x[:, :, planes.start : planes.stop + 1], (0, 1, 0, 1, 0, after))))
        return torch.cat(parts, dim=2)


class Level(nn.Module):
    """Residual blocks of one resolution, and the way to the next."""

    def __init__(self, channels: list[int], groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(inputs, outputs, groups) for inputs, outputs in pairwise(channels))


def _parts(levels: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yield what a map goes through: who calls it one by one holds one map, and not that of each level too."""
    for level in levels:
        assert isinstance(level, Level)
        yield from level.block
        for name in ("downsample", "upsample"):
            if hasattr(level, name):
                yield getattr(level, name)


class Middle(nn.Module):
    """The block at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Pass x (B, C, I, J, K) through."""
        out: Tensor = self.block_1(x)
        return out


class Encoder(nn.Module):
    """Volume (B, 1, I, J, K) to (B, latent_channels, I/f, J/f, K/f)."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        self.conv_in = conv3(1, config.width)
        self.down = nn.ModuleList()
        for inputs, outputs in pairwise([config.width, *config.widths]):
            level = Level([inputs, *[outputs] * config.blocks_per_level], config.groups)
            if len(self.down) < len(config.widths) - 1:
                level.downsample = Downsample(outputs)
            self.down.append(level)
        self.mid = Middle(config.widths[-1], config.groups)
        self.norm_out = nn.GroupNorm(config.groups, config.widths[-1], eps=NORM_EPSILON)
        self.conv_out = conv3(config.widths[-1], config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Encode x; its sizes are multiples of the factor."""
        h = self.conv_in(x)
        for part in _parts(self.down):
            h = part(h)
        return norm_silu_conv(self.norm_out, self.conv_out, self.mid(h))


class Decoder(nn.Module):
    """Latent (B, latent_channels, I, J, K) to the volume (B, 1, fI, fJ, fK); no tanh."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = conv3(config.latent_channels, widths[-1])
        self.mid = Middle(widths[-1], config.groups)
        levels: list[Level] = []
        for inputs, outputs in pairwise([widths[-1], *reversed(widths)]):
            level = Level([inputs, *[outputs] * (config.blocks_per_level + 1)], config.groups)
            if len(levels) < len(widths) - 1:
                level.upsample = Upsample(outputs)
            levels.append(level)
        self.up = nn.ModuleList(reversed(levels))  # up.0 is full resolution, as in the checkpoints
        self.norm_out = nn.GroupNorm(config.groups, config.width, eps=NORM_EPSILON)
        self.conv_out = conv3(config.width, 1)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor) -> Tensor:
        """Decode z."""
        h = self.mid(self.conv_in(z))
        for part in _parts(reversed(list(self.up))):
            h = part(h)
        return norm_silu_conv(self.norm_out, self.conv_out, h)


class VectorQuantiser(nn.Module):
    """A codebook (n, C): every latent voxel becomes its nearest entry (L2)."""

    def __init__(self, entries: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, channels)
        nn.init.uniform_(self.embedding.weight, -1 / entries, 1 / entries)

    def forward(self, z: Tensor) -> Tensor:
        """Return the nearest entry for each voxel of z (B, C, I, J, K); no gradient flows back to z."""
        voxels = z.movedim(1, -1)
        parts = torch.split(voxels.reshape(-1, z.shape[1]), SEARCHED_AT_ONCE)
        entries: Tensor = self.embedding(torch.cat([self.nearest(part) for part in parts]))
        return entries.reshape(voxels.shape).movedim(-1, 1).contiguous()

    @torch.no_grad()
    def nearest(self, voxels: Tensor) -> Tensor:
        """Return the number (N,) of the entry nearest to each of voxels (N, C): least |e|^2 - 2 e.z, in float32."""
        entries = self.embedding.weight.float()
        with torch.autocast(voxels.device.type, enabled=False):
            return torch.addmm(entries.square().sum(dim=1), voxels.float(), entries.t(), alpha=-2).argmin(dim=1)


class FirstStage(nn.Module):
    """Autoencoder with codebook and, once trained, MS-SPADE between latents of the modalities.

    Parameters
    ----------
    config : its shape.
    """

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = VectorQuantiser(config.codebook_size, channels)
        self.quant_conv = nn.Conv3d(channels, channels, 1)
        self.post_quant_conv = nn.Conv3d(channels, channels, 1)
        self.spade: MultiSwitchableSpade | None = None
        if config.classes:
            self.spade = MultiSwitchableSpade(channels, config.spade_widths, config.classes, config.spade_hidden)

    def features(self, x: Tensor) -> Tensor:
        """Encode x (B, 1, I, J, K) in [-1, 1], before the codebook: (B, C, I/f, J/f, K/f)."""
        out: Tensor = self.quant_conv(self.encoder(x))
        return out

    def encode(self, x: Tensor) -> Tensor:
        """Encode x (B, 1, I, J, K) in [-1, 1] to its quantised latent z_source (B, C, I/f, J/f, K/f)."""
        out: Tensor = self.quantize(self.features(x))
        return out

    def to_target(self, z: Tensor, class_index: int | Tensor) -> Tensor:
        """Return the target-like latent of z for a class or for each volume's class (B,); not quantised."""
        if self.spade is None:
            raise ValueError("this first stage has no MS-SPADE")
        out: Tensor = self.spade(z, class_index)
        return out

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents z (B, C, I, J, K), quantised or not, to volumes (B, 1, fI, fJ, fK) around [-1, 1]."""
        out: Tensor = self.decoder(self.post_quant_conv(z))
        return out
