"""NIfTI in and out: every kind of file is read rightly, and the geometry of the result is the source's, to the bit."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imputer.io.dispatch import load, peek, save
from imputer.modality import Modality

Writer = Callable[..., Path]
Maker = Callable[..., NDArray[Any]]
REAL = Path(__file__).resolve().parents[3] / "shared/data/open_ms/native/patient04/study1_T1W.nii.gz"
GEOMETRY = (
    *("dim", "pixdim", "xyzt_units", "dim_info", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("toffset", "slice_start", "slice_end", "slice_code", "slice_duration"),
)


def affine_of(codes: str, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Affine of axes that grow to the named directions."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (code, size) in enumerate(zip(codes, spacing, strict=True)):
        world = next(place for place, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[world, axis] = size if code in "RAS" else -size
    affine[:3, 3] = [12.5, -30.25, 7]
    assert "".join(nib.aff2axcodes(affine)) == codes
    return affine


def with_holes(array: NDArray[Any]) -> NDArray[Any]:
    array[1, 2, 3], array[2, 2, 2], array[0] = np.nan, np.inf, 0
    return array


ZOO: dict[str, dict[str, Any]] = {
    "LAS": {"codes": "LAS"},
    "PIR": {"codes": "PIR"},
    "SAL": {"codes": "SAL"},
    "oblique": {},
    "clinical": {"codes": "LPS", "spacing": (0.5, 0.5, 4)},
    "int16 with slope": {"scl_slope": 0.37, "scl_inter": -12.5},
    "uint16": {"dtype": np.uint16},
    "int32": {"dtype": np.int32},
    "float64": {"dtype": np.float64},
    "big endian": {"endianness": ">"},
    "odd": {"shape": (41, 37, 13)},
    "one slice": {"shape": (9, 8, 1)},
    "trailing axes": {"shape": (9, 8, 7, 1, 1)},
    "zero-only slices and NaN": {"dtype": np.float32, "change": with_holes},
    "NIfTI-2": {"version": 2},
    "NIfTI-2 float64 with slope": {"version": 2, "dtype": np.float64, "scl_slope": 3.0, "scl_inter": 1.0},
    "sform only": {"qform": 0},
    "qform only": {"sform": 0},
    "neither": {"sform": 0, "qform": 0},
    "neither, uneven": {"sform": 0, "qform": 0, "codes": "PIR", "spacing": (0.5, 2, 4)},
    "other units": {"xyzt_units": 10, "dim_info": 57, "slice_code": 3, "slice_end": 6},
}


def make(kind: dict[str, Any], path: Path, write_nifti: Writer, make_cube: Maker) -> Path:
    kind = dict(kind)
    array = make_cube(kind.pop("shape", (9, 8, 7)), kind.pop("dtype", np.int16))
    array = kind.pop("change", lambda array: array)(array)
    if "codes" in kind:
        kind["affine"] = affine_of(kind.pop("codes"), kind.pop("spacing", (1.0, 1.0, 1.0)))
    return write_nifti(path, array, **kind)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", list(ZOO))
def test_the_geometry_of_the_result_is_the_sources(
    name: str, suffix: str, tmp_path: Path, write_nifti: Writer, make_cube: Maker
) -> None:
    path = make(ZOO[name], tmp_path / f"t1{suffix}", write_nifti, make_cube)
    source = nib.load(path)
    volume = load(path)
    voxels = np.nan_to_num(source.get_fdata(), nan=0, posinf=0).reshape(source.shape[:3])
    np.testing.assert_allclose(volume.array, voxels, rtol=1e-6)
    assert volume.affine.tobytes() == np.ascontiguousarray(source.affine).tobytes()
    assert volume.modality is Modality.T1

    made = tmp_path / f"made{suffix}"
    save(volume.with_array(volume.array * 1.5 + 0.25), made, like=volume, description="imputer: synthetic")
    result = nib.load(made)
    assert type(result) is type(source)
    for field in GEOMETRY:
        assert result.header[field].tobytes() == source.header[field].tobytes(), field
    assert result.affine.tobytes() == source.affine.tobytes()
    assert result.shape == source.shape
    assert result.get_data_dtype().newbyteorder("=") == np.float32
    np.testing.assert_allclose(result.get_fdata().reshape(volume.shape), volume.array * 1.5 + 0.25, rtol=1e-6)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    slope=st.sampled_from([0.0, 1.0, float("nan")]) | st.floats(-100, 100, width=32).filter(lambda x: abs(x) > 1e-3),
    intercept=st.floats(-1000, 1000, width=32),
    endianness=st.sampled_from("<>"),
    version=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**20),
)
def test_voxels_are_what_nibabel_reads(
    tmp_path: Path, write_nifti: Writer, dtype: str, shape: tuple[int, int, int], slope: float, intercept: float,
    endianness: str, version: int, seed: int,
) -> None:  # fmt: skip
    limits = np.iinfo(dtype) if np.dtype(dtype).kind != "f" else np.finfo(np.float32)
    rng = np.random.default_rng(seed)
    array = (rng.uniform(0, 1, shape) * min(float(limits.max), 1e9)).astype(dtype)
    array.flat[0] = 0
    path = write_nifti(
        tmp_path / "a.nii", array, endianness=endianness, version=version, scl_slope=slope, scl_inter=intercept
    )
    expected = nib.load(path).get_fdata()
    np.testing.assert_allclose(load(path).array, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_integers_are_stored_as_int16_and_all_else_as_float32(
    tmp_path: Path, write_nifti: Writer, make_cube: Maker
) -> None:
    volume = load(write_nifti(tmp_path / "a.nii", make_cube()))
    arrays = {
        "whole": (volume.array, np.int16),
        "negative": (-32767 * np.ones(volume.shape), np.int16),
        "large": (volume.array + 40000, np.float32),
        "broken": (volume.array + 0.5, np.float32),
    }
    for name, (array, dtype) in arrays.items():
        save(volume.with_array(array), tmp_path / f"{name}.nii", like=volume, description="")
        result = nib.load(tmp_path / f"{name}.nii")
        assert result.get_data_dtype() == dtype, name
        np.testing.assert_array_equal(result.get_fdata(), array)


def test_no_text_and_no_display_range_of_the_source_goes_along(tmp_path: Path, write_nifti: Writer) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    secret = b"DOE^JANE"
    names = ("descrip", "aux_file", "intent_name", "db_name", "data_type")
    for version in (1, 2):
        fields = dict.fromkeys(names[: 5 if version == 1 else 3], secret)
        path = write_nifti(
            tmp_path / f"t1_{version}.nii", array, version=version, cal_max=55, intent_code=1001, **fields
        )
        data = bytearray(path.read_bytes())
        start = len(data) - array.nbytes
        # An extension with a comment, before the voxels.
        extension = (32).to_bytes(4, "little") + (6).to_bytes(4, "little") + secret.ljust(24, b"\0")
        data[start - 4 : start] = b"\1\0\0\0" + extension
        where = slice(108, 112) if version == 1 else slice(168, 176)
        data[where] = np.array(start + 32, "<f4" if version == 1 else "<i8").tobytes()
        path.write_bytes(data)
        assert len(nib.load(path).header.extensions) == 1
        volume = load(path)
        np.testing.assert_array_equal(volume.array, array)
        save(volume, tmp_path / f"made_{version}.nii", like=volume, description="imputer: synthetic")
        assert secret not in (tmp_path / f"made_{version}.nii").read_bytes()
        header = nib.load(tmp_path / f"made_{version}.nii").header
        assert header["descrip"].item() == b"imputer: synthetic"
        assert (header["cal_max"], header["intent_code"], len(header.extensions)) == (0, 0, 0)


def test_a_long_description_is_cut(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    volume = load(write_nifti(tmp_path / "a.nii", make_cube()))
    save(volume, tmp_path / "b.nii", like=volume, description="synthetic " + "é" * 60)
    written = nib.load(tmp_path / "b.nii").header["descrip"].item()
    assert written.decode("utf-8") == "synthetic " + "é" * 34
    assert len(written) <= 79


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    volume = load(write_nifti(tmp_path / "a.nii", make_cube()))
    for name in ("one.nii.gz", "two.nii.gz"):
        save(volume, tmp_path / name, like=volume, description="synthetic")
    data = (tmp_path / "one.nii.gz").read_bytes()
    assert data == (tmp_path / "two.nii.gz").read_bytes()
    assert data[3:8] == bytes(5)  # RFC 1952: no flags, so no name, and no time


def test_content_counts_not_the_name(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    array = make_cube()
    plain = write_nifti(tmp_path / "a.nii", array).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "d.bin").write_bytes(plain)
    for name in ("b.nii.gz", "c.nii", "d.bin"):
        np.testing.assert_array_equal(load(tmp_path / name).array, array)


def test_bad_voxels_become_zero_and_are_noted(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    array = make_cube(dtype=np.float64)
    array[0, 0, :3] = [np.nan, -np.inf, 1e300]  # the last is beyond float32
    volume = load(write_nifti(tmp_path / "a.nii", array))
    assert volume.array[0, 0, :3].tolist() == [0, 0, 0]
    assert volume.origin is not None
    assert volume.origin.notes == ("3 NaN or infinite voxels set to 0",)
    clean = load(write_nifti(tmp_path / "b.nii", make_cube()))
    assert clean.origin is not None
    assert clean.origin.notes == ()


@pytest.mark.parametrize("name", list(ZOO))
def test_a_peek_says_the_same_as_a_load(name: str, tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    path = make(ZOO[name], tmp_path / "t1.nii.gz", write_nifti, make_cube)
    header, volume = peek(path), load(path)
    assert header.shape == volume.shape
    assert header.spacing == volume.spacing
    assert header.affine.tobytes() == volume.affine.tobytes()
    assert header.axis_codes == nib.aff2axcodes(volume.affine)
    assert volume.origin is not None
    assert (header.format, header.full_shape) == (volume.origin.format, volume.origin.full_shape)
    assert header.format == ("nifti2" if "NIfTI-2" in name else "nifti1")
    assert header.dtype == np.dtype(ZOO[name].get("dtype", np.int16)).name


@pytest.mark.skipif(not REAL.is_file(), reason="needs ../shared/data/open_ms, which a clone does not have")
def test_a_clinical_volume(tmp_path: Path) -> None:
    source, volume = nib.load(REAL), load(REAL)
    np.testing.assert_array_equal(volume.array, source.get_fdata())
    assert volume.modality is Modality.T1
    save(volume, tmp_path / "made.nii.gz", like=volume, description="synthetic")
    result = nib.load(tmp_path / "made.nii.gz")
    assert result.get_data_dtype() == np.int16
    for field in GEOMETRY:
        assert result.header[field].tobytes() == source.header[field].tobytes(), field
    np.testing.assert_array_equal(result.get_fdata(), source.get_fdata())
