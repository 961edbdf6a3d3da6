"""SynDiff's training step, unpaired as in the paper (section III-C) or paired, its own extension.

Contrast c is synthesised from the other contrast o. Unpaired: a ResNet translates the real image of c into a source
estimate of o, on which the diffusive generator of c is conditioned. Paired: the real image of o takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from imputer.diffusion.schedule import Schedule
from imputer.nets.discriminators import PatchDiscriminator, TimeConditionalDiscriminator
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.nets.resnet import ResNetGenerator
from imputer.train.chain import Chain
from imputer.train.config import TrainConfig
from imputer.train.losses import Critic, fake_loss, real_loss, structure_loss


@dataclass
class Direction:
    """Networks that synthesise one contrast; names of the keys in checkpoints are the fields' names.

    Parameters
    ----------
    diffusive : generator of the contrast, the one that is shipped.
    critic : time-conditional discriminator of the contrast; absent without adversarial loss.
    translator : ResNet from the contrast to the other one; unpaired only.
    patch_critic : patch discriminator of the contrast: of translations where unpaired, of estimates where asked for.
    """

    diffusive: nn.Module
    critic: nn.Module | None = None
    translator: nn.Module | None = None
    patch_critic: nn.Module | None = None

    def generators(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the networks trained by the generators' loss."""
        yield "diffusive", self.diffusive
        if self.translator is not None:
            yield "translator", self.translator

    def critics(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the networks trained by the discriminators' loss."""
        for name in ("critic", "patch_critic"):
            network = getattr(self, name)
            if network is not None:
                yield name, network


def network_config(config: TrainConfig) -> NCSNppConfig:
    """Return the generator's shape."""
    return NCSNppConfig(
        width=config.width,
        channel_multipliers=config.channel_multipliers,
        blocks_per_level=config.blocks_per_level,
        attention_levels=config.attention_levels,
        latent_size=config.latent_size,
        latent_width=config.latent_width,
    )


def make_direction(config: TrainConfig) -> Direction:
    """Build the networks of one direction with fresh weights from torch's global generator."""
    adversarial = config.adversarial_weight > 0
    has_patch_critic = not config.paired or config.patch_weight > 0
    return Direction(
        diffusive=NCSNpp(network_config(config)),
        critic=Critic(TimeConditionalDiscriminator(config.discriminator_width)) if adversarial else None,
        translator=None if config.paired else ResNetGenerator(config.resnet_width),
        patch_critic=PatchDiscriminator(config.discriminator_width) if has_patch_critic else None,
    )


@dataclass(frozen=True)
class Draw:
    """What is random in one step of one direction: t (B,) int64, noises (B, 1, H, W), z (B, nz)."""

    t: Tensor
    before: Tensor
    forward: Tensor
    posterior: Tensor
    z: Tensor

    @staticmethod
    def make(like: Tensor, latent_size: int, steps: int, generator: Generator) -> Draw:
        """Draw on the CPU, then move to the device of `like` (B, 1, H, W)."""
        before, forward, posterior = (torch.randn(like.shape, generator=generator).to(like.device) for _ in range(3))
        t = torch.randint(steps, (len(like),), generator=generator).to(like.device)
        z = torch.randn((len(like), latent_size), generator=generator).to(like.device)
        return Draw(t, before, forward, posterior, z)


class SynDiffLosses:
    """Losses of SynDiff; a pure function of the networks, the images and the draws.

    Parameters
    ----------
    config : weights of the losses.
    schedule : of the diffusion.
    """

    def __init__(self, config: TrainConfig, schedule: Schedule, device: torch.device) -> None:
        self.config, self.chain = config, Chain(schedule, device)

    def diffuse(self, x_0: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return a pair (x_{t-1}, x_t) of the forward process of x_0 (Eqs. 1 and 8)."""
        return self.chain.diffuse(x_0, draw.t, draw.before, draw.forward)

    def step_back(self, estimate: Tensor, x_t: Tensor, draw: Draw) -> Tensor:
        """Draw x_{t-1} from the posterior of the estimate of x_0 and x_t (Eqs. 13-14)."""
        return self.chain.step_back(estimate, x_t, draw.t, draw.posterior)

    def condition(self, direction: Direction, x_0: Tensor, partner: Tensor | None) -> Tensor:
        """Return the source image: the real partner, or the translation of the real target."""
        if partner is not None:
            return partner
        assert direction.translator is not None
        translated: Tensor = direction.translator(x_0)
        return translated

    def estimate(self, direction: Direction, x_t: Tensor, condition: Tensor, draw: Draw) -> Tensor:
        """Return the diffusive generator's estimate of x_0, (B, 1, H, W)."""
        out: Tensor = direction.diffusive(torch.cat([x_t, condition], dim=1), draw.t, draw.z)
        return out[:, :1].float()

    def rollout(self, direction: Direction, condition: Tensor, draw: Draw, generator: Generator) -> Tensor:
        """Return x_t for each row from the generator's own chain, from pure noise down to its t."""

        def fresh(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(condition.device)

        def estimate(x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = direction.diffusive(torch.cat([x, condition], dim=1), t, fresh(*draw.z.shape))
            return out[:, :1].float()

        return self.chain.rollout(estimate, fresh(*condition.shape), draw.t, generator)

    def critic_loss(
        self, direction: Direction, x_0: Tensor, partner: Tensor | None, draw: Draw, window: Window, *, penalise: bool
    ) -> Tensor:
        """Loss of the time-conditional discriminator: real pairs, synthetic pairs, R1 on x_{t-1} when asked."""
        assert direction.critic is not None
        x_before, x_t = self.diffuse(x_0, draw)
        with torch.no_grad():
            estimate = self.estimate(direction, x_t, self.condition(direction, x_0, partner), draw)
            synthetic = self.step_back(estimate, x_t, draw)
        gamma = self.config.r1_gamma if penalise else 0.0
        logits, penalty = direction.critic(window(x_before), window(x_t), draw.t, gamma=gamma)
        judged, _ = direction.critic(window(synthetic), window(x_t), draw.t)
        loss: Tensor = real_loss(logits) + penalty + fake_loss(judged)
        return loss

    def estimate_critic_loss(
        self, direction: Direction, x_0: Tensor, partner: Tensor, draw: Draw, window: Window
    ) -> Tensor:
        """Loss of the patch discriminator of paired training: real images against estimates of x_0."""
        assert direction.patch_critic is not None
        with torch.no_grad():
            estimate = self.estimate(direction, self.diffuse(x_0, draw)[1], partner, draw)
        real, synthetic = direction.patch_critic(window(x_0)), direction.patch_critic(window(estimate))
        return real_loss(real.float()) + fake_loss(synthetic.float())

    def patch_critic_loss(self, direction: Direction, other: Direction, x_0: Tensor, x_other: Tensor) -> Tensor:
        """Loss of the contrast's patch discriminator: its real images against translations of the other contrast."""
        assert direction.patch_critic is not None and other.translator is not None
        with torch.no_grad():
            translated = other.translator(x_other)
        return real_loss(direction.patch_critic(x_0).float()) + fake_loss(direction.patch_critic(translated).float())

    def diffusive_loss(
        self,
        direction: Direction,
        x_0: Tensor,
        condition: Tensor,
        draw: Draw,
        window: Window,
        rolled: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses of the diffusive generator: fool the discriminator, stay near the real target (one estimate per t)."""
        x_t = self.diffuse(x_0, draw)[1] if rolled is None else rolled
        estimate = self.estimate(direction, x_t, condition, draw)
        losses = {"pixel": self.config.pixel_weight * F.l1_loss(estimate, x_0)}
        if self.config.structure_weight > 0:
            losses["structure"] = self.config.structure_weight * structure_loss(estimate, x_0)
        if direction.patch_critic is not None and direction.translator is None:
            losses["patch"] = self.config.patch_weight * real_loss(direction.patch_critic(window(estimate)).float())
        if direction.critic is not None:
            back = window(self.step_back(estimate, x_t, draw))
            logits, _ = direction.critic(back, window(x_t), draw.t)
            losses["adversarial"] = self.config.adversarial_weight * real_loss(logits)
        return losses

    def translation_loss(
        self, direction: Direction, other: Direction, x_0: Tensor, translated: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the non-diffusive module: the translation looks real, and the way back gives the image again."""
        assert other.patch_critic is not None and other.translator is not None
        logits = other.patch_critic(translated).float()
        cycle = F.l1_loss(other.translator(translated).float(), x_0)
        return {"patch": real_loss(logits), "cycle": self.config.cycle_weight * cycle}


@dataclass(frozen=True)
class Window:
    """Cuts the same random square out of every image that a discriminator sees; side 0: the whole image."""

    top: int
    left: int
    side: int

    @staticmethod
    def make(shape: torch.Size, side: int, generator: Generator) -> Window:
        """Draw the square's corner for images (B, 1, H, W)."""
        if side == 0:
            return Window(0, 0, 0)
        top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in shape[2:])
        return Window(top, left, side)

    def __call__(self, x: Tensor) -> Tensor:
        """Cut x (B, 1, H, W)."""
        if self.side == 0:
            return x
        return x[:, :, self.top : self.top + self.side, self.left : self.left + self.side]
