"""Jobs and workers for the tests of the engines; a file of its own, as other processes must find them by its name."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from imputer.errors import DeviceError

LONG = 600.0  # seconds; a worker waits longer than any test does for its end


@dataclass(frozen=True)
class ToyJob:
    """`act`: what befalls the worker that does it; `room`: folder for traces of what happened."""

    id: str
    act: str = ""
    room: Path = Path()


@dataclass(frozen=True)
class ToyRecord:
    """`pid`: process that the job was done in; `device`: of its worker; "" of a lost job."""

    id: str
    value: int
    device: str = ""
    pid: int = 0
    reason: str = ""


def value_of(job: ToyJob) -> int:
    return sum(map(ord, job.id)) ** 2


def lost(job: ToyJob, reason: str) -> ToyRecord:
    return ToyRecord(job.id, -1, reason=reason)


def jobs_of(number: int, **acts: str) -> list[ToyJob]:
    """Jobs j0, j1, ...; `j2="kill"` gives one an act."""
    return [ToyJob(f"j{index}", acts.get(f"j{index}", "")) for index in range(number)]


def values(records: Iterable[ToyRecord]) -> dict[str, int]:
    """Values by id; fails where a job is reported twice."""
    found = list(records)
    ids = [record.id for record in found]
    assert len(ids) == len(set(ids)), ids
    return {record.id: record.value for record in found}


def expected(jobs: Iterable[ToyJob], *lost_ids: str) -> dict[str, int]:
    return {job.id: -1 if job.id in lost_ids else value_of(job) for job in jobs}


def wait_until(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that comes for sure where all is well; the limit lets a test fail instead of hang."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def never() -> bool:
    return False


class ToyWorker:
    """One job after the other."""

    def __init__(self, device: str) -> None:
        self.device = device

    def run(self, jobs: Iterable[ToyJob], stop: Callable[[], bool]) -> Iterator[ToyRecord]:
        for job in jobs:
            if self.befall(job, stop):
                yield ToyRecord(job.id, value_of(job), self.device, os.getpid())

    def befall(self, job: ToyJob, stop: Callable[[], bool]) -> bool:
        """Do as the job says; False where it gets no record."""
        if job.room != Path():
            begun = job.room / f"{job.id}.begun"
            begun.with_suffix(".new").write_text(str(os.getpid()))
            begun.with_suffix(".new").replace(begun)  # who waits for it finds it whole
        if job.act == "kill" or (job.act == "kill once" and _is_first(job.room / "killed")):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.act == "raise":
            raise ValueError("Doe^John")
        if job.act == "wait":
            wait_until((job.room / "go on").exists, LONG)
            (job.room / f"{job.id}.finished").touch()
        if job.act == "wait for stop":
            wait_until(stop, LONG)
            (job.room / f"{job.id}.stopped").touch()
            return False
        if job.act == "linger":
            time.sleep(0.2)
        return job.act != "no answer"


class AheadWorker(ToyWorker):
    """Draws jobs in another thread and up to three ahead, as a worker does that reads while it computes."""

    def run(self, jobs: Iterable[ToyJob], stop: Callable[[], bool]) -> Iterator[ToyRecord]:
        read: Queue[ToyJob | None] = Queue(maxsize=2)

        def read_ahead() -> None:
            for job in jobs:
                if job.act == "kill when read":
                    os.kill(os.getpid(), signal.SIGKILL)
                read.put(job)
            read.put(None)

        threading.Thread(target=read_ahead, daemon=True).start()
        while (job := read.get()) is not None:
            yield from super().run([job], stop)


class WindowWorker(ToyWorker):
    """Draws three jobs before it gives the first record."""

    def run(self, jobs: Iterable[ToyJob], stop: Callable[[], bool]) -> Iterator[ToyRecord]:
        window: list[ToyJob] = []
        for job in jobs:
            window.append(job)
            if len(window) == 3:
                yield from super().run([window.pop(0)], stop)
        yield from super().run(window, stop)


class TracedWorker(ToyWorker):
    """Leaves a trace when it is made: a file named by its process and its number there."""

    made = 0

    def __init__(self, device: str) -> None:
        super().__init__(device)
        TracedWorker.made += 1
        Path(device, f"made-{os.getpid()}-{TracedWorker.made}").touch()


class LazyWorker(ToyWorker):
    """Takes no jobs."""

    def run(self, jobs: Iterable[ToyJob], stop: Callable[[], bool]) -> Iterator[ToyRecord]:
        return iter(())


def break_down(device: str) -> ToyWorker:
    raise DeviceError(f"There is no device {device}.", remedy="Choose another.")


def break_oddly(device: str) -> ToyWorker:
    class OddError(Exception):  # cannot travel: nobody finds its class
        pass

    raise OddError


def die_at_once(device: str) -> ToyWorker:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class BreakLater:
    """Makes a worker the first time, on each device, and fails from then on."""

    def __init__(self, room: Path) -> None:
        self.room = room

    def __call__(self, device: str) -> ToyWorker:
        return ToyWorker(device) if _is_first(self.room / device) else break_down(device)


class Counted:
    """An iterator of jobs that knows how many were drawn."""

    def __init__(self, jobs: Iterable[ToyJob]) -> None:
        self.drawn = 0
        self._jobs = iter(jobs)

    def __iter__(self) -> Iterator[ToyJob]:
        return self

    def __next__(self) -> ToyJob:
        job = next(self._jobs)
        self.drawn += 1
        return job


def _is_first(path: Path) -> bool:
    """Whether this is the first call for a path, in any process."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
