"""Trains SynDiff in one or both directions: networks, optimisers, averaged weights, scores, export."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
from imputer.train.ema import MovingAverage
from imputer.train.scores import HeldOut, score
from imputer.train.ship import export_model
from imputer.train.syndiff import Direction, Draw, SynDiffLosses, Window, make_direction

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BETAS = (0.5, 0.9)  # of Adam
Losses = dict[str, Tensor]


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
        self._plain = plain
        self.averages = {
            f"{name}.{part}": MovingAverage(network.to(fabric.device), config.ema)
            for name, direction in plain.items()
            for part, network in direction.generators()
        }
        self.optimisers: dict[str, Any] = {}
        self.directions = {name: self._set_up(name, direction) for name, direction in plain.items()}

    def _set_up(self, name: str, direction: Direction) -> Direction:
        """Hand each network and its optimiser to the engine."""
        wrapped: dict[str, nn.Module] = {}
        kinds = (
            (direction.generators(), self.config.generator_rate),
            (direction.critics(), self.config.discriminator_rate),
        )
        for networks, rate in kinds:
            for part, network in networks:
                optimiser = torch.optim.Adam(network.parameters(), lr=rate, betas=BETAS)
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                wrapped[part], self.optimisers[f"{name}.{part}"] = self.fabric.setup(network, optimiser)
        return Direction(**wrapped)

    def step(self, number: int) -> dict[str, float]:
        """Update the discriminators, then the generators, of every direction."""
        self._set_rates(number)
        draws = {name: self._generator(number, name) for name in self.directions}
        images = {name: self._batch(name, draws[name]) for name in self.directions}
        losses = self._critic_step(number, images, draws)
        losses.update(self._generator_step(images, draws))
        for name, direction in self._plain.items():
            for part, network in direction.generators():
                self.averages[f"{name}.{part}"].update(network)
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

    def _set_rates(self, number: int) -> None:
        """Cosine from the full rate to the final one, after a linear warm-up."""
        config = self.config
        progress = number / max(config.steps, 1)
        warm = min(1.0, (number + 1) / config.warmup) if config.warmup else 1.0
        for key, optimiser in self.optimisers.items():
            is_critic = key.endswith("critic")
            full = config.discriminator_rate if is_critic else config.generator_rate
            rate = config.final_rate + 0.5 * (full - config.final_rate) * (1 + math.cos(math.pi * progress))
            for group in optimiser.param_groups:
                group["lr"] = rate * warm

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
                self._update([f"{name}.{part}"], loss)
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
        self._update(keys, torch.stack(list(losses.values())).sum())
        return losses

    def _draw(self, like: Tensor, generator: Generator) -> tuple[Draw, Window]:
        draw = Draw.make(like, self.config.latent_size, self.config.diffusion_steps, generator)
        return draw, Window.make(like.shape, self.config.adversarial_crop, generator)

    def _rolls(self, generator: Generator) -> bool:
        return self.config.rollout > 0 and float(torch.rand((), generator=generator)) < self.config.rollout

    def _update(self, keys: list[str], loss: Tensor) -> None:
        for key in keys:
            self.optimisers[key].zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        for key in keys:
            self.optimisers[key].step()

    def _trainable(self, direction: Direction, *, critics: bool) -> None:
        """Let gradients flow into the discriminators or into the generators; the others are only passed through."""
        for _, network in direction.critics():
            network.requires_grad_(critics)
        for _, network in direction.generators():
            network.requires_grad_(not critics)

    def _other(self, name: str) -> str:
        return "backward" if name == "forward" else "forward"

    def _networks(self) -> Iterator[tuple[str, nn.Module]]:
        for name, direction in self._plain.items():
            for part, network in (*direction.generators(), *direction.critics()):
                yield f"{name}.{part}", network

    def state(self) -> dict[str, Any]:
        """Return weights, averages and optimiser states by network."""
        return {
            "networks": {key: network.state_dict() for key, network in self._networks()},
            "averages": {key: average.state_dict() for key, average in self.averages.items()},
            "optimisers": {key: optimiser.state_dict() for key, optimiser in self.optimisers.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        for key, network in self._networks():
            network.load_state_dict(state["networks"][key])
        for key, average in self.averages.items():
            average.load_state_dict(state["averages"][key])
        for key, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][key])

    def modalities(self, name: str) -> tuple[Modality, Modality]:
        """Return (source, target) of a direction."""
        pair = (parse_modality(self.config.source), parse_modality(self.config.target))
        return pair if name == "forward" else (pair[1], pair[0])

    def validate(self, number: int) -> dict[str, float]:
        """Score the held-out cases of every direction with the averaged weights and write a picture of each."""
        results: dict[str, float] = {}
        for name, cases in self.held_out.items():
            if cases:
                tensors = self.averages[f"{name}.diffusive"].tensors
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
                self.averages[f"{name}.diffusive"].tensors,
                *self.modalities(name),
                self.folder,
                self.sizes[name],
            )
            for name in self.directions
        ]
