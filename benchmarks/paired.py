"""Variants in processes of their own, taking turns: what disturbs one round disturbs all of them.

A process each, for the allocator, the threads and what a device has cached belong to a process. Ratios are the medians
of the ratios within a round.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measures import difference, finish, peak_bytes, spread
from imputer.allocator import keep_freed_memory


class Parts(NamedTuple):
    """What work gives that tells what its parts took, s."""

    result: Tensor
    seconds: Mapping[str, float]


Build = Callable[[Mapping[str, Any]], Callable[[], Tensor | Parts]]  # from settings to what is timed


@dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Parameters
    ----------
    name : in the table.
    build : called in its process with `settings`; what it returns does the work once and gives its result.
    settings : what the variant differs in.
    keeps_memory : as in the command line, see `imputer.allocator`.
    warms_up : whether it does the work once before the rounds; else `build` sees to it.
    """

    name: str
    build: Build
    settings: Mapping[str, Any]
    keeps_memory: bool = True
    warms_up: bool = True


@dataclass(frozen=True)
class Times:
    """What a variant took.

    Parameters
    ----------
    seconds : of each round.
    result : of the first round, float32.
    page_faults : pages that the system handed out a round.
    peak_bytes : most memory that it has held, of the device where that is CUDA.
    parts : seconds of each round for each part of work that tells them.
    """

    seconds: list[float]
    result: NDArray[np.float32]
    page_faults: int
    peak_bytes: int
    parts: dict[str, list[float]]

    @property
    def median(self) -> float:
        """Median of the rounds, s."""
        return statistics.median(self.seconds)


class _Once(NamedTuple):
    """One run; its result only where it was asked for."""

    seconds: float
    page_faults: int
    peak_bytes: int
    parts: Mapping[str, float]
    result: NDArray[np.float32] | None


def compete(variants: Sequence[Variant], *, rounds: int, threads: int = 0) -> dict[str, Times]:
    """Let each variant warm up, then run once in each round, one after the other."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection[Any, Any]] = {}
    processes = []
    for variant in variants:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(theirs, variant, threads), daemon=True))
        processes[-1].start()
        theirs.close()  # else who waits for a process that has failed waits for ever
        lines[variant.name] = ours
    try:
        for name, line in lines.items():
            _received(name, line)  # it is ready
        answers: dict[str, list[_Once]] = {name: [] for name in lines}
        for number in range(rounds):
            for name, line in lines.items():
                line.send(number == 0)
                answers[name].append(_received(name, line))
    finally:
        for line in lines.values():
            line.close()
        for process in processes:
            process.join(30)
    return {name: _times(each) for name, each in answers.items()}


def _received(name: str, line: Connection[Any, Any]) -> Any:
    """What a variant sends; leave where its process has ended, which has said why."""
    try:
        return line.recv()
    except EOFError:
        sys.exit(f"The variant {name!r} has failed; its process says why.")


def _times(rounds: Sequence[_Once]) -> Times:
    result = rounds[0].result
    assert result is not None
    return Times(
        [each.seconds for each in rounds],
        result,
        round(statistics.median(each.page_faults for each in rounds)),
        max(each.peak_bytes for each in rounds),
        {name: [each.parts[name] for each in rounds] for name in rounds[0].parts},
    )


def ratio(slower: Times, faster: Times) -> dict[str, float]:
    """Return how many times as long the first one takes: median, least and greatest of the rounds."""
    return spread([one / other for one, other in zip(slower.seconds, faster.seconds, strict=True)])


def from_the_first(one: Times, other: Times) -> dict[str, float]:
    """Return the differences of results in [-1, 1]."""
    return difference(one.result, other.result, span=2)


def _serve(line: Connection[Any, Any], variant: Variant, threads: int) -> None:
    if variant.keeps_memory:
        keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    with torch.inference_mode():
        work = variant.build(variant.settings)
        if variant.warms_up:
            work()
        line.send(True)
        while True:
            try:
                wants_result = line.recv()
            except EOFError:
                return
            line.send(_timed(work, wants_result=wants_result))


def _timed(work: Callable[[], Tensor | Parts], *, wants_result: bool) -> _Once:
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    made = work()
    result, parts = made if isinstance(made, Parts) else (made, {})
    finish(result)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    return _Once(
        seconds,
        after.ru_minflt - before.ru_minflt,
        peak_bytes(result.device),
        parts,
        result.float().cpu().numpy() if wants_result else None,
    )
