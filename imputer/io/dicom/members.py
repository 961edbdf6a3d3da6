"""What an input is made of: the files of a folder, the members of a zip, or one file.

Whether a member is DICOM only its content tells, which `imputer.io.dicom.parse` reads. This file does without
pydicom, so that `is_dicom` costs little.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from imputer.errors import InputError
from imputer.io.dicom.archive import opened_zip
from imputer.io.dicom.content import (
    HEAD_BYTES,
    Member,
    looks_like_dicom,
    looks_like_directory,
    looks_like_zip,
    safe_name,
    take,
)

__all__ = ["Found", "Member", "is_dicom", "members"]

DEPTH_LIMIT = 32
ENTRY_LIMIT = 200_000
DIRECTORY_NAMES = ("DICOMDIR", "DICOMDIR.")  # with the dot: as some systems show a CD


@dataclass(frozen=True)
class Found:
    """What an input holds.

    Attributes
    ----------
    members : list of Member
        In the order of their paths.
    skipped : int
        Number of links, pipes, devices, unreadable folders, and directories of media (DICOMDIR) that were left out.
    kind : str
        "folder", "zip" or "file".
    """

    members: list[Member]
    skipped: int
    kind: str


@contextmanager
def members(path: Path) -> Iterator[Found]:
    """Files of an input; those of a zip can be opened as long as the context lasts.

    A folder is searched at any depth; links in it are not followed. A DICOMDIR stands for its folder: the paths that
    it lists are not trusted. The path itself may be a link.

    Raises
    ------
    InputError
        Where the path is missing, or neither file nor folder, the folder too deep or too full, the zip hostile or
        damaged.
    """
    path = Path(path)
    name = _shown(path)
    if stat.S_ISDIR(_mode(path, name)):
        yield _search(path, name)
        return
    head = _head(path, name)
    if _is_directory(path, head):
        yield _search(path.resolve().parent, name)
    elif looks_like_zip(head):
        with opened_zip(path, name, _names_directory) as (inside, skipped):
            yield Found(inside, skipped, "zip")
    else:
        yield Found([Member(name, path.stat().st_size, partial(_open, path, name, follow=True))], 0, "file")


def is_dicom(path: Path) -> bool:
    """Whether an input is for the DICOM reader: a folder, a DICOM file, a DICOMDIR, or a zip that holds DICOM.

    Also a zip that the reader would refuse, so that it can say why.
    """
    path = Path(path)
    name = _shown(path)
    try:
        if stat.S_ISDIR(_mode(path, name)):
            return True
        head = _head(path, name)
    except InputError:
        return False
    if not looks_like_zip(head):
        return looks_like_dicom(head) or _is_directory(path, head)
    try:
        with opened_zip(path, name, _names_directory) as (inside, _):
            return any(looks_like_dicom(_first_bytes(member)) for member in inside)
    except InputError:
        return True


def _first_bytes(member: Member) -> bytes:
    with member.open() as stream:
        return take(stream, HEAD_BYTES, member.name)


def _is_directory(path: Path, head: bytes) -> bool:
    return _names_directory(path.name) or looks_like_directory(head)


def _names_directory(base: str) -> bool:
    return base.upper() in DIRECTORY_NAMES


def _shown(path: Path) -> str:
    return safe_name(path.name or path.absolute().name) or "The folder"


def _mode(path: Path, name: str) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise _unreadable(name, error) from error


def _head(path: Path, name: str) -> bytes:
    with _open(path, name, follow=True) as stream:
        return take(stream, HEAD_BYTES, name)


def _open(path: Path | str, name: str, *, follow: bool = False) -> BinaryIO:
    """Open an ordinary file and nothing else: a link in its place is refused, and a pipe does not block.

    Without a buffer, as it is read in large pieces.
    """
    flags = 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    for option in ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):  # not all of them exist on every system
        flags |= getattr(os, option, 0)
    try:
        descriptor = os.open(path, os.O_RDONLY | flags)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{name} is no ordinary file.")
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def _unreadable(name: str, error: OSError | ValueError) -> InputError:
    if isinstance(error, ValueError) or error.errno == errno.ENOENT:
        return InputError(f"{name} does not exist.")
    return InputError(f"{name} cannot be read ({error.strerror or type(error).__name__}).")


def _search(folder: Path, name: str) -> Found:
    """All ordinary files below a folder."""
    files: list[tuple[str, int]] = []
    skipped = 0
    seen = 0
    waiting = [(str(folder), 0)]
    while waiting:
        here, depth = waiting.pop()
        if depth > DEPTH_LIMIT:
            raise InputError(
                f"{name} holds folders in folders deeper than {DEPTH_LIMIT}.", remedy="Give the folder of the study."
            )
        try:
            with os.scandir(here) as listing:
                for entry in listing:
                    seen += 1
                    if seen > ENTRY_LIMIT:
                        raise InputError(
                            f"{name} holds more than {ENTRY_LIMIT} files.", remedy="Give the folder of the study."
                        )
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                    elif entry.is_file(follow_symlinks=False) and not _names_directory(entry.name):
                        files.append((entry.path, entry.stat(follow_symlinks=False).st_size))
                    else:
                        skipped += 1
        except OSError as error:
            if depth == 0:
                raise _unreadable(name, error) from error
            skipped += 1
    return Found([_file(path, size) for path, size in sorted(files)], skipped, "folder")


def _file(path: str, size: int) -> Member:
    name = safe_name(os.path.basename(path))
    return Member(name, size, partial(_open, path, name))
