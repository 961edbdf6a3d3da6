"""SynDiff's training step, unpaired as in the paper (section III-C) or paired, its own extension.

Contrast c is synthesised from the other contrast o. Unpaired: a ResNet translates the real image of c into a source
estimate of o, on which the diffusive generator of c is conditioned. Paired: the real image of o takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.diffusion.schedule import Schedule
from imputer.nets.discriminators import PatchDiscriminator
from imputer.nets.ncsnpp import NCSNpp
from imputer.nets.resnet import ResNetGenerator
from imputer.train.config import TrainConfig
from imputer.train.diffusive import (
    Condition,
    DiffusionLosses,
    Diffusive,
    estimate_critic,
    network_config,
    time_critic,
)
from imputer.train.losses import fake_loss, real_loss


@dataclass
class Direction(Diffusive):
    """Networks that synthesise one contrast, the generator `diffusive` being the one that is shipped.

    Parameters
    ----------
    translator : ResNet from the contrast to the other one; unpaired only, where `patch_critic` judges translations.
    """

    GENERATORS: ClassVar[tuple[str, ...]] = ("diffusive", "translator")

    translator: nn.Module | None = None

    @property
    def estimate_critic(self) -> nn.Module | None:
        """The patch discriminator where it judges estimates of x_0, not translations."""
        return self.patch_critic if self.translator is None else None


def make_direction(config: TrainConfig) -> Direction:
    """Build the networks of one direction with fresh weights from torch's global generator."""
    return Direction(
        diffusive=NCSNpp(network_config(config)),
        critic=time_critic(config),
        translator=None if config.paired else ResNetGenerator(config.resnet_width),
        patch_critic=estimate_critic(config) if config.paired else PatchDiscriminator(config.discriminator_width),
    )


class SynDiffLosses(DiffusionLosses):
    """Losses of SynDiff: those of the diffusive module and of the non-diffusive one."""

    def __init__(self, config: TrainConfig, schedule: Schedule, device: torch.device) -> None:
        super().__init__(config, schedule, device)
        self.config = config

    def condition(self, direction: Direction, x_0: Tensor, partner: Tensor | None) -> Condition:
        """Return the source image, or images (B, N, H, W): the real ones, or the translation of the real target."""
        if partner is not None:
            return Condition(partner)
        assert direction.translator is not None
        return Condition(direction.translator(x_0))

    def patch_critic_loss(self, direction: Direction, other: Direction, x_0: Tensor, x_other: Tensor) -> Tensor:
        """Loss of the contrast's patch discriminator: its real images against translations of the other contrast."""
        assert direction.patch_critic is not None and other.translator is not None
        with torch.no_grad():
            translated = other.translator(x_other)
        return real_loss(direction.patch_critic(x_0).float()) + fake_loss(direction.patch_critic(translated).float())

    def translation_loss(
        self, direction: Direction, other: Direction, x_0: Tensor, translated: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the non-diffusive module: the translation looks real, and the way back gives the image again."""
        assert other.patch_critic is not None and other.translator is not None
        logits = other.patch_critic(translated).float()
        cycle = F.l1_loss(other.translator(translated).float(), x_0)
        return {"patch": real_loss(logits), "cycle": self.config.cycle_weight * cycle}
