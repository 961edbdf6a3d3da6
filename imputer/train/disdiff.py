"""DisDiff's networks in training and their losses, unpaired as in the paper or paired, our extension.

Zhang et al., DisDiff: Disentanglement Diffusion Network for MR Imaging Translation. Equation numbers are theirs. What
they leave open, and what is ours:

- The diffusive generator of contrast c is trained on real images m_c. Unpaired its content is that of the translated
  image, E_c^o(m_{c->o}) of the other contrast o, as at inference it is E_c^o of a real source; Eq. 10 has z_c of m_c
  itself, which stays for a share of the steps (`own_content`). Paired it is the content of the real source.
- Its losses train the content encoders, but neither the translation, which could smuggle, nor the attribute encoders:
  what an attribute means is up to the disentanglement.
- It gets the image's own attribute or the contrast's running mean (`mean_attribute`), which inference has.
- Eq. 6 takes E_c^i of m_{i->j}; that image is of contrast j, so it is E_c^j here.
- Eq. 7: the discriminator learns of which contrast a content is, the encoders make it undecided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.diffusion.schedule import Schedule
from imputer.methods.slices import shares_of
from imputer.nets.discriminators import PatchDiscriminator
from imputer.nets.disdiff import (
    AttributeEncoder,
    ContentDiscriminator,
    ContentEncoder,
    Decoder,
    Projection,
    SharedContent,
    mean_content,
)
from imputer.nets.ncsnpp import NCSNpp
from imputer.train.diffusive import (
    DiffusionLosses,
    Diffusive,
    Networks,
    Window,
    estimate_critic,
    other_of,
    time_critic,
)
from imputer.train.disdiff_config import DisDiffTrainConfig, model_config
from imputer.train.losses import Critic, fake_loss, real_loss


@dataclass(kw_only=True)
class Disentangled(Networks):
    """Networks that take images of one contrast apart and put them together: all that one of several sources has.

    Parameters
    ----------
    content : E_c of its images, but for the end that all contrasts share.
    attribute, decoder, swap_critic : E_a, G, and the discriminator D of images made of another contrast's content;
        absent without disentanglement.
    """

    GENERATORS: ClassVar[tuple[str, ...]] = ("content", "attribute", "decoder")
    CRITICS: ClassVar[tuple[str, ...]] = ("swap_critic",)

    content: nn.Module
    attribute: nn.Module | None = None
    decoder: nn.Module | None = None
    swap_critic: nn.Module | None = None


@dataclass(kw_only=True)
class Contrast(Disentangled, Diffusive):
    """Networks of a contrast that is made.

    Parameters
    ----------
    projection : brings content to the maps that its diffusive generator sees.
    """

    GENERATORS = ("diffusive", "content", "projection", "attribute", "decoder")
    CRITICS = ("critic", "patch_critic", "swap_critic")

    projection: nn.Module


def make_contrast(config: DisDiffTrainConfig) -> Contrast:
    """Build the networks of a contrast that is made, with fresh weights from torch's global generator."""
    shape = model_config(config)
    return Contrast(
        diffusive=NCSNpp(shape.generator),
        critic=time_critic(config),
        patch_critic=estimate_critic(config),
        projection=Projection(shape.content_channels, shape.maps),
        **dict(make_source(config).networks()),
    )


def make_source(config: DisDiffTrainConfig) -> Disentangled:
    """Build the networks of a contrast that is one of several sources."""
    shape, apart = model_config(config), config.disentangle
    return Disentangled(
        content=ContentEncoder(shape.content_width, shape.content_blocks),
        attribute=AttributeEncoder(shape.attribute_width, shape.attribute_size) if apart else None,
        decoder=make_decoder(config) if apart else None,
        swap_critic=PatchDiscriminator(config.discriminator_width) if apart else None,
    )


def make_decoder(config: DisDiffTrainConfig) -> Decoder:
    """Build the decoder of a contrast with fresh weights."""
    return Decoder(config.content_width, config.content_blocks, config.attribute_size)


@dataclass
class Common:
    """Networks that both contrasts share: the end of E_c, and the content discriminator D_c, if any."""

    shared: nn.Module
    content_critic: nn.Module | None = None


def make_common(config: DisDiffTrainConfig) -> Common:
    """Build them with fresh weights."""
    shape = model_config(config)
    has_critic = config.disentangle and config.content_weight > 0
    return Common(
        SharedContent(shape.content_channels, shape.shared_blocks),
        Critic(ContentDiscriminator(shape.content_channels, config.discriminator_width)) if has_critic else None,
    )


@dataclass(frozen=True)
class Codes:
    """What the disentanglement makes of images m_c, by direction: z_c, z_a and the translation m_{c->o} (Eqs. 8, 9)."""

    content: Mapping[str, Tensor]
    attribute: Mapping[str, Tensor]
    swapped: Mapping[str, Tensor]


class DisDiffLosses(DiffusionLosses):
    """Losses of DisDiff; a pure function of the networks, the images and the draws.

    Images and codes are by direction: "forward" has the second contrast, whose generator it trains.
    """

    def __init__(self, config: DisDiffTrainConfig, schedule: Schedule, device: torch.device) -> None:
        super().__init__(config, schedule, device)
        self.config = config

    def encode_together(self, sources: Mapping[str, Disentangled], common: Common, x: Tensor) -> Tensor:
        """Return the mean z_c of what images (B, N, H, W) of several sources show.

        Those that show nothing are encoded too: each encoder takes part in every step, as several devices need it.
        """
        encoded = {n: self.encode(source, common, x[:, n : n + 1]) for n, source in enumerate(sources.values())}
        return mean_content(encoded, shares_of(x))

    def encode(self, contrast: Disentangled, common: Common, x: Tensor) -> Tensor:
        """Return z_c of images x (B, 1, H, W) of a contrast."""
        content: Tensor = common.shared(contrast.content(x))
        return content

    def codes(self, contrasts: Mapping[str, Disentangled], common: Common, images: Mapping[str, Tensor]) -> Codes:
        """Take the images of both contrasts apart and put them together with attributes swapped (Eqs. 8 and 9)."""
        content = {name: self.encode(contrasts[name], common, x) for name, x in images.items()}
        attribute = {name: _called(contrasts[name].attribute, x) for name, x in images.items()}
        swapped = {
            name: _called(contrasts[other].decoder, content[name], attribute[other])
            for name, other in ((name, other_of(name, images)) for name in images)
        }
        return Codes(content, attribute, swapped)

    def swap_critic_loss(self, contrast: Disentangled, x: Tensor, swapped: Tensor, window: Window) -> Tensor:
        """Loss of a contrast's discriminator: its real images against those made of the other one's content."""
        real, synthetic = (_called(contrast.swap_critic, window(each)).float() for each in (x, swapped))
        return real_loss(real) + fake_loss(synthetic)

    def content_critic_loss(self, common: Common, first: Tensor, second: Tensor, *, penalise: bool) -> Tensor:
        """Loss of the content discriminator, on the content of each contrast (Eq. 7), with R1 when asked."""
        assert common.content_critic is not None
        gamma = self.config.r1_gamma if penalise else 0.0
        (one, steep), (two, steep_too) = (common.content_critic(each, gamma=gamma) for each in (first, second))
        loss: Tensor = real_loss(one) + fake_loss(two) + steep + steep_too
        return loss

    def disentangling_loss(
        self, name: str, contrasts: Mapping[str, Disentangled], common: Common, x: Tensor, codes: Codes, window: Window
    ) -> dict[str, Tensor]:
        """Losses of the encoders and decoders for the images x of the contrast called `name`."""
        config, own = self.config, contrasts[name]
        other_name = other_of(name, contrasts)
        other, attribute = contrasts[other_name], codes.attribute[name]
        swapped = codes.swapped[name]
        again = _called(own.decoder, codes.content[name], attribute)
        back = _called(own.decoder, self.encode(other, common, swapped), attribute)
        read, judged = _called(other.attribute, swapped), _called(other.swap_critic, window(swapped))
        losses = {
            "reconstruction": config.reconstruction_weight * F.l1_loss(again.float(), x),
            "swap": config.swap_weight * real_loss(judged.float()),
            "cycle": config.cycle_weight * F.l1_loss(back.float(), x),
            "attribute": config.attribute_weight
            * F.l1_loss(read.float(), codes.attribute[other_name].detach().float()),
            "magnitude": config.magnitude_weight * attribute.float().square().mean(),
        }
        if common.content_critic is not None:
            logits, _ = common.content_critic(codes.content[name])
            losses["content"] = config.content_weight * undecided_loss(logits)
        return losses

    def pair_loss(self, own: Disentangled, source_content: Tensor, attribute: Tensor, x: Tensor) -> Tensor:
        """Paired: L1 between x and what the real source's content gives with x's attribute."""
        made = _called(own.decoder, source_content, attribute)
        return self.config.pair_weight * F.l1_loss(made.float(), x)

    def align_loss(self, source_content: Tensor, content: Tensor) -> Tensor:
        """Paired: 1 - cosine of the contents of a slice's two contrasts, which shall be one."""
        return self.config.align_weight * (1 - agreement(source_content.float(), content.float()).mean())


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """Return the cosines (B,) of contents (B, C, h, w), each channel without its mean, which tells nobody apart."""
    first, second = ((each - each.mean(dim=(2, 3), keepdim=True)).flatten(1) for each in (one, other))
    return F.cosine_similarity(first, second, dim=1)


def undecided_loss(logits: Tensor) -> Tensor:
    """Loss of logits that should say neither: the mean of that of either answer, least (ln 2) where they are 0."""
    return (real_loss(logits) + fake_loss(logits)) / 2


def _called(network: nn.Module | None, *inputs: Tensor) -> Tensor:
    """Run a network that disentanglement has."""
    assert network is not None
    out: Tensor = network(*inputs)
    return out
