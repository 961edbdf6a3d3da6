"""Building blocks of NCSN++ with a latent: embeddings, adaptive group norm, attention, BigGAN residual blocks.

After SynDiff (Ozbey et al., IEEE TMI 2023, section III-D) and the score-based models it builds on (Song et al., 2021).
Names of the parameters are those of the released checkpoints, so that their weights load as they are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets import fir

NORM_EPSILON = 1e-6
SQRT_HALF = math.sqrt(0.5)


def group_count(channels: int) -> int:
    """Return the number of groups of every group norm: min(C // 4, 32)."""
    return min(channels // 4, 32)


def variance_scaling_(weight: Tensor, scale: float = 1.0) -> Tensor:
    """Fill weight (out, in, ...) in place, uniform with variance scale / ((fan_in + fan_out) / 2)."""
    receptive_field = weight[0, 0].numel() if weight.dim() > 2 else 1
    fan_in, fan_out = weight.shape[1] * receptive_field, weight.shape[0] * receptive_field
    bound = math.sqrt(3.0 * max(scale, 1e-10) / ((fan_in + fan_out) / 2))
    with torch.no_grad():
        return weight.uniform_(-bound, bound)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Make a linear layer with the paper's fresh weights and zero bias."""
    layer = nn.Linear(inputs, outputs)
    variance_scaling_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def conv(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, scale: float = 1.0) -> nn.Conv2d:
    """Make a convolution with bias; zero padding keeps the size, but for stride 2, where the caller pads."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2 if stride == 1 else 0)
    variance_scaling_(layer.weight, scale)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def sinusoid(t: Tensor, width: int) -> Tensor:
    """Embed step indices t (B,) as (B, width): sines, then cosines of t * exp(-ln(10000) i / (width/2 - 1))."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000.0) / (half - 1))
    angle = t.float()[:, None] * torch.exp(exponent)
    embedding = torch.cat([angle.sin(), angle.cos()], dim=1)
    return F.pad(embedding, (0, width - 2 * half))


class PixelNorm(nn.Module):
    """Scale each latent to unit mean square: z / sqrt(mean(z^2) + 1e-8)."""

    def forward(self, z: Tensor) -> Tensor:
        """Normalise z (B, nz)."""
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class AdaptiveGroupNorm(nn.Module):
    """Group norm whose gain and offset come from the latent embedding (AdaGN, Eq. in Dhariwal & Nichol, 2021)."""

    def __init__(self, channels: int, latent_width: int) -> None:
        super().__init__()
        self.groups = group_count(channels)
        self.style = linear(latent_width, 2 * channels)
        with torch.no_grad():
            self.style.bias[:channels] = 1.0

    def forward(self, x: Tensor, zemb: Tensor) -> Tensor:
        """Return gamma(zemb) * norm(x) + beta(zemb); x (B, C, H, W), zemb (B, latent_width)."""
        gamma, beta = self.style(zemb).to(x.dtype).chunk(2, dim=1)
        if x.shape[0] == 1:  # one fused kernel instead of three passes over the map
            return F.group_norm(x, self.groups, gamma[0], beta[0], NORM_EPSILON)
        normed = F.group_norm(x, self.groups, eps=NORM_EPSILON)
        return torch.addcmul(beta[:, :, None, None], normed, gamma[:, :, None, None])


class NIN(nn.Module):
    """A 1x1 convolution stored as a matrix W (in, out) and a bias b, as in the released checkpoints."""

    def __init__(self, inputs: int, outputs: int, scale: float = 0.1) -> None:
        super().__init__()
        self.W = nn.Parameter(variance_scaling_(torch.empty(outputs, inputs), scale).t().contiguous())
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, in) to (B, N, out)."""
        return F.linear(tokens, self.W.t(), self.b)


class Attention(nn.Module):
    """Self-attention over all H*W positions, one head, residual: (x + NIN_3(attend(norm(x)))) / sqrt 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.GroupNorm_0 = nn.GroupNorm(group_count(channels), channels, eps=NORM_EPSILON)
        self.NIN_0 = NIN(channels, channels)
        self.NIN_1 = NIN(channels, channels)
        self.NIN_2 = NIN(channels, channels)
        self.NIN_3 = NIN(channels, channels, scale=1e-10)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within x (B, C, H, W)."""
        tokens = self.GroupNorm_0(x).flatten(2).transpose(1, 2)
        q, k, v = self.NIN_0(tokens), self.NIN_1(tokens), self.NIN_2(tokens)
        attended = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        h = self.NIN_3(attended).transpose(1, 2).reshape(x.shape)
        out: Tensor = (x + h) * SQRT_HALF
        return out


class ResidualBlock(nn.Module):
    """BigGAN residual block: AdaGN, SiLU, optional FIR resampling, time bias, scaled skip."""

    def __init__(
        self, inputs: int, outputs: int, time_width: int, latent_width: int, *, up: bool = False, down: bool = False
    ) -> None:
        super().__init__()
        self.up, self.down = up, down
        self.GroupNorm_0 = AdaptiveGroupNorm(inputs, latent_width)
        self.Conv_0 = conv(inputs, outputs)
        self.Dense_0 = linear(time_width, outputs)
        self.GroupNorm_1 = AdaptiveGroupNorm(outputs, latent_width)
        self.Conv_1 = conv(outputs, outputs, scale=1e-10)
        if inputs != outputs or up or down:
            self.Conv_2 = conv(inputs, outputs, kernel=1)

    def forward(self, x: Tensor, temb: Tensor, zemb: Tensor) -> Tensor:
        """Map x (B, in, H, W) to (B, out, H', W'); temb (B, time_width) after SiLU, zemb (B, latent_width)."""
        h = F.silu(self.GroupNorm_0(x, zemb), inplace=not torch.is_grad_enabled())
        if self.up:
            h, x = fir.upsample(h), fir.upsample(x)
        elif self.down:
            h, x = fir.downsample(h), fir.downsample(x)
        h = self.Conv_0(h)
        h = h + self.Dense_0(temb).to(h.dtype)[:, :, None, None]
        h = F.silu(self.GroupNorm_1(h, zemb), inplace=not torch.is_grad_enabled())
        h = self.Conv_1(h)
        if hasattr(self, "Conv_2"):
            x = self.Conv_2(x)
        out: Tensor = (x + h) * SQRT_HALF
        return out


class PyramidDown(nn.Module):
    """One level of the input pyramid: FIR filter, then a 3x3 convolution of stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.Conv2d_0 = conv(inputs, outputs, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve x (B, in, H, W) to (B, out, H/2, W/2)."""
        channels = x.shape[1]
        filtered = F.conv2d(x, fir.fir_kernel(channels, x), padding=2, groups=channels)
        out: Tensor = self.Conv2d_0(filtered)
        return out
