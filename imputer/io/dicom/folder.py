"""A folder that is written as a whole or not at all, and replaced only where it holds nothing but our own files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pydicom.filereader import read_file_meta_info

from imputer.errors import OutputError
from imputer.files import temporary_beside
from imputer.io.dicom.parse import quiet

# Constant for all versions, made once: it tells our own files from others (PS3.10 7.1, PS3.5 B.2).
IMPLEMENTATION_CLASS_UID: Final = "2.25.201221893520047813434276907116747701088"
_AT_ONCE = 16  # files


@contextmanager
def new_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder beside the target; at the end it becomes the target, on any failure it is deleted.

    It is as readable as the user's umask makes new folders, or as the existing folder whose place it takes. Whatever
    happens, the target is as it was or complete.

    Parameters
    ----------
    target : Path
        May exist as an empty folder.
    overwrite : bool
        Also replace a folder, if it holds nothing but DICOM files that this program wrote.

    Raises
    ------
    OutputError
        Where the target exists otherwise, is a link, or its parent is missing, or the system refuses to write (OSError
        inside the block).
    """
    temporary = temporary_beside(target)
    try:
        _check(target, overwrite)
        temporary.mkdir()
        if target.exists():
            shutil.copymode(target, temporary)
        yield temporary
        _flush(temporary)
        _check(target, overwrite)  # somebody else may have been faster
        _put(temporary, target)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(f"{target.name} could not be written ({reason}).", remedy="Choose another output.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist; OSError where that fails."""
    with path.open("xb") as file:
        file.write(data)


def _check(target: Path, overwrite: bool) -> None:
    if target.is_symlink():
        raise OutputError(f"{target.name} is a link.", remedy="Choose another output, or name what it links to.")
    if not target.parent.is_dir():
        raise OutputError(f"The folder for {target.name} does not exist.", remedy="Create it first.")
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"{target.name} is a file, not a folder.", remedy="Choose another output.")
    entries = list(os.scandir(target))
    if entries and not overwrite:
        raise OutputError(
            f"The folder {target.name} is not empty.",
            remedy="Choose another output, or allow to overwrite it with --overwrite.",
        )
    if not all(_is_ours(entry) for entry in entries):
        raise OutputError(
            f"The folder {target.name} holds files that imputer did not write, and is not replaced.",
            remedy="Choose another output.",
        )


def _is_ours(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return False
    try:
        with quiet():
            meta = read_file_meta_info(entry.path)
            return str(meta.get("ImplementationClassUID", "")) == IMPLEMENTATION_CLASS_UID
    except OSError:
        raise
    except Exception:  # no DICOM, or a damaged one, of which pydicom makes any kind of exception
        return False


def _flush(folder: Path) -> None:
    """Bring everything to the disk, so that a loss of power after the rename cannot leave empty files."""
    with ThreadPoolExecutor(
        _AT_ONCE
    ) as pool:  # waiting, not computing: file systems commit what comes together at once
        list(pool.map(_sync, folder.iterdir()))
    with suppress(PermissionError):  # Windows opens no folders
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(temporary: Path, target: Path) -> None:
    """Rename; what was there goes only when the new folder is in its place."""
    if not target.exists():
        temporary.rename(target)
        return
    aside = temporary_beside(target)
    target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
