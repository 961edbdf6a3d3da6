"""The ledger of a run: a line as each job begins and ends, safe against kill -9; and the lock of its output folder.

    OUT/.imputer/settings.json    what the outputs were made with; another run must not mix with it
    OUT/.imputer/ledger-0001-of-0004.jsonl    of each part; a run in one part has 0001-of-0001
    OUT/.imputer/part-0001-of-0004.lock    held while the part runs

A job that a line says is done is done only if its outputs are there with the same SHA-256.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, TextIO

from filelock import FileLock, Timeout

from imputer.batch.jobs import DONE, Record
from imputer.errors import OutputError, UsageError
from imputer.files import replacing, sha256_of

FOLDER = ".imputer"
BEGUN = "begun"
_PART = re.compile(r"(\d{4,})-of-(\d{4,})")


@dataclass(frozen=True)
class Part:
    """One of several processes that share the cases of a run: `number` 1 to `count`."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """As in the names of the files."""
        return f"{self.number:04d}-of-{self.count:04d}"


class Ledger:
    """The ledger of one part, open for writing; a context. `known` and `begun` tell of all parts' earlier runs.

    Parameters
    ----------
    root : output folder.
    part : which part is written; its lock must be held.

    Attributes
    ----------
    known : last record of every job that ended.
    begun : ids of jobs that a process began and did not end; what lies at their outputs is this run's own.
    """

    def __init__(self, root: Path, part: Part) -> None:
        self._path = root / FOLDER / f"ledger-{part.name}.jsonl"
        self.known: dict[str, Record] = {}
        self.begun: set[str] = set()
        self._root = root
        for path in sorted((root / FOLDER).glob("ledger-*.jsonl")):
            self._read(path)
        self._file: TextIO | None = None
        self._lock = Lock()  # a thread may begin jobs while another one ends them

    def __enter__(self) -> Ledger:
        try:
            torn = self._path.is_file() and not _ends_whole(self._path)
            self._file = self._path.open("a", encoding="utf-8")
            if torn:
                self._file.write("\n")
        except OSError as error:
            raise _unwritable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def begin(self, job_id: str, *, is_ours: bool) -> None:
        """Note that a job begins: from now on what lies at its outputs may be half made.

        `is_ours` tells that nothing lay there but what this run itself had made.
        """
        self._append({"id": job_id, "status": BEGUN, "is_ours": is_ours})

    def end(self, record: Record) -> None:
        """Note what came of a job."""
        self._append(record.to_json())
        self.known[record.id] = record
        self.begun.discard(record.id)

    def is_done(self, job_id: str) -> bool:
        """Whether a job was done and all its outputs are as they were then."""
        record = self.known.get(job_id)
        return record is not None and record.status == DONE and all(self._is_same(*each) for each in record.outputs)

    def _is_same(self, relative: str, sha256: str) -> bool:
        try:
            return sha256_of(self._root / relative) == sha256
        except OSError:
            return False

    def _append(self, data: Mapping[str, Any]) -> None:
        assert self._file is not None
        try:
            with self._lock:
                self._file.write(json.dumps(data, ensure_ascii=False, sort_keys=True) + "\n")
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(error) from error

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise _unwritable(error) from error
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # torn by a crash: as if never written
                data = json.loads(line)
                if data["status"] == BEGUN:
                    if data["is_ours"]:
                        self.begun.add(str(data["id"]))
                else:
                    record = Record.from_json(data)
                    self.known[record.id] = record
                    self.begun.discard(record.id)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def compact(root: Path, part: Part) -> None:
    """Rewrite the ledger of a part that ended: one line a job, sorted, without those that only say "begun"."""
    path = root / FOLDER / f"ledger-{part.name}.jsonl"
    last: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            data = json.loads(line)
            if data["status"] == BEGUN:
                last.setdefault(data["id"], line)
            else:
                last[data["id"]] = line
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text("".join(last[job] + "\n" for job in sorted(last)), encoding="utf-8")


def check_settings(root: Path, settings: Mapping[str, Any], part: Part, *, overwrite: bool) -> None:
    """Hold the settings of a run against those that the output folder was begun with; write them where there are none.

    Where nothing came of the earlier run, say because a setting made every case fail, other settings take its place.
    To be called with the lock of `only_here` held.

    Raises
    ------
    UsageError
        Where they differ and `overwrite` is false: outputs of two kinds must not mix.
    OutputError
        Where the folder cannot be written.
    """
    path = root / FOLDER / "settings.json"
    text = json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if path.is_file() and not overwrite:
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            earlier = {}
        other = sorted(key for key in settings.keys() | earlier.keys() if settings.get(key) != earlier.get(key))
        if not other:
            return
        if _holds_results(root, part):
            raise UsageError(
                f"The outputs in {root.name} were made with other settings ({', '.join(other)}).",
                remedy="Go on with the same ones, take another output folder, or make all again with --overwrite.",
            )
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _holds_results(root: Path, part: Part) -> bool:
    """Whether a part made anything, was killed at it, or is at work now."""
    ledger = Ledger(root, part)
    if ledger.begun or any(record.status == DONE for record in ledger.known.values()):
        return True
    own = root / FOLDER / f"part-{part.name}.lock"
    return any(_is_held(lock) for lock in (root / FOLDER).glob("part-*.lock") if lock != own)


def _is_held(lock: Path) -> bool:
    try:
        with _held(lock):
            return False
    except OutputError:
        return True


@contextmanager
def only_here(root: Path, part: Part) -> Iterator[None]:
    """Hold the lock of a part, and see that no run with another number of parts is at work on the folder.

    Raises
    ------
    OutputError
        Where another process is; says which and since when.
    """
    folder = root / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from error
    own = folder / f"part-{part.name}.lock"
    with ExitStack() as stack:
        stack.enter_context(_held(own))
        for other in sorted(folder.glob("part-*.lock")):
            found = _PART.search(other.name)
            if other != own and found is not None and int(found.group(2)) != part.count:
                with _held(other):
                    pass
        who = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        note = own.with_suffix(".json")
        note.write_text(json.dumps(who), encoding="utf-8")
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(
            f"Another run is at work on this output folder ({_holder(path)}).", remedy="Wait for it, or stop it."
        ) from error
    except OSError as error:
        raise _unwritable(error) from error
    try:
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return f"process {int(who['pid'])} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it does not say which"


def _unwritable(error: OSError) -> OutputError:
    reason = error.strerror or type(error).__name__
    return OutputError(f"The output folder cannot be written ({reason}).", remedy="Choose another one.")
