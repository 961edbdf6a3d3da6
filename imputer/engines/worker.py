"""What an engine asks of jobs, of records and of the worker between them; and what it says of a job that got lost."""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from imputer.errors import ImputerError

UNANSWERED = "Its worker ended without an answer to it."


class Named(Protocol):
    """A job, or the record of what came of it: both bear the same id, unique within the run."""

    @property
    def id(self) -> str: ...


J = TypeVar("J", bound=Named)  # job
R = TypeVar("R", bound=Named)  # record
J_contra = TypeVar("J_contra", bound=Named, contravariant=True)
R_co = TypeVar("R_co", bound=Named, covariant=True)


class Worker(Protocol[J_contra, R_co]):
    """Does jobs one after the other, or several at once."""

    def run(self, jobs: Iterable[J_contra], stop: Callable[[], bool]) -> Iterator[R_co]:
        """Give a record for each job, in any order, until `jobs` ends.

        `jobs` may be drawn from one other thread. Where `stop` turns true, the jobs at hand are finished or dropped.
        """
        ...


Stop = Callable[[], bool]
MakeWorker = Callable[[str], Worker[J, R]]  # takes the device
OnLost = Callable[[J, str], R]  # takes the job and one sentence: why there is no record from a worker


class Feed(Generic[J]):
    """The jobs for one run of a worker: gives them one by one and remembers the unanswered ones.

    Parameters
    ----------
    source : where the jobs come from; advanced only when the worker asks.
    stop : turns true when no more shall be handed out.
    """

    def __init__(self, source: Iterator[J], stop: Stop) -> None:
        self.was_asked = False
        self.is_over = False  # the source gave its last job
        self._held: dict[str, J] = {}
        self._source = source
        self._stop = stop
        self._is_closed = False
        self._lock = threading.Lock()  # a failed worker may leave a thread behind that still draws

    def __iter__(self) -> Iterator[J]:
        self.was_asked = True
        while (job := self._draw()) is not None:
            yield job

    def _draw(self) -> J | None:
        with self._lock:
            if self._is_closed or self._stop():
                return None
            job = next(self._source, None)
            if job is None:
                self.is_over = True
            else:
                self._held[job.id] = job
            return job

    def settle(self, record: Named) -> bool:
        """Take a job as answered; False where it is not, or no longer, waited for."""
        return self._held.pop(record.id, None) is not None

    def close(self) -> list[J]:
        """Hand out nothing more; return what has not been answered."""
        with self._lock:
            self._is_closed = True
            return list(self._held.values())


def reason_of(error: Exception) -> str:
    """Say in one sentence what went wrong: type and place only, as a foreign message may quote a file's header."""
    if isinstance(error, ImputerError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"Its worker failed unexpectedly ({type(error).__name__}{place})."


def portable(error: Exception) -> Exception:
    """Make an error fit for another process, with its traceback as a note; another one where it cannot travel."""
    if not isinstance(error, ImputerError):
        error.add_note("In the worker's process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes: some errors can be written but not read
    except Exception:
        return ImputerError(f"A worker could not be made ({type(error).__name__}).")
    return error
