"""Hyper-parameters of an ALDM training run, and the networks that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig
from imputer.train.config import RunConfig

STAGES = ("autoencoder", "spade", "diffusion", "projector")


@dataclass(frozen=True, kw_only=True)
class AldmConfig(RunConfig):
    """Settings of `imputer train aldm`; the networks default to the released ones."""

    data_dir: str
    """Folder of NIfTI volumes, one or more contrasts a subject; searched recursively."""
    modalities: tuple[str, ...] = ("t1", "t1ce", "t2", "flair")
    """Contrasts in the order of the model's classes; a subject may lack some."""
    stages: tuple[str, ...] = STAGES
    """Stages to train, in this order; a stage that is left out must be in the starting model."""
    initial: str = ""
    """Model package whose parts the run starts from; empty: fresh weights."""

    voxel_mm: float = 1.0
    """Size of the model's voxels, mm."""
    white: float = 4.0
    """Intensity mapped to 1, in units of the volume's mean over the head."""
    patch: int = 64
    """Side of the autoencoder's training patches, voxels."""
    latent_crop: int = 24
    """Side of the latents that the later stages train on, latent voxels; smaller latents are taken whole."""
    variants: int = 3
    """Versions of a source's intensities, per mirroring, that the later stages see."""
    intensity_strength: str = "weak"
    """How far gain, gamma and bias field of these versions are changed: strong, weak or none."""
    flip: float = 0.1
    """Probability that a patch is mirrored along an axis; latents are mirrored left to right only."""

    width: int = 64
    """Channels of the autoencoder's first level."""
    channel_multipliers: tuple[int, ...] = (1, 1, 2)
    """Channels of each level in units of the width; every level but the last halves the size."""
    blocks_per_level: int = 1
    """Residual blocks a level of the encoder; the decoder has one more."""
    latent_channels: int = 4
    """Channels of the latent."""
    codebook_size: int = 8192
    """Entries of the codebook."""
    groups: int = 32
    """Groups of every group norm of the autoencoder."""
    spade_widths: tuple[int, ...] = (128, 256, 128)
    """Channels between MS-SPADE's blocks."""
    spade_hidden: int = 64
    """Channels of its modulation networks."""
    unet_width: int = 128
    """Channels of the UNet's first level; the projector's too."""
    unet_multipliers: tuple[int, ...] = (1, 1, 2)
    """Channels of each level of the UNet in units of its width."""
    unet_blocks: int = 1
    """Residual blocks a level of the UNet."""
    attention_factors: tuple[int, ...] = (2, 4)
    """Reductions of size at which the UNet has self-attention."""
    head_channels: int = 32
    """Channels of an attention head."""
    unet_groups: int = 32
    """Groups of every group norm of the UNet."""
    condition: str = "embedding"
    """How the class reaches the UNet: embedding, or cross_attention as in the paper."""
    source_latent: bool = True
    """Whether UNet and projector see the source's latent beside the target-like one; the paper's do not."""
    projector_steps_back: int = 4
    """Reverse steps of the projector."""
    discriminator_width: int = 32
    """Channels of the discriminators' first level."""

    autoencoder_steps: int = 20000
    """Optimiser steps of the stage."""
    spade_steps: int = 10000
    """Optimiser steps of the stage."""
    diffusion_steps: int = 20000
    """Optimiser steps of the stage."""
    projector_steps: int = 10000
    """Optimiser steps of the stage."""
    autoencoder_rate: float = 1e-4
    """Adam's learning rate of the stage."""
    spade_rate: float = 1e-4
    """Adam's learning rate of the stage."""
    diffusion_rate: float = 1e-4
    """Adam's learning rate of the stage."""
    projector_rate: float = 1e-4
    """Adam's learning rate of the stage."""
    warmup: int = 100
    """Steps of linear warm-up of the learning rates."""

    codebook_after: float = 0.25
    """Share of the autoencoder's steps before the codebook comes in, filled with latents of the data."""
    codebook_weight: float = 1.0
    """Pull of the entries towards the latents."""
    commitment_weight: float = 0.25
    """Pull of the latents towards their entries."""
    unquantised_share: float = 0.3
    """Share of the later autoencoder steps that decode the latent as it is, since sampled latents are not quantised."""
    structure_weight: float = 0.0
    """1 - SSIM between volume and reconstruction; beyond the paper, 0 leaves it out."""
    patch_weight: float = 0.0
    """Hinge loss of a 3-D patch discriminator on reconstructions; 0 as in the released recipe."""
    latent_beta: float = 0.5
    """Difference of latents (whose variance is 1) up to which their L1 losses are quadratic; 0 as in the paper."""
    latent_limit: float = 8.0
    """Greatest magnitude of a target's latent (whose variance is 1) in use, where the model cuts it; 0: any."""
    cycle_weight: float = 0.1
    """L1 of MS-SPADE's way to the target and back."""
    class_weight: float = 0.0
    """Class discriminator (classes and fake) on target-like latents; 0 leaves it out."""
    adversarial_weight: float = 0.1
    """Time-conditional discriminator on the projector's latents; 0 leaves it out."""
    pixel_weight: float = 1.0
    """L1 between the projector's estimate and the real target's latent."""
    rollout: float = 0.5
    """Share of the projector's steps whose x_t comes from its own chain instead of the true latent."""

    validate_every: int = 0
    """Steps between scores and pictures of held-out subjects; 0: only at the end of a stage."""
    validation_pairs: int = 4
    """Pairs of contrasts of each held-out subject that are scored."""


@dataclass(frozen=True)
class StageSettings:
    """What the training loop asks of a stage; see `imputer.train.config.LoopSettings`."""

    steps: int
    log_every: int
    checkpoint_every: int
    validate_every: int


def stage_settings(config: AldmConfig, stage: str) -> StageSettings:
    """Return the loop's settings of a stage."""
    steps: int = getattr(config, f"{stage}_steps")
    return StageSettings(steps, config.log_every, config.checkpoint_every, config.validate_every)


def first_stage_config(config: AldmConfig) -> FirstStageConfig:
    """Return the shape of autoencoder and MS-SPADE. ValueError where the numbers make no network."""
    return FirstStageConfig(
        width=config.width,
        channel_multipliers=config.channel_multipliers,
        blocks_per_level=config.blocks_per_level,
        latent_channels=config.latent_channels,
        codebook_size=config.codebook_size,
        groups=config.groups,
        classes=len(config.modalities),
        spade_widths=config.spade_widths,
        spade_hidden=config.spade_hidden,
    )


def unet_config(config: AldmConfig) -> LatentUNetConfig:
    """Return the shape of UNet and projector. ValueError where the numbers make no network."""
    return LatentUNetConfig(
        width=config.unet_width,
        channel_multipliers=config.unet_multipliers,
        blocks_per_level=config.unet_blocks,
        attention_factors=config.attention_factors,
        head_channels=config.head_channels,
        inputs=(3 if config.source_latent else 2) * config.latent_channels,
        outputs=config.latent_channels,
        classes=len(config.modalities),
        condition=config.condition,
        groups=config.unet_groups,
    )
