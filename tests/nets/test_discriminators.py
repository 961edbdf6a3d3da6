"""Discriminators: what they return, what they look at, and who shares a minibatch standard deviation."""

from __future__ import annotations

import pytest
import torch
from golden_weights import fill_all
from torch import Tensor, nn

from imputer.nets.discriminators import PatchDiscriminator, TimeConditionalDiscriminator, append_batch_std


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def critic() -> nn.Module:
    """A small one whose weights make every input matter."""
    network = TimeConditionalDiscriminator(width=2)
    network.load_state_dict(fill_all({name: value.shape for name, value in network.state_dict().items()}))
    return network


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 64, 128)])
def test_time_conditional_gives_one_logit_an_image(critic: nn.Module, batch: int, height: int, width: int) -> None:
    x = noise(batch, 1, height, width)
    assert critic(x, x, torch.zeros(batch, dtype=torch.int64)).shape == (batch,)


def test_time_conditional_looks_at_both_images_and_at_the_step(critic: nn.Module) -> None:
    before, x_t = noise(2, 1, 64, 64).requires_grad_(), noise(2, 1, 64, 64, seed=1).requires_grad_()
    logits = critic(before, x_t, torch.tensor([0, 1]))
    for gradient in torch.autograd.grad(logits.sum(), (before, x_t)):
        assert (gradient.flatten(1).norm(dim=1) > 0).all()
    with torch.no_grad():
        assert not torch.equal(critic(before, x_t, torch.tensor([0, 0])), critic(before, x_t, torch.tensor([3, 3])))
        assert not torch.equal(critic(before, x_t, torch.tensor([1, 1])), critic(x_t, before, torch.tensor([1, 1])))


def test_channels_of_the_time_conditional_are_the_papers() -> None:
    with torch.device("meta"):
        network = TimeConditionalDiscriminator()
    widths = [tensor.shape[0] for name, tensor in network.state_dict().items() if name.endswith("skip.weight")]
    assert widths == [256, 512, 512, 512, 512, 512]


@pytest.mark.parametrize(
    ("batch", "groups"),
    [(1, [[0]]), (2, [[0, 1]]), (4, [[0, 1, 2, 3]]), (6, [[0, 1, 2, 3, 4, 5]]), (8, [[0, 2, 4, 6], [1, 3, 5, 7]])],
)
def test_batch_std_is_shared_within_groups(batch: int, groups: list[list[int]]) -> None:
    x = noise(batch, 3, 2, 5)
    out = append_batch_std(x)
    assert torch.equal(out[:, :3], x)
    for group in groups:
        expected = torch.sqrt(x[group].var(dim=0, unbiased=False) + 1e-8).mean()
        assert torch.allclose(out[group, 3], expected.expand(len(group), 2, 5))


def test_batch_std_tells_a_batch_of_copies() -> None:
    x = noise(1, 3, 4, 4)
    assert append_batch_std(x.expand(4, 3, 4, 4))[:, 3].max() < 1e-3
    assert append_batch_std(noise(4, 3, 4, 4))[:, 3].min() > 0.5


def test_patch_gives_a_map_and_gradients_reach_the_image() -> None:
    network = PatchDiscriminator(width=4)
    x = noise(2, 1, 64, 96).requires_grad_()
    logits = network(x)
    assert logits.shape == (2, 1, 6, 10)  # 64: 32, 16, 8, 7, 6
    (gradient,) = torch.autograd.grad(logits.square().sum(), x)
    assert (gradient != 0).float().mean() > 0.99


def test_layers_of_the_patch_discriminator_are_the_papers() -> None:
    convolutions = [layer for layer in PatchDiscriminator().modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 512, 1]
    assert [layer.stride for layer in convolutions] == [(2, 2), (2, 2), (2, 2), (1, 1), (1, 1)]
    assert all(layer.kernel_size == (4, 4) for layer in convolutions)
