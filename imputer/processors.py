"""How many processors this process may use: fewer than the machine has where it is tied to some, or in a container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_THREADS = "OMP_NUM_THREADS"


def processors() -> int:
    """Processors that this process may use: those it is tied to, and no more than its container's share of time."""
    count = _tied_to()
    return max(1, min([count, *(math.ceil(share) for share in _shares(_CGROUPS, _OWN_CGROUP))]))


def share_processors() -> None:
    """Let torch compute with as many threads as there are processors for; to be called before it is imported.

    torch counts the processors that it sees. In a container that may use four of sixty-four (``docker run --cpus 4``)
    its sixty-four threads would stop and wait for each other most of the time. What the user has set stays.
    """
    if _THREADS not in os.environ and processors() < _tied_to():
        os.environ[_THREADS] = str(processors())


def _tied_to() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shares(root: Path, own: Path) -> Iterator[float]:
    """Processors' worth of time that each control group which this process is in may take."""
    quotas = [(folder / "cpu.max",) for folder in _folders(root, own)]
    old = root / "cpu"  # of version 1, as a container sees its own
    for files in (*quotas, (old / "cpu.cfs_quota_us", old / "cpu.cfs_period_us")):
        try:
            quota, period = (int(number) for file in files for number in file.read_text(encoding="ascii").split())
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
        if quota > 0 and period > 0:  # microseconds; -1 is no limit
            yield quota / period


def _folders(root: Path, own: Path) -> list[Path]:
    """The root, which is all that most containers see, and the groups of version 2 from this process's own upwards."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return [root]
    group = next((root / line[3:].strip().strip("/") for line in lines if line.startswith("0::")), root)
    return [folder for folder in dict.fromkeys((root, group, *group.parents)) if folder.is_relative_to(root)]
