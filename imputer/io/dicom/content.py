"""One file of an input, wherever it lies, and what its first bytes tell about it."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from imputer.errors import InputError

HEAD_BYTES = 4096  # how much of a file the functions here want to see
PREFIX_END = 132  # a preamble of 128 bytes, then the prefix (PS3.10 section 7.1)
PIECE_BYTES = 1 << 20
LONGEST_NAME = 80  # characters of a name in a message

# Value representations that the first element of a data set can have.
_FIRST_VRS = (b"UL", b"UI", b"CS", b"DA", b"TM", b"OB", b"SQ")
_LONGEST_FIRST = 1024  # bytes: a longer first value is not believed
_LAST_FIRST = 0x0018  # no data set begins after SOPInstanceUID (0008,0018)
# SOPClassUID (0008,0016) in both byte orders, or MediaStorageSOPClassUID (0002,0002); VR and length, or length; a UID.
_SOP_CLASS = re.compile(rb"(?:\x08\x00\x16\x00|\x00\x08\x00\x16|\x02\x00\x02\x00).{4}[0-2]\.\d+\.\d", re.DOTALL)
_MEDIA_DIRECTORY = re.compile(rb"\x02\x00\x02\x00UI..1\.2\.840\.10008\.1\.3\.10(?![\d.])", re.DOTALL)
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
# What a stream raises that turns out to be damaged; of a zip's member also RuntimeError and ValueError.
_DAMAGE = (EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Member:
    """One file of a folder or zip. Its content is read when asked for.

    Attributes
    ----------
    name : str
        Base name for messages: printable, and not longer than a line.
    size : int
        Bytes that it has, or, in a zip, claims to have: its stream never gives more.
    open : Callable
        Gives a fresh seekable stream of its bytes, to be closed by the caller. InputError where that fails.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO] = field(repr=False, compare=False)


def safe_name(name: str) -> str:
    """Last part of a path as text that can be shown: what does not print is escaped, what is long is cut.

    Control characters would move the cursor of a terminal, and those that turn the direction of writing would show
    another name than there is.
    """
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in base)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}..."


def take(stream: BinaryIO, size: int, name: str) -> bytes:
    """Read the next `size` bytes of a member, fewer at its end; InputError where it cannot be read.

    Piece by piece: a reader of zips may ask the system for as many bytes as it is asked for.
    """
    pieces: list[bytes] = []
    try:
        while size > 0 and (piece := stream.read(min(size, PIECE_BYTES))):
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or type(error).__name__}).") from error
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory.") from error
    except _DAMAGE as error:
        raise InputError(f"{name} is truncated or damaged.", remedy="Copy it again.") from error


def looks_like_zip(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a zip, and not DICOM with a zip's mark in its preamble."""
    return head.startswith(_ZIP_MAGICS) and not has_prefix(head)


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that begins with these bytes (HEAD_BYTES, if it has as many) is DICOM.

    It is with the prefix of PS3.10 section 7.1; and without, where it begins with an element of the meta information
    or of group 0008, as some systems write, and the UID of its SOP class follows soon.
    """
    return has_prefix(head) or (_begins_with_element(head) and _SOP_CLASS.search(head) is not None)


def looks_like_directory(head: bytes) -> bool:
    """Whether a file that begins with these bytes is the directory of a medium (DICOMDIR, PS3.10 section 8.6)."""
    return has_prefix(head) and _MEDIA_DIRECTORY.search(head) is not None


def has_prefix(head: bytes) -> bool:
    """Whether the prefix "DICM" follows a preamble."""
    return head[:PREFIX_END].endswith(b"DICM") and len(head) >= PREFIX_END


def is_big_endian(element: bytes) -> bool:
    """Whether an element of group 0002 or 0008 is written with the most significant byte first."""
    return element[:1] == b"\0"


def _begins_with_element(head: bytes) -> bool:
    """Whether an element that can be the first of a file stands at once, with a representation and a sane length."""
    if len(head) < 8:
        return False
    order = ">" if is_big_endian(head) else "<"
    group, element = struct.unpack_from(f"{order}HH", head)
    if group not in (0x0002, 0x0008) or element > _LAST_FIRST:
        return False
    vr = head[4:6]
    if vr in _FIRST_VRS:
        # Of OB and SQ these two bytes are reserved, and zero (PS3.5 section 7.1.2).
        (length,) = struct.unpack_from(f"{order}H", head, 6)
    elif order == "<":  # implicit VR is always little endian (PS3.5 section A.1)
        (length,) = struct.unpack_from("<L", head, 4)
    else:
        return False
    return bool(length % 2 == 0 and length <= _LONGEST_FIRST)
