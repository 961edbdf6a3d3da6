"""A zip of DICOM files, read in place. Its members never touch the disk, and a zip with any trick in it is refused.

The list of members is checked before one of them is read: names that lead elsewhere, links, members that share
bytes, and sizes that no honest file grows to ("A better zip bomb", Fifield 2019).
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from imputer.errors import InputError
from imputer.io.dicom.content import Member, safe_name

LIST_LIMIT = 1 << 25  # bytes of the list of members; also of any single read, which is what bounds it
ENTRY_LIMIT = 200_000
TOTAL_LIMIT = 1 << 34  # bytes of all members
RATIO_LIMIT = 300  # DICOM shrinks to a half, maps of labels to a hundredth
RATIO_FREE_BYTES = 1 << 26  # below, a ratio is no danger: a slice without content shrinks a thousandfold

_LOCAL_HEADER_BYTES = 30  # at least; APPNOTE.TXT 4.3.7
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # APPNOTE.TXT 4.4.4
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DRIVE = re.compile(r"[A-Za-z]:")
# What zipfile raises for a file that is not in order; RuntimeError and its NotImplementedError where it lacks a method.
_DAMAGE = (EOFError, ValueError, RuntimeError, IndexError, struct.error, zlib.error, zipfile.BadZipFile)


@contextmanager
def opened_zip(path: Path, name: str, is_left_out: Callable[[str], bool]) -> Iterator[tuple[list[Member], int]]:
    """Members of a zip, in the order of their names, and how many were left out by their base name.

    They can be opened as long as the context lasts.

    Parameters
    ----------
    path : Path
    name : str
        How messages call the zip.
    is_left_out : Callable
        Tells it of a base name.

    Raises
    ------
    InputError
        Where the zip is damaged, encrypted, too large, or could harm.
    """
    with _reading(name):
        file = _Careful(path.open("rb", buffering=0))
    with file:
        with _reading(name):
            archive = zipfile.ZipFile(file)
        with archive:
            infos = archive.infolist()
            with _reading(name):
                _check(name, infos, archive.start_dir)
            files = sorted((info for info in infos if not info.is_dir()), key=lambda info: info.filename)
            kept = [info for info in files if not is_left_out(_base(info.filename))]
            yield [_member(archive, info) for info in kept], len(files) - len(kept)


class _Careful(io.BufferedReader):
    """A file that refuses to be read in huge pieces: zipfile reads the whole list of members at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return super().read(LIST_LIMIT)  # zipfile, of the end of the file: no more than 64 KiB are left there
        if size > LIST_LIMIT:
            raise zipfile.BadZipFile
        return super().read(size)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = safe_name(info.filename)
    return Member(name, info.file_size, partial(_open, archive, info, name))


def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> BinaryIO:
    with _reading(name):
        return cast(BinaryIO, archive.open(info))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or type(error).__name__}).") from error
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory.") from error
    except _DAMAGE as error:
        raise InputError(f"{name} is a truncated or damaged zip.", remedy="Copy or pack it again.") from error


def _check(name: str, infos: list[zipfile.ZipInfo], list_start: int) -> None:
    """Refuse a zip whose list of members, which begins at byte `list_start`, is not that of an honest one."""
    if len(infos) > ENTRY_LIMIT:
        raise InputError(f"{name} lists {len(infos)} members, more than this program takes ({ENTRY_LIMIT}).")
    for info in infos:
        _check_member(name, info)
    total = sum(info.file_size for info in infos)
    if total > TOTAL_LIMIT:
        raise InputError(f"{name} would unpack to {total} bytes, more than this program takes ({TOTAL_LIMIT}).")
    if _is_bomb(total, sum(info.compress_size for info in infos)):
        raise _bomb(name)
    _check_overlap(name, infos, list_start)


def _check_member(name: str, info: zipfile.ZipInfo) -> None:
    again = "Unpack it, look at it, and give the folder."
    if _leads_out(info.orig_filename):
        raise InputError(f"{name} is refused: the name of a member leads out of the archive.", remedy=again)
    if info.flag_bits & _ENCRYPTED:
        raise InputError(f"{name} is encrypted.", remedy="Unpack it with its password, and give the folder.")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"{name} is refused: a member is a link or a device, not a file.", remedy=again)
    if info.compress_type not in _METHODS:
        raise InputError(f"{name} is compressed by a method that is not read here.", remedy="Unpack it first.")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise zipfile.BadZipFile
    if _is_bomb(info.file_size, info.compress_size):
        raise _bomb(name)


def _check_overlap(name: str, infos: list[zipfile.ZipInfo], list_start: int) -> None:
    """Refuse members that share bytes, with each other or with the list: each byte may be unpacked once only."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in ordered), list_start]
    for info, following in zip(ordered, starts[1:], strict=True):
        if info.header_offset < 0 or info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size > following:
            raise InputError(f"{name} is refused: its members overlap.", remedy="Copy or pack it again.")


def _is_bomb(size: int, compressed: int) -> bool:
    return size > RATIO_FREE_BYTES and size > RATIO_LIMIT * compressed


def _bomb(name: str) -> InputError:
    return InputError(
        f"{name} is refused: it would grow more than {RATIO_LIMIT}-fold when unpacked.",
        remedy="Unpack it, look at it, and give the folder.",
    )


def _leads_out(name: str) -> bool:
    """Whether a name, on some system, is more than a place below the archive; also where it is no name at all."""
    plain = name.replace("\\", "/")  # some packers for Windows write it so, and mean the same
    parts = [part.strip() for part in plain.split("/")]
    return not name or "\0" in name or plain.startswith("/") or ".." in parts or _DRIVE.match(name) is not None


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
