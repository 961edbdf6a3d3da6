"""What the trainings of adversarial diffusion share: the diffusive networks of a contrast, the draws, the losses.

SynDiff (section III-C) and DisDiff (Eqs. 4, 5 and 12) differ in what a diffusive generator is conditioned on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from imputer.diffusion.schedule import Schedule
from imputer.nets.discriminators import PatchDiscriminator, TimeConditionalDiscriminator
from imputer.nets.ncsnpp import NCSNppConfig
from imputer.train.chain import Chain
from imputer.train.config import SliceConfig
from imputer.train.losses import Critic, fake_loss, real_loss, structure_loss


class Networks:
    """Networks of one contrast; names of the keys in checkpoints are the fields' names."""

    GENERATORS: ClassVar[tuple[str, ...]]
    CRITICS: ClassVar[tuple[str, ...]]

    def networks(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield all that there are, under their names."""
        yield from self._there((*self.GENERATORS, *self.CRITICS))

    def generators(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the networks trained by the generators' loss."""
        yield from self._there(self.GENERATORS)

    def critics(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the networks trained by the discriminators' loss."""
        yield from self._there(self.CRITICS)

    def _there(self, names: tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
        for name in names:
            network = getattr(self, name)
            if network is not None:
                yield name, network


@dataclass
class Diffusive(Networks):
    """Networks that synthesise one contrast.

    Parameters
    ----------
    diffusive : generator of the contrast.
    critic : time-conditional discriminator of the contrast; absent without adversarial loss.
    patch_critic : patch discriminator of the contrast, of estimates unless a method has another use for it.
    """

    GENERATORS: ClassVar[tuple[str, ...]] = ("diffusive",)
    CRITICS: ClassVar[tuple[str, ...]] = ("critic", "patch_critic")

    diffusive: nn.Module
    critic: nn.Module | None = None
    patch_critic: nn.Module | None = None

    @property
    def is_judged(self) -> bool:
        """Whether a discriminator judges what the generator makes."""
        return self.critic is not None or self.estimate_critic is not None

    @property
    def estimate_critic(self) -> nn.Module | None:
        """The patch discriminator that judges estimates of x_0, if any."""
        return self.patch_critic


def other_of(name: str, names: Iterable[str]) -> str:
    """Return the name of the other contrast of two."""
    return next(each for each in names if each != name)


def network_config(config: SliceConfig) -> NCSNppConfig:
    """Return the generator's shape."""
    return NCSNppConfig(
        width=config.width,
        channel_multipliers=config.channel_multipliers,
        blocks_per_level=config.blocks_per_level,
        attention_levels=config.attention_levels,
        image_channels=2 + len(config.other_sources),
        latent_size=config.latent_size,
        latent_width=config.latent_width,
    )


def time_critic(config: SliceConfig) -> nn.Module | None:
    """Build the time-conditional discriminator of a contrast; None without adversarial loss."""
    return Critic(TimeConditionalDiscriminator(config.discriminator_width)) if config.adversarial_weight > 0 else None


def estimate_critic(config: SliceConfig) -> nn.Module | None:
    """Build the patch discriminator of estimates of x_0; None unless paired training asks for it."""
    return PatchDiscriminator(config.discriminator_width) if config.paired and config.patch_weight > 0 else None


@dataclass(frozen=True)
class Condition:
    """What a diffusive generator is told: maps (B, C, H, W) beside x_t, and of DisDiff an attribute (B, A) beside z."""

    maps: Tensor
    attribute: Tensor | None = None

    def inputs(self, x_t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image and the latent that the generator takes."""
        latent = z if self.attribute is None else torch.cat([z, self.attribute.to(z)], dim=1)
        return torch.cat([x_t, self.maps], dim=1), latent


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


class DiffusionLosses:
    """Losses of the diffusive module; a pure function of the networks, the images and the draws.

    Parameters
    ----------
    config : weights of the losses.
    schedule : of the diffusion.
    """

    def __init__(self, config: SliceConfig, schedule: Schedule, device: torch.device) -> None:
        self.weights, self.chain = config, Chain(schedule, device)

    def diffuse(self, x_0: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return a pair (x_{t-1}, x_t) of the forward process of x_0 (Eqs. 1 and 8)."""
        return self.chain.diffuse(x_0, draw.t, draw.before, draw.forward)

    def step_back(self, estimate: Tensor, x_t: Tensor, draw: Draw) -> Tensor:
        """Draw x_{t-1} from the posterior of the estimate of x_0 and x_t (Eqs. 13-14)."""
        return self.chain.step_back(estimate, x_t, draw.t, draw.posterior)

    def estimate(self, direction: Diffusive, x_t: Tensor, condition: Condition, t: Tensor, z: Tensor) -> Tensor:
        """Return the diffusive generator's estimate of x_0, (B, 1, H, W)."""
        image, latent = condition.inputs(x_t, z)
        out: Tensor = direction.diffusive(image, t, latent)
        return out[:, :1].float()

    def rollout(self, direction: Diffusive, condition: Condition, draw: Draw, generator: Generator) -> Tensor:
        """Return x_t for each row from the generator's own chain, from pure noise down to its t."""
        images = draw.forward

        def fresh(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(images.device)

        def estimate(x: Tensor, t: Tensor) -> Tensor:
            return self.estimate(direction, x, condition, t, fresh(*draw.z.shape))

        return self.chain.rollout(estimate, fresh(*images.shape), draw.t, generator)

    def critic_loss(
        self, direction: Diffusive, x_0: Tensor, condition: Condition, draw: Draw, window: Window, *, penalise: bool
    ) -> Tensor:
        """Loss of the time-conditional discriminator: real pairs, synthetic pairs, R1 on x_{t-1} when asked."""
        assert direction.critic is not None
        x_before, x_t = self.diffuse(x_0, draw)
        with torch.no_grad():
            estimate = self.estimate(direction, x_t, condition, draw.t, draw.z)
            synthetic = self.step_back(estimate, x_t, draw)
        gamma = self.weights.r1_gamma if penalise else 0.0
        logits, penalty = direction.critic(window(x_before), window(x_t), draw.t, gamma=gamma)
        judged, _ = direction.critic(window(synthetic), window(x_t), draw.t)
        loss: Tensor = real_loss(logits) + penalty + fake_loss(judged)
        return loss

    def estimate_critic_loss(
        self, direction: Diffusive, x_0: Tensor, condition: Condition, draw: Draw, window: Window
    ) -> Tensor:
        """Loss of the patch discriminator of paired training: real images against estimates of x_0."""
        critic = direction.estimate_critic
        assert critic is not None
        with torch.no_grad():
            estimate = self.estimate(direction, self.diffuse(x_0, draw)[1], condition, draw.t, draw.z)
        real, synthetic = critic(window(x_0)), critic(window(estimate))
        return real_loss(real.float()) + fake_loss(synthetic.float())

    def diffusive_loss(
        self,
        direction: Diffusive,
        x_0: Tensor,
        condition: Condition,
        draw: Draw,
        window: Window,
        rolled: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses of the diffusive generator: fool the discriminator, stay near the real target (one estimate per t)."""
        x_t = self.diffuse(x_0, draw)[1] if rolled is None else rolled
        estimate = self.estimate(direction, x_t, condition, draw.t, draw.z)
        losses = {"pixel": self.weights.pixel_weight * F.l1_loss(estimate, x_0)}
        if self.weights.structure_weight > 0:
            losses["structure"] = self.weights.structure_weight * structure_loss(estimate, x_0)
        if direction.estimate_critic is not None:
            logits = direction.estimate_critic(window(estimate)).float()
            losses["patch"] = self.weights.patch_weight * real_loss(logits)
        if direction.critic is not None:
            back = window(self.step_back(estimate, x_t, draw))
            logits, _ = direction.critic(back, window(x_t), draw.t)
            losses["adversarial"] = self.weights.adversarial_weight * real_loss(logits)
        return losses


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
