"""The engine of a Dask cluster: as serial, on processes of somebody else's that come and go."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from toy_workers import (
    AheadWorker,
    Counted,
    ToyJob,
    ToyWorker,
    TracedWorker,
    WindowWorker,
    break_down,
    break_oddly,
    expected,
    is_running,
    jobs_of,
    lost,
    never,
    values,
    wait_until,
)

from imputer.engines import dask, serial
from imputer.errors import DeviceError, ImputerError, UsageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two processes with two threads each, as somebody else may have started it."""
    distributed = pytest.importorskip("distributed", reason="the dask extra is not installed")
    with importlib.import_module("dask.config").set({"distributed.nanny.pre-spawn-environ": {}}):  # touch no os.environ
        cluster = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
        )
    with cluster:
        yield cluster


@pytest.fixture
def address(cluster: Any) -> str:
    return str(cluster.scheduler_address)


@pytest.fixture
def two_deaths() -> Iterator[None]:
    """A job may kill two processes of a cluster that is made meanwhile, instead of four: it saves time."""
    config = pytest.importorskip("dask", reason="the dask extra is not installed").config
    with config.set({"distributed.scheduler.allowed-failures": 1}):
        yield


@pytest.mark.parametrize("worker", [ToyWorker, AheadWorker, WindowWorker])
def test_the_records_are_those_of_the_serial_engine(address: str, worker: type[ToyWorker]) -> None:
    jobs = jobs_of(20)
    records = list(dask.run(jobs, worker, address=address, device="toy", stop=never, on_lost=lost))
    assert values(records) == values(serial.run(jobs, worker, device="toy", stop=never))
    assert len({record.pid for record in records}) == 2
    assert {record.device for record in records} == {"toy"}


def test_a_process_makes_its_worker_once_and_forgets_it_in_the_end(address: str, cluster: Any, tmp_path: Path) -> None:
    records = list(dask.run(jobs_of(12), TracedWorker, address=address, device=str(tmp_path), stop=never, on_lost=lost))
    made_in = sorted(int(path.name.split("-")[1]) for path in tmp_path.iterdir())
    assert made_in == sorted({record.pid for record in records})
    with cluster.get_client() as client:
        assert set(client.run(_held_workers).values()) == {0}


def test_a_worker_that_raised_is_not_used_again(address: str, tmp_path: Path) -> None:
    jobs = jobs_of(6, j0="raise", j1="raise")
    records = list(dask.run(jobs, TracedWorker, address=address, device=str(tmp_path), stop=never, on_lost=lost))
    assert values(records) == expected(jobs, "j0", "j1")
    assert len(list(tmp_path.iterdir())) >= 3  # two that raised, and at least one for the others


def _held_workers() -> int:
    from imputer.engines.dask import _WORKERS

    return len(_WORKERS)


def test_a_slow_consumer_does_not_make_jobs_pile_up(address: str) -> None:
    counted = Counted(jobs_of(1000))
    records = dask.run(counted, ToyWorker, address=address, device="cpu", stop=never, on_lost=lost)
    for given in range(1, 5):
        next(records)
        assert counted.drawn <= given + 2
    records.close()  # type: ignore[attr-defined]


def test_slow_workers_do_not_make_jobs_pile_up(address: str, tmp_path: Path) -> None:
    jobs = [ToyJob("x", "wait", tmp_path), ToyJob("y", "wait", tmp_path), *jobs_of(10)]
    counted = Counted(jobs)
    drawn: list[int] = []

    def stop() -> bool:
        if (tmp_path / "x.begun").exists() and (tmp_path / "y.begun").exists():
            drawn.append(counted.drawn)
            if len(drawn) == 4:  # the engine has looked around several times
                (tmp_path / "go on").touch()
        return False

    records = dask.run(counted, ToyWorker, address=address, device="cpu", stop=stop, on_lost=lost)
    assert values(records) == expected(jobs)
    assert set(drawn[:4]) == {2}


# ---- failures


def test_jobs_that_fail_or_mute_their_worker_are_lost(address: str) -> None:
    jobs = jobs_of(10, j3="raise", j6="no answer")
    records = list(dask.run(jobs, AheadWorker, address=address, device="cpu", stop=never, on_lost=lost))
    assert values(records) == expected(jobs, "j3", "j6")
    reasons = {record.id: record.reason for record in records}
    assert "ValueError in toy_workers.py" in reasons["j3"] and "Doe" not in reasons["j3"]
    assert "without an answer" in reasons["j6"]


def test_what_making_a_worker_raises_is_raised_here(address: str) -> None:
    with pytest.raises(DeviceError, match="no device toy") as caught:
        list(dask.run(jobs_of(3), break_down, address=address, device="toy", stop=never, on_lost=lost))
    assert caught.value.remedy == "Choose another."


def test_an_error_that_cannot_travel_is_still_reported(address: str) -> None:
    with pytest.raises(ImputerError, match="OddError"):
        list(dask.run(jobs_of(3), break_oddly, address=address, device="toy", stop=never, on_lost=lost))


def test_another_version_on_the_cluster_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "__version__", "0.0.other")
    with pytest.raises(UsageError, match=r"here it is 0\.0\.other"):
        list(dask.run(jobs_of(3), ToyWorker, address=address, device="cpu", stop=never, on_lost=lost))


class _FoundHereOnly:
    """A worker-maker whose class no process of the cluster can import."""

    def __call__(self, device: str) -> ToyWorker:
        return ToyWorker(device)


def test_a_cluster_that_lacks_the_code_is_reported(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("found_here_only")
    module._FoundHereOnly = _FoundHereOnly  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "found_here_only", module)
    monkeypatch.setattr(_FoundHereOnly, "__module__", "found_here_only")
    with pytest.raises(ImputerError, match="cannot run imputer") as caught:
        list(dask.run(jobs_of(3), _FoundHereOnly(), address=address, device="cpu", stop=never, on_lost=lost))
    assert "same version" in caught.value.remedy


def test_a_process_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    jobs = [*jobs_of(3), ToyJob("x", "wait", tmp_path), *jobs_of(10)[3:]]
    victim: list[int] = []

    def stop() -> bool:
        if not victim and (tmp_path / "x.begun").exists():
            victim.append(int((tmp_path / "x.begun").read_text()))
            os.kill(victim[0], signal.SIGKILL)
            (tmp_path / "go on").touch()
        return False

    before = dict(os.environ)
    records = list(dask.run(jobs, ToyWorker, address="local:2", device="cpu", stop=stop, on_lost=lost))
    assert values(records) == values(serial.run(jobs, ToyWorker, device="cpu", stop=never))
    assert victim[0] not in {record.pid for record in records if record.id == "x"}
    assert dict(os.environ) == before  # Dask would set OMP_NUM_THREADS


@pytest.mark.usefixtures("two_deaths")
def test_a_job_that_kills_its_processes_is_lost_and_its_neighbours_are_not() -> None:
    jobs = jobs_of(6, j2="kill")
    records = list(dask.run(jobs, ToyWorker, address="local:1", device="cpu", stop=never, on_lost=lost))
    assert values(records) == expected(jobs, "j2")
    assert "died 2 times" in next(record.reason for record in records if record.id == "j2")


# ---- ends


def test_a_stop_in_the_middle_lets_what_runs_finish(address: str, tmp_path: Path) -> None:
    jobs = [ToyJob("x", "wait", tmp_path), ToyJob("y", "wait", tmp_path), *jobs_of(50)]
    counted = Counted(jobs)
    stopping = threading.Event()

    def stop() -> bool:
        if stopping.is_set():
            (tmp_path / "go on").touch()
        if (tmp_path / "x.begun").exists() and (tmp_path / "y.begun").exists():
            stopping.set()
        return stopping.is_set()

    records = list(dask.run(counted, ToyWorker, address=address, device="cpu", stop=stop, on_lost=lost))
    assert values(records) == expected(jobs[:2])
    assert counted.drawn == 2


def test_who_leaves_early_stops_the_workers(address: str, tmp_path: Path) -> None:
    jobs = [ToyJob("x", "wait for stop", tmp_path), *jobs_of(20)]
    records = dask.run(jobs, ToyWorker, address=address, device="cpu", stop=never, on_lost=lost)
    next(records)
    wait_until((tmp_path / "x.begun").exists)
    records.close()  # type: ignore[attr-defined]
    wait_until((tmp_path / "x.stopped").exists)


SCRIPT = """
import signal, sys, threading
from pathlib import Path
from toy_workers import ToyJob, ToyWorker, lost, jobs_of
from imputer.engines import dask

def main():
    room = Path(sys.argv[1])
    stopping = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: (stopping.set(), (room / "told").touch()))
    jobs = [ToyJob("x", "wait", room), *jobs_of(50)]
    records = dask.run(jobs, ToyWorker, address="local:1", device="cpu", stop=stopping.is_set, on_lost=lost)
    for record in records:
        print(record.id, flush=True)
        {consume}

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Start the script above in a process group of its own; its worker is at work when this returns."""
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    running: list[subprocess.Popen[str]] = []

    def start(consume: str = "") -> tuple[subprocess.Popen[str], int]:
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.format(consume=consume))
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        wait_until((tmp_path / "x.begun").exists)
        return process, int((tmp_path / "x.begun").read_text())

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what a failed test may have left behind
        process.communicate()


def test_ctrl_c_lets_the_current_job_of_a_local_cluster_finish(started: Any, tmp_path: Path) -> None:
    process, child = started()
    os.killpg(process.pid, signal.SIGINT)
    wait_until((tmp_path / "told").exists)
    (tmp_path / "go on").touch()
    out, err = process.communicate(timeout=60)
    assert out.split() == ["x"], err
    assert (process.returncode, err) == (0, "")
    wait_until(lambda: not is_running(child))


def test_a_local_cluster_ends_when_its_parent_is_killed(started: Any) -> None:
    process, child = started()
    process.kill()
    wait_until(lambda: not is_running(child))


def test_an_error_of_the_caller_ends_the_program(started: Any, tmp_path: Path) -> None:
    process, child = started(consume="raise RuntimeError('ledger full')")
    (tmp_path / "go on").touch()
    _, err = process.communicate(timeout=60)
    assert "ledger full" in err and process.returncode == 1
    wait_until(lambda: not is_running(child))


CLUSTER = """
import sys, time
import distributed

if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(300)
"""


def test_a_scheduler_that_is_lost_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 1.0)  # also for the attempts to find it again
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()

        def stop() -> bool:
            if (tmp_path / "x.begun").exists():
                process.kill()
            return False

        jobs = [ToyJob("x", "wait for stop", tmp_path)]
        with pytest.raises(ImputerError, match="scheduler does not answer any more"):
            list(dask.run(jobs, ToyWorker, address=address, device="cpu", stop=stop, on_lost=lost))


# ---- addresses


@pytest.mark.parametrize("address", ["", "somewhere", "local:", "local:0", "local:-1", "local:two", "localhost:8786"])
def test_what_is_no_address_is_refused(address: str) -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    with pytest.raises(UsageError, match="is no address of a Dask scheduler"):
        list(dask.run(jobs_of(3), ToyWorker, address=address, device="cpu", stop=never, on_lost=lost))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://127.0.0.1:x", "carrier-pigeon://127.0.0.1:1"])
def test_an_address_where_nobody_answers_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.5)
    with pytest.raises(UsageError, match=f"No Dask scheduler answers at {address}"):
        list(dask.run(jobs_of(3), ToyWorker, address=address, device="cpu", stop=never, on_lost=lost))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)  # importing it fails as if it were not installed
    with pytest.raises(UsageError, match="Dask is not installed") as caught:
        list(dask.run(jobs_of(3), ToyWorker, address="local", device="cpu", stop=never, on_lost=lost))
    assert "imputer[dask]" in caught.value.remedy


def test_the_log_levels_of_dask_are_put_back(address: str) -> None:
    logger = logging.getLogger("distributed.client")
    before = logger.level
    records = dask.run(jobs_of(3), ToyWorker, address=address, device="cpu", stop=never, on_lost=lost)
    next(records)
    assert logger.level == logging.CRITICAL
    list(records)
    assert logger.level == before
