"""A network that is recorded for shapes that come often, and replayed where the replay is what the network gives."""

from __future__ import annotations

import pytest
import torch
from tiny import make_generator
from torch import Tensor

from imputer.methods.graphs import MOST_GRAPHS, RECORDED_AFTER, Forward, Replayed


class Recorder:
    """Records forwards of a network as CUDA does: the replay reads its own copies, which are overwritten each time."""

    def __init__(self, error: RuntimeError | None = None, offset: float = 0.0) -> None:
        self.recorded: list[torch.Size] = []
        self.replays = 0
        self._error, self._offset = error, offset

    def __call__(self, forward: Forward, inputs: tuple[Tensor, ...]) -> Forward:
        if self._error is not None:
            raise self._error
        self.recorded.append(inputs[0].shape)
        given = [each.clone() for each in inputs]

        def replay(*inputs: Tensor) -> Tensor:
            self.replays += 1
            for place, each in zip(given, inputs, strict=True):
                place.copy_(each)
            return forward(*given) + self._offset

        return replay


class Network:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return x * 2 + t[:, None]


def inputs(rows: int, number: int = 0) -> tuple[Tensor, Tensor]:
    return torch.arange(rows * 3.0).reshape(rows, 3) + number, torch.full((rows,), float(number))


def check(replayed: Replayed, rows: int, times: int) -> None:
    """Call it with other numbers each time and compare with the plain network."""
    for number in range(times):
        given = inputs(rows, number)
        torch.testing.assert_close(replayed(*given), Network()(*given), rtol=0, atol=0)


def test_a_shape_is_recorded_when_it_has_come_often() -> None:
    network, recorder = Network(), Recorder()
    replayed = Replayed(network, recorder)
    check(replayed, 2, RECORDED_AFTER - 1)
    check(replayed, 1, RECORDED_AFTER - 1)
    assert not recorder.recorded and network.calls == 2 * RECORDED_AFTER - 2
    check(replayed, 2, 5)
    assert recorder.recorded == [(2, 3)]
    assert recorder.replays == 1 + 4  # the first one of them compares


@pytest.mark.parametrize(
    "recorder",
    [Recorder(torch.OutOfMemoryError("full")), Recorder(RuntimeError("no")), Recorder(offset=1.0)],
    ids=["memory", "driver", "other result"],
)
def test_what_cannot_be_recorded_goes_through_the_network(recorder: Recorder) -> None:
    network = Network()
    replayed = Replayed(network, recorder)
    check(replayed, 2, 3 * RECORDED_AFTER)
    assert network.calls >= 3 * RECORDED_AFTER
    assert recorder.replays <= 1  # it is tried once


def test_the_oldest_graphs_give_way() -> None:
    recorder = Recorder()
    replayed = Replayed(Network(), recorder)
    for rows in range(1, MOST_GRAPHS + 3):
        check(replayed, rows, RECORDED_AFTER + 1)
    assert len(recorder.recorded) == MOST_GRAPHS + 2
    before = recorder.replays
    check(replayed, MOST_GRAPHS + 2, 1)
    assert recorder.replays == before + 1
    check(replayed, 1, 1)  # recorded anew: it comes often
    assert recorder.recorded[-1] == (1, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_graph_gives_what_the_network_gives(dtype: torch.dtype, rows: int) -> None:
    network = make_generator().to("cuda")
    if dtype != torch.float32:
        network = network.in_dtype(dtype)
    replayed, draws, pairs = Replayed(network), torch.Generator().manual_seed(0), []
    with torch.inference_mode():
        for number in range(RECORDED_AFTER + 6):
            x = torch.randn(rows, 2, 16, 24, generator=draws).clamp(-1, 1).to("cuda")
            z = torch.randn(rows, network.config.latent_size, generator=draws).to("cuda")
            t = torch.full((rows,), number % 4, device="cuda")
            pairs.append((replayed(x, t, z), network(x, t, z)))
    assert replayed.graphs == 1
    for given, expected in pairs:  # at the end: what was given before must have stayed as it was
        torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-3)
