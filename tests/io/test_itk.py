"""MetaImage and NRRD: the same voxels at the same places as in NIfTI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.io.dispatch import load, peek, save
from imputer.modality import Modality

Writer = Callable[..., Path]
Maker = Callable[..., NDArray[Any]]
SUFFIXES = ["mha", "mhd", "nrrd", "nhdr"]


def image_of(array: NDArray[Any], **kwargs: Any) -> sitk.Image:
    image = sitk.GetImageFromArray(array.T, **kwargs)
    if image.GetDimension() == 3:
        turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
        image.SetDirection(turn.ravel().tolist())
        image.SetSpacing([0.5, 0.75, 3.0])
        image.SetOrigin([10.0, -20.0, 30.0])
    return image


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_positions_are_turned_from_lps_to_ras(suffix: str, compressed: bool, tmp_path: Path, make_cube: Maker) -> None:
    array = make_cube((7, 6, 5))
    image = image_of(array)
    path = tmp_path / f"sub-1_T2w.{suffix}"
    sitk.WriteImage(image, str(path), compressed)
    volume, header = load(path), peek(path)
    np.testing.assert_array_equal(volume.array, array)
    for index in ((0, 0, 0), (6, 5, 4), (3, 0, 2)):
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], place, atol=1e-9)
    assert volume.modality is Modality.T2
    assert volume.origin is not None
    assert (volume.origin.format, volume.origin.header, volume.origin.full_shape) == (suffix, None, (7, 6, 5))
    assert header.affine.tobytes() == volume.affine.tobytes()
    assert (header.shape, header.dtype, header.format) == ((7, 6, 5), "int16", suffix)


def test_the_same_place_as_the_nifti_of_it(tmp_path: Path, write_nifti: Writer, make_cube: Maker) -> None:
    source = load(write_nifti(tmp_path / "a.nii", make_cube(), qform=2))
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / "a.nrrd"))
    volume = load(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.array, source.array)
    np.testing.assert_allclose(volume.affine, source.affine, atol=1e-5)


def test_the_result_is_nifti_with_the_affine(tmp_path: Path, make_cube: Maker) -> None:
    sitk.WriteImage(image_of(make_cube()), str(tmp_path / "a.mha"))
    volume = load(tmp_path / "a.mha")
    save(volume, tmp_path / "b.nii.gz", like=volume, description="synthetic")
    result = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(result.affine, volume.affine, atol=1e-5)
    np.testing.assert_array_equal(result.get_fdata(), volume.array)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "f4", "f8"])
def test_types_of_voxels(dtype: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(dtype)
    sitk.WriteImage(image_of(array), str(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(load(tmp_path / "a.nrrd").array, array)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_volume(suffix: str, tmp_path: Path) -> None:
    kinds = {
        "2 axes": image_of(np.ones((6, 7), np.float32)),
        "3 volumes": sitk.JoinSeries([image_of(np.ones((6, 7, 5), np.float32))] * 3),
        "colours": sitk.GetImageFromArray(np.ones((5, 6, 7, 3), np.uint8), isVector=True),
        "equal": image_of(np.ones((6, 7, 5), np.float32)),
    }
    for words, image in kinds.items():
        sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
        with pytest.raises(InputError, match=words) as caught:
            load(tmp_path / f"a.{suffix}")
        assert f"a.{suffix}" in str(caught.value)


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_file(
    suffix: str, compressed: bool, tmp_path: Path, make_cube: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(image_of(make_cube((60, 50, 40))), str(path), compressed)
    capfd.readouterr()
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=rf"a\.{suffix} is truncated"):
        load(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_header_that_claims_too_much_takes_no_memory(suffix: str, tmp_path: Path, make_cube: Maker) -> None:
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(image_of(make_cube((7, 6, 5))), str(path))
    key = b"DimSize = " if suffix.startswith("mh") else b"sizes: "
    for claimed in (b"10000 10000 10000", b"1200 1200 1200"):
        data = path.read_bytes()
        start = data.index(key) + len(key)
        path.write_bytes(data[:start] + claimed + data[data.index(b"\n", start) :])
        if claimed == b"1200 1200 1200" and suffix in ("mhd", "nhdr"):
            continue  # the voxels lie in another file: ITK finds out when it reads
        with pytest.raises(InputError, match="claims"):
            load(path)
