"""Trains adversarial diffusion between two contrasts: a step, networks, optimisers, averaged weights, scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Generator, Tensor, nn

from imputer.diffusion.schedule import Schedule
from imputer.methods.slices import SliceMethod
from imputer.modality import Modality, parse_modality
from imputer.seeds import derive_seed
from imputer.train.config import SliceConfig
from imputer.train.data import SliceSampler
from imputer.train.diffusive import Condition, DiffusionLosses, Diffusive, Draw, Networks, Window
from imputer.train.parts import Losses, Parts
from imputer.train.scores import HeldOut, score
from imputer.train.seen import NOTHING, Seen

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Images = Mapping[str, tuple[Tensor, Tensor | None]]  # by direction: target x_0, and in paired training its source
Draws = Mapping[str, Generator]
AnyDirection = TypeVar("AnyDirection", bound=Diffusive)
AnyNetworks = TypeVar("AnyNetworks", bound=Networks)


@dataclass(frozen=True)
class RunData:
    """What a run trains on and is scored with.

    Parameters
    ----------
    samplers : slices by direction; paired batches are (source, target), unpaired ones images of the target.
    held_out : cases to score, by direction.
    sizes : what voxels the sources have, by direction; part of the models' scope.
    seen : what the packages tell of the volumes that it trains on.
    """

    samplers: Mapping[str, SliceSampler]
    held_out: Mapping[str, list[HeldOut]]
    sizes: Mapping[str, Mapping[str, list[float]]]
    seen: Seen = NOTHING


class AdversarialTrainer(ABC, Generic[AnyDirection]):
    """One run in one or both directions; see `imputer.train.loop.Trainer`.

    Parameters
    ----------
    config : the run's settings.
    folder : where pictures and models go.
    fabric : device, precision and distribution.
    data : what it trains on.
    """

    losses: DiffusionLosses
    directions: dict[str, AnyDirection]
    contrasts: Mapping[str, Networks]  # the directions, and what else a method has of one contrast each

    def __init__(self, config: SliceConfig, folder: Path, fabric: Fabric, data: RunData) -> None:
        self.settings, self.folder, self.fabric = config, folder, fabric
        self.samplers, self.held_out, self.sizes = data.samplers, data.held_out, data.sizes
        self.seen = data.seen
        self.is_main = bool(fabric.is_global_zero)
        self.schedule = Schedule(steps=config.diffusion_steps)
        self.parts = Parts(fabric)
        torch.manual_seed(derive_seed(config.seed, "weights"))

    def _set_up(self, name: str, plain: AnyNetworks) -> AnyNetworks:
        """Hand each network and its optimiser to the engine."""
        wrapped = {part: self._add(f"{name}.{part}", network) for part, network in plain.generators()}
        wrapped |= {part: self._add(f"{name}.{part}", network, critic=True) for part, network in plain.critics()}
        return type(plain)(**wrapped)

    def _add(self, key: str, network: nn.Module, *, critic: bool = False) -> nn.Module:
        config = self.settings
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if critic:
            return self.parts.add(key, network, rate=config.discriminator_rate)
        return self.parts.add(key, network, rate=config.generator_rate, ema=config.ema)

    def step(self, number: int) -> dict[str, float]:
        """Update the discriminators, then the generators, of every direction."""
        config = self.settings
        self.parts.set_rates(number, steps=config.steps, final=config.final_rate, warmup=config.warmup)
        draws = {name: self._generator(number, name) for name in self._drawn(number)}
        images = {name: self._batch(name, generator) for name, generator in draws.items()}
        losses: Losses = {}
        self._trainable(critics=True)
        for key, loss in self._critic_losses(images, draws, penalise=number % config.r1_every == 0):
            self.parts.update([key], loss)
            losses[key] = loss
        self._trainable(critics=False)
        own = self._generator_losses(images, draws)
        self.parts.update(self._generator_keys(), torch.stack(list(own.values())).sum())
        self.parts.average()
        return {key: float(value.detach()) for key, value in {**losses, **own}.items()}

    def _drawn(self, number: int) -> Iterable[str]:
        """Return the names of what a step draws images of."""
        return self.directions

    @abstractmethod
    def _critic_losses(self, images: Images, draws: Draws, *, penalise: bool) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of each discriminator under its name; it is updated before the next one is asked for."""

    @abstractmethod
    def _generator_losses(self, images: Images, draws: Draws) -> Losses:
        """Return the losses of all generators, which are summed up."""

    @abstractmethod
    def _model(self, name: str) -> SliceMethod:
        """Return the averaged weights of a direction as the method that runs them."""

    @abstractmethod
    def export(self) -> list[Path]:
        """Write the model packages, fp16."""

    def _generator(self, number: int, name: str) -> Generator:
        """Return the source of all that is random in a step of a direction on this process."""
        seed = derive_seed(self.settings.seed, "step", number, name, self.fabric.global_rank)
        return torch.Generator("cpu").manual_seed(seed)

    def _batch(self, name: str, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Return (target x_0, paired sources (B, N, H, W) or None) on the device."""
        first, second = self.samplers[name].batch(self.settings.batch_size, generator)
        target, source = (first, None) if second is None else (second, first)
        device = self.fabric.device
        return target.to(device), None if source is None else source.to(device)

    def _diffusion_critics(
        self, name: str, x_0: Tensor, condition: Condition, generator: Generator, *, penalise: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses of the discriminators of a direction's diffusive generator."""
        direction = self.directions[name]
        if direction.critic is not None:
            draw, window = self._draw(x_0, generator)
            with self.fabric.autocast():
                loss = self.losses.critic_loss(direction, x_0, condition, draw, window, penalise=penalise)
            yield f"{name}.critic", loss
        if direction.estimate_critic is not None:
            draw, window = self._draw(x_0, generator)
            with self.fabric.autocast():
                loss = self.losses.estimate_critic_loss(direction, x_0, condition, draw, window)
            yield f"{name}.patch_critic", loss

    def _diffusion(
        self, name: str, x_0: Tensor, condition: Condition, generator: Generator, *, paired: bool
    ) -> dict[str, Tensor]:
        """Return the losses of a direction's diffusive generator."""
        direction = self.directions[name]
        draw, window = self._draw(x_0, generator)
        rolled = None
        if paired and self._rolls(generator):
            rolled = self.losses.rollout(direction, condition, draw, generator)
        return self.losses.diffusive_loss(direction, x_0, condition, draw, window, rolled)

    def _draw(self, like: Tensor, generator: Generator) -> tuple[Draw, Window]:
        draw = Draw.make(like, self.settings.latent_size, self.settings.diffusion_steps, generator)
        return draw, self._window(like, generator)

    def _window(self, like: Tensor, generator: Generator) -> Window:
        return Window.make(like.shape, self.settings.adversarial_crop, generator)

    def _rolls(self, generator: Generator) -> bool:
        return self.settings.rollout > 0 and float(torch.rand((), generator=generator)) < self.settings.rollout

    def _trainable(self, *, critics: bool) -> None:
        """Let gradients flow into the discriminators or into the generators; the others are only passed through."""
        for networks in self.contrasts.values():
            for _, network in networks.critics():
                network.requires_grad_(critics)
            for _, network in networks.generators():
                network.requires_grad_(not critics)

    def _generator_keys(self) -> list[str]:
        """Return the names of the networks that the generators' losses train."""
        return [f"{name}.{part}" for name, networks in self.contrasts.items() for part, _ in networks.generators()]

    def state(self) -> dict[str, Any]:
        """Return weights, averages and optimiser states by network."""
        return self.parts.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.parts.load_state(state)

    def modalities(self, name: str) -> tuple[Modality, Modality]:
        """Return (source, target) of a direction."""
        pair = (parse_modality(self.settings.source), parse_modality(self.settings.target))
        return pair if name == "forward" else (pair[1], pair[0])

    def validate(self, number: int) -> dict[str, float]:
        """Score the held-out cases of every direction with the averaged weights and write a picture of each."""
        results: dict[str, float] = {}
        for name, cases in self.held_out.items():
            if cases:
                picture = self.folder / "samples" / f"{name}_{number:07d}.png"
                values = score(self._model(name), self.modalities(name), cases, picture, seed=self.settings.seed)
                results.update({f"{name}.{key}": value for key, value in values.items()})
        return results
