"""A command in a process of its own: its seconds, and the most memory that it, or a process that it started, has held.

A light process stands between, for what the system calls the peak of a process is at least that of the one which
started it. Standard library alone.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

STARTED = "IMPUTER_BENCHMARK_STARTED"  # in the environment of the command: time.monotonic() when it was started
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of getrusage
PYTHON = (sys.executable, "-m")
IMPUTER = (*PYTHON, "imputer")


@dataclass(frozen=True)
class Ran:
    """What a command took: seconds, the greatest resident memory of one of its processes, bytes; what it printed."""

    seconds: float
    peak_bytes: int
    output: str


def run(command: Sequence[str]) -> Ran:
    """Run a command to its end; leave with its message where it fails."""
    between = subprocess.run([*PYTHON, "benchmarks.commands", *command], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(between.stdout)
    if found["status"] != 0:
        sys.exit(f"{shlex.join(command)} ended with {found['status']}:\n{found['errors']}")
    return Ran(found["seconds"], found["peak_bytes"], found["output"])


def main() -> None:
    """Run the command that the arguments are; print what it took as JSON."""
    started = time.monotonic()
    done = subprocess.run(
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, STARTED: repr(started)},
        check=False,
    )
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * MAXRSS_UNIT
    print(
        json.dumps(
            {
                "status": done.returncode, "seconds": seconds, "peak_bytes": peak,
                "output": done.stdout, "errors": done.stderr,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
