"""Series of real scanners in the developers' ../shared/data/dicom, against dcm2niix and SimpleITK."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite

from imputer.errors import InputError
from imputer.io.dicom.read import read_dicom
from imputer.modality import Modality
from imputer.volume import Volume

ROOT = Path(__file__).resolve().parents[4] / "shared/data/dicom"
EXPORT = ROOT / "philips_mixed_classic_and_enhanced.zip"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="needs the developers' ../shared/data/dicom")

# Series that are volumes, with their size.
VALID = {
    "philips_t1_rescale21": (256, 256, 24),
    "siemens_t1_tfl_classic": (128, 128, 96),
    "siemens_t1_j2k_fragmented": (128, 128, 96),
    "tiny/generic_anatomical_002_non_isotropic": (64, 28, 4),
    "tiny/generic_compressed_j2k_001": (256, 256, 4),
    "tiny/generic_compressed_jpeg_001": (256, 256, 4),
    "tiny/generic_compressed_jpegls_001": (256, 256, 4),
    "tiny/generic_compressed_rle_001": (256, 256, 4),
    "tiny/hitachi_anatomical_001": (64, 64, 4),
    "tiny/hyperfine_anatomical_001": (112, 138, 8),
    "tiny/philips_enhanced_anatomical_001": (256, 256, 8),
    "tiny/siemens_multiframe_anatomical_001": (256, 256, 8),
}
# And those that are not, with what has to be said of them.
REFUSED = {
    "ge_localizer_3plane": "3 orientations",
    "siemens_mosaic_7ts": "mosaic",
    "tiny/failing_gantrytilting_001": r"sheared by 14\.0 degrees",
    "tiny/failing_notavolume_001": "4 images of the series lie all at one place",
    "tiny/failing_slicecount_001": "2 slices",
    "tiny/failing_sliceincrement_001": "1 slice is missing.*between IM-0001-0009-0001.dcm and IM-0001-0010-0001.dcm",
    "tiny/failing_sliceincrement_002": r"sheared by 15\.5 degrees",
    "tiny/failing_sliceorientation_001": "2 orientations",
    "tiny/ge_anatomical_001_single_slice": "1 slice",
    "tiny/generic_rgb_001": "Secondary Capture Image Storage, in colour",
    "tiny/siemens_scout_mpr_mixed_orient": "4 orientations",
}
EXPORTED = {"201": (256, 256, 12), "401": (256, 256, 24), "T1W_FFE_Sno_CS4": (256, 256, 24)}
# Here dcm2niix takes the first step between slices for all of them: 2.0001 mm, and 0.01004 mm off at the 96th.
FIRST_STEP = ("siemens_t1_tfl_classic", "siemens_t1_j2k_fragmented")
# What some builds of dcm2niix cannot unpack: JPEG 2000 in fragments, JPEG-LS.
PACKED = ("siemens_t1_j2k_fragmented", "tiny/generic_compressed_jpegls_001")


def canonical(array: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, dtype=np.float64), affine))
    return np.asarray(image.dataobj), image.affine


def check_same(volume: Volume, array: NDArray[Any], affine: NDArray[np.float64], tolerance_mm: float) -> None:
    voxels, ours = canonical(volume.array, volume.affine)
    others, theirs = canonical(array, affine)
    assert voxels.shape == others.shape
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in voxels.shape))]).T
    assert np.abs((ours - theirs) @ corners).max() <= tolerance_mm
    assert np.allclose(voxels, others, rtol=2e-7, atol=2e-7 * np.abs(others).max())


def check_against_itk(volume: Volume, folder: Path) -> None:
    """Where SimpleITK puts a series together rightly, it does so by position and rescale alone."""
    names = sorted(map(str, folder.iterdir()))
    image: Any = sitk.ReadImage(
        sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)) if len(names) > 1 else names[0]
    )
    count = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (count, count))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    array = sitk.GetArrayFromImage(image)
    check_same(volume, array.reshape(array.shape[-3:]).T, np.diag([-1, -1, 1, 1]) @ affine, 1e-3)


def check_against_dcm2niix(volume: Volume, folder: Path, out: Path, tolerance_mm: float) -> None:
    """With its scaling for display, which is that of the standard; its own default for Philips is another."""
    out.mkdir()
    command = ["dcm2niix", "-b", "n", "-z", "n", "-p", "n", "-f", "x", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = out.glob("*.nii")
    image: Any = nib.load(found)
    check_same(volume, np.asarray(image.dataobj), image.affine, tolerance_mm)


def unpacked(folder: Path, out: Path) -> Path:
    """A copy of a series without compression."""
    out.mkdir()
    for path in folder.iterdir():
        dataset = dcmread(path)
        dataset.decompress(generate_instance_uid=False)
        dcmwrite(out / path.name, dataset)
    return out


@pytest.mark.parametrize("name", VALID)
def test_a_valid_series_is_read_as_others_read_it(tmp_path: Path, name: str) -> None:
    volume = read_dicom(ROOT / name)
    assert volume.shape == VALID[name]
    check_against_itk(volume, ROOT / name)
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed: SimpleITK only")
    folder = unpacked(ROOT / name, tmp_path / "plain") if name in PACKED else ROOT / name
    check_against_dcm2niix(volume, folder, tmp_path / "nii", 0.011 if name in FIRST_STEP else 0.01)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_volume_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InputError, match=REFUSED[name]):
        read_dicom(ROOT / name)


def test_nothing_is_left_out() -> None:
    folders = [path for path in (*ROOT.iterdir(), *(ROOT / "tiny").iterdir()) if path.is_dir()]
    names = {path.relative_to(ROOT).as_posix() for path in folders} - {"tiny", "licences"}
    assert names == {*VALID, *REFUSED}


def test_an_export_of_classic_enhanced_and_raw_objects_is_sorted_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 4 series that fit: 201 \(t1, 12 slices\), 401 \(t1, 24 slices\), 501"):
        read_dicom(EXPORT, fits=lambda modality: modality is Modality.T1)
    with pytest.raises(InputError, match="2 series are called like that: 501"):
        read_dicom(EXPORT, series="501")
    with zipfile.ZipFile(EXPORT) as archive:
        archive.extractall(tmp_path)
    for series, shape in EXPORTED.items():
        volume = read_dicom(EXPORT, series=series)
        assert volume.shape == shape and volume.modality is Modality.T1
        assert volume.origin is not None and any("3 DICOM objects" in note for note in volume.origin.notes)
        (folder,) = tmp_path.glob(f"Philips/*{series}*")
        images = tmp_path / series
        images.mkdir()
        for path in folder.iterdir():
            if "_Raw" not in path.name:
                path.rename(images / path.name)
        check_against_itk(volume, images)


def test_a_whole_study_folder_offers_what_can_be_used() -> None:
    with pytest.raises(InputError, match=r"dicom holds \d+ series that fit"):
        read_dicom(ROOT)
