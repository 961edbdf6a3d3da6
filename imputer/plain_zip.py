"""Zip files that hold their members as they are, and nothing that a reader could choke on.

Archives of models and the checkpoints of torch are of this kind. Readers of zips take more: compressed members that
grow a thousandfold, lists of millions of members, members that share their bytes. What is opened here was checked for
that before any member is read, so that all members together are no larger than the file.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imputer.files import CHUNK_BYTES
from imputer.safetensors_header import shown

_ENCRYPTED = 0x1
# The last records of a zip (APPNOTE.TXT 4.3.14 to 4.3.16): those with 64 are there where it has more than 4 GB.
_END64 = struct.Struct("<4sQ2H2L4Q")  # [8] is the length of the list of members
_LOCATOR64 = struct.Struct("<4sLQL")  # [2] is where _END64 is
_END = struct.Struct("<4s4H2LH")  # [5] is the length of the list of members, [7] that of a comment
# What zipfile raises for a file that is not in order; RuntimeError where it is encrypted.
_DAMAGE = (EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile, zipfile.LargeZipFile)


class NotPlainError(Exception):
    """A zip is missing, damaged or not plain; the text says in what way, as a part of a sentence about "it"."""


class PlainZip:
    """A zip file that was found to be plain; as a context it is closed at the end.

    Parameters
    ----------
    path : the file; it is only read.
    largest_list : bytes that the zip's list of its members may have, about 100 a member.

    Attributes
    ----------
    sizes : of the members, by name, in bytes.

    Every use of it raises NotPlainError where the file turns out to be damaged, or another kind of file.
    """

    def __init__(self, path: Path, *, largest_list: int) -> None:
        with _told():
            about = path.stat()
            if not stat.S_ISREG(about.st_mode):
                raise NotPlainError("it is no ordinary file")
            _check_end(path, about.st_size, largest_list)
            self._file = zipfile.ZipFile(path)
        try:
            self.sizes = _sizes(self._file.infolist(), about.st_size)
        except NotPlainError:
            self._file.close()
            raise

    def __enter__(self) -> PlainZip:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> bytes:
        """A whole member."""
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a member piece by piece."""
        with _told(), self._file.open(name) as member:
            while piece := member.read(CHUNK_BYTES):
                yield piece


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotPlainError("it does not exist") from error
    except OSError as error:
        raise NotPlainError(f"it cannot be read ({error.strerror or type(error).__name__})") from error
    except _DAMAGE as error:
        raise NotPlainError("it is damaged") from error


def _check_end(path: Path, size: int, largest_list: int) -> None:
    """Refuse a list of members that is too long, before it is read into memory."""
    tail_bytes = _END64.size + _LOCATOR64.size + _END.size
    with path.open("rb") as file:
        file.seek(max(0, size - tail_bytes))
        tail = file.read(tail_bytes).rjust(tail_bytes, b"\0")
    end = _END.unpack(tail[-_END.size :])
    if end[0] != b"PK\5\6" or end[7] != 0:
        raise NotPlainError("it is cut off, or of another kind")
    length = end[5]
    mark, _, place, _ = _LOCATOR64.unpack(tail[_END64.size : -_END.size])
    if mark == b"PK\6\7":
        end64 = _END64.unpack(tail[: _END64.size])
        if end64[0] != b"PK\6\6" or place != size - tail_bytes:
            raise NotPlainError("its list of members is not where it should be")
        length = end64[8]
    if length > largest_list:
        raise NotPlainError("it has too many members")


def _sizes(listed: list[zipfile.ZipInfo], size: int) -> dict[str, int]:
    """Check the members of a zip of `size` bytes."""
    sizes: dict[str, int] = {}
    for member in listed:
        word = shown(member.filename)
        if member.filename in sizes:
            raise NotPlainError(f"it holds {word} twice")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG) or member.flag_bits & _ENCRYPTED:
            raise NotPlainError(f"its member {word} is no plain file")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise NotPlainError(f"its member {word} is compressed")
        sizes[member.filename] = member.file_size
    if sum(sizes.values()) > size:
        raise NotPlainError("its members claim to be larger than the file")
    return sizes
