"""Hashes, names, and files that are written wholly or not at all."""

import errno
import hashlib
from pathlib import Path

import pytest

from imputer.errors import OutputError
from imputer.files import CHUNK_BYTES, replacing, sha256_of, strip_suffixes


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 7])
def test_hash_of_a_file(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "a").write_bytes(data[:size])
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data[:size]).hexdigest()


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("t1.nii.gz", "t1"),
        ("T1.NII.GZ", "T1"),
        ("a.b_1.5mm.nii", "a.b_1.5mm"),
        ("x.mha", "x"),
        ("x.nhdr", "x"),
        ("x.mgz", "x"),
        ("model.v2.safetensors", "model.v2"),
        ("plain", "plain"),
        ("x.unknown", "x.unknown"),
        (".nii", ".nii"),
    ],
)
def test_name_without_suffix(name: str, stem: str) -> None:
    assert strip_suffixes(Path("folder.nii") / name) == stem


def test_a_new_file_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "v.nii.gz"
    with replacing(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["v.nii.gz"]
    assert target.read_bytes() == b"new"


def test_an_existing_file_stays_unless_allowed(tmp_path: Path) -> None:
    target = tmp_path / "v.json"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"v\.json exists already"), replacing(target) as temporary:
        temporary.write_bytes(b"never reached")
    assert target.read_bytes() == b"old"
    with replacing(target, overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"


def test_a_file_that_appeared_meanwhile_stays(tmp_path: Path) -> None:
    target = tmp_path / "v.json"

    def race() -> None:
        with replacing(target) as temporary:
            temporary.write_bytes(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="exists already"):
        race()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("v.json", b"theirs")]


def write_half(target: Path, error: BaseException) -> None:
    with replacing(target, overwrite=True) as temporary:
        temporary.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "v.json"
    target.write_bytes(b"old")
    with pytest.raises(type(error)):
        write_half(target, error)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("v.json", b"old")]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "No space is left"), (errno.EROFS, "read-only"), (errno.EIO, "could not be written")],
)
def test_what_the_system_refuses_is_said(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(OutputError, match=words) as caught:
        write_half(tmp_path / "v.json", OSError(number, "refused"))
    assert "v.json" in str(caught.value)
    assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"), replacing(tmp_path / "no" / "v.json"):
        pass
    with pytest.raises(OutputError, match="is a folder"), replacing(tmp_path, overwrite=True):
        pass
