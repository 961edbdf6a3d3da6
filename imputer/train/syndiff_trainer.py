"""Trains SynDiff in one or both directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imputer.methods.base import Identity
from imputer.methods.syndiff import SynDiff
from imputer.nets.ncsnpp import NCSNpp
from imputer.train.adversarial_trainer import AdversarialTrainer, Draws, Images, RunData
from imputer.train.config import TrainConfig
from imputer.train.diffusive import network_config, other_of
from imputer.train.parts import Losses
from imputer.train.ship import data_recipe, export_syndiff
from imputer.train.syndiff import Direction, SynDiffLosses, make_direction
from imputer.train.widen import load_initial

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class SynDiffTrainer(AdversarialTrainer[Direction]):
    """One run of SynDiff; see `AdversarialTrainer`."""

    losses: SynDiffLosses

    def __init__(self, config: TrainConfig, folder: Path, fabric: Fabric, data: RunData) -> None:
        super().__init__(config, folder, fabric, data)
        self.config = config
        self.losses = SynDiffLosses(config, self.schedule, fabric.device)
        plain = {name: make_direction(config) for name in self.samplers}
        if config.initial:
            for direction in plain.values():
                load_initial(direction.diffusive, config)
        self.contrasts = self.directions = {name: self._set_up(name, direction) for name, direction in plain.items()}

    def _critic_losses(self, images: Images, draws: Draws, *, penalise: bool) -> Iterator[tuple[str, Tensor]]:
        for name, direction in self.directions.items():
            x_0, partner = images[name]
            if direction.is_judged:
                with torch.no_grad(), self.fabric.autocast():
                    condition = self.losses.condition(direction, x_0, partner)
                yield from self._diffusion_critics(name, x_0, condition, draws[name], penalise=penalise)
            if direction.translator is not None:
                other_name = other_of(name, self.directions)
                other, x_other = self.directions[other_name], images[other_name][0]
                with self.fabric.autocast():
                    loss = self.losses.patch_critic_loss(direction, other, x_0, x_other)
                yield f"{name}.patch_critic", loss

    def _generator_losses(self, images: Images, draws: Draws) -> Losses:
        losses: Losses = {}
        for name, direction in self.directions.items():
            x_0, partner = images[name]
            with self.fabric.autocast():
                condition = self.losses.condition(direction, x_0, partner)
                parts = self._diffusion(name, x_0, condition, draws[name], paired=partner is not None)
                if direction.translator is not None:
                    other = self.directions[other_of(name, self.directions)]
                    parts.update(self.losses.translation_loss(direction, other, x_0, condition.maps))
            losses.update({f"{name}.{part}": loss for part, loss in parts.items()})
        return losses

    def _model(self, name: str) -> SynDiff:
        generator = NCSNpp(network_config(self.config)).to(self.fabric.device)
        generator.load_state_dict(self.parts.averages[f"{name}.diffusive"].tensors)
        return SynDiff(
            generator, self.schedule, data_recipe(self.config, 1.0), *self.modalities(name),
            output_scale=1.0, identity=Identity("in training"), shared_noise=self.config.shared_noise,
            others=self.config.sources[1:],  # one direction is learnt where there are any
            fusion=self.config.fusion,
        )  # fmt: skip

    def export(self) -> list[Path]:
        """Write one model package a direction, fp16."""
        return [
            export_syndiff(
                self.config,
                self.schedule,
                self.parts.averages[f"{name}.diffusive"].tensors,
                *self.modalities(name),
                self.folder,
                self.sizes[name],
                self.seen,
            )
            for name in self.directions
        ]
