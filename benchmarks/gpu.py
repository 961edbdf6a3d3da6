"""All that is to be measured when a GPU is at hand, in order of worth: tests, generator, pipeline, batch, ALDM.

Each command has a limit of time; one that fails or takes too long does not stop the others. Their JSON goes into OUT,
what they print into NAME.log there, what came of each into summary.json. Ends with 1 where one failed.

    python -m benchmarks.gpu OUT                                    on a machine with a CUDA device
    python -m benchmarks.gpu OUT --only tests generator             some of them; --dry-run prints the commands
    python -m benchmarks.gpu OUT --device cpu --small               every script, at a size that shows no more than that
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import PYTHON

MINUTE = 60.0
SHARE_OF_TESTS = ("tests/methods/test_syndiff.py", "tests/test_against_syndiff.py")  # with --small


@dataclass(frozen=True)
class Job:
    """A command, and the seconds that it may take."""

    name: str
    arguments: tuple[str, ...]
    limit: float

    def command(self, out: Path) -> list[str]:
        """The command, which writes its JSON into a folder; pytest writes none."""
        output = () if self.arguments[0] == "pytest" else ("--output", str(out / f"{self.name}.json"))
        return [*PYTHON, *self.arguments, *output]


def main() -> None:
    """Run the jobs, print a summary."""
    options = _arguments()
    jobs = _small(options.device, options.model) if options.small else _full(options.device)
    names = [job.name for job in jobs]
    if unknown := set(options.only or ()) - set(names):
        sys.exit(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(names)}.")
    jobs = [job for job in jobs if not options.only or job.name in options.only]
    if options.dry_run:
        for job in jobs:
            print(f"{shlex.join(job.command(options.out))}  # at most {job.limit:.0f} s")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for job in jobs:
        print(f"{job.name} ...", flush=True)
        rows.append(_ran(job, options.out, min(job.limit, options.limit or job.limit)))
        print(f"{job.name:20} {rows[-1]['came']:12} {rows[-1]['seconds']:8.1f} s", flush=True)
        (options.out / "summary.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    done = sum(row["came"] == "done" for row in rows)
    print(f"{done} of {len(rows)} done, in {options.out}")
    sys.exit(0 if done == len(rows) else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="*", metavar="NAME")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="of each at most, where its own is longer")
    parser.add_argument("--small", action="store_true", help="tiny sizes: to see that all of it runs")
    parser.add_argument("--model", default="syndiff-t1-t2", help="of T1 to T2, with --small")
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args()


def _full(device: str) -> list[Job]:
    """The jobs of a GPU, in order of worth."""
    on = ("--device", device)
    halves = ("--precisions", "fp16", "bf16")
    generator, pipeline = ("benchmarks.generator", *on, *halves), ("benchmarks.pipeline", *on, *halves)
    return [
        Job("tests", ("pytest", "-q", "-m", "gpu"), 5 * MINUTE),
        Job("generator_1", generator, 4 * MINUTE),
        Job("generator_16", (*generator, "--batch", "16", "--candidates"), 5 * MINUTE),
        Job("generator_growth", (*generator, "--grow", "batch", "--rounds", "3"), 8 * MINUTE),
        Job("pipeline", (*pipeline, "--rounds", "3"), 6 * MINUTE),
        Job("pipeline_released", (*pipeline, "--random", "released", "--rounds", "3"), 6 * MINUTE),
        Job("batch", ("benchmarks.batch", *on, "--rounds", "3"), 5 * MINUTE),
        Job("aldm", ("benchmarks.aldm", *on, *halves), 6 * MINUTE),
    ]


def _small(device: str, model: str) -> list[Job]:
    """One job of each script at a tiny size."""
    of_all = ("--device", device, "--rounds", "1")
    timed = (*of_all, "--precisions", "--matrices", "64")
    case = ("--size", "32", "--slices", "2", "--spacing", "6", "40")
    cases = ("--cases", "1", "--shape", "32", "32", "2", "--spacing", "6", "6", "40")
    volume = ("--model", "aldm-t1-t1ce-t2-flair", "--size", "32", "32", "32", "--steps", "1", "2")
    looked_at = ("--collect-only",) if device == "cpu" else ()  # without CUDA they would fail
    return [
        Job("tests", ("pytest", "-q", "-m", "gpu", *looked_at, *SHARE_OF_TESTS), 4 * MINUTE),
        Job(
            "generator", ("benchmarks.generator", *timed, "--model", model, "--size", "32", "--candidates"), 4 * MINUTE
        ),
        Job("pipeline", ("benchmarks.pipeline", *timed, "--model", model, *case), 6 * MINUTE),
        Job("batch", ("benchmarks.batch", *of_all, "--model", model, *cases), 6 * MINUTE),
        Job("aldm", ("benchmarks.aldm", *timed, *volume), 4 * MINUTE),
    ]


def _ran(job: Job, out: Path, limit: float) -> dict[str, object]:
    """Run a job to its end or its limit, and say what came of it."""
    command = job.command(out)
    started = time.monotonic()
    with (out / f"{job.name}.log").open("w", encoding="utf-8") as log:
        # A group of its own, so that the processes which it has started end with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        came = _came(process, limit)
    seconds = time.monotonic() - started
    return {"name": job.name, "came": came, "seconds": seconds, "command": shlex.join(_plain(command))}


def _came(process: subprocess.Popen[bytes], limit: float) -> str:
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        return "too long"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "done" if status == 0 else f"failed ({status})"


def _plain(command: Sequence[str]) -> list[str]:
    """The command with the interpreter by its name, whatever folder it lies in."""
    return ["python", *command[1:]]


if __name__ == "__main__":
    main()
