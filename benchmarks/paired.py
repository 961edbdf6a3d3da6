"""Variants in processes of their own, taking turns: what disturbs one round disturbs all of them.

A process each, for the allocator, the threads and what a device has cached belong to a process. Ratios are the medians
of the ratios within a round.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imputer.allocator import keep_freed_memory

Build = Callable[[Mapping[str, Any]], Callable[[], Tensor]]  # from settings to what is timed


@dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Parameters
    ----------
    name : in the table.
    build : called in its process with `settings`; what it returns does the work once and gives its result.
    settings : what the variant differs in.
    keeps_memory : as in the command line, see `imputer.allocator`.
    """

    name: str
    build: Build
    settings: Mapping[str, Any]
    keeps_memory: bool = True


@dataclass(frozen=True)
class Times:
    """What a variant took: seconds of each round, its result, pages that the system handed out a round, peak bytes."""

    seconds: list[float]
    result: NDArray[np.float32]
    page_faults: int
    peak_bytes: int

    @property
    def median(self) -> float:
        """Median of the rounds, s."""
        return statistics.median(self.seconds)


def compete(variants: Sequence[Variant], *, rounds: int, threads: int = 0) -> dict[str, Times]:
    """Let each variant warm up, then run once in each round, one after the other."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection[Any, Any]] = {}
    processes = []
    for variant in variants:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(theirs, variant, threads), daemon=True))
        processes[-1].start()
        lines[variant.name] = ours
    try:
        results = {name: line.recv() for name, line in lines.items()}
        answers: dict[str, list[tuple[float, int, int]]] = {name: [] for name in lines}
        for _ in range(rounds):
            for name, line in lines.items():
                line.send(True)
                answers[name].append(line.recv())
    finally:
        for line in lines.values():
            line.close()
        for process in processes:
            process.join(30)
    return {
        name: Times(
            [seconds for seconds, _, _ in each],
            results[name],
            round(statistics.median(faults for _, faults, _ in each)),
            max(peak for _, _, peak in each),
        )
        for name, each in answers.items()
    }


def ratio(slower: Times, faster: Times) -> dict[str, float]:
    """Return how many times as long the first one takes: median, least and greatest of the rounds."""
    ratios = [one / other for one, other in zip(slower.seconds, faster.seconds, strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)}


def difference(one: Times, other: Times) -> dict[str, float]:
    """Return the greatest and mean absolute difference of results in [-1, 1], and the PSNR, dB, of that range."""
    apart = np.abs(one.result.astype(np.float64) - other.result)
    square = float((apart**2).mean())
    return {
        "max": float(apart.max()),
        "mean": float(apart.mean()),
        "psnr": float(10 * np.log10(4 / square)) if square else float("inf"),
    }


def _serve(line: Connection[Any, Any], variant: Variant, threads: int) -> None:
    if variant.keeps_memory:
        keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    with torch.inference_mode():
        work = variant.build(variant.settings)
        line.send(work().float().cpu().numpy())
        while True:
            try:
                line.recv()
            except EOFError:
                return
            line.send(_timed(work))


def _timed(work: Callable[[], Tensor]) -> tuple[float, int, int]:
    """Seconds, page faults and the peak of memory after one run."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    result = work()
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    on_cuda = result.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(result.device) if on_cuda else after.ru_maxrss * 1024
    return seconds, after.ru_minflt - before.ru_minflt, peak
