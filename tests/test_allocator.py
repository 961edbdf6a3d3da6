"""Memory that is freed stays with the process, unless the user has told the allocator something else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts page faults so")

MAPS = 20
PAGES = 4096  # of a map of 16 MiB
SCRIPT = f"""
import resource
import torch
from imputer.allocator import keep_freed_memory

keep_freed_memory()
torch.zeros({PAGES} * 4096, dtype=torch.uint8).add_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({MAPS}):
    torch.zeros({PAGES} * 4096, dtype=torch.uint8).add_(1)
    torch.zeros(3 * {PAGES} * 4096, dtype=torch.uint8).add_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(**environment: str) -> int:
    """Pages that the system hands out to a process that makes and frees two maps again and again."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def is_glibc() -> bool:
    return "CS_GNU_LIBC_VERSION" in os.confstr_names


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_freed_maps_are_used_again() -> None:
    # Where the heap begins is drawn anew for each process, so the two may be laid out afresh once or twice.
    assert page_faults() < MAPS * PAGES  # of both, 4 PAGES a round, at most in every fourth round


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_what_the_user_set_stays() -> None:
    assert page_faults(MALLOC_MMAP_MAX_="65536", MALLOC_MMAP_THRESHOLD_="1048576") > MAPS * PAGES
