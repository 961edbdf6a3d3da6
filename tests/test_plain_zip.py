"""Plain zips: what they hold comes out, and every other zip is refused before a member is read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imputer.plain_zip import NotPlainError, PlainZip

TEXT = b"some bytes" * 300_000  # more than a piece


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A plain zip of two members."""
    place = tmp_path / "plain.zip"
    with zipfile.ZipFile(place, "w") as file:
        file.writestr("text", TEXT)
        file.writestr("none", b"")
    return place


def opened(path: Path) -> PlainZip:
    return PlainZip(path, largest_list=1000)


def test_members_come_out_whole_and_in_pieces(path: Path) -> None:
    with opened(path) as file:
        assert file.sizes == {"text": len(TEXT), "none": 0}
        assert (file.read("text"), file.read("none")) == (TEXT, b"")
        pieces = list(file.pieces("text"))
        assert len(pieces) > 1 and b"".join(pieces) == TEXT


def test_damage_is_told_when_it_is_read(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(TEXT) + 1_000_000] ^= 1
    path.write_bytes(content)
    with opened(path) as file, pytest.raises(NotPlainError, match="it is damaged"):
        file.read("text")


def flag(content: bytes) -> bytes:
    start = content.rindex(b"PK\x01\x02")
    return content[: start + 8] + b"\x01" + content[start + 9 :]


def method(content: bytes) -> bytes:
    start = content.rindex(b"PK\x01\x02")
    return content[: start + 10] + b"\x63" + content[start + 11 :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flag, "'none' is no plain file"),  # encrypted
        (method, "'none' is compressed"),
        (lambda content: content[:-2] + b"\x04\x00note", "cut off, or of another kind"),
        (lambda content: content + b"more", "cut off, or of another kind"),
        (lambda content: content[-22:], "damaged"),
        (lambda content: content[-100:], "damaged"),
        (lambda content: content[:-10] + b"\xff\xff" + content[-8:], "too many members"),
        (lambda content: b"", "cut off, or of another kind"),
    ],
)
def test_another_kind_of_zip_is_refused(path: Path, change: Callable[[bytes], bytes], words: str) -> None:
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(NotPlainError, match=words):
        opened(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotPlainError, match="does not exist"):
        opened(tmp_path / "gone.zip")
    with pytest.raises(NotPlainError, match="no ordinary file"):
        opened(tmp_path)
