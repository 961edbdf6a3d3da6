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
        draws = [torch.randn(shape, generator=generator) for generator in self._generators]
        return torch.stack(draws).expand(self._rows, *shape).to(self.device)
