"""Finite impulse response (FIR) up- and down-sampling by two, in plain torch.

The kernel is outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64 with zeros outside the image, as in the NCSN++ backbone of SynDiff
(Song et al., ICLR 2021, appendix H; Karras et al., CVPR 2020). No CUDA extension and no compiler are needed.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = (1.0, 3.0, 3.0, 1.0)


def fir_kernel(channels: int, like: Tensor) -> Tensor:
    """Return the depthwise kernel, (channels, 1, 4, 4), sum 1 a channel, on the device and in the dtype of `like`."""
    return _kernel(like.device, like.dtype).expand(channels, 1, 4, 4)


@cache
def _kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The kernel (4, 4), made once: a copy to an accelerator in every call would wait for all that it has to do."""
    with torch.inference_mode(False):  # what is made within that mode could not serve a training after it
        taps = torch.tensor(TAPS, dtype=torch.float32) / sum(TAPS)
        return torch.outer(taps, taps).to(device=device, dtype=dtype)


def downsample(x: Tensor) -> Tensor:
    """Halve height and width of x (B, C, H, W): one pixel of zero padding, filter, keep even rows and columns."""
    channels = x.shape[1]
    return F.conv2d(x, fir_kernel(channels, x), stride=2, padding=1, groups=channels)


def upsample(x: Tensor) -> Tensor:
    """Double height and width of x (B, C, H, W): zeros in between, then the filter times four.

    The same function as bilinear interpolation, but for the border: there the filter reaches into zeros where the
    interpolation repeats the edge, so the outermost rows and columns weigh 3/4. This form is several times faster.
    """
    up = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    if torch.is_grad_enabled():
        return up * _border_gain(up.shape[2], up)[:, None] * _border_gain(up.shape[3], up)
    for edge in (up[:, :, 0], up[:, :, -1], up[:, :, :, 0], up[:, :, :, -1]):
        edge.mul_(0.75)
    return up


def _border_gain(size: int, like: Tensor) -> Tensor:
    gain = torch.ones(size, device=like.device, dtype=like.dtype)
    gain[0] = gain[-1] = 0.75
    return gain
