"""The NIfTI axis order against dcm2niix itself: voxels and affine, as they are stored."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_phantom import expected_volume, make_series, marker_position_ras
from numpy.typing import NDArray
from pydicom import dcmread

from imputer.io.dicom.axes import ROWS_UP, Axes, axes_of, like_dcm2niix, nifti_axes
from imputer.io.dicom.frames import DicomSeries, Frame
from imputer.io.dicom.read import read_dicom
from imputer.volume import Origin, Volume

REAL = Path(__file__).resolve().parents[3].parent / "shared/data/dicom"
needs_dcm2niix = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="needs dcm2niix, which is not installed")
CASES: list[dict[str, Any]] = [
    {"plane": plane, "acquisition": acquisition, "vendor": vendor, "reverse": reverse, "shuffle": shuffle}
    for plane in ("axial", "coronal", "sagittal", "oblique")
    for acquisition in ("2D", "3D")
    for vendor, reverse, shuffle in (("siemens", False, None), ("ge", True, None), ("philips", False, 5))
]
CASES += [
    {"plane": plane, "acquisition": acquisition, "reverse": True, "enhanced": True}
    for plane in ("axial", "coronal", "sagittal")
    for acquisition in ("2D", "3D")
]
CASES += [
    {"modality": "CT"},
    {"modality": "CT", "enhanced": True},
    {"tags": {"MRAcquisitionType": None}},
    {"tags": {"MRAcquisitionType": ""}},
]


def converted(folder: Path, out: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels and affine that dcm2niix makes of a folder with one series."""
    out.mkdir()
    subprocess.run(
        ["dcm2niix", "-b", "n", "-z", "n", "-f", "out", "-o", out, folder], check=True, capture_output=True, timeout=60
    )
    (path,) = out.glob("*.nii")
    image = nibabel.load(path)
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


def written(folder: Path, **settings: Any) -> Volume:
    """A phantom on disk, and what reading must make of it; its header is that of the first file."""
    paths = make_series(folder, **settings)
    expected = expected_volume(**settings)
    frame = Frame("file", dcmread(paths[0]), None, (1, 0, 0, 0, 1, 0), (0, 0, 0), (1, 1), 1, 1)
    series = DicomSeries((frame,), "MR", False, False, "", len(paths))
    return Volume(expected.array, expected.affine, expected.modality, Origin(folder, "dicom", series))


@needs_dcm2niix
@pytest.mark.parametrize("settings", CASES, ids=lambda case: "-".join(str(value) for value in case.values()))
def test_a_series_has_the_grid_that_dcm2niix_gives_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    mine = like_dcm2niix(written(tmp_path / "series", **settings))
    array, affine = converted(tmp_path / "series", tmp_path / "nifti")
    np.testing.assert_array_equal(mine.array, array)
    np.testing.assert_allclose(mine.affine, affine, atol=1e-3)


@needs_dcm2niix
def test_strongly_oblique_grids_with_long_voxels_are_turned_as_dcm2niix_turns_them(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    canonical = 0
    for number in range(24):
        one, two, three = random.uniform(-180, 180, 3)
        settings = {
            "plane": "oblique",
            "turn": (one, two, three),
            "shape": tuple(random.integers(5, 30, 3)),
            "spacing": tuple(np.round(random.uniform(0.5, 4, 3), 3)),
            "acquisition": "3D",
        }
        source = written(tmp_path / f"series{number}", **settings)
        mine = like_dcm2niix(source)
        array, affine = converted(tmp_path / f"series{number}", tmp_path / f"nifti{number}")
        np.testing.assert_array_equal(mine.array, array)
        np.testing.assert_allclose(mine.affine, affine, atol=1e-3)
        canonical += "".join(nibabel.aff2axcodes(mine.affine)) == "RAS"
    assert canonical < 24  # it is not simply the nearest canonical orientation


REAL_SERIES = [
    "siemens_t1_tfl_classic",
    "philips_t1_rescale21",
    "tiny/generic_anatomical_002_non_isotropic",
    "tiny/generic_compressed_jpeg_001",
    "tiny/hitachi_anatomical_001",
    "tiny/hyperfine_anatomical_001",
    "tiny/philips_enhanced_anatomical_001",
    "tiny/siemens_multiframe_anatomical_001",
]


@needs_dcm2niix
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the developers' ../shared/data/dicom")
@pytest.mark.parametrize("name", REAL_SERIES)
def test_real_series_have_the_grid_that_dcm2niix_gives_them(tmp_path: Path, name: str) -> None:
    mine = like_dcm2niix(read_dicom(REAL / name))
    array, affine = converted(REAL / name, tmp_path / "nifti")
    assert mine.shape == array.shape
    # dcm2niix divides Philips values by their private scale; the greatest voxel shows by how much.
    scale = float(mine.array.max() / array.max())
    assert "philips" in name or scale == pytest.approx(1)
    np.testing.assert_allclose(mine.array, array * scale, atol=2e-3 * mine.array.max())
    np.testing.assert_allclose(mine.affine, affine, atol=1e-3)


@pytest.mark.parametrize("three_d", [False, True])
def test_undoing_gives_the_volume_back(three_d: bool) -> None:
    source = expected_volume(plane="sagittal")
    marker = marker_position_ras(plane="sagittal")
    axes = nifti_axes(source.affine, source.shape, three_d=three_d)
    turned, affine = axes.apply(source.array), axes.affine(source.affine, source.shape)
    np.testing.assert_array_equal(axes.undo(turned), source.array)
    np.testing.assert_allclose(axes.undo_affine(affine, source.shape), source.affine, atol=1e-12)
    # The same voxel lies at the same place: the marker is where it was.
    for array, to_mm in ((source.array, source.affine), (turned, affine)):
        brightest = np.argwhere(array == array.max()).mean(axis=0)
        np.testing.assert_allclose((to_mm @ [*brightest, 1])[:3], marker, atol=1)
    assert (axes == ROWS_UP) is not three_d


def test_every_order_is_undone_by_its_inverse() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    axes = Axes((1, 2, 0), (True, False, True))
    np.testing.assert_array_equal(axes.apply(array), array[::-1, :, :].transpose(1, 2, 0)[::-1])
    np.testing.assert_array_equal(axes.undo(axes.apply(array)), array)


def test_the_result_holds_no_series_whose_order_it_no_longer_has(tmp_path: Path) -> None:
    result = like_dcm2niix(written(tmp_path, shape=(6, 6, 4)))
    assert result.origin is not None and result.origin.header is None
    with pytest.raises(ValueError, match="DICOM"):
        axes_of(result)
