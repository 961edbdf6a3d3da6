"""Augmentation of slices: one warp for source and target alike, intensity changes on the source only.

Few subjects have to stand for many: heads of other sizes and poses, other coils, contrasts, noise and resolutions.
All draws come from a CPU generator that is handed in, so a training step is reproducible on its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from imputer.errors import UsageError

ROTATION = math.radians(12.0)
SCALE = 0.12  # relative
SHEAR = 0.05
SHIFT = 10.0  # pixels
ELASTIC = 3.0  # pixels, standard deviation of the control points
CONTROL_POINTS = 7


def uniform(generator: Generator, low: float, high: float) -> float:
    """Draw one number from U(low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def place(slices: Tensor, size: tuple[int, int], shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Crop or pad slices (C, H, W) in [-1, 1] around their centre to `size`, moved by whole pixels; fills with -1."""
    height, width = slices.shape[1:]
    top, left = (size[0] - height) // 2 + shift[0], (size[1] - width) // 2 + shift[1]
    return F.pad(slices, (left, size[1] - width - left, top, size[0] - height - top), value=-1.0)


def warp_grid(shape: tuple[int, int], size: tuple[int, int], generator: Generator) -> Tensor:
    """Return a sampling grid (1, *size, 2) into an image of `shape`: random affine about the centre plus elastic."""
    angle = uniform(generator, -ROTATION, ROTATION)
    scale = [1 + uniform(generator, -SCALE, SCALE) for _ in range(2)]
    shear = uniform(generator, -SHEAR, SHEAR)
    shift = [uniform(generator, -SHIFT, SHIFT) for _ in range(2)]
    matrix = torch.tensor(
        [
            [scale[0] * math.cos(angle), -scale[1] * math.sin(angle) + shear],
            [scale[0] * math.sin(angle), scale[1] * math.cos(angle)],
        ]
    )
    rows = torch.arange(size[0]) - (size[0] - 1) / 2
    columns = torch.arange(size[1]) - (size[1] - 1) / 2
    offsets = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1) @ matrix.T + torch.tensor(shift)
    control = torch.randn((1, 2, CONTROL_POINTS, CONTROL_POINTS), generator=generator) * ELASTIC
    elastic = F.interpolate(control, size=size, mode="bicubic", align_corners=True)
    offsets = offsets + elastic[0].permute(1, 2, 0)
    return (offsets / torch.tensor([shape[1] / 2, shape[0] / 2]))[None]


def spatial(slices: Tensor, size: tuple[int, int], generator: Generator) -> Tensor:
    """Flip, and half of the time warp, slices (C, H, W) together; the other half only moves by whole pixels.

    The unwarped half keeps the target's own sharpness, which interpolation would wear off.
    """
    if uniform(generator, 0, 1) < 0.5:
        slices = slices.flip(-1)
    if uniform(generator, 0, 1) < 0.5:
        shift = [round(uniform(generator, -SHIFT, SHIFT)) for _ in range(2)]
        return place(slices, size, (shift[0], shift[1]))
    grid = warp_grid((slices.shape[1], slices.shape[2]), size, generator)
    warped = F.grid_sample(slices[None] + 1, grid, mode="bicubic", padding_mode="zeros", align_corners=False)[0]
    return warped.clamp(0, 2) - 1


@dataclass(frozen=True)
class Strength:
    """How far intensities are changed: largest logarithms of gain and of gamma, greatest spread of the bias field."""

    gain: float = 0.15
    gamma: float = 0.2
    bias: float = 0.15


# Little data learns more from true intensities than from invented ones: measured on folds of the embedded models' data.
STRENGTHS = {"strong": Strength(), "weak": Strength(0.05, 0.08, 0.06), "none": Strength(0, 0, 0)}


def strength_of(name: str) -> Strength:
    """Return the strength of a setting; UsageError for an unknown one."""
    if name not in STRENGTHS:
        raise UsageError(f"The intensity strength {name!r} is unknown.", remedy=f"Use {', '.join(STRENGTHS)}.")
    return STRENGTHS[name]


def contrast(x: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Change gain, gamma and coil of an image or volume (1, ...) in [0, 1], background 0; not clamped."""
    x = x * math.exp(uniform(generator, -strength.gain, strength.gain))
    if uniform(generator, 0, 1) < 0.5:
        x = x.clamp(min=1e-6) ** math.exp(uniform(generator, -strength.gamma, strength.gamma)) * (x > 0)
    if uniform(generator, 0, 1) < 0.5:
        dimensions = x.dim() - 1
        control = torch.randn((1, 1, *[3] * dimensions), generator=generator) * uniform(generator, 0, strength.bias)
        mode = "bicubic" if dimensions == 2 else "trilinear"
        field = F.interpolate(control, size=x.shape[1:], mode=mode, align_corners=True)
        x = x * torch.exp(field[0])
    return x


def intensity(source: Tensor, generator: Generator, strength: Strength = STRENGTHS["strong"]) -> Tensor:
    """Change a source slice (1, H, W) in [-1, 1] as another scanner would; background stays background."""
    x = contrast((source + 1) / 2, strength, generator)
    if uniform(generator, 0, 1) < 0.25:
        x = _lower_resolution(x, uniform(generator, 1.0, 2.0))
    if uniform(generator, 0, 1) < 0.4:
        std = uniform(generator, 0, 0.02)
        real, imaginary = torch.randn((2, *x.shape), generator=generator) * std
        x = torch.where(x > 0, torch.sqrt((x + real).square() + imaginary.square()), x)
    return x.clamp(0, 1) * 2 - 1


def _lower_resolution(x: Tensor, factor: float) -> Tensor:
    size = (x.shape[1], x.shape[2])
    small = F.interpolate(x[None], scale_factor=1 / factor, mode="bilinear", antialias=True)
    return F.interpolate(small, size=size, mode="bicubic")[0].clamp(min=0)
