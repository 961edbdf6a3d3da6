"""What an input holds: folders with anything in them, links and pipes, directories of media, single files."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from dicom_bytes import bare, directory, instance
from pydicom.uid import ImplicitVRLittleEndian

from imputer.errors import InputError
from imputer.io.dicom import members as members_file
from imputer.io.dicom.content import safe_name
from imputer.io.dicom.members import Found, is_dicom, members
from imputer.io.dicom.parse import read_header

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes as POSIX has them")


def zipped(**files: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


NIFTI = b"\x5c\x01\x00\x00" + bytes(340) + b"n+1\0" + bytes(100)
JUNK = {
    "README": b"hello world",
    "t1.nii": NIFTI,
    "t1.nii.gz": gzip.compress(NIFTI),
    "Thumbs.db": bytes(5000),
    "._IM1": b"\x00\x05\x16\x07" + bytes(200),
    "nested.zip": zipped(IM1=instance()),
    "IM9.dcm.gz": gzip.compress(instance()),
    "empty.dcm": b"",
    "index": directory(),  # under another name
}


def found_in(path: Path) -> Found:
    with members(path) as found:
        return found


def names(path: Path) -> list[str]:
    """Names of the members that are DICOM objects."""
    with members(path) as found:
        return [member.name for member in found.members if read_header(member) is not None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with five images in it, at several depths and under all kinds of names, and junk beside them."""
    top = tmp_path / "study"
    for number, place in enumerate(["IM1", "b/IM2.dcm", "b/c/d/IM3.IMA", "b/.hidden", ".cache/IM5.0001.txt"]):
        file = top / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(instance(number=number))
    for name, content in JUNK.items():
        (top / "b" / name).write_bytes(content)
    return top


def test_a_folder_gives_its_images_wherever_and_whatever_their_names(folder: Path) -> None:
    assert names(folder) == ["IM5.0001.txt", "IM1", ".hidden", "IM2.dcm", "IM3.IMA"]  # in the order of their paths
    found = found_in(folder)
    assert (found.kind, found.skipped, len(found.members)) == ("folder", 0, 5 + len(JUNK))
    sizes = {member.name: member.size for member in found.members}
    assert sizes["README"] == len(b"hello world")


@posix
def test_links_and_pipes_in_a_folder_are_skipped_and_counted(folder: Path, tmp_path: Path) -> None:
    before = names(folder)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "IM7").write_bytes(instance(number=7))
    (folder / "loop").symlink_to(folder)
    (folder / "b" / "up").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "IM7").symlink_to(outside / "IM7")
    (folder / "away").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    assert names(folder) == before
    assert found_in(folder).skipped == 6


@posix
def test_a_link_or_pipe_that_takes_the_place_of_a_file_is_not_opened(folder: Path, tmp_path: Path) -> None:
    with members(folder) as found:
        first = next(member for member in found.members if member.name == "IM1")
        (folder / "IM1").rename(tmp_path / "moved")
        (folder / "IM1").symlink_to(tmp_path / "moved")
        with pytest.raises(InputError, match="IM1 cannot be read"):
            first.open()
        (folder / "IM1").unlink()
        os.mkfifo(folder / "IM1")
        with pytest.raises(InputError, match="IM1 is no ordinary file"):
            first.open()
        (folder / "IM1").unlink()
        with pytest.raises(InputError, match="IM1 does not exist"):
            first.open()


@posix
def test_a_pipe_as_input_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is no ordinary file"):
        found_in(tmp_path / "pipe")
    assert not is_dicom(tmp_path / "pipe")


@posix
def test_the_input_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (folder / "DICOMDIR").write_bytes(directory())
    links = tmp_path / "links"
    links.mkdir()
    for name, target, images in [("f", folder, 5), ("i", folder / "IM1", 1), ("d", folder / "DICOMDIR", 5)]:
        link = links / name
        link.symlink_to(target)
        assert len(names(link)) == images and is_dicom(link)
    (tmp_path / "x").symlink_to("x")
    with pytest.raises(InputError, match="x cannot be read"):
        found_in(tmp_path / "x")
    assert not is_dicom(tmp_path / "x")


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "INDEX.DIR"])
def test_a_dicomdir_stands_for_its_folder(folder: Path, name: str) -> None:
    (folder / name).write_bytes(directory())
    found = found_in(folder / name)
    assert found.kind == "folder"
    assert names(folder / name) == names(folder)
    assert found.skipped == (name != "INDEX.DIR")  # there its content tells
    assert is_dicom(folder / name)


def test_the_content_of_a_dicomdir_does_not_matter(folder: Path) -> None:
    (folder / "DICOMDIR").write_bytes(b"")
    assert is_dicom(folder / "DICOMDIR") and len(names(folder / "DICOMDIR")) == 5


def test_one_file_is_one_member(tmp_path: Path) -> None:
    file = tmp_path / "scan.dcm"
    file.write_bytes(instance())
    found = found_in(file)
    assert (found.kind, found.skipped) == ("file", 0)
    (member,) = found.members
    assert (member.name, member.size) == ("scan.dcm", len(instance()))
    with member.open() as first, member.open() as second:
        assert first.read(200) == second.read()[:200]
        assert first.seek(128) == 128 and first.read(4) == b"DICM"


def test_an_image_with_the_mark_of_a_zip_in_its_preamble_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "both").write_bytes(b"PK\x03\x04" + instance()[4:])
    assert found_in(tmp_path / "both").kind == "file" and names(tmp_path / "both") == ["both"]


@pytest.mark.parametrize("name", ["gone", "gone/deeper", "ze\0ro"])
def test_a_missing_input_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        found_in(tmp_path / name)
    assert not is_dicom(tmp_path / name)


def test_a_folder_too_deep_is_refused(tmp_path: Path) -> None:
    deepest = tmp_path.joinpath("top", *["d"] * 32)
    deepest.mkdir(parents=True)
    (deepest / "IM1").write_bytes(instance())
    assert names(tmp_path / "top") == ["IM1"]
    (deepest / "one more").mkdir()
    with pytest.raises(InputError, match="top holds folders in folders deeper than 32"):
        found_in(tmp_path / "top")


def test_a_folder_too_full_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_file, "ENTRY_LIMIT", 10)
    with pytest.raises(InputError, match="study holds more than 10 files"):
        found_in(folder)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("IM 1.dcm", "IM 1.dcm"),
        ("Müller.dcm", "Müller.dcm"),
        ("a\x1b[31mred\n\x07", "a\\x1b[31mred\\n\\x07"),
        ("\u202egpj.exe", "\\u202egpj.exe"),  # turns the direction of writing
        ("\udcff.dcm", "\\udcff.dcm"),  # a byte that is no UTF-8
        ("x" * 300, "x" * 80 + "..."),
        ("a/b\\c.dcm", "c.dcm"),
    ],
)
def test_names_are_made_fit_to_be_shown(name: str, shown: str) -> None:
    assert safe_name(name) == shown
    shown.encode()


@posix
def test_a_file_with_control_characters_in_its_name_is_read_and_named_safely(tmp_path: Path) -> None:
    (tmp_path / "\x1b]0;evil\x07\n").write_bytes(instance())
    assert names(tmp_path) == ["\\x1b]0;evil\\x07\\n"]


HOSTILE = zipped(**{"../IM1": instance()})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (instance(), True),
        (instance()[132:], True),
        (bare(ImplicitVRLittleEndian), True),
        (directory(), True),
        (zipped(a=b"text", b=instance()), True),
        (zipped(a=b"text"), False),
        (zipped(), False),
        (HOSTILE, True),  # for the reader to refuse
        (b"hello world", False),
        (b"", False),
        (NIFTI, False),
        (gzip.compress(NIFTI), False),
        (bytes(127) + b"DICM" + bytes(100), False),
    ],
)
def test_content_tells_whether_a_file_is_for_this_reader(tmp_path: Path, content: bytes, expected: bool) -> None:
    (tmp_path / "input").write_bytes(content)
    assert is_dicom(tmp_path / "input") is expected


def test_a_folder_is_for_this_reader(tmp_path: Path) -> None:
    assert is_dicom(tmp_path)


def test_telling_the_kind_of_a_file_does_not_load_pydicom(tmp_path: Path) -> None:
    (tmp_path / "t1.nii").write_bytes(NIFTI)
    code = (
        "import sys; from pathlib import Path; from imputer.io.dicom.members import is_dicom\n"
        f"assert not is_dicom(Path({str(tmp_path / 't1.nii')!r})); print('pydicom' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
