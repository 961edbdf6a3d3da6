"""Trains DisDiff: one run, one model, both directions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from imputer.methods.base import Identity
from imputer.methods.disdiff import DisDiff as Method
from imputer.nets.checkpoint import load_strictly, read_tensors
from imputer.nets.disdiff import DisDiff
from imputer.train.adversarial_trainer import AdversarialTrainer, Draws, Images, RunData
from imputer.train.diffusive import Condition, other_of
from imputer.train.disdiff import (
    Codes,
    Common,
    Contrast,
    DisDiffLosses,
    Disentangled,
    make_common,
    make_contrast,
    make_decoder,
    make_source,
)
from imputer.train.disdiff_config import DisDiffTrainConfig, model_config
from imputer.train.disdiff_scores import Swapper, content_scores, cycle_scores, spread
from imputer.train.parts import Losses
from imputer.train.ship import data_recipe, export_disdiff

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MEAN_DECAY = 0.99  # of the running mean of the attributes, a step
MEAN_SLICES = 512  # of a contrast, evenly spread, that its mean attribute is taken over
AT_ONCE = 16
_SHIPPED = ("projection", "diffusive", "attribute")  # of a direction, and its content where that is a source too


class DisDiffTrainer(AdversarialTrainer[Contrast]):
    """One run of DisDiff; see `AdversarialTrainer`. A direction's own contrast is its target.

    Of several sources there is one direction. Each step takes images of the target and of one source apart, which
    changes from step to step; the diffusive generator is told the mean content of those that the slice has.
    """

    losses: DisDiffLosses
    contrasts: Mapping[str, Disentangled]

    def __init__(self, config: DisDiffTrainConfig, folder: Path, fabric: Fabric, data: RunData) -> None:
        super().__init__(config, folder, fabric, data)
        self.config = config
        self.losses = DisDiffLosses(config, self.schedule, fabric.device)
        sources = self._source_names()
        plain = {name: make_contrast(config) for name in self.samplers if name not in sources}
        plain_sources = {name: make_source(config) for name in sources}
        common = make_common(config)
        if config.initial:
            self._begin_as(Path(config.initial), common, {**plain, **plain_sources})
        self.directions = {name: self._set_up(name, contrast) for name, contrast in plain.items()}
        self.sources = {name: self._set_up(name, source) for name, source in plain_sources.items()}
        self.contrasts = {**self.directions, **self.sources}
        critic = common.content_critic
        self.common = Common(
            self._add("shared", common.shared),
            None if critic is None else self._add("content_critic", critic, critic=True),
        )
        size = model_config(config).attribute_size
        self._means = {name: torch.zeros(size, device=fabric.device) for name in self.directions}
        self._updates = 0

    def _begin_as(self, path: Path, common: Common, contrasts: Mapping[str, Disentangled]) -> None:
        """Give fresh networks the weights of a package; decoders and discriminators, which it has not, stay fresh.

        ModelError where its tensors are not those of the run's model.
        """
        network = DisDiff(model_config(self.config))
        load_strictly(network, read_tensors(path), path.name)
        common.shared.load_state_dict(network.shared.state_dict())
        for name, contrast in contrasts.items():
            for part, fresh in contrast.generators():
                if place := self._place(name, part):
                    fresh.load_state_dict(network.get_submodule(place).state_dict())

    def _source_names(self) -> list[str]:
        """Return the names of several sources; of one there is a direction instead."""
        return [str(source) for source in self.config.sources] if self.config.other_sources else []

    def _place(self, name: str, part: str) -> str | None:
        """Return where the model has a network of a direction or of one of several sources; None: it has it not."""
        if name in self._source_names():
            return f"{part}.{name}" if part == "content" else None
        shipped = _SHIPPED if self.config.other_sources else ("content", *_SHIPPED)
        return f"{part}.{self.modalities(name)[1]}" if part in shipped else None

    def _critic_losses(self, images: Images, draws: Draws, *, penalise: bool) -> Iterator[tuple[str, Tensor]]:
        with torch.no_grad(), self.fabric.autocast():
            codes = self._codes(images)
        for name, (x_0, partner) in images.items():
            contrast = self.contrasts[name]
            if isinstance(contrast, Contrast) and contrast.is_judged:
                with torch.no_grad(), self.fabric.autocast():
                    of_source = self._partner_content(name, partner)
                    condition = self._condition(name, x_0, of_source, codes, draws[name])
                yield from self._diffusion_critics(name, x_0, condition, draws[name], penalise=penalise)
            if codes is not None:
                window = self._window(x_0, draws[name])
                with self.fabric.autocast():
                    loss = self.losses.swap_critic_loss(contrast, x_0, codes.swapped[other_of(name, images)], window)
                yield f"{name}.swap_critic", loss
        if codes is not None and self.common.content_critic is not None:
            with self.fabric.autocast():
                contents = (codes.content[name] for name in images)
                loss = self.losses.content_critic_loss(self.common, *contents, penalise=penalise)
            yield "content_critic", loss

    def _generator_losses(self, images: Images, draws: Draws) -> Losses:
        losses: Losses = {}
        with self.fabric.autocast():
            codes = self._codes(images)
            contrasts = {name: self.contrasts[name] for name in images}
            for name, (x_0, partner) in images.items():
                parts: dict[str, Tensor] = {}
                of_source = self._partner_content(name, partner)
                condition = (
                    self._condition(name, x_0, of_source, codes, draws[name]) if name in self.directions else None
                )
                if codes is not None:
                    window = self._window(x_0, draws[name])
                    parts.update(self.losses.disentangling_loss(name, contrasts, self.common, x_0, codes, window))
                    if of_source is not None:
                        attribute = codes.attribute[name]
                        parts["pair"] = self.losses.pair_loss(contrasts[name], of_source, attribute, x_0)
                        parts["align"] = self.losses.align_loss(of_source, codes.content[name])
                if condition is not None:
                    parts.update(self._diffusion(name, x_0, condition, draws[name], paired=partner is not None))
                losses.update({f"{name}.{part}": loss for part, loss in parts.items()})
        if codes is not None:
            self._follow(codes)
        return losses

    def _drawn(self, number: int) -> Iterable[str]:
        if not self.sources:
            return self.directions
        return [*self.directions, list(self.sources)[number % len(self.sources)]]

    def _codes(self, images: Images) -> Codes | None:
        if not self.config.disentangle:
            return None
        return self.losses.codes(self.contrasts, self.common, {name: x_0 for name, (x_0, _) in images.items()})

    def _partner_content(self, name: str, partner: Tensor | None) -> Tensor | None:
        """Return the content of what is paired with images of a contrast; None of unpaired ones."""
        if partner is None:
            return None
        if self.sources and name in self.directions:
            return self.losses.encode_together(self.sources, self.common, partner)
        return self.losses.encode(self.directions[other_of(name, self.directions)], self.common, partner)

    def _condition(
        self, name: str, x_0: Tensor, of_source: Tensor | None, codes: Codes | None, generator: Generator
    ) -> Condition:
        """Return what a direction's diffusive generator is told; `of_source` is content that is paired with x_0."""
        own = self.directions[name]
        takes_own = _happens(self.config.own_content, generator)
        if takes_own or (of_source is None and codes is None):
            content = self.losses.encode(own, self.common, x_0) if codes is None else codes.content[name]
        elif of_source is not None:
            content = of_source
        else:
            assert codes is not None
            other = self.directions[other_of(name, self.directions)]
            content = self.losses.encode(other, self.common, codes.swapped[name].detach())
        attribute = None
        if codes is not None:
            takes_mean = _happens(self.config.mean_attribute, generator)
            mean = self._means[name].expand(len(x_0), -1)
            attribute = mean if takes_mean else codes.attribute[name].detach()
        return Condition(own.projection(content), attribute)

    @torch.no_grad()
    def _follow(self, codes: Codes) -> None:
        """Let the running means follow the attributes of a step; at first they forget fast."""
        self._updates += 1
        decay = min(MEAN_DECAY, self._updates / (10 + self._updates))
        for name in self._means.keys() & codes.attribute.keys():
            attribute = codes.attribute[name]
            mean = self.fabric.all_reduce(attribute.detach().float().mean(dim=0), reduce_op="mean")
            assert isinstance(mean, Tensor)
            self._means[name] = self._means[name].lerp(mean, 1 - decay)

    def _trainable(self, *, critics: bool) -> None:
        super()._trainable(critics=critics)
        self.common.shared.requires_grad_(not critics)
        if self.common.content_critic is not None:
            self.common.content_critic.requires_grad_(critics)

    def _generator_keys(self) -> list[str]:
        return [*super()._generator_keys(), "shared"]

    def state(self) -> dict[str, Any]:
        """Return weights, averages and optimiser states by network, and the running means."""
        return {**super().state(), "means": self._means, "mean_updates": self._updates}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        self._means = {name: state["means"][name].to(self.fabric.device) for name in self._means}
        self._updates = int(state["mean_updates"])

    def validate(self, number: int) -> dict[str, float]:
        """Score held-out cases of both directions, and what the disentanglement is to keep to."""
        results = super().validate(number)
        if not self.config.disentangle:
            return results
        model = self._model("forward")
        results |= content_scores(model, self.held_out["forward"])
        if not self.sources:
            decoders = {}
            for name in self.directions:
                decoder = make_decoder(self.config).to(self.fabric.device).eval().requires_grad_(False)
                decoder.load_state_dict(self.parts.averages[f"{name}.decoder"].tensors)
                decoders[str(self.modalities(name)[1])] = decoder
            slices = {str(self.modalities(name)[1]): self._targets(name) for name in self.directions}
            results |= cycle_scores(Swapper(model, decoders), slices)
        return results

    def _targets(self, name: str, most: int = AT_ONCE) -> NDArray[np.float32]:
        return spread(self.samplers[name].stacks, self.config.crop, most)

    def _model(self, name: str) -> Method:
        """Return the averaged weights with the mean attributes of the training slices; it makes both directions."""
        shape = model_config(self.config)
        network = DisDiff(shape)
        network.load_state_dict({**network.state_dict(), **self._tensors()})
        method = Method(
            network.to(self.fabric.device), self.schedule, data_recipe(self.config, 1.0),
            output_scale=1.0, identity=Identity("in training"), shared_noise=self.config.shared_noise,
            joint=bool(self.sources),
        )  # fmt: skip
        for each in self.directions if shape.attribute_size else ():
            target = self.modalities(each)[1]
            slices = self._targets(each, MEAN_SLICES)
            with torch.no_grad():
                network.mean_attribute[target].copy_(method.attribute_of(slices, target, AT_ONCE))
        return method

    def _tensors(self) -> dict[str, Tensor]:
        """Return the averaged weights by their names in the model."""
        places = {key: self._place(*key.split(".")) for key in self.parts.averages if key != "shared"}
        places["shared"] = "shared"
        return {
            f"{places[key]}.{each}": tensor
            for key, average in self.parts.averages.items()
            if places[key] is not None
            for each, tensor in average.tensors.items()
        }

    def export(self) -> list[Path]:
        """Write the model package, fp16."""
        network = self._model("forward").network
        sizes = self.sizes.values()
        return [export_disdiff(self.config, self.schedule, network, self.folder, sizes, self.seen)]


def _happens(share: float, generator: Generator) -> bool:
    return float(torch.rand((), generator=generator)) < share
