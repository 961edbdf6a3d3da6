"""How many slices go through a network together: as many as the memory of the device holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from imputer.errors import DeviceError
from imputer.methods.memory import free_bytes

CPU_SLICES = 1  # fastest (it stays in the cache), and the same bits for any batch
FIRST_SLICES = 4  # of those whose memory is measured
MOST_SLICES = 32  # by then a GPU is busy
UNMEASURED_SLICES = 16  # on a device that does not tell what it took


class BatchSize:
    """The number of slices at once on a device, `now`.

    On CUDA it follows from the memory that the first batch took, if the user has not said it; a lack of memory halves
    it.

    Parameters
    ----------
    device : where the network is.
    wanted : slices at once; None: as many as memory holds. A CPU takes one anyhow.
    """

    def __init__(self, device: torch.device, wanted: int | None) -> None:
        self._device = device
        self._measures = wanted is None and device.type == "cuda"
        first = FIRST_SLICES if self._measures else UNMEASURED_SLICES
        self.now = CPU_SLICES if device.type == "cpu" else wanted or first

    @contextmanager
    def running(self, count: int) -> Iterator[None]:
        """Run a batch of `count` slices inside; the first one that succeeds tells how many fit."""
        if not self._measures:
            yield
            return
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        yield
        taken = torch.cuda.max_memory_allocated(self._device) - before
        self.now = fitting(taken / count, free_bytes(self._device))
        self._measures = False

    def halve(self, error: torch.OutOfMemoryError) -> None:
        """Take half as many; DeviceError where it was one."""
        if self.now == 1:
            raise DeviceError("One slice does not fit into the device's memory.", remedy="Use --device cpu.") from error
        self.now //= 2
        torch.cuda.empty_cache()


def fitting(bytes_each: float, free: int) -> int:
    """Return how many slices of so many bytes fit: a power of two, so that a little more memory changes nothing."""
    size = 1
    while size < MOST_SLICES and 2 * size * bytes_each <= free:
        size *= 2
    return size
