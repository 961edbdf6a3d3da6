"""Replays a network on CUDA: its few hundred kernels start as one graph, instead of one by one from Python.

A small network is through with its work sooner than Python has asked for it. To record a graph costs some forwards, so
only shapes that come often are recorded; one short volume is as fast as without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

RECORDED_AFTER = 8  # forwards of a shape: two batches of four steps
MOST_GRAPHS = 4  # of a network: each keeps the memory of its maps
WARM_UP = 2  # forwards on the stream that records: libraries set themselves up for it in the first
# Largest difference of a replay from the same forward as it was, relative to the largest value.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}

Forward = Callable[..., Tensor]
Record = Callable[[Forward, tuple[Tensor, ...]], Forward]
_Key = tuple[tuple[torch.dtype, torch.Size], ...]


class Replayed:
    """A forward on CUDA, recorded for each shape that comes often.

    A graph that cannot be recorded (memory, a driver that refuses), or whose first replay is not what the network gave,
    is not used; that shape then goes through the network as before.

    Parameters
    ----------
    forward : of tensors on one device, a pure function of their values; called without gradients.
    record : makes the replay of a forward for inputs of one shape.
    """

    def __init__(self, forward: Forward, record: Record | None = None) -> None:
        self._forward = forward
        self._record = record or record_on_cuda
        self._calls: Counter[_Key] = Counter()
        self._replays: dict[_Key, Forward] = {}
        self._refused: set[_Key] = set()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run the forward."""
        key = tuple((each.dtype, each.shape) for each in inputs)
        replay = self._replays.get(key)
        if replay is not None:
            return replay(*inputs)
        out = self._forward(*inputs)
        self._calls[key] += 1
        if self._calls[key] >= RECORDED_AFTER and key not in self._refused:
            self._keep(key, inputs, out)
        return out

    @property
    def graphs(self) -> int:
        """Shapes that are replayed."""
        return len(self._replays)

    def _keep(self, key: _Key, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        """Record a shape, if a replay gives what the network gave."""
        while len(self._replays) >= MOST_GRAPHS:
            del self._replays[next(iter(self._replays))]
        try:
            replay = self._record(self._forward, inputs)
            is_same = _agree(replay(*inputs), out)
        except RuntimeError:  # as CUDA's lack of memory is, and all else that it refuses
            is_same = False
        if is_same:
            self._replays[key] = replay
        else:
            self._refused.add(key)


def record_on_cuda(forward: Forward, inputs: tuple[Tensor, ...]) -> Forward:
    """Record a forward as a CUDA graph for inputs of these shapes.

    Raises RuntimeError where it cannot be; torch.OutOfMemoryError is one.
    """
    given = [each.clone() for each in inputs]  # the graph reads here
    stream = torch.cuda.Stream(inputs[0].device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            forward(*given)
    torch.cuda.current_stream(inputs[0].device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # a batch reads in other threads
        out = forward(*given)

    def replay(*inputs: Tensor) -> Tensor:
        for place, each in zip(given, inputs, strict=True):
            place.copy_(each)
        graph.replay()
        return out.clone()  # the next replay writes there again

    return replay


def _agree(one: Tensor, other: Tensor) -> bool:
    apart = (one.float() - other.float()).abs().max()
    return bool(apart <= TOLERANCES[other.dtype] * other.float().abs().max())
