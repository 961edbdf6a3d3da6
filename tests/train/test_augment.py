"""Augmentation: both contrasts move as one, values stay in their range, background stays background."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Generator, Tensor

from imputer.train.augment import intensity, place, spatial

SEEDS = range(60)


def disc(size: int = 64, radius: float = 18.0) -> Tensor:
    """A textured disc on background, (1, size, size)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    coarse = torch.rand((1, 1, 9, 9), generator=Generator().manual_seed(0)) * 1.5 - 0.7
    texture = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[0, 0]
    inside = (y - size / 2) ** 2 + (x - size / 2) ** 2 < radius**2
    return torch.where(inside, texture, torch.tensor(-1.0))[None]


def drawn(slices: Tensor, size: tuple[int, int] = (64, 64)) -> Iterator[Tensor]:
    return (spatial(slices, size, Generator().manual_seed(seed)) for seed in SEEDS)


def moved_only(image: Tensor) -> bool:
    """Tell whether an image holds values of the disc and no others."""
    return bool(torch.isin(image, disc()).all())


def test_source_and_target_are_warped_alike() -> None:
    for image in drawn(torch.cat([disc(), disc()])):
        assert torch.equal(image[0], image[1])


def test_about_half_of_the_slices_keep_their_own_values() -> None:
    kept = [moved_only(image) for image in drawn(disc())]
    assert 0.25 < sum(kept) / len(kept) < 0.75
    for image in (image for image, only in zip(drawn(disc()), kept, strict=True) if only):
        assert torch.equal(image.flatten().sort().values, disc().flatten().sort().values)  # nothing was cut off


def test_slices_are_flipped_moved_and_warped() -> None:
    assert len({tuple(image.flatten().tolist()) for image in drawn(disc())}) > 0.9 * len(SEEDS)


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (128, 32)])
def test_size_and_range(size: tuple[int, int]) -> None:
    for image in drawn(torch.cat([disc(), -disc()]), size):
        assert image.shape == (2, *size)
        assert image.min() >= -1 and image.max() <= 1


def test_background_stays_background() -> None:
    empty = torch.full((1, 64, 64), -1.0)
    for image in drawn(empty, (80, 96)):
        assert (image == -1).all()
    for image in drawn(disc(radius=8)):
        assert (image[:, :2] == -1).all() and (image[:, -2:] == -1).all()
    for seed in SEEDS:
        assert (intensity(empty, Generator().manual_seed(seed)) == -1).all()


def test_intensity_changes_the_image_and_not_the_air_around_it() -> None:
    air = torch.nn.functional.max_pool2d(disc()[None], 17, stride=1, padding=8)[0] == -1  # 8 pixels from the disc
    assert 0.2 < air.float().mean() < 0.8
    for seed in SEEDS:
        changed = intensity(disc(), Generator().manual_seed(seed))
        assert changed.shape == disc().shape
        assert changed.min() >= -1 and changed.max() <= 1
        assert (changed[air] == -1).all()
        assert not torch.equal(changed, disc())


def test_intensity_keeps_the_order_of_dark_and_bright() -> None:
    for seed in SEEDS:
        changed = intensity(disc(), Generator().manual_seed(seed))
        both = torch.stack([changed[disc() > -1], disc()[disc() > -1]])
        assert torch.corrcoef(both)[0, 1] > 0.8


def test_the_same_generator_gives_the_same_image() -> None:
    for seed in (1, 2, 3):
        one, two = (spatial(disc(), (64, 64), Generator().manual_seed(seed)) for _ in range(2))
        assert torch.equal(one, two)
        one, two = (intensity(disc(), Generator().manual_seed(seed)) for _ in range(2))
        assert torch.equal(one, two)


@pytest.mark.parametrize(("size", "new"), [(8, 12), (9, 12), (12, 8), (13, 8), (8, 8)])
def test_placing_keeps_the_centre(size: int, new: int) -> None:
    image = torch.full((1, size, size), -1.0)
    image[0, size // 2, size // 2] = 1.0
    placed = place(image, (new, new))
    assert placed.shape == (1, new, new)
    row, column = divmod(int(placed.flatten().argmax()), new)
    assert abs(row - new / 2) <= 1 and abs(column - new / 2) <= 1
    if (size - new) % 2 == 0:
        assert torch.equal(place(placed, (size, size)), image)
    assert int(place(image, (new, new), (1, -2)).flatten().argmax()) == (row + 1) * new + column - 2
