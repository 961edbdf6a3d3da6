"""Trains SynDiff in one or both directions: networks, optimisers, averaged weights, scores, export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from imputer.diffusion.schedule import Schedule
from imputer.modality import Modality, parse_modality
from imputer.nets.checkpoint import load_strictly, read_tensors
from imputer.seeds import derive_seed
from imputer.train.config import TrainConfig
from imputer.train.data import SliceSampler
from imputer.train.parts import Losses, Parts
from imputer.train.scores import HeldOut, score
from imputer.train.ship import export_model
from imputer.train.syndiff import Direction, Draw, SynDiffLosses, Window, make_direction

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class SynDiffTrainer:
    """One run of SynDiff; see `imputer.train.loop.Trainer`.

    Parameters
    ----------
    config : the run's settings.
    folder : where pictures and models go.
    fabric : device, precision and distribution.
    samplers : slices by direction; paired batches are (source, target), unpaired ones images of the target.
    held_out : cases to score, by direction.
    sizes : what voxels the sources have, by direction; part of the models' scope.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        fabric: Fabric,
        samplers: Mapping[str, SliceSampler],
        held_out: Mapping[str, list[HeldOut]],
        sizes: Mapping[str, Mapping[str, list[float]]],
    ) -> None:
        self.config, self.folder, self.fabric = config, folder, fabric
        self.samplers, self.held_out, self.sizes = samplers, held_out, sizes
        self.is_main = bool(fabric.is_global_zero)
        self.schedule = Schedule(steps=config.diffusion_steps)
        self.losses = SynDiffLosses(config, self.schedule, fabric.device)
        torch.manual_seed(derive_seed(config.seed, "weights"))
        plain = {name: make_direction(config) for name in samplers}
        if config.initial:
            for direction in plain.values():
                assert isinstance(direction.diffusive, nn.Module)
                load_strictly(direction.diffusive, read_tensors(Path(config.initial)), Path(config.initial).name)
        self.parts = Parts(fabric)
        self.directions = {name: self._set_up(name, direction) for name, direction in plain.items()}

    def _set_up(self, name: str, direction: Direction) -> Direction:
        """Hand each network and its optimiser to the engine."""
        config = self.config
        wrapped: dict[str, nn.Module] = {}
        for _, network in (*direction.generators(), *direction.critics()):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part, network in direction.generators():
            wrapped[part] = self.parts.add(f"{name}.{part}", network, rate=config.generator_rate, ema=config.ema)
        for part, network in direction.critics():
            wrapped[part] = self.parts.add(f"{name}.{part}", network, rate=config.discriminator_rate)
        return Direction(**wrapped)

    def step(self, number: int) -> dict[str, float]:
        """Update the discriminators, then the generators, of every direction."""
        config = self.config
        self.parts.set_rates(number, steps=config.steps, final=config.final_rate, warmup=config.warmup)
        draws = {name: self._generator(number, name) for name in self.directions}
        images = {name: self._batch(name, draws[name]) for name in self.directions}
        losses = self._critic_step(number, images, draws)
        losses.update(self._generator_step(images, draws))
        self.parts.average()
        return {key: float(value.detach()) for key, value in losses.items()}

    def _generator(self, number: int, name: str) -> Generator:
        """Return the source of all that is random in a step of a direction on this process."""
        seed = derive_seed(self.config.seed, "step", number, name, self.fabric.global_rank)
        return torch.Generator("cpu").manual_seed(seed)

    def _batch(self, name: str, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Return (target x_0, paired source or None) on the device."""
        first, second = self.samplers[name].batch(self.config.batch_size, generator)
        target, source = (first, None) if second is None else (second, first)
        device = self.fabric.device
        return target.to(device), None if source is None else source.to(device)

    def _critic_step(
        self, number: int, images: Mapping[str, tuple[Tensor, Tensor | None]], draws: Mapping[str, Generator]
    ) -> Losses:
        losses: Losses = {}
        penalise = number % self.config.r1_every == 0
        for name, direction in self.directions.items():
            if not list(direction.critics()):
                continue
            self._trainable(direction, critics=True)
            x_0, partner = images[name]
            parts: Losses = {}
            with self.fabric.autocast():
                if direction.critic is not None:
                    draw, window = self._draw(x_0, draws[name])
                    parts["critic"] = self.losses.critic_loss(direction, x_0, partner, draw, window, penalise=penalise)
                if direction.patch_critic is not None and partner is not None:
                    draw, window = self._draw(x_0, draws[name])
                    parts["patch_critic"] = self.losses.estimate_critic_loss(direction, x_0, partner, draw, window)
                elif direction.patch_critic is not None:
                    other = self.directions[self._other(name)]
                    x_other = images[self._other(name)][0]
                    parts["patch_critic"] = self.losses.patch_critic_loss(direction, other, x_0, x_other)
            for part, loss in parts.items():
                self.parts.update([f"{name}.{part}"], loss)
                losses[f"{name}.{part}"] = loss
        return losses

    def _generator_step(
        self, images: Mapping[str, tuple[Tensor, Tensor | None]], draws: Mapping[str, Generator]
    ) -> Losses:
        losses: Losses = {}
        for direction in self.directions.values():
            self._trainable(direction, critics=False)
        for name, direction in self.directions.items():
            x_0, partner = images[name]
            with self.fabric.autocast():
                draw, window = self._draw(x_0, draws[name])
                condition = self.losses.condition(direction, x_0, partner)
                rolled = None
                if partner is not None and self._rolls(draws[name]):
                    rolled = self.losses.rollout(direction, partner, draw, draws[name])
                parts = self.losses.diffusive_loss(direction, x_0, condition, draw, window, rolled)
                if direction.translator is not None:
                    other = self.directions[self._other(name)]
                    parts.update(self.losses.translation_loss(direction, other, x_0, condition))
            losses.update({f"{name}.{part}": loss for part, loss in parts.items()})
        keys = [f"{name}.{part}" for name, direction in self.directions.items() for part, _ in direction.generators()]
        self.parts.update(keys, torch.stack(list(losses.values())).sum())
        return losses

    def _draw(self, like: Tensor, generator: Generator) -> tuple[Draw, Window]:
        draw = Draw.make(like, self.config.latent_size, self.config.diffusion_steps, generator)
        return draw, Window.make(like.shape, self.config.adversarial_crop, generator)

    def _rolls(self, generator: Generator) -> bool:
        return self.config.rollout > 0 and float(torch.rand((), generator=generator)) < self.config.rollout

    def _trainable(self, direction: Direction, *, critics: bool) -> None:
        """Let gradients flow into the discriminators or into the generators; the others are only passed through."""
        for _, network in direction.critics():
            network.requires_grad_(critics)
        for _, network in direction.generators():
            network.requires_grad_(not critics)

    def _other(self, name: str) -> str:
        return "backward" if name == "forward" else "forward"

    def state(self) -> dict[str, Any]:
        """Return weights, averages and optimiser states by network."""
        return self.parts.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.parts.load_state(state)

    def modalities(self, name: str) -> tuple[Modality, Modality]:
        """Return (source, target) of a direction."""
        pair = (parse_modality(self.config.source), parse_modality(self.config.target))
        return pair if name == "forward" else (pair[1], pair[0])

    def validate(self, number: int) -> dict[str, float]:
        """Score the held-out cases of every direction with the averaged weights and write a picture of each."""
        results: dict[str, float] = {}
        for name, cases in self.held_out.items():
            if cases:
                tensors = self.parts.averages[f"{name}.diffusive"].tensors
                picture = self.folder / "samples" / f"{name}_{number:07d}.png"
                values = score(self.config, self.schedule, tensors, cases, picture, self.fabric.device)
                results.update({f"{name}.{key}": value for key, value in values.items()})
        return results

    def export(self) -> list[Path]:
        """Write one model package a direction, fp16."""
        return [
            export_model(
                self.config,
                self.schedule,
                self.parts.averages[f"{name}.diffusive"].tensors,
                *self.modalities(name),
                self.folder,
                self.sizes[name],
            )
            for name in self.directions
        ]
