"""ALDM's networks beyond what the authors' recorded outputs prove: shapes, classes, the cheap upsampling, limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from imputer.nets.aldm import ALDM, AutoencoderModel, make_aldm
from imputer.nets.discriminators3d import LatentDiscriminator, PatchDiscriminator3d
from imputer.nets.latent_unet3d import LatentUNet, LatentUNetConfig
from imputer.nets.layers3d import Upsample
from imputer.nets.vqgan3d import FirstStage, FirstStageConfig, VectorQuantiser

SMALL = FirstStageConfig(width=4, groups=2, codebook_size=16, classes=3, spade_widths=(8,), spade_hidden=4)
UNET = LatentUNetConfig(width=8, groups=4, head_channels=8, classes=3)


@given(sizes=st.tuples(*[st.integers(1, 5)] * 3), channels=st.integers(1, 4), channels_last=st.booleans())
@settings(max_examples=30, deadline=None)
def test_upsampling_is_a_convolution_of_the_enlarged_map(
    sizes: tuple[int, int, int], channels: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    layer, x = Upsample(channels), torch.randn(2, channels, *sizes)
    if channels_last:
        x = x.to(memory_format=torch.channels_last_3d)
    enlarged = F.interpolate(x, scale_factor=2, mode="nearest")
    assert torch.allclose(layer(x), layer.conv(enlarged), atol=1e-5)


def test_upsampling_learns_like_the_convolution() -> None:
    torch.manual_seed(0)
    layer, x = Upsample(3), torch.randn(1, 3, 4, 2, 3)
    layer(x).square().sum().backward()
    cheap = layer.conv.weight.grad
    layer.conv.weight.grad = None
    layer.conv(F.interpolate(x, scale_factor=2, mode="nearest")).square().sum().backward()
    assert cheap is not None and layer.conv.weight.grad is not None
    assert torch.allclose(cheap, layer.conv.weight.grad, rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_the_codebook_gives_its_nearest_entry() -> None:
    torch.manual_seed(0)
    quantiser, z = VectorQuantiser(40, 3), torch.randn(2, 3, 4, 5, 6) * 0.02
    found = quantiser(z).movedim(1, -1).reshape(-1, 3)
    distances = torch.cdist(z.movedim(1, -1).reshape(-1, 3), quantiser.embedding.weight)
    assert torch.allclose(found, quantiser.embedding.weight[distances.argmin(dim=1)])


@torch.inference_mode()
def test_half_precision_around_it_does_not_coarsen_the_codebook() -> None:
    torch.manual_seed(0)
    quantiser, z = VectorQuantiser(4000, 4), torch.randn(1, 4, 8, 8, 8) * 1e-4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = quantiser(z)
    assert torch.equal(half, quantiser(z))


@torch.inference_mode()
def test_every_volume_of_a_batch_has_its_own_class() -> None:
    torch.manual_seed(0)
    model = make_aldm(SMALL, UNET, UNET).eval()
    assert isinstance(model, ALDM)
    for weight in model.parameters():  # fresh networks end with zeros
        weight.normal_(std=0.2)
    z = torch.randn(2, 4, 4, 4, 8)
    classes = torch.tensor([2, 0])
    both = model.to_target(z, classes)
    noise = model.denoise(z, z, both, torch.tensor([7, 500]), classes)
    for row, (index, t) in enumerate(((2, 7), (0, 500))):
        one = z[row : row + 1]
        alone = model.to_target(one, index)
        assert torch.allclose(both[row : row + 1], alone, atol=1e-5)
        assert torch.allclose(noise[row : row + 1], model.denoise(one, one, alone, t, index), atol=1e-4)
    assert not torch.allclose(model.to_target(z, 0), model.to_target(z, 1), atol=1e-3)


@pytest.mark.parametrize("condition", ["embedding", "cross_attention"])
@torch.inference_mode()
def test_the_class_reaches_the_prediction(condition: str) -> None:
    torch.manual_seed(0)
    network = LatentUNet(LatentUNetConfig(width=8, groups=4, head_channels=8, classes=3, condition=condition)).eval()
    for weight in network.parameters():
        weight.normal_(std=0.2)
    x = torch.randn(1, 12, 4, 8, 4)
    assert network(x, 3, 0).shape == (1, 4, 4, 8, 4)
    assert not torch.allclose(network(x, 3, 0), network(x, 3, 2), atol=1e-3)
    assert not torch.allclose(network(x, 3, 0), network(x, 900, 0), atol=1e-3)
    assert hasattr(network, "label_emb") == (condition == "embedding")


@torch.inference_mode()
def test_the_papers_unet_takes_two_latents() -> None:
    paper = LatentUNetConfig(width=8, groups=4, head_channels=8, classes=3, inputs=8, condition="cross_attention")
    model = make_aldm(SMALL, paper).eval()
    assert isinstance(model, ALDM)
    z = torch.randn(1, 4, 4, 4, 4)
    assert model.denoise(z, z, z, 10, 1).shape == z.shape


@torch.inference_mode()
def test_a_fresh_projector_gives_the_target_like_latent() -> None:
    model = make_aldm(SMALL, UNET, UNET).eval()
    assert isinstance(model, ALDM)
    z, like = torch.randn(1, 4, 4, 4, 4), torch.randn(1, 4, 4, 4, 4)
    assert torch.equal(model.project(z, z, like, 3, 1), like)


def test_parts_that_are_missing_are_told() -> None:
    alone = make_aldm(SMALL)
    assert type(alone) is AutoencoderModel and not hasattr(alone, "denoise")
    with pytest.raises(ValueError, match="UNet"):
        make_aldm(SMALL, projector=UNET)
    without = make_aldm(SMALL, UNET)
    z = torch.zeros(1, 4, 4, 4, 4)
    with pytest.raises(ValueError, match="no projector"):
        without.project(z, z, z, 0, 0)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no MS-SPADE"):
        FirstStage(FirstStageConfig(width=4, groups=2, codebook_size=16, classes=0)).to_target(z, 0)


@pytest.mark.parametrize(
    "changes", [{"width": 0}, {"width": 6, "groups": 4}, {"channel_multipliers": ()}, {"condition": "telepathy"}]
)
def test_shapes_that_make_no_unet_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        LatentUNetConfig(**{"width": 8, "groups": 4, "head_channels": 8, **changes})  # type: ignore[arg-type]


def test_heads_are_checked_where_there_is_attention() -> None:
    LatentUNetConfig(width=12, groups=4, head_channels=24, channel_multipliers=(1, 2), attention_factors=(2,))
    with pytest.raises(ValueError, match="head"):  # the middle always attends
        LatentUNetConfig(width=12, groups=4, head_channels=16, channel_multipliers=(1, 2), attention_factors=())


@pytest.mark.parametrize("classes", [torch.tensor([0, 1, 2]), -1, torch.tensor([-1])])
def test_classes_that_fit_no_batch_are_refused(classes: torch.Tensor | int) -> None:
    with pytest.raises(ValueError, match="classes"):
        make_aldm(SMALL).to_target(torch.zeros(2, 4, 4, 4, 4), classes)


@pytest.mark.parametrize("changes", [{"width": 5, "groups": 4}, {"classes": -1}, {"codebook_size": 0}])
def test_shapes_that_make_no_first_stage_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        FirstStageConfig(**{"width": 4, "groups": 2, **changes})  # type: ignore[arg-type]


def test_discriminators_judge_whole_batches() -> None:
    patches = PatchDiscriminator3d(width=4)(torch.randn(2, 1, 16, 16, 16))
    assert patches.shape[:2] == (2, 1) and patches[0].numel() > 1
    classes = PatchDiscriminator3d(4, width=4, outputs=5, stride=1)(torch.randn(2, 4, 8, 8, 8))
    assert classes.shape == (2, 5, 8, 8, 8)
    critic = LatentDiscriminator(4, classes=3, width=4)
    z, t, classes = torch.randn(3, 4, 8, 12, 8), torch.tensor([0, 1, 3]), torch.tensor([2, 1, 0])
    assert critic(z, z, t, z, z, classes).shape == (3,)
    first = z[:1], z[:1]
    judged = critic(*first, t[:1], *first, classes[:1])
    assert not torch.allclose(judged, critic(*first, t[2:], *first, classes[:1]))
    assert not torch.allclose(judged, critic(*first, t[:1], *first, classes[2:]))
    assert not torch.allclose(judged, critic(*first, t[:1], z[:1], z[1:2], classes[:1]))
