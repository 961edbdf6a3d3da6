"""Networks of DisDiff: content and attribute encoders, decoder, content discriminator, and the model that is shipped.

After Zhang et al., DisDiff: Disentanglement Diffusion Network for MR Imaging Translation (sections 2.2 and 2.3), whose
disentanglement is that of DRIT++: an image is its content, a map
z_c at a quarter of its size that is the same in every modality, and its attribute, a short vector z_a of how the
modality, and the scanner, shows it. Ours, since the paper leaves it open:

- z_c enters the diffusive generator as maps of its own beside x_t: a 1x1 convolution, learned for each target, makes
  a square of 4 x 4 pixels of a few channels of each pixel of it, so that no detail that it has is lost.
- The target's z_a enters where the latent z does, appended to it before the mapping network. So the diffusive
  generator is SynDiff's NCSN++ with more input channels and a longer latent, and nothing else.
- z_a is pooled over the head alone: the field of view must not change it.
- Without a reference scan z_a of the target is the mean over the training slices, kept with the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imputer.nets.discriminators import SLOPE
from imputer.nets.layers import AdaptiveGroupNorm
from imputer.nets.limits import check_limits
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig
from imputer.nets.resnet import ResidualPair, encoder_layers, normal_weights_

CONTENT_FACTOR = 4  # pixels of the image a side of one of z_c
HEAD_ABOVE = -0.9  # what is clearly brighter than the background, -1
_LIMITS = {
    "content_width": (1, 1024),
    "content_blocks": (0, 64),
    "shared_blocks": (1, 64),
    "attribute_width": (1, 1024),
    "attribute_size": (0, 1024),
}
_MOST_MODALITIES = 16


class ContentEncoder(nn.Module):
    """E_c of one modality, but for its last blocks: 7x7 stem, two stride-2 convolutions, residual blocks.

    Parameters
    ----------
    width : channels of the stem; four times as many in the content.
    blocks : residual blocks of the modality's own; `SharedContent` follows.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*encoder_layers(width, blocks))
        self.apply(normal_weights_)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, 1, H, W) in [-1, 1] to (B, 4 * width, H/4, W/4); H and W multiples of 4."""
        content: Tensor = self.layers(x)
        return content


class SharedContent(nn.Module):
    """The last residual blocks of E_c, the same for all modalities: what they give lives in one space.

    Parameters
    ----------
    channels : of the content.
    blocks : residual blocks.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[ResidualPair(channels) for _ in range(blocks)])
        self.apply(normal_weights_)

    def forward(self, content: Tensor) -> Tensor:
        """Finish the content (B, C, H/4, W/4) of any modality: z_c of Eq. 8."""
        finished: Tensor = self.layers(content)
        return finished


class AttributeEncoder(nn.Module):
    """E_a of one modality: stride-2 convolutions, the mean over the head, a linear layer.

    No norm in between: it would take out the intensities that the attribute is made of.

    Parameters
    ----------
    width : channels of the first convolution; doubled twice.
    size : length of the attribute.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for channels in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(inputs, channels, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
            inputs = channels
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, size)

    def forward(self, x: Tensor) -> Tensor:
        """Return z_a (B, size) of x (B, 1, H, W) in [-1, 1]; H and W at least 8."""
        features = self.layers(x).float()  # sums over the head are too coarse in half precision
        share = F.adaptive_avg_pool2d((x > HEAD_ABOVE).float(), features.shape[2:])
        pooled = (features * share).sum(dim=(2, 3)) / share.sum(dim=(2, 3)).clamp(min=1e-6)
        attribute: Tensor = self.head(pooled)
        return attribute


class _ModulatedPair(nn.Module):
    """Two 3x3 convolutions, each followed by a norm whose gain and offset the attribute gives, added to the input."""

    def __init__(self, channels: int, style_width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.first_norm = AdaptiveGroupNorm(channels, style_width)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second_norm = AdaptiveGroupNorm(channels, style_width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = F.relu(self.first_norm(self.first(x), style))
        out: Tensor = x + self.second_norm(self.second(h), style)
        return out


class Decoder(nn.Module):
    """G of one modality: (content, attribute) -> image (Eqs. 6 and 9). Used in training only.

    Residual blocks at the content's size, then twice: enlarge, 3x3 convolution; every norm is modulated by the
    attribute, for a plain one would wash it out again.

    Parameters
    ----------
    width : channels at full size; four times as many in the content. 4 at least.
    blocks : residual blocks.
    attribute_size : length of the attribute.
    """

    def __init__(self, width: int, blocks: int, attribute_size: int) -> None:
        super().__init__()
        style_width = 4 * width
        self.style = nn.Sequential(
            nn.Linear(attribute_size, style_width), nn.SiLU(), nn.Linear(style_width, style_width), nn.SiLU()
        )
        self.blocks = nn.ModuleList(_ModulatedPair(4 * width, style_width) for _ in range(blocks))
        sizes = ((4 * width, 2 * width), (2 * width, width))
        self.ups = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, padding_mode="reflect") for a, b in sizes)
        self.norms = nn.ModuleList(AdaptiveGroupNorm(b, style_width) for _, b in sizes)
        self.last = nn.Conv2d(width, 1, 7, padding=3, padding_mode="reflect")

    def forward(self, content: Tensor, attribute: Tensor) -> Tensor:
        """Return the image (B, 1, H, W) in (-1, 1) of content (B, 4 * width, H/4, W/4) and attribute (B, size)."""
        style, h = self.style(attribute), content
        for block in self.blocks:
            h = block(h, style)
        for up, norm in zip(self.ups, self.norms, strict=True):
            h = F.relu(norm(up(F.interpolate(h, scale_factor=2.0, mode="nearest")), style))
        return torch.tanh(self.last(h))


class ContentDiscriminator(nn.Module):
    """D_c: of which of the two modalities is a content? One logit for each patch (Eq. 7).

    Parameters
    ----------
    channels : of the content.
    width : of its layers.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for outputs in (2 * width, 4 * width):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
            inputs = outputs
        layers.append(nn.Conv2d(inputs, 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(normal_weights_)

    def forward(self, content: Tensor) -> Tensor:
        """Return logits (B, 1, h, w) of z_c (B, C, H/4, W/4), above 0 for the first modality."""
        logits: Tensor = self.layers(content)
        return logits


class Projection(nn.Module):
    """Brings z_c to a few maps of the image's size, which the diffusive generator sees beside x_t.

    Parameters
    ----------
    channels : of the content.
    maps : channels that come out.
    """

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        squares = CONTENT_FACTOR**2
        self.layer = nn.Conv2d(channels, maps * squares, 1)
        assert self.layer.bias is not None
        with torch.no_grad():
            for tensor in (self.layer.weight, self.layer.bias):  # the pixels of a square begin alike: no pattern
                tensor.copy_(tensor[::squares].repeat_interleave(squares, dim=0))

    def forward(self, content: Tensor) -> Tensor:
        """Map z_c (B, C, H/4, W/4) to (B, maps, H, W)."""
        maps: Tensor = self.layer(content)
        return F.pixel_shuffle(maps, CONTENT_FACTOR)


def mean_content(parts: Mapping[int, Tensor], shares: Tensor) -> Tensor:
    """Return the mean of contents (B, C, h, w), each that of the source of its number, by the shares (B, N).

    Contents of several sources can be averaged, for they live in one space; a source that counts nowhere may be left
    out of `parts`.
    """
    weighted = [shares[:, number, None, None, None].to(part) * part for number, part in parts.items()]
    return torch.stack(weighted).sum(dim=0)


@dataclass(frozen=True)
class DisDiffConfig:
    """Shape of a model.

    Parameters
    ----------
    sources, targets : names of the modalities; it goes from each source to each target.
    generator : of the diffusive generators; `image_channels` is x_t and the maps of z_c, `latent_size` the latent's
        length and the attribute's.
    content_width : channels of the content encoders' stem; z_c has four times as many.
    content_blocks, shared_blocks : residual blocks of each content encoder, and of their common end.
    attribute_width : channels of the attribute encoders' first convolution.
    attribute_size : length of z_a; 0: a model without attributes, the ablation without disentanglement.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    generator: NCSNppConfig
    content_width: int = 32
    content_blocks: int = 3
    shared_blocks: int = 1
    attribute_width: int = 16
    attribute_size: int = 8

    def __post_init__(self) -> None:
        """ValueError where the numbers make no network, or a modality is named twice."""
        check_limits(self, _LIMITS)
        for names in (self.sources, self.targets):
            if not 1 <= len(set(names)) == len(names) <= _MOST_MODALITIES:
                raise ValueError("it names no modality, too many, or one twice")
        if self.noise_size < 1:
            raise ValueError("its latent is no longer than its attribute")

    @property
    def content_channels(self) -> int:
        """Channels of z_c."""
        return 4 * self.content_width

    @property
    def maps(self) -> int:
        """Channels in which a diffusive generator sees z_c."""
        return self.generator.image_channels - 1

    @property
    def noise_size(self) -> int:
        """Length of the latent z alone."""
        return self.generator.latent_size - self.attribute_size

    @property
    def size_multiple(self) -> int:
        """Height and width of an image must be multiples of this number of pixels."""
        return max(CONTENT_FACTOR, self.generator.size_multiple)


class DisDiff(nn.Module):
    """What inference needs: a content encoder a source, and for each target its generator and its attributes.

    Images are (B, 1, H, W) in [-1, 1], H and W multiples of `config.size_multiple`.
    """

    def __init__(self, config: DisDiffConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.content_channels
        self.content = nn.ModuleDict(
            {name: ContentEncoder(config.content_width, config.content_blocks) for name in config.sources}
        )
        self.shared = SharedContent(channels, config.shared_blocks)
        self.projection = nn.ModuleDict({name: Projection(channels, config.maps) for name in config.targets})
        self.diffusive = nn.ModuleDict({name: NCSNpp(config.generator) for name in config.targets})
        with_attributes = config.targets if config.attribute_size else ()
        self.attribute = nn.ModuleDict(
            {name: AttributeEncoder(config.attribute_width, config.attribute_size) for name in with_attributes}
        )
        self.mean_attribute = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(config.attribute_size)) for name in with_attributes}
        )

    def encode(self, x: Tensor, source: str) -> Tensor:
        """Return z_c (B, C, H/4, W/4) of images of a source."""
        content: Tensor = self.shared(self.content[source](x))
        return content

    def encode_together(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return the mean z_c of images (B, N, H, W) of all sources, by the shares (B, N) of each."""
        parts = {
            number: self.encode(x[:, number : number + 1], source)
            for number, source in enumerate(self.config.sources)
            if bool(shares[:, number].any())
        }
        return mean_content(parts, shares)

    def attribute_of(self, x: Tensor, target: str) -> Tensor:
        """Return z_a (B, attribute_size) of images of a target."""
        attribute: Tensor = self.attribute[target](x)
        return attribute

    def default_attribute(self, target: str) -> Tensor | None:
        """Return the mean z_a (attribute_size,) of a target; None of a model without attributes."""
        return self.mean_attribute[target] if self.config.attribute_size else None

    def maps_of(self, content: Tensor, target: str) -> Tensor:
        """Return what the target's diffusive generator sees of z_c, (B, maps, H, W)."""
        maps: Tensor = self.projection[target](content)
        return maps

    def estimate(
        self, x_t: Tensor, maps: Tensor, t: Tensor, z: Tensor, attribute: Tensor | None, target: str
    ) -> Tensor:
        """Return the estimate of x_0 (B, 1, H, W) (Eq. 10).

        Parameters
        ----------
        x_t : (B, 1, H, W), the noisy target.
        maps : of `maps_of`.
        t : (B,) int64 step indices.
        z : (B, noise_size) from N(0, I).
        attribute : (attribute_size,) of the target; None of a model without attributes.
        """
        return estimated(self.generator_of(target), x_t, maps, t, z, attribute)

    def generator_of(self, target: str) -> NCSNpp:
        """Return the diffusive generator of a target."""
        generator = self.diffusive[target]
        assert isinstance(generator, NCSNpp)
        return generator


def estimated(
    generator: Callable[[Tensor, Tensor, Tensor], Tensor],
    x_t: Tensor,
    maps: Tensor,
    t: Tensor,
    z: Tensor,
    attribute: Tensor | None,
) -> Tensor:
    """Return a diffusive generator's estimate of x_0 (B, 1, H, W) (Eq. 10); see `DisDiff.estimate`."""
    out = generator(torch.cat([x_t, maps], dim=1), t, with_attribute(z, attribute))
    return out[:, :1]


def with_attribute(z: Tensor, attribute: Tensor | None) -> Tensor:
    """Append an attribute, (size,) or (B, size), to the latent z (B, nz)."""
    return z if attribute is None else torch.cat([z, attribute.to(z).expand(len(z), -1)], dim=1)
