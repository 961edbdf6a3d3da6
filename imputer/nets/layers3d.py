"""Building blocks of ALDM's three-dimensional networks; names of parameters are those of the released checkpoints."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.slabwise import slabs

# Taps of a kernel of 3 that meet the same voxel after a nearest-neighbour x2, for even and for odd output voxels.
_MEETING = ((slice(0, 1), slice(1, 3)), (slice(0, 2), slice(2, 3)))


def conv3(inputs: int, outputs: int, *, stride: int = 1, padding: int = 1) -> nn.Conv3d:
    """Make a 3 x 3 x 3 convolution with bias."""
    return nn.Conv3d(inputs, outputs, 3, stride=stride, padding=padding)


class Upsample(nn.Module):
    """Nearest-neighbour x2, then a 3 x 3 x 3 convolution, in 8/27 of the multiplications and without the large map.

    Every output voxel of an even or odd place sees only two voxels an axis; the taps that meet the same one are summed
    first. Eight kernels of 2 x 2 x 2 on the small grid give what the one of 3 x 3 x 3 gives on the large one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Double x (B, C, I, J, K) to (B, C, 2I, 2J, 2K)."""
        batch, channels, *size = x.shape
        padded = F.pad(x, (1, 1, 1, 1, 1, 1))
        sizes = (batch, channels, *(2 * length for length in size))
        channels_last = x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()
        layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        out = torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=layout)
        for phase in product((0, 1), repeat=3):
            i, j, k = phase
            kernel = _meeting_taps(self.conv.weight, phase)
            for planes in slabs(x):
                window = padded[:, :, i + planes.start : i + planes.stop + 1, j : j + size[1] + 1, k : k + size[2] + 1]
                part = F.conv3d(window, kernel, self.conv.bias)
                out[:, :, i + 2 * planes.start : 2 * planes.stop : 2, j::2, k::2] = part
        return out


def _meeting_taps(weight: Tensor, phase: tuple[int, ...]) -> Tensor:
    """Sum the taps of a kernel (out, in, 3, 3, 3) that meet the same voxel: (out, in, 2, 2, 2)."""
    for axis, odd in enumerate(phase, start=2):
        parts = [weight[(slice(None),) * axis + (taps,)].sum(dim=axis, keepdim=True) for taps in _MEETING[odd]]
        weight = torch.cat(parts, dim=axis)
    return weight


def per_class(count: int, class_index: int | Tensor) -> list[int]:
    """Class of each of `count` volumes, from one number for all or from (B,) int64.

    ValueError for another number of them, or one below 0.
    """
    given = [class_index] if isinstance(class_index, int) else [int(each) for each in class_index.reshape(-1).tolist()]
    classes = given * count if len(given) == 1 else given
    if len(classes) != count or min(classes) < 0:
        raise ValueError(f"the classes {given} do not fit {count} volumes")
    return classes
