"""The stages of ALDM's training, one class each; every one trains a part of the model and leaves the others alone.

autoencoder: volume to latent and back, codebook. spade: MS-SPADE between latents of contrasts. diffusion: the UNet that
predicts noise. projector: SynDiff's few-step adversarial diffusion on the latent, which the paper has not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from imputer.diffusion.ddim import LinearSchedule
from imputer.diffusion.schedule import Schedule
from imputer.nets.aldm import ALDM, AutoencoderModel, unet_input
from imputer.nets.discriminators3d import LatentDiscriminator, PatchDiscriminator3d
from imputer.nets.vqgan3d import FirstStage
from imputer.seeds import derive_seed
from imputer.train.aldm_config import AldmConfig, stage_settings
from imputer.train.aldm_losses import (
    class_loss,
    codebook_loss,
    hinge_fake,
    hinge_real,
    latent_loss,
    noisy,
    straight_through,
)
from imputer.train.chain import Chain
from imputer.train.codebook import entries_of
from imputer.train.latents import LatentBank, LatentPair
from imputer.train.losses import Critic, fake_loss, real_loss, structure_loss
from imputer.train.parts import Losses, Parts
from imputer.train.subjects import PatchSampler

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Part = Callable[..., Any]


class Stage(ABC):
    """What all stages share.

    Parameters
    ----------
    config : the run's settings.
    fabric : device, precision and distribution.
    model : all parts up to this stage's, on the device.
    """

    name: str
    trained: str
    """Prefix, in the model, of the tensors that the stage trains."""

    def __init__(self, config: AldmConfig, fabric: Fabric, model: AutoencoderModel) -> None:
        self.config, self.fabric, self.model = config, fabric, model
        self.is_main = bool(fabric.is_global_zero)
        self.settings = stage_settings(config, self.name)
        self.parts = Parts(fabric)
        self.rate = float(getattr(config, f"{self.name}_rate"))

    @abstractmethod
    def losses(self, number: int, generator: Generator) -> Losses:
        """Take the step of a number and return its losses; all that is random comes from the generator."""

    def step(self, number: int) -> dict[str, float]:
        """Train one step and return its losses."""
        config = self.config
        self.parts.set_rates(number, steps=self.settings.steps, final=config.final_rate, warmup=config.warmup)
        seed = derive_seed(config.seed, "step", self.name, number, self.fabric.global_rank)
        losses = self.losses(number, torch.Generator("cpu").manual_seed(seed))
        self.parts.average()
        return {name: float(value.detach()) for name, value in losses.items()}

    def state(self) -> dict[str, Any]:
        """Return weights, averages and optimiser states by network."""
        return self.parts.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.parts.load_state(state)

    def averaged(self) -> dict[str, Tensor]:
        """Return the tensors of the whole model with the averaged weights of this stage's part."""
        tensors = {name: tensor.detach().float().cpu().clone() for name, tensor in self.model.state_dict().items()}
        average = self.parts.averages["network"].tensors
        tensors.update({f"{self.trained}{name}": tensor.cpu().clone() for name, tensor in average.items()})
        return tensors

    def _learn(self, names: list[str], losses: Losses) -> None:
        self.parts.update(names, torch.stack(list(losses.values())).sum())


class Reconstruction(nn.Module):
    """A first stage called once a step, as distributed training wants it."""

    def __init__(self, first_stage: FirstStage) -> None:
        super().__init__()
        self.first_stage = first_stage

    def forward(self, x: Tensor, *, quantised: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return latents before the codebook, their entries, and the reconstruction of x (B, 1, I, J, K)."""
        z = self.first_stage.features(x).float()
        entries = self.first_stage.quantize(z)
        return z, entries, self.first_stage.decode(straight_through(z, entries) if quantised else z)


class AutoencoderStage(Stage):
    """Stage 1: L1, codebook, and on request SSIM and a patch discriminator."""

    name, trained = "autoencoder", ""

    def __init__(self, config: AldmConfig, fabric: Fabric, model: AutoencoderModel, patches: PatchSampler) -> None:
        super().__init__(config, fabric, model)
        self.patches = patches
        self.plain = Reconstruction(model.first_stage)
        self.network: Part = self.parts.add("network", self.plain, rate=self.rate, ema=config.ema)
        self.first_with_codebook = round(config.codebook_after * self.settings.steps)
        self.critic: Part | None = None
        if config.patch_weight > 0:
            critic = PatchDiscriminator3d(width=config.discriminator_width)
            self.critic = self.parts.add("critic", critic, rate=config.discriminator_rate)

    def losses(self, number: int, generator: Generator) -> Losses:
        """Reconstruct patches."""
        config = self.config
        if number == self.first_with_codebook:
            self._fill_codebook()
        has_codebook = number >= self.first_with_codebook
        quantised = has_codebook and float(torch.rand((), generator=generator)) >= config.unquantised_share
        x = self.patches.batch(config.batch_size, generator).to(self.fabric.device)
        with self.fabric.autocast():
            z, entries, y = self.network(x, quantised=quantised)
        y = y.float()
        losses = {"l1": F.l1_loss(y, x)}
        if has_codebook:
            losses["codebook"] = config.codebook_weight * codebook_loss(z, entries, config.commitment_weight)
        else:
            losses["codebook"] = 0.0 * entries.sum()  # every parameter has a gradient, as distributed training wants
        if config.structure_weight > 0:
            losses["structure"] = config.structure_weight * structure_loss(y, x, stride=2, least_peak=1.0)
        judged: Losses = {}
        if self.critic is not None:
            judged["critic"] = self._critic_step(x, y.detach())
            with self.fabric.autocast():
                losses["patch"] = -config.patch_weight * self.critic(y).float().mean()
        self._learn(["network"], losses)
        return {**losses, **judged}

    def _critic_step(self, x: Tensor, y: Tensor) -> Tensor:
        assert self.critic is not None
        with self.fabric.autocast():
            loss = hinge_real(self.critic(x).float()) + hinge_fake(self.critic(y).float())
        self.parts.update(["critic"], loss)
        return loss

    @torch.no_grad()
    def _fill_codebook(self) -> None:
        """Put latents of the data into the codebook: random entries would never be chosen."""
        generator = torch.Generator("cpu").manual_seed(derive_seed(self.config.seed, "codebook"))
        features = self._features(self.model.first_stage, generator)
        entries = entries_of(features, self.config.codebook_size, generator)
        weight = self.model.first_stage.quantize.embedding.weight
        weight.copy_(entries)
        self.parts.averages["network"].tensors["first_stage.quantize.embedding.weight"].copy_(weight)

    @torch.no_grad()
    def _features(self, first_stage: FirstStage, generator: Generator) -> Tensor:
        """Return latents (N, C) of patches, before the codebook."""
        per_patch = (self.config.patch // first_stage.config.factor) ** 3
        count = min(64, max(8, -(-4 * self.config.codebook_size // per_patch)))
        features = []
        for _ in range(count):
            x = self.patches.batch(1, generator).to(self.fabric.device)
            with self.fabric.autocast():
                z = first_stage.features(x).float()
            features.append(z.movedim(1, -1).reshape(-1, z.shape[1]))
        return torch.cat(features)

    @torch.no_grad()
    def averaged(self) -> dict[str, Tensor]:
        """Return the model's tensors, its latents brought to mean 0 and variance 1.

        Shift and scale go into the convolutions before and after the latent and into the codebook: the autoencoder
        computes what it did, and the diffusion finds latents as wide as its noise.
        """
        tensors = super().averaged()
        model = deepcopy(self.model)  # what is being trained stays as it is
        model.load_state_dict(tensors)
        generator = torch.Generator("cpu").manual_seed(derive_seed(self.config.seed, "latents"))
        features = self._features(model.first_stage, generator).double().cpu()
        shift, scale = features.mean(dim=0).float(), float(features.std(dim=0).square().mean().sqrt())
        prefix = "first_stage."
        after = tensors[f"{prefix}post_quant_conv.weight"]
        tensors[f"{prefix}post_quant_conv.bias"] += torch.einsum("oizyx,i->o", after, shift)
        tensors[f"{prefix}post_quant_conv.weight"] = after * scale
        tensors[f"{prefix}quant_conv.weight"] /= scale
        tensors[f"{prefix}quant_conv.bias"] = (tensors[f"{prefix}quant_conv.bias"] - shift) / scale
        book = f"{prefix}quantize.embedding.weight"
        tensors[book] = (tensors[book] - shift) / scale
        return tensors


class LatentStage(Stage):
    """A stage on latents: draws pairs and keeps the first stage as it is."""

    def __init__(self, config: AldmConfig, fabric: Fabric, model: AutoencoderModel, bank: LatentBank) -> None:
        super().__init__(config, fabric, model)
        self.bank = bank

    def _pair(self, generator: Generator) -> LatentPair:
        pair, device = self.bank.batch(self.config.batch_size, generator), self.fabric.device
        tensors = (pair.source, pair.target, pair.source_class, pair.target_class)
        return LatentPair(*(tensor.to(device) for tensor in tensors))

    def _target_like(self, pair: LatentPair) -> Tensor:
        """Return MS-SPADE's latent of the source for the target's class, without a gradient."""
        with torch.no_grad(), self.fabric.autocast():
            return self.model.to_target(pair.source, pair.target_class).float()


class SpadeStage(LatentStage):
    """Stage 2: L1 to the target's latent, the way back, and on request a class discriminator."""

    name, trained = "spade", "first_stage.spade."

    def __init__(self, config: AldmConfig, fabric: Fabric, model: AutoencoderModel, bank: LatentBank) -> None:
        super().__init__(config, fabric, model, bank)
        spade = model.first_stage.spade
        assert spade is not None
        self.network: Part = self.parts.add("network", spade, rate=self.rate, ema=config.ema)
        self.critic: Part | None = None
        if config.class_weight > 0:
            width, outputs = config.discriminator_width, len(config.modalities) + 1  # the last one says fake
            critic = PatchDiscriminator3d(config.latent_channels, width, outputs, stride=1)
            self.critic = self.parts.add("critic", critic, rate=config.discriminator_rate)

    def losses(self, number: int, generator: Generator) -> Losses:
        """Translate latents."""
        config, pair = self.config, self._pair(generator)
        with self.fabric.autocast():
            like = self.network(pair.source, pair.target_class)
            losses = {"l1": latent_loss(like.float(), pair.target, config.latent_beta)}
            if config.cycle_weight > 0:
                back = self.network(like, pair.source_class)
                losses["cycle"] = config.cycle_weight * latent_loss(back.float(), pair.source, config.latent_beta)
            if self.critic is not None:
                losses["class"] = config.class_weight * class_loss(self.critic(like).float(), pair.target_class)
        self._learn(["network"], losses)
        if self.critic is not None:
            losses["critic"] = self._critic_step(pair, like.detach())
        return losses

    def _critic_step(self, pair: LatentPair, like: Tensor) -> Tensor:
        assert self.critic is not None
        fake = torch.full_like(pair.target_class, len(self.config.modalities))
        with self.fabric.autocast():
            loss = class_loss(self.critic(pair.target).float(), pair.target_class)
            loss = loss + class_loss(self.critic(like).float(), fake)
        self.parts.update(["critic"], loss)
        return loss


class DiffusionStage(LatentStage):
    """Stage 3: the UNet learns the noise in z_t (Eq. 4)."""

    name, trained = "diffusion", "unet."

    def __init__(self, config: AldmConfig, fabric: Fabric, model: ALDM, bank: LatentBank) -> None:
        super().__init__(config, fabric, model, bank)
        self.schedule = LinearSchedule()
        self.alpha_bars = torch.tensor(self.schedule.alpha_bars, dtype=torch.float32, device=fabric.device)
        self.plain = model.unet
        self.network: Part = self.parts.add("network", model.unet, rate=self.rate, ema=config.ema)

    def losses(self, number: int, generator: Generator) -> Losses:
        """Predict the noise of latents at random times."""
        pair, device = self._pair(generator), self.fabric.device
        noise = torch.randn(pair.target.shape, generator=generator).to(device)
        t = torch.randint(self.schedule.times, (len(noise),), generator=generator).to(device)
        z_t = noisy(pair.target, noise, self.alpha_bars, t)
        latents = unet_input(self.plain, z_t, pair.source, self._target_like(pair))
        with self.fabric.autocast():
            predicted = self.network(latents, t, pair.target_class)
        losses = {"noise": F.mse_loss(predicted.float(), noise)}
        self._learn(["network"], losses)
        return losses


class ProjectorStage(LatentStage):
    """Stage 4: the clean latent from z_t in a few large steps, L1 and SynDiff's time-conditional discriminator."""

    name, trained = "projector", "projector."

    def __init__(self, config: AldmConfig, fabric: Fabric, model: ALDM, bank: LatentBank) -> None:
        super().__init__(config, fabric, model, bank)
        assert model.projector is not None
        self.chain = Chain(Schedule(steps=config.projector_steps_back), fabric.device)
        self.plain = model.projector
        self.network: Part = self.parts.add("network", model.projector, rate=self.rate, ema=config.ema)
        self.critic: Part | None = None
        if config.adversarial_weight > 0:
            classes, width = len(config.modalities), config.discriminator_width
            critic = Critic(LatentDiscriminator(config.latent_channels, classes, width))
            self.critic = self.parts.add("critic", critic, rate=config.discriminator_rate)

    def losses(self, number: int, generator: Generator) -> Losses:
        """Estimate clean latents; the discriminator is trained first."""
        config, pair, device = self.config, self._pair(generator), self.fabric.device
        like = self._target_like(pair)

        def fresh() -> Tensor:
            return torch.randn(pair.target.shape, generator=generator).to(device)

        def estimate(z_t: Tensor, t: Tensor) -> Tensor:
            with self.fabric.autocast():
                out = self.network(unet_input(self.plain, z_t, pair.source, like), t, pair.target_class)
            estimated: Tensor = like + out.float()
            return estimated

        t = torch.randint(config.projector_steps_back, (len(like),), generator=generator).to(device)
        before, z_t = self.chain.diffuse(pair.target, t, fresh(), fresh())
        told = (t, pair.source, like, pair.target_class)
        losses: Losses = {}
        if self.critic is not None:
            with torch.no_grad():
                back = self.chain.step_back(estimate(z_t, t), z_t, t, fresh())
            gamma = config.r1_gamma if number % config.r1_every == 0 else 0.0
            losses["critic"] = self._critic_step(before, back, (z_t, *told), gamma)
        rolls = float(torch.rand((), generator=generator)) < config.rollout
        seen = self.chain.rollout(estimate, fresh(), t, generator) if rolls else z_t
        z_0 = estimate(seen, t)
        own = {"pixel": config.pixel_weight * latent_loss(z_0, pair.target, config.latent_beta)}
        if self.critic is not None:
            back = self.chain.step_back(z_0, seen, t, fresh())
            with self.fabric.autocast():
                logits, _ = self.critic(back, seen, *told)
            own["adversarial"] = config.adversarial_weight * real_loss(logits.float())
        self._learn(["network"], own)
        return {**own, **losses}

    def _critic_step(self, before: Tensor, back: Tensor, told: tuple[Tensor, ...], gamma: float) -> Tensor:
        """Train the discriminator on z_{t-1} of the data, `before`, and of the projector, `back`, from the same z_t."""
        assert self.critic is not None
        with self.fabric.autocast():
            logits, penalty = self.critic(before, *told, gamma=gamma)
            judged, _ = self.critic(back, *told)
        loss: Tensor = real_loss(logits.float()) + penalty.float() + fake_loss(judged.float())
        self.parts.update(["critic"], loss)
        return loss
