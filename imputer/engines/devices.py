"""One process per device on this machine; each asks for a job when it can take one."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic

from imputer.engines.child import Answer, Ask, Broken, Message, Offer, Raised, RoundOver, serve, shielded
from imputer.engines.worker import UNANSWERED, J, MakeWorker, OnLost, R, Stop
from imputer.errors import DeviceError, ImputerError, UsageError

POLL_SECONDS = 0.2  # how often `stop` is looked at while nothing else happens
TRIES = 3  # to start the process of a device that is killed before its worker is ready
EXIT_SECONDS = 5.0  # for a process that has nothing more to do
GRACE_SECONDS = 30.0  # for the current cases when the caller leaves early; SLURM grants as much by default

log = logging.getLogger(__name__)


def run(
    jobs: Iterable[J],
    make_worker: MakeWorker[J, R],
    *,
    devices: Sequence[str],
    stop: Stop,
    on_lost: OnLost[J, R],
) -> Iterator[R]:
    """Give a record for each job, as they are done.

    A job at hand when its process died is tried once more, by a process that has no other job then, so that a second
    death is this job's doing and no neighbour's. SIGINT and SIGTERM do not reach the processes; they end when the
    caller does, at once where it is killed.

    Parameters
    ----------
    jobs : drawn one by one, when a worker asks; ids are unique.
    make_worker : pickled; called with the device in its process. What it raises is raised here, unless the device
        had worked before and others still do: then it is given up, with a logged warning.
    devices : one process for each; a name may come several times.
    stop : turns true when no more jobs shall be handed out; the workers are told, and what they finish is given.
    on_lost : makes the record of a job that killed its process twice, or that its worker raised an error on, or
        never answered.

    Raises
    ------
    UsageError
        For no devices.
    DeviceError
        Where the process of a device ends several times before its worker is ready.
    """
    if not devices:
        raise UsageError("There is no device to run on.", remedy="Name at least one.")
    team = _Team(iter(jobs), make_worker, devices, stop, on_lost)
    try:
        yield from team.records()
    finally:
        team.close()


@dataclass(eq=False)
class _Child(Generic[J]):
    """A process and what is known of it.

    Parameters
    ----------
    seat : index of its device.
    stopping : closed to tell the worker to stop.
    held : its jobs that are not answered.
    is_ready : its worker has asked for a job.
    is_asking : it waits for a job now.
    reason, failure : what it said of its end.
    """

    seat: int
    process: SpawnProcess
    connection: Connection[Offer[J] | None, Message]
    stopping: Connection[None, None]
    held: dict[str, J] = field(default_factory=dict)
    is_ready: bool = False
    is_asking: bool = False
    reason: str = ""
    failure: Exception | None = None

    def offer(self, job: J, *, is_alone: bool) -> bool:
        """Hand over a job; False where nobody is there to take it."""
        self.is_asking = False
        try:
            self.connection.send(Offer(job, is_alone))
        except OSError:
            return False
        self.held[job.id] = job
        return True

    def drain(self) -> None:
        """Let it finish what it has before it asks again."""
        self.is_asking = False
        with suppress(OSError):
            self.connection.send(None)

    def tell_to_stop(self) -> None:
        self.stopping.close()

    def leave(self) -> None:
        """Let go of the process: it ends when it has done what it is at."""
        self.tell_to_stop()
        self.connection.close()


class _Team(Generic[J, R]):
    """The processes of all devices, and the jobs between them."""

    def __init__(
        self,
        source: Iterator[J],
        make_worker: MakeWorker[J, R],
        devices: Sequence[str],
        stop: Stop,
        on_lost: OnLost[J, R],
    ) -> None:
        self.source = source
        self.make_worker = make_worker
        self.devices = devices
        self.stop = stop
        self.on_lost = on_lost
        self.is_stopping = False
        self.is_drawn = False  # the source has ended
        self.fresh: deque[J] = deque()  # drawn, not handed out; never more than devices
        self.suspects: deque[J] = deque()  # were at hand when a process died
        self.suspected: set[str] = set()  # ids of all that ever were
        self.children: list[_Child[J]] = []
        self.vacant = list(range(len(devices)))  # seats that a process may be started for
        self.proven: set[int] = set()  # seats that had a ready worker once
        self.tries = [0] * len(devices)  # to make a worker, that failed in a row
        self.failure: Exception | None = None  # why the last seat was given up
        atexit.register(self.kill)  # before that of multiprocessing, which would wait for ever: SIGTERM is blocked

    def records(self) -> Iterator[R]:
        while True:
            if not self.is_stopping and self.stop():
                self.is_stopping = True
                for child in self.children:
                    child.tell_to_stop()
            self._staff()
            self._hand_out()
            if not self.children and self._has(1) and self.failure is not None:
                raise self.failure
            if not any(child.held for child in self.children) and not self._has(1):
                return
            for child in self._with_news():
                yield from self._listen(child)

    def _has(self, number: int) -> bool:
        """Whether so many jobs wait to be handed out; draws them where needed."""
        while not (self.is_stopping or self.is_drawn) and len(self.fresh) + len(self.suspects) < number:
            try:
                self.fresh.append(next(self.source))
            except StopIteration:
                self.is_drawn = True
        return not self.is_stopping and len(self.fresh) + len(self.suspects) >= number

    def _staff(self) -> None:
        """Start processes while there is a job for one more."""
        idle = sum(not child.held for child in self.children)
        while self.vacant and self._has(idle + 1):
            self._start(self.vacant.pop(0))
            idle += 1

    def _start(self, seat: int) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        seen, stopping = context.Pipe(duplex=False)
        arguments: Any = (there, seen, self.make_worker, self.devices[seat])
        process = context.Process(target=serve, args=arguments, name=f"imputer {self.devices[seat]}", daemon=True)
        with shielded():
            process.start()
        there.close()  # else its end would not be seen here
        seen.close()
        self.children.append(_Child(seat, process, here, stopping))

    def _hand_out(self) -> None:
        for child in [child for child in self.children if child.is_asking]:
            if self._has(1) and self.suspects and not child.held:
                job = self.suspects.popleft()
                if not child.offer(job, is_alone=True):
                    self.suspects.appendleft(job)
            elif self._has(len(self.suspects) + 1):
                job = self.fresh.popleft()
                if not child.offer(job, is_alone=False):
                    self.fresh.appendleft(job)
            elif child.held:
                child.drain()  # then it can take a suspect

    def _with_news(self) -> list[_Child[J]]:
        connections = [child.connection for child in self.children]
        ready = wait([*connections, *(child.process.sentinel for child in self.children)], POLL_SECONDS)
        return [child for child in self.children if child.connection in ready or child.process.sentinel in ready]

    def _listen(self, child: _Child[J]) -> Iterator[R]:
        try:
            message = child.connection.recv() if child.connection.poll() else None
        except (EOFError, OSError):
            message = None
        match message:
            case None:
                yield from self._bury(child)
            case Ask():
                child.is_asking = child.is_ready = True
                self.proven.add(child.seat)
                self.tries[child.seat] = 0
            case Answer(record):
                if child.held.pop(record.id, None) is not None:
                    yield record
            case RoundOver():
                left = list(child.held.values())
                child.held.clear()
                if not self.is_stopping:
                    yield from self._settle(left, UNANSWERED, is_sure=len(left) == 1)
            case Raised(reason):
                child.reason = reason
                yield from self._bury(child)
            case Broken(error):
                child.failure = error
                yield from self._bury(child)

    def _settle(self, jobs: list[J], reason: str, *, is_sure: bool) -> Iterator[R]:
        """Try jobs once more that got no record, unless it is sure, or has come twice, that they are to blame."""
        for job in jobs:
            if is_sure or job.id in self.suspected:
                yield self.on_lost(job, reason)
            else:
                self.suspected.add(job.id)
                self.suspects.append(job)

    def _bury(self, child: _Child[J]) -> Iterator[R]:
        self.children.remove(child)
        child.leave()
        _await_end([child.process], EXIT_SECONDS)
        if child.is_ready:
            self.vacant.append(child.seat)
            left = list(child.held.values())
            is_sure = child.reason != "" and len(left) == 1  # an error comes again, a death may have been chance
            yield from self._settle(
                left, child.reason or f"Its worker's process {_death(child.process.exitcode)}.", is_sure=is_sure
            )
            return
        self._give_up(child)

    def _give_up(self, child: _Child[J]) -> None:
        """Take the loss of a process whose worker never was ready: its device is tried again, given up, or an error."""
        seat, device = child.seat, self.devices[child.seat]
        self.tries[seat] += 1
        if child.failure is None and self.tries[seat] < TRIES:  # killed, perhaps by chance
            self.vacant.append(seat)
            return
        said = f"The process for device {device} {_death(child.process.exitcode)} before it was ready."
        self.failure = child.failure or DeviceError(said)
        if seat not in self.proven:
            raise self.failure
        why = str(self.failure) if isinstance(self.failure, ImputerError) else type(self.failure).__name__
        log.warning("Device %s is given up, as no new worker could be made: %s", device, why)

    def close(self) -> None:
        """Let the processes finish or drop what they are at, then end them."""
        try:
            for child in self.children:
                child.leave()
                if not child.is_ready:
                    child.process.kill()  # it has no job yet, and may take long to see that none comes
            _await_end([child.process for child in self.children], GRACE_SECONDS)
        finally:  # a second Ctrl-C waits no longer
            self.kill()
            atexit.unregister(self.kill)

    def kill(self) -> None:
        for child in self.children:
            child.process.kill()
            child.process.join()
        self.children.clear()


def _await_end(processes: list[SpawnProcess], seconds: float) -> None:
    """Wait for processes to end, and kill those that do not."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _death(code: int | None) -> str:
    """Say how a process ended, from its exit code."""
    if code is None or code >= 0:
        return f"ended (exit code {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
