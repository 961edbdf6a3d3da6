"""The far side of `imputer.engines.devices`: what runs in a device's process, and what the two say to each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Generic

from imputer.allocator import keep_freed_memory
from imputer.engines.worker import J, MakeWorker, R, portable, reason_of
from imputer.garbage import collect_seldom


@dataclass(frozen=True)
class Offer(Generic[J]):
    """Parent: do this job; `is_alone`: finish it before asking for another. (None instead: no more for now.)"""

    job: J
    is_alone: bool


@dataclass(frozen=True)
class Ask:
    """Child: the worker asks for a job."""


@dataclass(frozen=True)
class Answer(Generic[R]):
    """Child: a job is done."""

    record: R


@dataclass(frozen=True)
class RoundOver:
    """Child: the worker has ended its run; nothing is in its hands any more."""


@dataclass(frozen=True)
class Raised:
    """Child: the worker's run raised an error. The process ends after this."""

    reason: str


@dataclass(frozen=True)
class Broken:
    """Child: no worker could be made. The process ends after this."""

    error: Exception


Message = Ask | Answer[Any] | RoundOver | Raised | Broken


def serve(
    connection: Connection[Message, Offer[J] | None],
    stopping: Connection[None, None],
    make_worker: MakeWorker[J, R],
    device: str,
) -> None:
    """Be the process of a device: make a worker and let it run on the parent's jobs until the connection closes.

    `stopping` becomes readable when the other end of it is closed: the worker shall finish or drop what it has.
    """
    _end_with_parent()
    collect_seldom()
    keep_freed_memory()
    line: _Line[J] = _Line(connection)
    try:
        worker = make_worker(device)
    except Exception as error:
        line.send(Broken(portable(error)))
        return
    try:
        while line.is_open:
            line.has_asked = False
            for record in worker.run(line.jobs(), stopping.poll):
                line.send(Answer(record))
            if not line.has_asked:
                raise RuntimeError("the worker takes no jobs")
            line.send(RoundOver())
    except Exception as error:
        line.send(Raised(reason_of(error)))


class _Line(Generic[J]):
    """The connection to the parent. A worker may draw jobs in another thread than its records come from."""

    def __init__(self, connection: Connection[Message, Offer[J] | None]) -> None:
        self.is_open = True
        self.has_asked = False
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            try:
                self._connection.send(message)
            except OSError:  # the parent listens no longer
                self.is_open = False

    def jobs(self) -> Iterator[J]:
        while self.is_open:
            self.has_asked = True
            self.send(Ask())
            try:
                offer = self._connection.recv()
            except (EOFError, OSError):
                self.is_open = False
                return
            if offer is None:
                return
            yield offer.job
            if offer.is_alone:
                return


def _end_with_parent() -> None:
    """End this process at once when its parent is gone: who resumes the run must not meet it at the same files."""
    parent = multiprocessing.parent_process()

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, args=(parent.sentinel,), name="watch parent", daemon=True).start()


@contextmanager
def shielded() -> Iterator[None]:
    """Block SIGINT and SIGTERM for the processes and threads begun in here, for all their life.

    Ctrl-C and SLURM reach every process of a job at once; the parent alone is to decide what becomes of the current
    case. A parent's signal that comes meanwhile is not lost, only late.
    """
    resource_tracker.ensure_running()  # it would unblock the signals when multiprocessing starts it in here
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
