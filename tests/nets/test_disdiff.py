"""DisDiff's networks: shapes, what is shared, what the attribute and the content reach."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_disdiff import CONFIG, GENERATOR, WITHOUT_ATTRIBUTES, make_network
from torch import Tensor

from imputer.nets.disdiff import (
    AttributeEncoder,
    ContentDiscriminator,
    Decoder,
    DisDiff,
    DisDiffConfig,
    Projection,
    with_attribute,
)
from imputer.nets.ncsnpp import NCSNpp, NCSNppConfig


@pytest.fixture
def x() -> Tensor:
    """Two slices with a head in the middle and background around it."""
    slices = torch.full((2, 1, 32, 40), -1.0)
    slices[:, :, 8:24, 8:32] = torch.rand((2, 1, 16, 24), generator=torch.Generator().manual_seed(0)) * 1.5 - 0.7
    return slices


def test_an_image_becomes_content_and_attribute_and_an_image_again(x: Tensor) -> None:
    network = make_network()
    content, attribute = network.encode(x, "t1"), network.attribute_of(x, "t2")
    assert content.shape == (2, CONFIG.content_channels, 8, 10)
    assert attribute.shape == (2, 3)
    image = Decoder(CONFIG.content_width, 1, 3)(content, attribute)
    assert image.shape == x.shape
    assert float(image.detach().abs().max()) <= 1
    assert ContentDiscriminator(CONFIG.content_channels, 4)(content).shape == (2, 1, 2, 2)


def test_the_end_of_the_content_encoders_is_one_module(x: Tensor) -> None:
    network = make_network()
    before = {name: network.encode(x, name) for name in ("t1", "t2")}
    assert not torch.equal(before["t1"], before["t2"])  # their beginnings differ
    with torch.no_grad():
        next(network.shared.parameters()).mul_(2)
    for name, content in before.items():
        assert not torch.equal(network.encode(x, name), content)
    assert sum(name.startswith("shared.") for name in network.state_dict()) == 4  # two convolutions, once


def test_content_survives_gain_and_offset_of_the_image(x: Tensor) -> None:
    network = make_network()
    assert torch.allclose(network.encode(x * 0.5 - 0.2, "t1"), network.encode(x, "t1"), atol=1e-3)


def test_the_attribute_is_of_the_head_whatever_the_field_of_view() -> None:
    encoder = AttributeEncoder(4, 3)
    head = torch.rand((1, 1, 32, 32), generator=torch.Generator().manual_seed(1)) - 0.5
    small, large = (torch.nn.functional.pad(head, (margin,) * 4, value=-1.0) for margin in (16, 48))
    with torch.no_grad():
        assert torch.allclose(encoder(small), encoder(large), atol=1e-5)
        assert not torch.allclose(encoder(small), encoder(small * 0.5 - 0.3), atol=1e-3)
        assert torch.isfinite(encoder(torch.full((1, 1, 16, 16), -1.0))).all()


def test_the_attribute_changes_what_the_decoder_paints(x: Tensor) -> None:
    network, decoder = make_network(), Decoder(CONFIG.content_width, 1, 3)
    content = network.encode(x, "t1")
    one, two = (decoder(content, torch.full((2, 3), value)) for value in (-1.0, 1.0))
    assert not torch.allclose(one, two)


def test_the_maps_have_the_images_size(x: Tensor) -> None:
    maps = Projection(16, 5)(torch.ones(2, 16, 8, 10))
    assert maps.shape == (2, 5, 32, 40)
    for channel in maps[0]:
        assert float(channel.detach().std()) < 1e-6  # enlarging paints no pattern


def test_each_pixel_of_a_square_can_be_told_something_of_its_own() -> None:
    projection = Projection(2, 1)
    with torch.no_grad():
        projection.layer.weight[6] += 1.0  # of the second row, third column
    content = torch.ones(1, 2, 3, 3)
    changed = (projection(content) - Projection.forward(projection, content * 0))[0, 0].detach()
    told = changed - changed[0, 0]
    assert torch.equal(told.nonzero(), torch.tensor([[i, j] for i in (1, 5, 9) for j in (2, 6, 10)]))


def test_the_estimate_is_that_of_an_ncsnpp_told_of_both(x: Tensor) -> None:
    network = make_network()
    maps = network.maps_of(network.encode(x, "t1"), "t2")
    t, z, attribute = torch.tensor([1, 3]), torch.randn(2, CONFIG.noise_size), network.default_attribute("t2")
    assert attribute is not None
    estimate = network.estimate(x, maps, t, z, attribute, "t2")
    assert estimate.shape == x.shape
    latent = torch.cat([z, torch.stack([attribute, attribute])], dim=1)
    generator = network.diffusive["t2"]
    assert isinstance(generator, NCSNpp)
    assert torch.equal(estimate, generator(torch.cat([x, maps], dim=1), t, latent)[:, :1])
    for other in (
        network.estimate(x, maps * 2, t, z, attribute, "t2"),
        network.estimate(x, maps, t, z, attribute + 3, "t2"),
        network.estimate(x, maps, t, z, attribute, "t1"),
    ):
        assert not torch.allclose(other, estimate)


def test_a_model_without_attributes_has_none() -> None:
    network = DisDiff(WITHOUT_ATTRIBUTES)
    assert network.default_attribute("t2") is None
    assert not any("attribute" in name for name in network.state_dict())
    z = torch.ones(2, 4)
    assert torch.equal(with_attribute(z, None), z)


@pytest.mark.parametrize(
    "changes",
    [
        {"content_width": 0},
        {"attribute_size": -1},
        {"attribute_size": GENERATOR.latent_size},
        {"shared_blocks": 0},
        {"content_blocks": 1.5},
        {"sources": ()},
        {"targets": ("t1", "t1")},
    ],
    ids=str,
)
def test_numbers_that_make_no_network_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"within|latent|modality"):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_a_small_model_has_the_size_of_the_embedded_ones() -> None:
    generator = NCSNppConfig(
        width=16, channel_multipliers=(1, 2, 4, 4, 4), blocks_per_level=1, image_channels=9, latent_size=40,
        latent_width=64,
    )  # fmt: skip
    with torch.device("meta"):
        network = DisDiff(DisDiffConfig(("t1", "t2"), ("t1", "t2"), generator, content_width=16, content_blocks=2))
    count = sum(parameter.numel() for parameter in network.diffusive["t2"].parameters())
    assert 2.0e6 < count < 2.6e6
    assert sum(parameter.numel() for parameter in network.parameters()) < 2 * count + 1e6
