"""Bad input and bad output: one sentence, the right kind of error, and nothing half-written."""

from __future__ import annotations

import errno
import gzip
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel import imageglobals
from numpy.typing import NDArray

from imputer.errors import InputError, OutputError, UsageError
from imputer.io import header as io_header
from imputer.io import nifti
from imputer.io.dispatch import load, peek, save
from imputer.volume import Volume

Writer = Callable[..., Path]
Maker = Callable[..., NDArray[Any]]


def refusal(path: Path) -> str:
    """What `load` says; the file is named, the folder is not, and nothing new lies beside it."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(InputError) as caught:
        load(path)
    text = str(caught.value)
    assert path.name in text
    assert str(path.parent) not in text
    assert "\n" not in text
    assert caught.value.message.count(". ") == 0, "one sentence"
    assert caught.value.message.endswith(".")
    assert caught.value.exit_code == 3
    assert sorted(path.parent.iterdir()) == before
    return text


@pytest.mark.parametrize("name", ["t1.nii.gz", "t1.nii", "t1.mha", "t1.nrrd", "t1.mgz", "t1.xyz"])
def test_a_missing_file_a_folder_text_and_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert "does not exist" in refusal(path)
    path.mkdir()
    assert "no DICOM file" in refusal(path)
    path.rmdir()
    for text in ("", "x", "This is a letter, not a volume. " * 50):
        path.write_text(text)
        assert any(words in refusal(path) for words in ("is not a", "no volume of a known kind"))
    path.write_bytes(gzip.compress(b"This is a letter." * 50))
    assert any(words in refusal(path) for words in ("is not a", "no volume of a known kind"))


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.99, 0.9999])
@pytest.mark.parametrize("name", ["t1.nii.gz", "t1.nii"])
def test_a_truncated_file(name: str, share: float, tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    path = write_nifti(tmp_path / name, make_cube((30, 30, 30)))
    data = path.read_bytes()
    path.write_bytes(data[: min(int(len(data) * share), len(data) - 1)])
    text = refusal(path)
    assert "truncated" in text or "is not a NIfTI file" in text
    assert "truncated" in text or share == 0.001


def test_a_gzip_file_without_its_last_bytes_or_with_a_wrong_one(
    tmp_path: Path, write_nifti: Writer, make_cube: Maker
) -> None:
    path = write_nifti(tmp_path / "t1.nii.gz", make_cube())
    data = path.read_bytes()
    path.write_bytes(data[:-8])  # all voxels are there, the checksum is not
    assert "truncated or damaged" in refusal(path)
    path.write_bytes(data[:-8] + bytes([data[-8] ^ 1]) + data[-7:])
    assert "truncated or damaged" in refusal(path)


def with_dims(path: Path, dims: list[int], version: int) -> Path:
    """Change the shape that a header claims."""
    compressed = path.name.endswith(".gz")
    data = bytearray(gzip.decompress(path.read_bytes()) if compressed else path.read_bytes())
    start, dtype = (40, "<i2") if version == 1 else (16, "<i8")
    block = np.array([len(dims), *dims, *[1] * (7 - len(dims))], dtype).tobytes()
    data[start : start + len(block)] = block
    path.write_bytes(gzip.compress(bytes(data)) if compressed else bytes(data))
    return path


@pytest.mark.parametrize("name", ["t1.nii.gz", "t1.nii"])
@pytest.mark.parametrize(
    ("version", "dims"),
    [
        (1, [10000, 10000, 10000]),
        (1, [32767, 32767, 32767]),
        (2, [10**12, 1, 1]),
        (2, [2**40, 2**40, 2**40]),
        (1, [1200, 1200, 1200]),  # within the limit, but more than these few bytes can hold
    ],
)
def test_a_header_that_claims_too_much_takes_no_memory(
    name: str, version: int, dims: list[int], tmp_path: Path, write_nifti: Writer, make_cube: Maker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = with_dims(write_nifti(tmp_path / name, make_cube(), version=version), dims, version)

    def never(*_: object) -> None:
        raise AssertionError("memory was taken for voxels")

    monkeypatch.setattr(nifti, "read_voxels", never)
    text = refusal(path)
    assert "claims" in text
    with pytest.raises(InputError, match="claims"):
        peek(path)


@pytest.mark.parametrize("dims", [[0, 5, 5], [-3, 5, 5], [7, 6, 5, 0]])
def test_an_axis_without_voxels(dims: list[int], tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    refusal(with_dims(write_nifti(tmp_path / "t1.nii", make_cube()), dims, 1))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((6, 6, 4, 3), "holds 3 volumes"),
        ((6, 6, 4, 1, 3), "holds 1 x 3 volumes"),
        ((6, 6), "2 axes"),
        ((60,), "1 axes"),
    ],
)
def test_another_number_of_axes(
    shape: tuple[int, ...], words: str, tmp_path: Path, write_nifti: Writer, make_cube: Maker
) -> None:
    path = write_nifti(tmp_path / "t1.nii.gz", make_cube(shape))
    assert words in refusal(path)
    with pytest.raises(InputError, match=words):
        peek(path)


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ([("R", "u1"), ("G", "u1"), ("B", "u1")], "colours"),
        ([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")], "colours"),
        ("c8", "complex"),
        ("c16", "complex"),
    ],
)
def test_colours_and_complex_numbers(dtype: Any, words: str, tmp_path: Path, write_nifti: Writer) -> None:
    assert words in refusal(write_nifti(tmp_path / "t1.nii.gz", np.zeros((4, 4, 4), dtype)))


def test_an_unknown_type_of_voxel(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    for code in (1, 77):
        path = write_nifti(tmp_path / f"t1_{code}.nii", make_cube(), datatype=code)
        assert any(words in refusal(path) for words in ("damaged", "not understood"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], "singular"),
        ([[1, 2, 0, 0], [2, 4, 0, 0], [0, 0, 1, 0]], "singular"),
        ([[1, 0, 0, 0], [0, np.nan, 0, 0], [0, 0, 1, 0]], "no valid affine"),
    ],
)
def test_an_affine_that_is_none(
    rows: list[list[float]], words: str, tmp_path: Path, write_nifti: Writer, make_cube: Maker
) -> None:
    fields = dict(zip(("srow_x", "srow_y", "srow_z"), rows, strict=True))
    path = write_nifti(tmp_path / "t1.nii.gz", make_cube(), **fields)
    assert words in refusal(path)
    with pytest.raises(InputError, match=words):
        peek(path)


def test_a_quaternion_that_is_none(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    path = write_nifti(tmp_path / "t1.nii", make_cube(), sform=0, quatern_b=3.0)
    assert "damaged" in refusal(path)


def test_mostly_nan_and_all_the_same(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    array = make_cube((4, 4, 4), np.float32)
    array[:2] = np.nan
    assert "32 NaN" in refusal(write_nifti(tmp_path / "half.nii.gz", array))
    array[0, 0, 0] = 1
    assert load(write_nifti(tmp_path / "less.nii.gz", array)).shape == (4, 4, 4)
    for value in (0, 7):
        assert "all its voxels are equal" in refusal(
            write_nifti(tmp_path / "same.nii.gz", np.full((4, 4, 4), value, np.int16))
        )


def test_too_large_for_memory(
    tmp_path: Path, write_nifti: Writer, make_cube: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nifti(tmp_path / "t1.nii", make_cube())

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(io_header.np, "empty", full)
    assert "does not fit into memory" in refusal(path)


def test_what_nibabel_mends_is_not_printed(
    tmp_path: Path, write_nifti: Writer, make_cube: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nifti(tmp_path / "t1.nii", make_cube(), pixdim=[0, -1, 1, 1, 0, 0, 0, 0])
    printed = io.StringIO()
    monkeypatch.setattr(imageglobals.logger, "handlers", [logging.StreamHandler(printed)])
    nib.Nifti1Header(path.read_bytes()[:348])
    assert "pixdim" in printed.getvalue()  # nibabel alone does print
    printed.truncate(0)
    load(path)
    assert printed.getvalue() == ""


@pytest.fixture
def volume(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> Volume:
    folder = tmp_path / "source"
    folder.mkdir()
    return load(write_nifti(folder / "t1.nii.gz", make_cube()))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_an_existing_result_stays(volume: Volume, out: Path) -> None:
    path = out / "t2.nii.gz"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"t2\.nii\.gz exists already"):
        save(volume, path, like=volume, description="synthetic")
    assert path.read_bytes() == b"precious"
    save(volume, path, like=volume, description="synthetic", overwrite=True)
    assert load(path).shape == volume.shape


def test_a_missing_folder(volume: Volume, out: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        save(volume, out / "no" / "t2.nii.gz", like=volume, description="synthetic")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["t2.nii.gz", "t2.nii"])
@pytest.mark.parametrize("old", [b"precious", None])
def test_a_full_disk(volume: Volume, out: Path, name: str, old: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if old is not None:
        (out / name).write_bytes(old)
    writing = nifti._write

    def run_out(stream: Any, header: Any, array: NDArray[Any], dtype: Any) -> None:
        writing(stream, header, array[:, :, :2], dtype)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nifti, "_write", run_out)
    with pytest.raises(OutputError, match="No space is left") as caught:
        save(volume, out / name, like=volume, description="synthetic", overwrite=True)
    assert name in str(caught.value)
    assert [(file.name, file.read_bytes()) for file in out.iterdir()] == ([(name, old)] if old is not None else [])


def test_only_nifti_is_written(volume: Volume, out: Path) -> None:
    with pytest.raises(UsageError, match=r"t2\.mha"):
        save(volume, out / "t2.mha", like=volume, description="synthetic")


def test_another_grid_is_refused(volume: Volume, out: Path) -> None:
    moved = volume.with_grid(volume.array, volume.affine + np.eye(4, k=3))
    shorter = volume.with_grid(volume.array[1:], volume.affine)
    for other in (moved, shorter):
        with pytest.raises(ValueError, match="grid"):
            save(other, out / "t2.nii", like=volume, description="synthetic")
    assert list(out.iterdir()) == []


def test_a_volume_from_memory_gets_a_header_of_its_own(out: Path) -> None:
    affine = np.array([[0, 0, 3, -5], [-1, 0, 0, 6], [0, -0.5, 0, 7], [0, 0, 0, 1.0]])
    volume = Volume(np.random.default_rng(0).random((5, 6, 7), np.float32), affine)
    save(volume, out / "t2.nii.gz", like=volume, description="imputer: synthetic")
    image = nib.load(out / "t2.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    np.testing.assert_array_equal(image.get_sform(), affine)
    np.testing.assert_allclose(image.get_qform(), affine, atol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), volume.array)
