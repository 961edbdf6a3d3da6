"""Ways for a GPU that are to be measured there before one of them may enter the package.

Same weights, same function, as in `benchmarks.plain`. What the package does on CUDA today is the first entry's rival:

- "norms in channels last": torch's group norm on CUDA takes maps in the default layout and gives them so, between
  convolutions that want channels last. By count eleven passes over the map from convolution to convolution; here six:
  two that sum, one that scales (read and write), SiLU (read and write).
- "default layout": no channels last anywhere, so that the norms stay where they are and the convolutions turn the maps.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

from imputer.nets.layers import NORM_EPSILON, AdaptiveGroupNorm
from imputer.nets.ncsnpp import NCSNpp


def norms_in_channels_last(network: NCSNpp) -> NCSNpp:
    """Return a copy whose adaptive norms leave maps in the layout that they have."""
    copied = deepcopy(network)
    for module in copied.modules():
        if isinstance(module, AdaptiveGroupNorm):
            module.__class__ = _Norm
    return copied


def default_layout(network: NCSNpp) -> NCSNpp:
    """Return a copy whose weights, and so the maps of images in the default layout, are in it."""
    copied: NCSNpp = deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return copied


class _Norm(AdaptiveGroupNorm):
    def forward(self, x: Tensor, zemb: Tensor) -> Tensor:
        gamma, beta = self.style(zemb).chunk(2, dim=1)
        count = x[0, 0].numel() * (x.shape[1] // self.groups)
        mean = self._of_groups(x.sum(dim=(2, 3), dtype=torch.float32)) / count
        squares = torch.linalg.vector_norm(x, dim=(2, 3), dtype=torch.float32).square()
        variance = self._of_groups(squares) / count - mean.square()
        scale = gamma * torch.rsqrt(variance.clamp(min=0) + NORM_EPSILON)
        shift, scale = (each.to(x.dtype)[:, :, None, None] for each in (beta - mean * scale, scale))
        return torch.addcmul(shift, x, scale)

    def _of_groups(self, sums: Tensor) -> Tensor:
        """Return the sum over its group for each channel of (B, C)."""
        grouped = sums.reshape(len(sums), self.groups, -1)
        return grouped.sum(dim=2, keepdim=True).expand_as(grouped).flatten(1)


CANDIDATES: dict[str, Callable[[NCSNpp], NCSNpp]] = {
    "norms in channels last": norms_in_channels_last,
    "default layout": default_layout,
}
