"""The engine of several devices: as serial, in processes that may die, be stopped, or lose their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from toy_workers import (
    AheadWorker,
    BreakLater,
    Counted,
    LazyWorker,
    ToyJob,
    ToyWorker,
    WindowWorker,
    break_down,
    break_oddly,
    die_at_once,
    expected,
    is_running,
    jobs_of,
    lost,
    never,
    values,
    wait_until,
)

from imputer.engines import devices, serial
from imputer.errors import DeviceError, ImputerError, UsageError

WORKERS = [ToyWorker, AheadWorker, WindowWorker]
TWO = ["cpu", "cpu"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_process_is_left() -> object:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("worker", WORKERS)
def test_the_records_are_those_of_the_serial_engine(worker: type[ToyWorker]) -> None:
    jobs = jobs_of(30)
    records = list(devices.run(jobs, worker, devices=["a", "b"], stop=never, on_lost=lost))
    assert values(records) == values(serial.run(jobs, worker, device="cpu", stop=never))
    assert os.getpid() not in {record.pid for record in records}


def test_each_device_has_its_process(tmp_path: Path) -> None:
    jobs = [ToyJob("x", "wait", tmp_path), ToyJob("y", "wait", tmp_path)]  # neither ends before both have begun

    def stop() -> bool:
        if (tmp_path / "x.begun").exists() and (tmp_path / "y.begun").exists():
            (tmp_path / "go on").touch()
        return False

    records = list(devices.run(jobs, ToyWorker, devices=["a", "b"], stop=stop, on_lost=lost))
    assert {record.device for record in records} == {"a", "b"}
    assert len({record.pid for record in records}) == 2


def test_a_slow_consumer_does_not_make_jobs_pile_up() -> None:
    counted = Counted(jobs_of(1000))
    records = devices.run(counted, AheadWorker, devices=TWO, stop=never, on_lost=lost)
    for given in range(1, 6):
        next(records)
        assert counted.drawn <= given + 2 * 5  # in each process: one at work, two read, one being read; one to hand out
    records.close()  # type: ignore[attr-defined]


def test_a_slow_worker_does_not_make_jobs_pile_up(tmp_path: Path) -> None:
    jobs = [ToyJob("slow", "wait", tmp_path), *jobs_of(50)]
    counted = Counted(jobs)
    drawn: list[int] = []

    def stop() -> bool:
        if (tmp_path / "slow.begun").exists() and not (tmp_path / "go on").exists():
            drawn.append(counted.drawn)
            if len(drawn) == 4:  # the engine has looked around several times
                (tmp_path / "go on").touch()
        return False

    assert values(devices.run(counted, AheadWorker, devices=["cpu"], stop=stop, on_lost=lost)) == expected(jobs)
    assert max(drawn) <= 6


def test_no_jobs_start_no_process() -> None:
    assert list(devices.run([], die_at_once, devices=TWO, stop=never, on_lost=lost)) == []


def test_no_devices_are_refused() -> None:
    with pytest.raises(UsageError, match="no device"):
        list(devices.run(jobs_of(1), ToyWorker, devices=[], stop=never, on_lost=lost))


# ---- failures


def test_what_making_a_worker_raises_is_raised_here() -> None:
    with pytest.raises(DeviceError, match="no device toy") as caught:
        list(devices.run(jobs_of(3), break_down, devices=["toy"], stop=never, on_lost=lost))
    assert caught.value.remedy == "Choose another."


def test_an_error_that_cannot_travel_is_still_reported() -> None:
    with pytest.raises(ImputerError, match="OddError"):
        list(devices.run(jobs_of(3), break_oddly, devices=["toy"], stop=never, on_lost=lost))


def test_a_process_that_dies_before_it_is_ready_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(DeviceError, match=r"for device toy was killed by SIGKILL .* before it was ready"):
        list(devices.run(jobs_of(3), die_at_once, devices=["toy"], stop=never, on_lost=lost))


def test_a_worker_that_takes_no_jobs_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(DeviceError, match="before it was ready"):
        list(devices.run(jobs_of(3), LazyWorker, devices=TWO, stop=never, on_lost=lost))


@pytest.mark.parametrize("worker", WORKERS)
def test_jobs_that_fail_kill_or_mute_their_worker_are_lost_and_their_neighbours_are_not(
    worker: type[ToyWorker],
) -> None:
    jobs = jobs_of(14, j3="kill", j5="raise", j6="raise", j9="no answer", j13="kill")
    records = list(devices.run(jobs, worker, devices=TWO, stop=never, on_lost=lost))
    assert values(records) == expected(jobs, "j3", "j5", "j6", "j9", "j13")
    reasons = {record.id: record.reason for record in records}
    assert "SIGKILL" in reasons["j3"]
    assert "ValueError in toy_workers.py" in reasons["j5"] and "Doe" not in reasons["j5"]
    assert "without an answer" in reasons["j9"]


def test_a_job_is_not_blamed_for_the_deaths_that_its_neighbours_cause() -> None:
    jobs = jobs_of(4, j0="linger", j1="kill when read", j2="kill when read")  # j0 is at work when j1 is read
    records = list(devices.run(jobs, AheadWorker, devices=["cpu"], stop=never, on_lost=lost))
    assert values(records) == expected(jobs, "j1", "j2")


def test_a_job_whose_process_died_by_chance_is_done_by_another(tmp_path: Path) -> None:
    jobs = [ToyJob("x", "kill once", tmp_path), *jobs_of(6)]
    records = list(devices.run(jobs, AheadWorker, devices=TWO, stop=never, on_lost=lost))
    assert values(records) == expected(jobs)


@pytest.mark.parametrize("worker", [ToyWorker, AheadWorker])
def test_a_process_killed_from_outside_loses_nothing(worker: type[ToyWorker], tmp_path: Path) -> None:
    jobs = [ToyJob("x", "wait", tmp_path), *jobs_of(8)]
    victim: list[int] = []

    def stop() -> bool:
        if not victim and (tmp_path / "x.begun").exists():
            victim.append(int((tmp_path / "x.begun").read_text()))
            os.kill(victim[0], signal.SIGKILL)
            (tmp_path / "go on").touch()
        return False

    records = list(devices.run(jobs, worker, devices=TWO, stop=stop, on_lost=lost))
    assert values(records) == expected(jobs)
    assert victim[0] not in {record.pid for record in records if record.id == "x"}


def test_a_device_that_fails_later_is_given_up_while_others_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [ToyJob("x", "kill once", tmp_path), ToyJob("y", "wait", tmp_path), *jobs_of(6)]

    def stop() -> bool:
        if caplog.records:
            (tmp_path / "go on").touch()
        return False

    records = list(devices.run(jobs, BreakLater(tmp_path), devices=["a", "b"], stop=stop, on_lost=lost))
    assert values(records) == expected(jobs)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is given up" in caplog.text and "There is no device" in caplog.text


def test_the_last_device_that_fails_ends_the_run(tmp_path: Path) -> None:
    records = devices.run(
        [*jobs_of(2), ToyJob("x", "kill", tmp_path)], BreakLater(tmp_path), devices=["a"], stop=never, on_lost=lost
    )
    assert [next(records).id, next(records).id] == ["j0", "j1"]
    with pytest.raises(DeviceError, match="no device a"):
        next(records)


# ---- ends


def test_a_stop_in_the_middle_tells_the_workers_and_gives_what_they_finish(tmp_path: Path) -> None:
    jobs = [ToyJob("dropped", "wait for stop", tmp_path), ToyJob("finished", "wait", tmp_path), *jobs_of(100)]
    counted = Counted(jobs)
    stopping = threading.Event()

    def stop() -> bool:
        if (tmp_path / "dropped.begun").exists() and (tmp_path / "finished.begun").exists():
            stopping.set()
        return stopping.is_set()

    # `stop` is asked no more once it was true, so that somebody else has to let the second job go on.
    threading.Thread(
        target=lambda: (wait_until((tmp_path / "dropped.stopped").exists), (tmp_path / "go on").touch())
    ).start()
    records = list(devices.run(counted, ToyWorker, devices=TWO, stop=stop, on_lost=lost))
    assert values(records) == expected([jobs[1]])
    assert counted.drawn <= 4


def test_who_leaves_early_leaves_no_process(tmp_path: Path) -> None:
    jobs = [ToyJob("x", "wait for stop", tmp_path), *jobs_of(5)]
    records = devices.run(jobs, ToyWorker, devices=TWO, stop=never, on_lost=lost)
    next(records)
    wait_until((tmp_path / "x.begun").exists)
    records.close()  # type: ignore[attr-defined]
    assert (tmp_path / "x.stopped").exists()


SCRIPT = """
import signal, sys, threading
from pathlib import Path
from toy_workers import ToyJob, ToyWorker, lost, jobs_of
from imputer.engines import devices

def main():
    room = Path(sys.argv[1])
    stopping = threading.Event()
    jobs = [ToyJob("x", "wait", room), ToyJob("y", "wait", room), *jobs_of(500)]
    {prelude}
    records = devices.run(jobs, ToyWorker, devices=["a", "b"], stop=stopping.is_set, on_lost=lost)
    for record in records:
        print(record.id, flush=True)
        {consume}

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def started(tmp_path: Path) -> object:
    """Start the script above in a process group of its own; both its workers are at work when this returns."""
    running: list[subprocess.Popen[str]] = []

    def start(prelude: str = "", consume: str = "") -> tuple[subprocess.Popen[str], list[int]]:
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.format(prelude=prelude, consume=consume))
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        traces = [tmp_path / "x.begun", tmp_path / "y.begun"]
        for trace in traces:
            wait_until(trace.exists)
        return process, [int(trace.read_text()) for trace in traces]

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what a failed test may have left behind
        process.communicate()


Start = Callable[..., tuple["subprocess.Popen[str]", list[int]]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_lets_the_current_jobs_finish(
    started: Start, tmp_path: Path, number: signal.Signals
) -> None:
    process, children = started(f"signal.signal({int(number)}, lambda *_: (stopping.set(), (room / 'told').touch()))")
    os.killpg(process.pid, number)
    wait_until((tmp_path / "told").exists)
    (tmp_path / "go on").touch()
    out, err = process.communicate(timeout=60)
    assert sorted(out.split()) == ["x", "y"], err
    assert process.returncode == 0
    wait_until(lambda: not any(map(is_running, children)))


def test_a_keyboard_interrupt_lets_the_current_jobs_finish(started: Start, tmp_path: Path) -> None:
    # Said, for a process that was started in the background ignores the signal.
    process, children = started("signal.signal(signal.SIGINT, signal.default_int_handler)")
    os.killpg(process.pid, signal.SIGINT)
    (tmp_path / "go on").touch()
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    assert (tmp_path / "x.finished").exists() and (tmp_path / "y.finished").exists()
    wait_until(lambda: not any(map(is_running, children)))


def test_the_processes_end_when_their_parent_is_killed(started: Start, tmp_path: Path) -> None:
    process, children = started()
    process.kill()
    wait_until(lambda: not any(map(is_running, children)))
    assert not (tmp_path / "x.finished").exists()  # at once: who resumes must not meet them


def test_an_error_of_the_caller_ends_the_program(started: Start, tmp_path: Path) -> None:
    process, children = started(consume="raise RuntimeError('ledger full')")
    (tmp_path / "go on").touch()
    _, err = process.communicate(timeout=60)
    assert "ledger full" in err and process.returncode == 1
    wait_until(lambda: not any(map(is_running, children)))
