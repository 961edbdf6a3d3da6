"""The C library's allocator, where it is glibc: what is freed stays with the process, for the next tensor."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt, malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1
_OF_THE_USER = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let this process keep the memory of large tensors that are freed; nothing where another C library is in use.

    glibc hands it back to the system, which zeroes it page by page when the next tensor asks for it: a quarter of the
    processor time of a run. What the user has set for the allocator in the environment stays. For processes that are
    imputer's own; a program that imports it decides for itself.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OF_THE_USER):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
