"""Group norm, SiLU and convolution of a map that no cache holds, a slab of its planes at a time (inference on a CPU).

A full-resolution map takes a gigabyte. Norm, SiLU and convolution one after the other would write three of them, and
the system hands out, zeroes and takes back the memory of each: that costs as much time as the arithmetic. In slabs
what lies between input and output never leaves the cache. The result is that of the three modules, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Bytes of a slab: below the 32 MiB from which glibc always asks the system for fresh memory.
SLAB_BYTES = 16 * 2**20


def norm_silu_conv(norm: nn.GroupNorm, conv: nn.Conv3d, x: Tensor, plus: Tensor | None = None) -> Tensor:
    """Return conv(silu(norm(x))), plus a map if there is one.

    Parameters
    ----------
    norm, conv : group norm and 3 x 3 x 3 convolution of stride 1 and padding 1.
    x : (B, C, I, J, K). With `plus` given and no gradient asked for, it may be overwritten by the result.
    plus : (B, out, I, J, K), added; stays as it is.
    """
    if not _in_slabs(x):
        h: Tensor = conv(F.silu(norm(x), inplace=not torch.is_grad_enabled()))
        if plus is None:
            return h
        return h + plus if torch.is_grad_enabled() else h.add_(plus)
    if plus is not None and conv.out_channels == x.shape[1]:
        out = x  # a slab's planes are read before they are written
    else:
        sizes = (1, conv.out_channels, *x.shape[2:])
        out = torch.empty(sizes, dtype=x.dtype, memory_format=torch.channels_last_3d)
    for planes, result in _convolved(norm, conv, x):
        out[:, :, planes] = result if plus is None else result.add_(plus[:, :, planes])
    return out


def slabs(x: Tensor, multiple: int = 1) -> list[slice]:
    """Cut the planes (along the first axis of three) of a map (B, C, I, J, K) into slabs that a CPU's cache holds.

    Each but the last has a multiple of `multiple` planes. A small map, or one on another device, is one slab.
    """
    if x.device.type != "cpu":
        return [slice(0, x.shape[2])]
    depth = SLAB_BYTES // max(1, x[:, :, :1].numel() * x.element_size())
    depth = max(1, depth // multiple) * multiple
    return [slice(first, min(first + depth, x.shape[2])) for first in range(0, x.shape[2], depth)]


def _in_slabs(x: Tensor) -> bool:
    """Tell whether slabs pay, and are right: one large float32 map on a CPU whose channels lie beside each other."""
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and len(x) == 1
        and x.numel() * x.element_size() > SLAB_BYTES
        and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


def _convolved(norm: nn.GroupNorm, conv: nn.Conv3d, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield slabs of conv(silu(norm(x))); when one is yielded, the planes of x that it stands for are read."""
    scale, shift = _scale_and_shift(norm, x)
    cuts = slabs(x)
    sizes = (1, x.shape[1], cuts[0].stop + 2, *x.shape[3:])
    buffer = torch.zeros(sizes).contiguous(memory_format=torch.channels_last_3d)  # zeros: the padding before plane 0
    _activate(x[:, :, :1], scale, shift, buffer[:, :, 1:2])
    for planes in cuts:
        count = planes.stop - planes.start
        fresh = x[:, :, planes.start + 1 : planes.stop + 1]  # the slab's first plane came with the one before
        _activate(fresh, scale, shift, buffer[:, :, 2 : 2 + fresh.shape[2]])
        buffer[:, :, 2 + fresh.shape[2] :] = 0.0
        yield planes, F.conv3d(buffer[:, :, : count + 2], conv.weight, conv.bias, padding=(0, 1, 1))
        buffer[:, :, :2] = buffer[:, :, count : count + 2].clone()


def _activate(planes: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    F.silu(torch.addcmul(shift, planes, scale, out=out), inplace=True)


def _scale_and_shift(norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the norm multiplies each channel of x (1, C, I, J, K) by and then adds, each (1, C, 1, 1, 1).

    The slabs' means and variances are pooled in float64: right where a channel's mean is far from 0, too.
    """
    voxels = x.movedim(1, -1).reshape(-1, x.shape[1])
    plane = x.shape[3] * x.shape[4]
    parts = [voxels[planes.start * plane : planes.stop * plane] for planes in slabs(x)]
    counts = torch.tensor([len(part) for part in parts], dtype=torch.float64)[:, None]
    means = torch.stack([part.mean(dim=0) for part in parts])
    work = torch.empty_like(parts[0])
    squares = torch.stack([
        torch.sub(part, mean, out=work[: len(part)]).square_().sum(dim=0)
        for part, mean in zip(parts, means, strict=True)
    ])  # fmt: skip
    mean = _of_groups(norm, (counts * means).sum(dim=0) / len(voxels))
    variance = _of_groups(norm, (squares + counts * (means - mean).square()).sum(dim=0) / len(voxels))
    scale = norm.weight / (variance + norm.eps).sqrt()
    shift = norm.bias - mean * scale
    return scale.float().reshape(1, -1, 1, 1, 1), shift.float().reshape(1, -1, 1, 1, 1)


def _of_groups(norm: nn.GroupNorm, values: Tensor) -> Tensor:
    """Give each channel its group's mean of values (C,)."""
    grouped = values.reshape(norm.num_groups, -1)
    return grouped.mean(dim=1, keepdim=True).expand_as(grouped).reshape(-1)
