"""Zips of DICOM files: honest ones are read in place, and every trick that is known is refused before it works."""

from __future__ import annotations

import hashlib
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from dicom_bytes import directory, instance

from imputer.errors import InputError
from imputer.io.dicom import archive as archive_file
from imputer.io.dicom.members import is_dicom, members
from imputer.io.dicom.parse import read_header, read_whole

IMAGES = {f"study/s 1/IM{number}": instance(number=number) for number in range(3)}
CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pack_one(info: zipfile.ZipInfo, content: bytes = b"IM1") -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, content)
    return buffer.getvalue()


def patched(content: bytes, magic: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite a field of the last record of a kind."""
    place = content.rindex(magic) + offset
    return content[:place] + value + content[place + len(value) :]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "scan.zip"
        path.write_bytes(content)
        return path

    return write


def read_all(path: Path) -> list[tuple[str, str]]:
    """Name and hash of every image."""
    with members(path) as found:
        return [(each.name, read_whole(each)[1]) for each in found.members if read_header(each) is not None]


def refused(path: Path, words: str) -> None:
    """Check that a zip is refused before any of its members is given, and left to this reader to say so."""
    with pytest.raises(InputError, match=words) as raised, members(path):
        pytest.fail("was opened")
    assert str(raised.value).startswith("scan.zip ")
    assert is_dicom(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_images_of_a_zip_are_read_in_place(write: Callable[[bytes], Path], method: int) -> None:
    junk = {"README": b"hello world", "study/": b"", "study/DICOMDIR": directory(), "more.zip": pack(IMAGES)}
    path = write(pack(junk | IMAGES, method))
    assert read_all(path) == [(f"IM{n}", hashlib.sha256(instance(number=n)).hexdigest()) for n in range(3)]
    with members(path) as found:
        assert (found.kind, found.skipped, len(found.members)) == ("zip", 1, 5)
        first, second = found.members[-2:]
        with first.open() as one, second.open() as other:  # at the same time
            assert one.read(140)[128:132] == other.read(140)[128:132] == b"DICM"
            assert one.seek(128) == 128 and one.read(4) == b"DICM"
    assert [file.name for file in path.parent.iterdir()] == ["scan.zip"]


def test_names_with_the_separator_of_windows_are_understood(write: Callable[[bytes], Path]) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = "study\\IM1"
    assert [name for name, _ in read_all(write(pack_one(info, instance())))] == ["IM1"]


@pytest.mark.parametrize(
    "name", ["../IM1", "a/../../IM1", "/etc/IM1", "C:/IM1", "c:IM1", "..\\IM1", "\\\\host\\IM1", "a/ .. /IM1", ".."]
)
def test_names_that_lead_out_are_refused(write: Callable[[bytes], Path], name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    refused(write(pack_one(info)), "the name of a member leads out of the archive")


def test_a_name_with_a_zero_in_it_is_refused(write: Callable[[bytes], Path]) -> None:
    refused(write(pack({"IM1_x": b"IM1"}).replace(b"IM1_x", b"IM1\0x")), "leads out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(write: Callable[[bytes], Path], kind: int) -> None:
    info = zipfile.ZipInfo("IM1")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    refused(write(pack_one(info, b"/etc/passwd")), "a member is a link or a device")


def test_encryption_is_refused(write: Callable[[bytes], Path]) -> None:
    refused(write(patched(pack(IMAGES), CENTRAL, 8, b"\x01\x00")), "scan.zip is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 9, 99])
def test_other_methods_of_compression_are_refused(write: Callable[[bytes], Path], method: int) -> None:
    refused(write(patched(pack(IMAGES), CENTRAL, 10, struct.pack("<H", method))), "compressed by a method")


def test_a_bomb_is_refused(write: Callable[[bytes], Path]) -> None:
    refused(write(pack({"IM1": bytes(68 << 20)})), "would grow more than 300-fold")


def test_a_bomb_beside_much_that_does_not_shrink_is_refused(
    write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_file, "RATIO_FREE_BYTES", 1 << 20)
    noise = random.Random(0).randbytes(1 << 17)
    refused(write(pack({"IM1": bytes(3 << 20), "IM2": noise})), "would grow more than 300-fold")


def test_a_bomb_in_many_pieces_is_refused(write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(pack({f"IM{n}": bytes(1 << 18) for n in range(8)}))
    with members(path) as found:
        assert len(found.members) == 8  # 2 MiB do no harm
    monkeypatch.setattr(archive_file, "RATIO_FREE_BYTES", 1 << 20)
    refused(path, "would grow more than 300-fold")


def test_a_zip_of_absurd_size_is_refused(write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_file, "TOTAL_LIMIT", 1000)
    refused(write(pack(IMAGES)), r"would unpack to \d+ bytes, more than this program takes \(1000\)")


@pytest.mark.parametrize("change", [-100, -1, 1, 5000])
def test_a_size_that_is_a_lie_is_found_and_never_exceeded(write: Callable[[bytes], Path], change: int) -> None:
    told = len(instance()) + change
    path = write(patched(pack({"IM1": instance()}), CENTRAL, 24, struct.pack("<L", told)))
    with members(path) as found:
        (member,) = found.members
        assert member.size == told
        with pytest.raises(InputError, match="IM1 is truncated"):
            read_whole(member)


def test_a_stored_member_with_two_sizes_is_refused(write: Callable[[bytes], Path]) -> None:
    refused(write(patched(pack(IMAGES, zipfile.ZIP_STORED), CENTRAL, 24, b"\x01\x00\x00\x00")), "damaged")


def test_members_that_share_bytes_are_refused(write: Callable[[bytes], Path]) -> None:
    same = pack({"IM1": instance(), "IM2": instance()})
    refused(write(patched(same, CENTRAL, 42, struct.pack("<L", 0))), "its members overlap")


def test_a_member_that_reaches_into_the_list_is_refused(write: Callable[[bytes], Path]) -> None:
    content = pack({"IM1": instance()}, zipfile.ZIP_STORED)
    longer = struct.pack("<LL", len(instance()) + 50, len(instance()) + 50)
    refused(write(patched(content, CENTRAL, 20, longer)), "its members overlap")


def test_too_many_members_are_refused(write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(pack(IMAGES))
    monkeypatch.setattr(archive_file, "ENTRY_LIMIT", 2)
    refused(path, "lists 3 members, more than this program takes")


def test_a_list_of_members_too_long_for_memory_is_not_read(
    write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(pack(IMAGES | {"x" * 3000: b""}))
    monkeypatch.setattr(archive_file, "LIST_LIMIT", 2000)
    refused(path, "truncated or damaged")


def test_a_zip_cut_anywhere_is_refused(write: Callable[[bytes], Path]) -> None:
    content = pack(IMAGES)
    for end in range(4, len(content), 37):
        refused(write(content[:end]), "scan.zip is a truncated or damaged zip")


def test_a_damaged_member_is_told_when_it_is_read(write: Callable[[bytes], Path]) -> None:
    content = bytearray(pack(IMAGES, zipfile.ZIP_STORED))
    content[content.rindex(b"DICM") + 40] ^= 1
    with members(write(bytes(content))) as found:
        with pytest.raises(InputError, match="IM2 is truncated or damaged"):
            read_whole(found.members[2])
        assert read_whole(found.members[1])[0].InstanceNumber == 1


def test_a_member_whose_own_header_disagrees_is_refused_when_opened(write: Callable[[bytes], Path]) -> None:
    content = patched(pack({"IM1": instance()}), LOCAL, 30, b"IM9")
    with members(write(content)) as found, pytest.raises(InputError, match="IM1 is a truncated or damaged zip"):
        found.members[0].open()


def test_names_are_made_fit_to_be_shown(write: Callable[[bytes], Path]) -> None:
    path = write(pack({"a/\x1b[2J\n": instance()}))
    assert [name for name, _ in read_all(path)] == ["\\x1b[2J\\n"]
