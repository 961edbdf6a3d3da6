"""Jobs on the workers of a Dask cluster: one that runs already, or one made on this machine for the run."""

from __future__ import annotations

import asyncio
import importlib
import logging
import pickle
import queue
import secrets
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic

from imputer import __version__
from imputer.engines.child import shielded
from imputer.engines.worker import UNANSWERED, J, MakeWorker, OnLost, R, Stop, Worker, portable, reason_of
from imputer.errors import ImputerError, UsageError

POLL_SECONDS = 0.2  # how often `stop` and the number of workers are looked at while nothing else happens
CONNECT_SECONDS = 5.0
GATHER_SECONDS = 5.0
CLOSE_SECONDS = 5.0
REMEDY = "Run the command again: what is done is kept."

log = logging.getLogger(__name__)


def run(
    jobs: Iterable[J],
    make_worker: MakeWorker[J, R],
    *,
    address: str,
    device: str,
    stop: Stop,
    on_lost: OnLost[J, R],
) -> Iterator[R]:
    """Give a record for each job, as they are done.

    Each process of the cluster makes one worker and does one job at a time, however many threads it has. A job whose
    process died is tried again by Dask, as often as the scheduler's `allowed-failures` says (3 by default).

    Parameters
    ----------
    jobs : drawn one by one, when a process is free; ids are unique.
    make_worker : pickled; called with `device` in each process. What it raises is raised here.
    address : of a scheduler, as tcp://host:port; "local" for one process per core of this machine, or "local:N".
    stop : turns true when no more jobs shall be handed out; those that run are finished.
    on_lost : makes the record of a job that killed too many processes, or that its worker raised an error on, or
        never answered.

    Raises
    ------
    UsageError
        Where Dask is not installed, the address makes no sense, nobody answers there, or the cluster's imputer is of
        another version.
    ImputerError
        Where the scheduler is lost, or its workers cannot load imputer.
    """
    with _client(address) as client:
        order = _Order(make_worker, device, __version__, secrets.token_hex(8))
        spread = _Spread(client, iter(jobs), order, stop, on_lost)
        try:
            yield from spread.records()
        finally:
            spread.close()


# ---- in the processes of the cluster


@dataclass(frozen=True)
class _Order(Generic[J, R]):
    """What holds for all jobs of a run; `token` names the run."""

    make_worker: MakeWorker[J, R]
    device: str
    version: str
    token: str


@dataclass(frozen=True)
class _Reply(Generic[R]):
    """What came of a job: a record, else the reason why there is none, else (`failure`) why none can ever be."""

    record: R | None = None
    reason: str = ""
    failure: Exception | None = None


@dataclass(frozen=True)
class _Errand(Generic[J, R]):
    """A job on its way to a process of the cluster: there, to unpickle it is to do it.

    So nothing of imputer's has to be imported before the task runs. Dask's scheduler need not have imputer at all, and
    a process that lacks it fails at this task; it would lose its connection for good over a class that it cannot read.
    """

    order: _Order[J, R]
    job: J
    key: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _do, (self.order, self.job, self.key)


_WORKERS: dict[str, Worker[Any, Any]] = {}  # the last run's worker by its token: models are loaded once
_LOCK = threading.Lock()  # a worker takes one job at a time from here


def _do(order: _Order[J, R], job: J, key: str) -> bytes:
    """Do one job in a thread of a Dask worker; return the pickled reply."""
    try:
        return pickle.dumps(_reply_of(order, job, key))
    except Exception as error:  # the record cannot travel
        return pickle.dumps(_Reply(reason=reason_of(error)))


def _reply_of(order: _Order[J, R], job: J, key: str) -> _Reply[R]:
    if order.version != __version__:
        said = f"The Dask cluster has imputer {__version__}, here it is {order.version}."
        return _Reply(failure=UsageError(said, remedy="Install the same version on both sides."))
    with _LOCK:
        try:
            if order.token not in _WORKERS:
                _WORKERS.clear()
                _WORKERS[order.token] = order.make_worker(order.device)
        except Exception as error:
            return _Reply(failure=portable(error))
        try:
            records = list(_WORKERS[order.token].run([job], _is_cancelled(key)))
        except Exception as error:
            _WORKERS.clear()  # nobody knows what state it is in
            return _Reply(reason=reason_of(error))
    found = [record for record in records if record.id == job.id]
    return _Reply(record=found[0]) if found else _Reply(reason=UNANSWERED)


def _is_cancelled(key: str) -> Stop:
    """Tell of a task, from any thread, whether its client has given it up or is gone."""
    tasks = _distributed().get_worker().state.tasks

    def is_cancelled() -> bool:
        task = tasks.get(key)
        return task is None or task.state == "cancelled"

    return is_cancelled


def _forget(token: str) -> None:
    """Let go of a run's worker: its models hold memory of the device."""
    _WORKERS.pop(token, None)


# ---- here


class _Spread(Generic[J, R]):
    """The jobs of a run on a cluster; never more of them at once than it has processes."""

    def __init__(
        self, client: Any, source: Iterator[J], order: _Order[J, R], stop: Stop, on_lost: OnLost[J, R]
    ) -> None:
        self.client = client
        self.source = source
        self.order = order
        self.stop = stop
        self.on_lost = on_lost
        self.is_drawn = False  # the source has ended
        self.running: dict[str, tuple[J, Any]] = {}  # by key: the job, its future
        self.ended: queue.SimpleQueue[Any] = queue.SimpleQueue()  # futures
        self.count = 0
        self.has_warned = False

    def records(self) -> Iterator[R]:
        while True:
            number = self._processes()
            is_stopping = self.stop()
            if not is_stopping:
                self._hand_out(number)
            if not self.running and (is_stopping or self.is_drawn):
                return
            if is_stopping and number == 0:
                return  # nobody works, and who may come later would only begin
            try:
                record = self._take(self.ended.get(timeout=POLL_SECONDS))
            except queue.Empty:
                continue
            if record is not None:
                yield record

    def _processes(self) -> int:
        """Number of the cluster's processes as of now; it may grow and shrink."""
        try:
            return len(self.client.nthreads())
        except Exception as error:  # of several kinds, by how the scheduler went
            raise _lost_scheduler() from error

    def _hand_out(self, number: int) -> None:
        """Have one job with the cluster for each of its processes: Dask gives it to the least busy one."""
        if number == 0 and not self.has_warned:
            log.warning("The Dask cluster has no worker; waiting for one.")
            self.has_warned = True
        while len(self.running) < number and not self.is_drawn:
            job = next(self.source, None)
            if job is None:
                self.is_drawn = True
            else:
                self._submit(job)

    def _submit(self, job: J) -> None:
        key = f"imputer-{self.order.token}-{self.count}"
        self.count += 1
        errand = pickle.dumps(_Errand(self.order, job, key))
        future = self.client.submit(pickle.loads, errand, key=key, pure=False)
        self.running[key] = (job, future)
        future.add_done_callback(self.ended.put)

    def _take(self, future: Any) -> R | None:
        """Return the record of a job that has ended; None where there is none any more."""
        try:
            reply: _Reply[R] = self._reply(future)
        except TimeoutError:  # its process died with the result: Dask does it again
            future.add_done_callback(self.ended.put)
            return None
        job, _ = self.running.pop(future.key)
        future.release()  # else Dask does it again where its process dies later
        if reply.failure is not None:
            raise reply.failure
        return reply.record if reply.record is not None else self.on_lost(job, reply.reason)

    def _reply(self, future: Any) -> _Reply[R]:
        if future.cancelled():
            raise _lost_scheduler()
        try:
            reply: _Reply[R] = pickle.loads(future.result(timeout=GATHER_SECONDS))  # noqa: S301 - of `_do`
        except TimeoutError:
            raise
        except _distributed().KilledWorker as error:
            return _Reply(reason=f"Its worker's process died {error.allowed_failures + 1} times (out of memory?).")
        except Exception as error:
            raise ImputerError(
                f"The Dask workers cannot run imputer ({type(error).__name__}).",
                remedy="Install the same version of imputer and Python on every worker as here.",
            ) from error
        return reply

    def close(self) -> None:
        """Give up what still runs, of which its workers are told, and free their memory."""
        if self.client.status != "running":
            return
        with suppress(OSError):  # of the network; timeouts are among them
            self.client.cancel([future for _, future in self.running.values()])
            self.client.run(_forget, self.order.token, on_error="ignore")


def _lost_scheduler() -> ImputerError:
    return ImputerError("The Dask scheduler does not answer any more.", remedy=REMEDY)


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise UsageError("Dask is not installed.", remedy="Install it: pip install 'imputer[dask]'.") from error


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """Connect to the cluster of an address, which is made first where it is "local"; all is closed in the end."""
    distributed = _distributed()
    number = _local_number(address)
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        target: Any = address
        if number is None:
            _check(address)
        else:
            target = stack.enter_context(_local_cluster(number))
        client = distributed.Client(target, timeout=CONNECT_SECONDS, set_as_default=False)
        try:
            yield client
        finally:
            with suppress(OSError):
                client.close(timeout=CLOSE_SECONDS)


def _check(address: str) -> None:
    """Raise UsageError where nobody who speaks Dask's protocol answers: a client that fails does not close cleanly."""
    distributed = _distributed()

    async def connect() -> None:
        arguments = distributed.Security().get_connection_args("client")
        comm = await distributed.comm.connect(address, timeout=CONNECT_SECONDS, **arguments)
        await comm.close()

    try:
        with ThreadPoolExecutor(1) as pool:  # of its own: the caller's thread may have an event loop already
            pool.submit(asyncio.run, connect()).result()
    except Exception as error:  # of any kind, by who answers
        raise UsageError(
            f"No Dask scheduler answers at {address}.",
            remedy="Check the address, or give local to use the cores of this machine.",
        ) from error


def _local_number(address: str) -> int | None:
    """Return the number of processes of "local" and "local:N"; None for the address of a scheduler."""
    name, _, number = address.partition(":")
    if name == "local":
        if number.isdecimal() and int(number) > 0:
            return int(number)
        if address == "local":
            return int(importlib.import_module("dask.system").CPU_COUNT)  # within a container's limits
    elif "://" in address:
        return None
    raise UsageError(
        f"{address!r} is no address of a Dask scheduler.", remedy="Write tcp://host:port, local, or local:4."
    )


@contextmanager
def _local_cluster(number: int) -> Iterator[Any]:
    """Start so many processes of one thread each, which Ctrl-C does not reach and which end with this one."""
    config = importlib.import_module("dask.config")
    # Dask's default sets OMP_NUM_THREADS=1, in this process too, and results depend on the number of threads.
    same_environment: dict[str, dict[str, str]] = {"distributed.nanny.pre-spawn-environ": {}}
    with tempfile.TemporaryDirectory(prefix="imputer-dask-") as room:
        with shielded(), config.set(same_environment):
            cluster = _distributed().LocalCluster(
                n_workers=number,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its HTTP server takes a port even so
                memory_limit=0,  # else Dask stops workers by the share of memory that it thinks is theirs
                local_directory=room,
                silence_logs=logging.WARNING,
            )
        try:
            yield cluster
        finally:
            with suppress(OSError):
                cluster.close(timeout=CLOSE_SECONDS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log to warnings, and the client's to nothing: what that has to say is raised here."""
    levels = {"distributed": logging.WARNING, "distributed.client": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
