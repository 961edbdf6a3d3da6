"""MS-SPADE: the source's latent becomes target-like by modulations that are switched by the target (section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.layers3d import conv3, per_class

NORM_EPSILON = 1e-5
SLOPE = 0.2  # of the leaky ReLU


class Modulation(nn.Module):
    """One class's gain and offset of every voxel, from the tensor that is being normalised."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(conv3(channels, hidden))
        self.mlp_gamma = conv3(hidden, channels)
        self.mlp_beta = conv3(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return norm(x) * (1 + gamma(x)) + beta(x) for x (B, C, I, J, K): Eq. 1."""
        normed = F.instance_norm(x, eps=NORM_EPSILON)
        shared = F.relu(self.mlp_shared(x))
        return torch.addcmul(self.mlp_beta(shared), normed, 1 + self.mlp_gamma(shared))


class SwitchableNorm(nn.Module):
    """One `Modulation` a class."""

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.spades = nn.ModuleList(Modulation(channels, hidden) for _ in range(classes))

    def forward(self, x: Tensor, class_index: int) -> Tensor:
        """Modulate x (B, C, I, J, K) as the class asks."""
        out: Tensor = self.spades[class_index](x)
        return out


class SpadeBlock(nn.Module):
    """Norm, leaky ReLU, conv, twice, plus x (1 x 1 x 1 without bias where channels change)."""

    def __init__(self, inputs: int, outputs: int, classes: int, hidden: int) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.norm_0 = SwitchableNorm(inputs, classes, hidden)
        self.conv_0 = conv3(inputs, middle)
        self.norm_1 = SwitchableNorm(middle, classes, hidden)
        self.conv_1 = conv3(middle, outputs)
        if inputs != outputs:
            self.conv_s = nn.Conv3d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, class_index: int) -> Tensor:
        """Map x (B, in, I, J, K) to (B, out, I, J, K)."""
        h = self.conv_0(F.leaky_relu(self.norm_0(x, class_index), SLOPE))
        h = self.conv_1(F.leaky_relu(self.norm_1(h, class_index), SLOPE))
        out: Tensor = h + (self.conv_s(x) if hasattr(self, "conv_s") else x)
        return out


class MultiSwitchableSpade(nn.Module):
    """Blocks from the latent's channels over `widths` and back.

    Parameters
    ----------
    channels : of the latent.
    widths : channels between the blocks.
    classes : number of target modalities.
    hidden : channels of the modulation networks.
    """

    def __init__(self, channels: int, widths: Sequence[int], classes: int, hidden: int) -> None:
        super().__init__()
        self.classes = classes
        self.block = nn.ModuleList(
            SpadeBlock(inputs, outputs, classes, hidden) for inputs, outputs in pairwise([channels, *widths, channels])
        )

    def forward(self, z: Tensor, class_index: int | Tensor) -> Tensor:
        """Turn latents z (B, C, I, J, K) into target-like ones of a class, or of each volume's class (B,)."""
        classes = per_class(len(z), class_index)
        if len(set(classes)) > 1:
            return torch.cat([self(volume[None], number) for volume, number in zip(z, classes, strict=True)])
        for block in self.block:
            z = block(z, classes[0])
        return z
