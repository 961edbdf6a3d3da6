"""Hyper-parameters of a DisDiff training run, and the networks that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imputer.modality import parse_modality
from imputer.nets.disdiff import DisDiffConfig
from imputer.train.config import SliceConfig
from imputer.train.diffusive import network_config

# What the numbers may be, both ends included, beside those of every run; the networks hold their own to sense.
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("own_content", "mean_attribute"), (0, 1)),
    "content_width": (4, 1024),
    **{
        f"{name}_weight": (0, 10**6)
        for name in ("reconstruction", "swap", "cycle", "content", "attribute", "magnitude", "pair", "align")
    },
}


@dataclass(frozen=True, kw_only=True)
class DisDiffTrainConfig(SliceConfig):
    """Settings of `imputer train disdiff`; the defaults are the paper's where it has one.

    The losses' weights, which it has not, are in the manner of DRIT++.

    Ablations: `content_weight = 0` trains without content discriminator. `disentangle = false` leaves out attributes,
    decoders and all their losses: content encoders that the diffusive generators' losses alone train.
    """

    batch_size: int = 4
    """Slices a step and device."""
    generator_rate: float = 1e-4
    """Adam's learning rate of all encoders and generators."""

    disentangle: bool = True
    """Whether content and attribute are learnt apart; false is the ablation."""
    content_width: int = 32
    """Channels of the content encoders' and decoders' first level; the content has four times as many."""
    content_blocks: int = 3
    """Residual blocks of each content encoder, and of each decoder."""
    shared_blocks: int = 1
    """Residual blocks at the content encoders' end that both contrasts share."""
    content_maps: int = 8
    """Channels in which a diffusive generator sees the content."""
    attribute_width: int = 16
    """Channels of the attribute encoders' first convolution."""
    attribute_size: int = 8
    """Length of an attribute."""

    reconstruction_weight: float = 10.0
    """L1 between an image and what its own content and attribute give."""
    swap_weight: float = 1.0
    """Adversarial loss of images of one contrast's content and the other's attribute."""
    cycle_weight: float = 10.0
    """L1 between an image and what comes of swapping and back."""
    content_weight: float = 1.0
    """Adversarial loss of the content: it shall not tell its contrast; 0 trains without content discriminator."""
    attribute_weight: float = 1.0
    """L1 between an attribute and that of the image which was made with it."""
    magnitude_weight: float = 0.01
    """Mean square of the attributes, which keeps them near the latent's size."""
    pair_weight: float = 10.0
    """Paired only: L1 between the real target and what the source's content and the target's attribute give."""
    align_weight: float = 1.0
    """Paired only: 1 - cosine of the contents of a slice's two contrasts."""
    own_content: float = 0.1
    """Share of steps whose diffusive generator sees the content of the target itself, as where a scan is given another
    look of its own contrast."""
    mean_attribute: float = 0.5
    """Share of steps whose diffusive generator gets the contrast's mean attribute instead of the image's own."""


def model_config(config: DisDiffTrainConfig) -> DisDiffConfig:
    """Return the shape of the model that comes out. ValueError where the numbers make none.

    It goes between both contrasts, or of several sources from them to the target.
    """
    size = config.attribute_size if config.disentangle else 0
    plain = network_config(config)
    sources, target = tuple(source.value for source in config.sources), parse_modality(config.target).value
    between = (*sources, target)
    return DisDiffConfig(
        sources=sources if config.other_sources else between,
        targets=(target,) if config.other_sources else between,
        generator=replace(plain, image_channels=1 + config.content_maps, latent_size=plain.latent_size + size),
        content_width=config.content_width,
        content_blocks=config.content_blocks,
        shared_blocks=config.shared_blocks,
        attribute_width=config.attribute_width,
        attribute_size=size,
    )
