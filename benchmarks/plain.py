"""NCSN++ as its definition reads: the reference that the benchmarks of speed compare with.

Same weights, same function; filters by zero insertion and single-channel convolutions, a pass over the map for each
operation, a softmax written out, memory in the default layout.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.fir import fir_kernel
from imputer.nets.layers import NIN, NORM_EPSILON, SQRT_HALF, AdaptiveGroupNorm, Attention, PyramidDown, ResidualBlock
from imputer.nets.ncsnpp import NCSNpp


def plain(network: NCSNpp) -> NCSNpp:
    """Return a copy that computes the same in the plain way."""
    copied = deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in copied.modules():
        kind = _PLAIN.get(type(module))
        if kind is not None:
            module.__class__ = kind
    return copied


def upfirdn(x: Tensor, *, up: int = 1, down: int = 1, pad: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Insert zeros, pad, filter, keep every `down`th row and column of x (B, C, H, W); `pad` before and after."""
    batch, channels, height, width = x.shape
    flat = x.reshape(batch * channels, 1, height, 1, width, 1)
    flat = F.pad(flat, (0, up - 1, 0, 0, 0, up - 1)).reshape(batch * channels, 1, height * up, width * up)
    filtered = F.conv2d(F.pad(flat, (*pad, *pad)), fir_kernel(1, x) * gain)[:, :, ::down, ::down]
    return filtered.reshape(batch, channels, *filtered.shape[2:])


class _PlainNorm(AdaptiveGroupNorm):
    def forward(self, x: Tensor, zemb: Tensor) -> Tensor:
        gamma, beta = self.style(zemb)[:, :, None, None].chunk(2, dim=1)
        return gamma * F.group_norm(x, self.groups, eps=NORM_EPSILON) + beta


class _PlainNIN(NIN):
    def forward(self, tokens: Tensor) -> Tensor:
        return torch.einsum("bni,io->bno", tokens, self.W) + self.b


class _PlainAttention(Attention):
    def forward(self, x: Tensor) -> Tensor:
        tokens = self.GroupNorm_0(x).flatten(2).transpose(1, 2)
        q, k, v = self.NIN_0(tokens), self.NIN_1(tokens), self.NIN_2(tokens)
        weights = torch.softmax(torch.einsum("bnc,bmc->bnm", q, k) * q.shape[2] ** -0.5, dim=2)
        h = self.NIN_3(torch.einsum("bnm,bmc->bnc", weights, v)).transpose(1, 2).reshape(x.shape)
        return (x + h) * SQRT_HALF


class _PlainBlock(ResidualBlock):
    def forward(self, x: Tensor, temb: Tensor, zemb: Tensor) -> Tensor:
        h = F.silu(self.GroupNorm_0(x, zemb))
        if self.up:
            h, x = (upfirdn(each, up=2, pad=(2, 1), gain=4.0) for each in (h, x))
        elif self.down:
            h, x = (upfirdn(each, down=2, pad=(1, 1)) for each in (h, x))
        h = self.Conv_0(h)
        h = h + self.Dense_0(temb)[:, :, None, None]
        h = self.Conv_1(F.silu(self.GroupNorm_1(h, zemb)))
        if hasattr(self, "Conv_2"):
            x = self.Conv_2(x)
        return (x + h) * SQRT_HALF


class _PlainPyramid(PyramidDown):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.Conv2d_0(upfirdn(x, pad=(2, 2)))
        return out


_PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    AdaptiveGroupNorm: _PlainNorm,
    NIN: _PlainNIN,
    Attention: _PlainAttention,
    ResidualBlock: _PlainBlock,
    PyramidDown: _PlainPyramid,
}
