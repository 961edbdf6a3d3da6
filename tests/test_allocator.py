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

def make_both():
    torch.zeros({PAGES} * 4096, dtype=torch.uint8).add_(1)
    torch.zeros(3 * {PAGES} * 4096, dtype=torch.uint8).add_(1)

keep_freed_memory()
for _ in range(2):  # until the heap is as large as it gets; how soon depends on where it begins
    make_both()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({MAPS}):
    make_both()
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
    assert page_faults() < 2 * 4 * PAGES  # each of the two at most twice, not once a round


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_what_the_user_set_stays() -> None:
    assert page_faults(MALLOC_MMAP_MAX_="65536", MALLOC_MMAP_THRESHOLD_="1048576") > MAPS * PAGES
