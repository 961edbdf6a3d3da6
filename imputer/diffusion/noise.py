"""Noise that belongs to a slice: the same draws whatever the batch size, the order or the device.

Every slice has a generator of its own, seeded from (seed, case, slice index), that draws on the CPU; a batch only
stacks what its slices draw. In the shared mode all slices of a volume take the same draws, which reduces flicker.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imputer.seeds import derive_seed


class SliceNoise:
    """Source of standard normal noise for some slices of one case.

    Parameters
    ----------
    seed : the run's seed.
    case : identifies the volume, so that two cases of one run differ.
    indices : slice index of each row of the batch.
    shared : one draw for all slices of the case instead of one each.
    device : where the draws are moved to.
    """

    def __init__(
        self,
        seed: int,
        case: str,
        indices: Sequence[int],
        *,
        shared: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        keys = ["volume"] if shared else [str(index) for index in indices]
        self._rows = len(indices)
        self._generators = [torch.Generator("cpu").manual_seed(derive_seed(seed, case, key)) for key in keys]

    def normal(self, *shape: int) -> Tensor:
        """Return the next draw, (B, *shape) float32 from N(0, I)."""
        draws = torch.stack([torch.randn(shape, generator=generator) for generator in self._generators])
        is_cuda = self.device.type == "cuda"
        if is_cuda:  # from pinned memory the copy waits its turn there, and the CPU goes on
            draws = draws.pin_memory()
        return draws.to(self.device, non_blocking=is_cuda).expand(self._rows, *shape)


class WindowNoise:
    """Source of the noise of a part of a grid: what the whole grid would draw, cut to the part.

    Parameters
    ----------
    noise : source for the whole grid; every part needs a fresh one.
    grid : size of the whole grid.
    window : the part, a slice for each axis of the grid.
    """

    def __init__(self, noise: SliceNoise, grid: Sequence[int], window: Sequence[slice]) -> None:
        self._noise = noise
        self._grid = tuple(grid)
        self._window = tuple(window)

    def normal(self, *shape: int) -> Tensor:
        """Return the next draw, (B, *shape) float32 from N(0, I); `shape` is channels, then the size of the window."""
        part = self._noise.normal(shape[0], *self._grid)[(slice(None), slice(None), *self._window)]
        if part.shape[1:] != shape:
            raise ValueError(f"the noise of the window has the shape {tuple(part.shape[1:])}, not {shape}")
        return part
