"""What works off jobs in one process: models loaded once; reading, drawing and writing of different cases overlap.

Three stages with room for one case between each two, so that at most five cases are in memory, however many there are.
A case that fails is a record like any other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread
from typing import Any

from imputer import files
from imputer.batch.jobs import DONE, FAILED, Job, Record
from imputer.case import Loaded, Prepared, Settings, draw_case, finish_case, model_for, prepare_case, read_case
from imputer.errors import DeviceError, ImputerError, is_out_of_memory
from imputer.methods.base import Method, choose_device, use_cpu_threads
from imputer.pretrained.load import build_model
from imputer.results import kinds_of, plan_of
from imputer.sources import Given
from imputer.weights.find import Found

ROOM = 1  # cases between two stages
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs to know; travels to other processes.

    Parameters
    ----------
    case : settings of every case; `to` and `from_` are those of each job.
    root : output folder, absolute; outputs are recorded relative to it.
    model, anatomy, offline : as in `imputer.synth.synthesise`.
    tag : marks the temporary files of this run, see `imputer.files`.
    threads : of the CPU in every process, since the last bits of a result depend on their number; 0: the default.
    """

    case: Settings
    root: Path
    model: str | None = None
    anatomy: str | None = None
    offline: bool = False
    tag: str = ""
    threads: int = 0


class Dropped(Exception):
    """The case is given up because the run shall stop."""


@dataclass
class _Piece:
    """A case on its way through the stages."""

    job: Job
    started: float
    loaded: tuple[Loaded, Found] | None = None
    prepared: Prepared | None = None
    drawn: list[Any] | None = None
    waited: float = 0.0
    record: Record | None = None


def make_worker(settings: WorkerSettings, device: str) -> Worker:
    """A worker on a device; what an engine calls in the process that shall work."""
    return Worker(settings, device)


class Worker:
    """Works off jobs with models that are loaded once.

    Parameters
    ----------
    settings : of the run.
    device : auto, cpu, cuda, cuda:N or mps. Raises DeviceError where it is not there.
    """

    def __init__(self, settings: WorkerSettings, device: str) -> None:
        self.settings = settings
        self.device = choose_device(device)
        self._methods: dict[Path, Method] = {}
        self._files: dict[str, Path] = {}  # of those with an entry, by its SHA-256
        files.temporary_tag = settings.tag
        if settings.threads:
            use_cpu_threads(settings.threads)

    def run(self, jobs: Iterable[Job], stop: Callable[[], bool]) -> Iterator[Record]:
        """Work off jobs, and yield a record for each as it ends.

        When `stop` turns true, no other job is begun, what is being drawn is dropped, and what is being written is
        written. Jobs that were begun and dropped give no record.
        """
        ready: Queue[_Piece | None] = Queue(ROOM)
        drawn: Queue[_Piece | None] = Queue(ROOM)
        records: Queue[Record] = Queue()
        ended = _Flag()
        failures: list[Exception] = []
        halted = partial(_either, stop, ended)
        reader = Thread(target=self._read, args=(jobs, ready, halted, failures), name="reader", daemon=True)
        writer = Thread(target=self._write, args=(drawn, records), name="writer", daemon=True)
        reader.start()
        writer.start()
        try:
            for piece in self._taken(ready, halted):
                self._draw(piece, halted)
                if piece.record is not None or piece.drawn is not None:
                    _put(drawn, piece, lambda: False)
                yield from _available(records)
        finally:
            ended.value = True  # also where the caller wants no more records
            _put(drawn, None, lambda: not writer.is_alive())
            writer.join()
        yield from _available(records)
        if failures:
            raise failures[0]

    def _read(
        self,
        jobs: Iterable[Job],
        ready: Queue[_Piece | None],
        halted: Callable[[], bool],
        failures: list[Exception],
    ) -> None:
        """First stage, in a thread of its own; `failures` gets what the giver of jobs raises."""
        try:
            for job in jobs:
                if halted():
                    break
                piece = _Piece(job, time.monotonic())
                piece.record = self._guarded(piece, partial(self._prepare, piece))
                _put(ready, piece, halted)
        except Exception as error:
            failures.append(error)
        finally:
            _put(ready, None, halted)

    def _prepare(self, piece: _Piece) -> None:
        """Read a case, and bring it into the form of its model where that is at hand.

        Where it is not, the thread that draws loads it: torch would keep a second team of threads for this one, and
        with more threads than cores both would wait for each other in a slow way.
        """
        job = piece.job
        beside = [Given(path, role) for role, path in job.beside]
        case = read_case(job.source, job.output, self._settings(job), beside)
        given = self.settings
        found = model_for(
            case.volume, job.target, given.model, given.anatomy,
            beside=case.roles[1:], styled=case.style is not None, offline=given.offline, at_hand=self._files,
        )  # fmt: skip
        piece.loaded = (case, found)
        if found.path in self._methods:
            self._fit(piece)

    def _fit(self, piece: _Piece) -> None:
        assert piece.loaded is not None
        case, found = piece.loaded
        if found.path not in self._methods:
            self._methods[found.path] = build_model(found, self.device)
            if found.entry is not None:
                self._files[found.entry.sha256] = found.path
        piece.prepared = prepare_case(case, self._methods[found.path], found, self._settings(piece.job))
        piece.loaded = None

    def _settings(self, job: Job) -> Settings:
        template = self.settings.case
        overwrite = template.overwrite or job.may_replace
        return replace(template, to=job.target, from_=job.role, series=job.series, overwrite=overwrite)

    def _taken(self, ready: Queue[_Piece | None], halted: Callable[[], bool]) -> Iterator[_Piece]:
        """Pieces that are ready, each with the time that the device waited for it."""
        while True:
            since = time.monotonic()
            while True:
                try:
                    piece = ready.get(timeout=POLL_SECONDS)
                    break
                except Empty:
                    if halted():
                        return
            if piece is None:
                return
            piece.waited = time.monotonic() - since
            yield piece

    def _draw(self, piece: _Piece, halted: Callable[[], bool]) -> None:
        """Second stage, in the thread that yields the records."""
        if piece.record is not None:
            return

        def step(*_: object) -> None:
            if halted():
                raise Dropped

        def draw() -> None:
            step()
            if piece.prepared is None:
                self._fit(piece)
            assert piece.prepared is not None
            piece.drawn = draw_case(piece.prepared, step)

        try:
            piece.record = self._guarded(piece, draw)
        except Dropped:
            piece.prepared = piece.loaded = None

    def _write(self, drawn: Queue[_Piece | None], records: Queue[Record]) -> None:
        """Third stage, in a thread of its own."""
        while (piece := drawn.get()) is not None:
            if piece.record is None:
                piece.record = self._guarded(piece, partial(self._finish, piece))
            assert piece.record is not None
            records.put(piece.record)
            del piece  # no volume is kept while the next one is awaited

    def _finish(self, piece: _Piece) -> None:
        assert piece.prepared is not None and piece.drawn is not None
        slices = sum(each.shape[-1] if each.ndim == 5 else len(each) for each in piece.drawn)  # of whole volumes: axial
        outcome = finish_case(piece.prepared, piece.drawn, self._settings(piece.job))
        piece.record = Record(
            piece.job.id,
            piece.job.case,
            DONE,
            seconds=time.monotonic() - piece.started,
            slices=slices,
            waited=piece.waited,
            outputs=hashed(outcome.planned, self.settings.root),
            warnings=tuple(outcome.warnings),
        )

    def _guarded(self, piece: _Piece, stage: Callable[[], None]) -> Record | None:
        """Run a stage; a failure becomes a record. Returns the piece's record, if it has one by now."""
        fatal = False
        try:
            stage()
            return piece.record
        except ImputerError as error:
            message, code, fatal = str(error), error.exit_code, files.is_full(error.__cause__)
        except Dropped:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                message, code = "There is not enough memory. Try --batch-size 1.", DeviceError.exit_code
            else:
                message, code = _unexpected(error), 1
        seconds = time.monotonic() - piece.started
        return Record(piece.job.id, piece.job.case, FAILED, message, code, seconds, waited=piece.waited, fatal=fatal)


@dataclass
class _Flag:
    value: bool = False


def _either(stop: Callable[[], bool], flag: _Flag) -> bool:
    return flag.value or stop()


def _put(queue: Queue[Any], item: object, given_up: Callable[[], bool]) -> None:
    """Wait for room in a queue, unless nobody will make any."""
    while True:
        try:
            queue.put(item, timeout=POLL_SECONDS)
            return
        except Full:
            if given_up():
                return


def _available(records: Queue[Record]) -> Iterator[Record]:
    while not records.empty():
        yield records.get()


def _unexpected(error: Exception) -> str:
    """Its kind only: the text of a foreign error may quote a header."""
    return f"Unexpected error ({type(error).__name__}); 'imputer synth' on the case shows it."


def hashed(outputs: Iterable[Path], root: Path) -> tuple[tuple[str, str], ...]:
    """SHA-256 of files, and of every file of folders, by their paths relative to `root`, sorted."""
    every: list[Path] = []
    for path in outputs:
        every += [path / name for name in sorted(os.listdir(path))] if path.is_dir() else [path]
    return tuple(sorted((path.relative_to(root).as_posix(), files.sha256_of(path)) for path in every))


def outputs_of(job: Job, settings: Settings) -> list[Path]:
    """The files and folders that a job writes."""
    kinds = kinds_of(settings.output_types, job.output, is_dicom=not files.is_nifti_name(job.output))
    return plan_of(job.output, kinds, samples=settings.samples, preview=settings.preview).paths()


def complete_outputs(job: Job, settings: Settings, root: Path) -> Record | None:
    """The record of a job whose process was killed between its last output and its line in the ledger.

    Every file is renamed into place when it is whole, the volume after all others; so they are complete where all are
    there. None where one is missing. Only for jobs that began without a file of others at any of these places.
    """
    outputs = outputs_of(job, settings)
    if not all(path.exists() for path in outputs):
        return None
    return Record(job.id, job.case, DONE, outputs=hashed(outputs, root))
