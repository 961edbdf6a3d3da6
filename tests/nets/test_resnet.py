"""The non-diffusive generator: sizes, range, gradients and fresh weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imputer.nets.resnet import ResNetGenerator


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 20)])
def test_the_translation_has_the_images_shape_and_range(height: int, width: int) -> None:
    x = torch.rand((2, 1, height, width), generator=torch.Generator().manual_seed(0)) * 2 - 1
    out = ResNetGenerator(width=4, blocks=2)(x)
    assert out.shape == x.shape
    assert out.abs().max() < 1


def test_gradients_reach_every_pixel_and_every_weight() -> None:
    network = ResNetGenerator(width=4, blocks=1)
    x = torch.randn((1, 1, 16, 16), generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    gradients = torch.autograd.grad(network(x).square().sum(), [x, *weights])
    assert (gradients[0] != 0).all()
    assert all(bool(gradient.any()) for gradient in gradients)


def test_fresh_weights_and_the_papers_size() -> None:
    torch.manual_seed(0)
    network = ResNetGenerator()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 1 + 2 + 2 * 6 + 2 + 1
    assert max(layer.out_channels for layer in convolutions) == 256
    values = torch.cat([layer.weight.flatten() for layer in convolutions])
    assert float(values.mean().detach()) == pytest.approx(0, abs=1e-4)
    assert float(values.std().detach()) == pytest.approx(0.02, rel=0.01)
    assert all(layer.bias is not None and not layer.bias.any() for layer in convolutions)
