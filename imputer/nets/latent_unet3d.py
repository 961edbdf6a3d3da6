"""ALDM's UNet over 3-D latents: predicts the noise, or the clean latent, from a noisy latent and its conditions.

After Kim & Park (WACV 2024, section 3.2) and the guided-diffusion UNet it builds on (Dhariwal & Nichol, 2021); the
parameters bear the names of the released code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.layers3d import Upsample, conv3, per_class
from imputer.nets.limits import check_limits

NORM_EPSILON = 1e-5
GROUPS = 32
CONDITIONS = ("embedding", "cross_attention")
# What a configuration may say at least and at most; the released one is far from either end.
_LIMITS = {
    "width": (1, 4096),
    "channel_multipliers": (1, 64),
    "blocks_per_level": (1, 32),
    "attention_factors": (1, 1 << 7),
    "head_channels": (1, 4096),
    "inputs": (1, 4096),
    "outputs": (1, 4096),
    "classes": (1, 64),
    "groups": (1, 4096),
}
_MOST_LEVELS = 8


@dataclass(frozen=True)
class LatentUNetConfig:
    """Shape of the UNet; the defaults are the released ones.

    Parameters
    ----------
    width : channels of the first level.
    channel_multipliers : channels of each level in units of the width; each level but the last halves the size.
    blocks_per_level : residual blocks a level; the way up has one more.
    attention_factors : reductions of size at which there is self-attention.
    head_channels : channels of an attention head.
    inputs : channels of the input: noisy latent and conditions.
    outputs : channels of the output.
    classes : number of target modalities.
    condition : how the class comes in: "embedding", added to that of the time (released), or "cross_attention" of the
        voxels on its one-hot vector (the paper's Eq. 3).
    groups : groups of every group norm.
    """

    width: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2)
    blocks_per_level: int = 1
    attention_factors: tuple[int, ...] = (2, 4)
    head_channels: int = 32
    inputs: int = 12
    outputs: int = 4
    classes: int = 4
    condition: str = "embedding"
    groups: int = GROUPS

    def __post_init__(self) -> None:
        """ValueError where a number is none, or beyond any network: they may come from a foreign file."""
        check_limits(self, _LIMITS)
        if not 1 <= len(self.channel_multipliers) <= _MOST_LEVELS:
            raise ValueError(f"the levels are not 1 to {_MOST_LEVELS}")
        if self.condition not in CONDITIONS:
            raise ValueError(f"condition is not one of {', '.join(CONDITIONS)}")
        if self.width % self.groups or self.width % 2:
            raise ValueError(f"width {self.width} is no multiple of 2 and of the {self.groups} groups")
        attending = {each for level, each in enumerate(self.channel_multipliers) if 2**level in self.attention_factors}
        attending.add(self.channel_multipliers[-1])  # of the middle
        if any(self.width * each % self.head_channels for each in attending):
            raise ValueError(f"the widths are no multiples of the {self.head_channels} channels of a head")

    @property
    def factor(self) -> int:
        """Sizes of the latent are multiples of this."""
        return int(2 ** (len(self.channel_multipliers) - 1))


def cosines_first(t: Tensor, width: int) -> Tensor:
    """Embed times t (B,) as (B, width): cosines, then sines of t * exp(-ln(10000) i / (width/2)).

    SynDiff's embedding has the sines first and other frequencies.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000.0) / half))
    angle = t.float()[:, None] * frequencies
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class ResidualBlock(nn.Module):
    """Group norm, SiLU, conv, time bias, group norm, SiLU, conv, plus x (1 x 1 x 1 where channels change)."""

    def __init__(self, inputs: int, outputs: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, inputs, eps=NORM_EPSILON), nn.SiLU(), conv3(inputs, outputs)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outputs))
        last = conv3(outputs, outputs)
        nn.init.zeros_(last.weight)
        self.out_layers = nn.Sequential(nn.GroupNorm(groups, outputs, eps=NORM_EPSILON), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (B, in, I, J, K) to (B, out, I, J, K); embedding (B, E) of time and class."""
        h = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None, None]
        out: Tensor = self.skip_connection(x) + self.out_layers(h)
        return out


class Attention(nn.Module):
    """Self-attention over all voxels, residual: x + proj_out(attend(qkv(norm(x)))); heads hold q, k, v together."""

    def __init__(self, channels: int, head_channels: int, groups: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPSILON)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Attend within x (B, C, I, J, K); softmax(q.k / sqrt(head channels))."""
        batch, channels = x.shape[:2]
        qkv = self.qkv(self.norm(x).flatten(2)).view(batch, self.heads, 3, channels // self.heads, -1)
        q, k, v = (part.transpose(2, 3) for part in qkv.unbind(2))
        attended = F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())
        out: Tensor = self.proj_out(attended.transpose(2, 3).reshape(batch, channels, -1))
        return x + out.view_as(x)


class ClassAttention(nn.Module):
    """The paper's cross-attention of the voxels on the one-hot vector y of the target (Eq. 3), residual.

    y is a single token, so that the softmax over it is 1 and every voxel receives W_V y; the queries and keys that the
    paper names fall out of the result.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.value = nn.Linear(classes, channels, bias=False)
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Add what y (B, classes) says to x (B, C, I, J, K)."""
        told: Tensor = self.proj_out(self.value(y))
        return x + told[:, :, None, None, None]


class Downsample(nn.Module):
    """A 3 x 3 x 3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = conv3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve x (B, C, I, J, K)."""
        out: Tensor = self.op(x)
        return out


class Block(nn.ModuleList):
    """Layers of one place of the UNet, each called with what it takes."""

    def forward(self, x: Tensor, embedding: Tensor, y: Tensor) -> Tensor:
        """Pass x (B, C, I, J, K) through; embedding (B, E), y (B, classes) one-hot."""
        for layer in self:
            if isinstance(layer, ResidualBlock):
                x = layer(x, embedding)
            elif isinstance(layer, ClassAttention):
                x = layer(x, y)
            else:
                x = layer(x)
        return x


class LatentUNet(nn.Module):
    """UNet over latents.

    Parameters
    ----------
    config : its shape.
    """

    def __init__(self, config: LatentUNetConfig) -> None:
        super().__init__()
        self.config = config
        width, embedding = config.width, 4 * config.width
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        if config.condition == "embedding":
            self.label_emb = nn.Embedding(config.classes, embedding)
        widths = [width * multiplier for multiplier in config.channel_multipliers]
        skips = [width]
        self.input_blocks = nn.ModuleList([Block([conv3(config.inputs, width)])])
        for level, (before, channels) in enumerate(pairwise([width, *widths])):
            for number in range(config.blocks_per_level):
                self.input_blocks.append(self._block(channels if number else before, channels, level))
                skips.append(channels)
            if level < len(widths) - 1:
                self.input_blocks.append(Block([Downsample(channels)]))
                skips.append(channels)
        lowest = widths[-1]
        first, last = (ResidualBlock(lowest, lowest, embedding, config.groups) for _ in range(2))
        self.middle_block = Block([first, *self._attention(lowest), last])
        self.output_blocks = nn.ModuleList()
        channels = lowest
        for level in reversed(range(len(widths))):
            for number in range(config.blocks_per_level + 1):
                block = self._block(channels + skips.pop(), widths[level], level)
                channels = widths[level]
                if level and number == config.blocks_per_level:
                    block.append(Upsample(channels))
                self.output_blocks.append(block)
        head = conv3(width, config.outputs)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        self.out = nn.Sequential(nn.GroupNorm(config.groups, width, eps=NORM_EPSILON), nn.SiLU(), head)

    def _attention(self, channels: int) -> list[nn.Module]:
        layers: list[nn.Module] = [Attention(channels, self.config.head_channels, self.config.groups)]
        if self.config.condition == "cross_attention":
            layers.append(ClassAttention(channels, self.config.classes))
        return layers

    def _block(self, inputs: int, outputs: int, level: int) -> Block:
        """Make a residual block, with attention where its level has it."""
        config = self.config
        block = Block([ResidualBlock(inputs, outputs, 4 * config.width, config.groups)])
        if 2**level in config.attention_factors:
            block.extend(self._attention(outputs))
        return block

    def forward(self, x: Tensor, t: int | Tensor, class_index: int | Tensor) -> Tensor:
        """Predict from x (B, inputs, I, J, K): noisy latent, source's and target-like latent, in this order.

        t is the time or step index, one or (B,); class_index that of the target, one or (B,). Sizes are multiples of
        `config.factor`. Returns (B, outputs, I, J, K).
        """
        device = x.device
        times = torch.as_tensor(t, device=device).reshape(-1).expand(len(x))
        classes = torch.tensor(per_class(len(x), class_index), device=device)
        embedding = self.time_embed(cosines_first(times, self.config.width).to(x.dtype))
        if self.config.condition == "embedding":
            embedding = embedding + self.label_emb(classes)
        y = F.one_hot(classes, self.config.classes).to(embedding.dtype)
        skips: list[Tensor] = []
        for block in self.input_blocks:
            x = block(x, embedding, y)
            skips.append(x)
        x = self.middle_block(x, embedding, y)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding, y)
        out: Tensor = self.out(x)
        return out
