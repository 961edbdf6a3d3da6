"""What several benchmarks measure: the machine, the work of networks, what came of it."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.commands import MAXRSS_UNIT
from imputer.methods.base import PRECISIONS
from imputer.preprocess.orient import Orient
from imputer.volume import Volume

LONG_SIDE = 4096  # of matrices that are large


def machine(name: str = "") -> dict[str, object]:
    """Tell the machine that a result belongs to; `name` is what its owner calls its processor."""
    has_cuda = torch.cuda.is_available()
    return {
        "machine": platform.machine(),
        "processor": name or platform.processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if has_cuda else "cpu",
        **({"fp32 convolutions in TF32": torch.backends.cudnn.allow_tf32} if has_cuda else {}),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the greatest of what the rounds gave."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def difference(one: NDArray[np.float32], other: NDArray[np.float32], span: float) -> dict[str, float]:
    """Return the greatest and mean absolute difference of two results, and the PSNR, dB, of values within `span`."""
    apart = np.abs(one.astype(np.float64) - other)
    square = float((apart**2).mean())
    return {
        "max": float(apart.max()),
        "mean": float(apart.mean()),
        "psnr": float(10 * np.log10(span**2 / square)) if square else float("inf"),
    }


class _Maps(TorchFunctionMode):
    """Counts the bytes, float32, of the maps that convolutions read and write; not those of filters a channel each."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.conv2d, torch.conv3d):
            read, weights = args[:2]
            self.moved += 4 * (read.numel() + result.numel()) if weights.shape[1] == read.shape[1] else 0
        return result


def counts(work: Callable[[], object]) -> tuple[int, int]:
    """Return the operations of some work, and the bytes that its convolutions read and write of maps, float32.

    An addition and a multiplication are two operations. Of attention its two products count.
    """
    counter = FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops})
    with torch.inference_mode(), counter, _Maps() as maps:
        work()
    return counter.get_total_flops(), maps.moved


_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # the counter knows those of CUDA alone


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of attention of queries (B, heads, N, C) over keys (B, heads, M, C) and values (B, heads, M, D)."""
    batch, heads, length, channels = query
    return 2 * batch * heads * length * key[2] * (channels + value[3])


def matrix_products(
    precisions: Iterable[str], device: str, *, threads: int = 0, side: int = LONG_SIDE
) -> dict[str, float]:
    """Return the operations a second of a product of large square matrices in each precision, the best of five."""
    if threads:
        torch.set_num_threads(threads)
    found = {}
    for precision in dict.fromkeys(precisions):
        one, other, product = (torch.randn(side, side, device=device).to(PRECISIONS[precision]) for _ in range(3))
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            torch.mm(one, other, out=product)
            finish(product)
            seconds.append(time.perf_counter() - started)
        found[precision] = 2 * side**3 / min(seconds)
    return found


def finish(result: Tensor) -> None:
    """Wait until the device of a result has done what it was told."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that this process has held so far, of the device where that is CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, StopIteration):
        # Of this program alone; what getrusage tells began with the peak of the process which started it.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def randomise(network: nn.Module) -> None:
    """Give convolutions random weights, also those that begin at zero, so that every part of a network tells."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.copy_(torch.randn_like(module.weight) / module.weight[0].numel() ** 0.5)


def axial(volume: Volume) -> Volume:
    """Return the volume with its axes in the radiologist's order, slices along the last."""
    return Orient().forward(volume)[0]


def edges(array: NDArray[np.float32]) -> float:
    """Return the mean in-plane gradient of a volume over its mean: what blur takes away."""
    along_i, along_j = np.diff(array, axis=0)[:, 1:], np.diff(array, axis=1)[1:]
    return float(np.hypot(along_i, along_j).mean() / array.mean())


def edge_agreement(one: NDArray[np.float32], other: NDArray[np.float32], head: NDArray[np.bool_]) -> float:
    """Return how far the in-plane edges of two volumes (I, J, K) run alike within a head: 0.5 by chance, 1 at best.

    The mean squared cosine of the angle between their gradients, each voxel weighing by how clear both edges are
    (normalised gradient fields of Haber and Modersitzki, MICCAI 2006): which side of an edge is brighter, and by how
    much, has no part in it, so that two contrasts of one patient can be compared.
    """
    first, second = _clear_gradients(one, head), _clear_gradients(other, head)
    together = (first * second).sum(axis=0) ** 2
    return float(together.mean() / ((first**2).sum(axis=0) * (second**2).sum(axis=0)).mean())


def _clear_gradients(array: NDArray[np.float32], head: NDArray[np.bool_]) -> NDArray[np.float64]:
    """In-plane gradients (2, N) of the N voxels of a head: length 1 where they are clear, next to 0 where they are not.

    Clear is what is steeper than the mean gradient.
    """
    found = np.stack([each[head] for each in np.gradient(array.astype(np.float64), axis=(0, 1))])
    steepness: NDArray[np.float64] = np.hypot(*found)
    return np.asarray(found / np.hypot(steepness, steepness.mean()))


def head_of(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell the voxels of the head from air."""
    return array > array.mean() / 8


def flicker(array: NDArray[np.float32], head: NDArray[np.bool_]) -> dict[str, float]:
    """Return how a volume (I, J, K) changes from slice to slice within the head, over its mean there.

    change: mean absolute difference of neighbours. curvature: mean absolute second difference, of which anatomy, being
    smooth, has less than noise.
    """
    scaled = array.astype(np.float64) / array[head].mean(dtype=np.float64)
    first, second = np.diff(scaled, axis=2), np.diff(scaled, n=2, axis=2)
    inside = head[:, :, 1:] & head[:, :, :-1]
    deeper = inside[:, :, 1:] & inside[:, :, :-1]
    return {"change": float(np.abs(first[inside]).mean()), "curvature": float(np.abs(second[deeper]).mean())}
