"""How much memory an ALDM takes for a volume, and how much there is."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch

from imputer.nets.aldm import AutoencoderModel
from imputer.nets.vqgan3d import SEARCHED_AT_ONCE, FirstStageConfig

# Feature maps of the widest layer that are held at once, with the convolutions' own copies: measured as the growth of
# the peak of resident memory on a CPU, released widths, volumes of 48 x 64 x 48 to 144 x 192 x 144 voxels.
FIRST_STAGE_MAPS = 6  # full resolution; decoder 4.5 to 5.6, encoder 4.0 to 4.2
# Float32 on a CPU, where norms and convolutions go slab by slab: 2.1 to 2.3, and 3.4 where freed memory stays with the
# process (`imputer.allocator`).
SLABWISE_MAPS = 4
# Of half the bytes each: 5.5 on a CPU; on CUDA the group norm's input and output are float32: 2 maps, and twice 2.
HALF_MAPS = 8
LATENT_MAPS = 12  # of MS-SPADE and the UNets, on the latent's grid: 9 and 10.5
OVERHEAD = 128 * 2**20  # weights in the layout of the convolutions, and all that is small
LEAST_CHANNELS = 16  # what a convolution makes of fewer
ON_HOST = 8 * 10**9  # bytes that a run on a CPU may take where there is plenty
SHARE_OF_HOST, SHARE_OF_CUDA = 0.6, 0.85
SHARE_OF_AVAILABLE = 0.9
_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def peak_bytes(network: AutoencoderModel, shape: Sequence[int], precision: str, device: torch.device) -> int:
    """Estimate the memory that a run takes for (I, J, K) voxels, without the weights: that of its largest stage."""
    config = network.first_stage.config
    whole = SLABWISE_MAPS if device.type == "cpu" else FIRST_STAGE_MAPS
    bytes_each, maps = (4, whole) if precision == "fp32" else (2, HALF_MAPS)
    voxels = prod(shape)
    latent_voxels = voxels // config.factor**3
    stages = [4 * min(latent_voxels, SEARCHED_AT_ONCE) * config.codebook_size]
    stages.append(bytes_each * voxels * _widest(config) * maps)
    widths = [*config.spade_widths]
    for name in ("unet", "projector"):
        part = getattr(network, name, None)
        if part is not None:
            widths.append(part.config.width * part.config.channel_multipliers[0])
    stages.append(bytes_each * latent_voxels * max(LEAST_CHANNELS, *widths) * LATENT_MAPS)
    return max(stages) + OVERHEAD


def _widest(config: FirstStageConfig) -> int:
    """Channels of the widest map at full resolution: the decoder widens the grid before it narrows the channels."""
    return max(LEAST_CHANNELS, *config.widths[:2])


def free_bytes(device: torch.device) -> int:
    """Memory that a run may take on a device."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE_OF_CUDA * (torch.cuda.mem_get_info(device)[0] + cached))
    return min(ON_HOST, int(SHARE_OF_HOST * _physical_bytes()), int(SHARE_OF_AVAILABLE * _available_bytes()))


def _available_bytes() -> float:
    """Memory that other programs leave; infinite where the system does not say it: Linux alone kills who takes more."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return float(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return math.inf


def _physical_bytes() -> int:
    """Memory of the machine, or of the container that this runs in."""
    try:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # Windows
        return 2 * ON_HOST
    for path in _CGROUPS:
        try:
            limits.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # none, or "max"
            continue
    return min(limit for limit in limits if limit > 0)
