"""Cyclic garbage is collected seldom, and not at all when the process ends."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import atexit, gc
from imputer.garbage import collect_seldom


def collections():
    return sum(each["collections"] for each in gc.get_stats())


def grow(count):
    before = collections()
    kept = [[] for _ in range(count)]
    return collections() - before


before = grow(20_000)
collect_seldom()
print(before > 0, grow(20_000), grow(200_000) > 0)
cycle = []
cycle.append(cycle)
atexit._run_exitfuncs()
print(gc.get_freeze_count() > 0, any(each is cycle for each in gc.get_objects()))
"""


def test_collects_seldom_but_does_and_leaves_the_end_of_the_process_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0", "True", "True", "False"]
