"""The serial engine: a record for each job, drawn as they are asked for, whatever befalls its worker."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from toy_workers import (
    AheadWorker,
    Counted,
    LazyWorker,
    ToyJob,
    ToyRecord,
    ToyWorker,
    TracedWorker,
    WindowWorker,
    break_down,
    expected,
    jobs_of,
    lost,
    never,
    values,
)

from imputer.engines import serial
from imputer.errors import DeviceError

WORKERS = [ToyWorker, AheadWorker, WindowWorker]


@pytest.mark.parametrize("worker", WORKERS)
def test_every_job_gets_its_record(worker: type[ToyWorker]) -> None:
    jobs = jobs_of(20)
    records = list(serial.run(jobs, worker, device="toy", stop=never))
    assert values(records) == expected(jobs)
    assert {record.device for record in records} == {"toy"}


@pytest.mark.parametrize(("worker", "ahead"), [(ToyWorker, 0), (AheadWorker, 4), (WindowWorker, 2)])
def test_jobs_are_drawn_only_when_the_worker_asks(worker: type[ToyWorker], ahead: int) -> None:
    counted = Counted(jobs_of(1000))
    records = serial.run(counted, worker, device="cpu", stop=never)
    for given in range(1, 4):
        next(records)
        assert counted.drawn <= given + ahead
    records.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("worker", "ahead"), [(ToyWorker, 0), (AheadWorker, 4), (WindowWorker, 2)])
def test_a_stop_in_the_middle_hands_out_no_more(worker: type[ToyWorker], ahead: int) -> None:
    counted = Counted(jobs_of(1000))
    stopping = threading.Event()
    given = []
    for record in serial.run(counted, worker, device="cpu", stop=stopping.is_set, on_lost=lost):
        given.append(record)
        if len(given) == 3:
            stopping.set()
    assert 3 <= counted.drawn <= 3 + ahead
    assert [record.id for record in given] == [f"j{index}" for index in range(counted.drawn)]


def test_a_job_dropped_at_the_stop_is_not_reported(tmp_path: Path) -> None:
    jobs = [ToyJob("first"), ToyJob("dropped", "wait for stop", tmp_path), ToyJob("never begun")]
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        return looks > 10

    records = list(serial.run(jobs, ToyWorker, device="cpu", stop=stop, on_lost=lost))
    assert values(records) == expected(jobs[:1])
    assert (tmp_path / "dropped.stopped").exists()


def test_a_worker_that_cannot_be_made_is_the_callers_problem() -> None:
    counted = Counted(jobs_of(3))
    with pytest.raises(DeviceError, match="no device toy"):
        list(serial.run(counted, break_down, device="toy", stop=never, on_lost=lost))
    assert counted.drawn == 0


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("act", ["raise", "no answer"])
def test_a_job_that_fails_its_worker_is_lost_and_its_neighbours_are_not(worker: type[ToyWorker], act: str) -> None:
    jobs = jobs_of(10, j4=act, j9=act)
    records = list(serial.run(jobs, worker, device="cpu", stop=never, on_lost=lost))
    assert values(records) == expected(jobs, "j4", "j9")


def test_the_reason_tells_the_kind_of_error_and_nothing_that_it_quotes() -> None:
    (record,) = serial.run(jobs_of(1, j0="raise"), ToyWorker, device="cpu", stop=never, on_lost=lost)
    assert "ValueError in toy_workers.py" in record.reason
    assert "Doe" not in record.reason


def test_a_worker_that_raised_is_not_used_again(tmp_path: Path) -> None:
    jobs = jobs_of(4, j1="raise")
    records = list(serial.run(jobs, TracedWorker, device=str(tmp_path), stop=never, on_lost=lost))
    assert values(records) == expected(jobs, "j1")
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_is_raised_where_nobody_takes_lost_jobs() -> None:
    records = serial.run(jobs_of(3, j1="raise"), ToyWorker, device="cpu", stop=never)
    assert next(records).id == "j0"
    with pytest.raises(ValueError, match="Doe"):
        next(records)


def test_a_worker_that_takes_no_jobs_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(RuntimeError, match="takes no jobs"):
        list(serial.run(jobs_of(3), LazyWorker, device="cpu", stop=never, on_lost=lost))


def test_an_answer_that_comes_twice_is_given_once() -> None:
    class Twice(ToyWorker):
        def run(self, jobs, stop):  # type: ignore[no-untyped-def]
            for record in super().run(jobs, stop):
                yield from (record, record, ToyRecord("nobody's", 0))

    jobs = jobs_of(4)
    assert values(serial.run(jobs, Twice, device="cpu", stop=never)) == expected(jobs)
