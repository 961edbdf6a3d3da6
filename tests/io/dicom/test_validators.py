"""Other people's programs on what we write: validators find nothing that is ours, readers find the same image.

As no generator is wanted here, the source itself is written as if it were synthetic. No validator sees slices in the
wrong order or a mirrored image under right headers; the phantom's marker does.
"""

from __future__ import annotations

import subprocess
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_phantom import make_series, marker_position_ras
from dicom_tools import (
    KNOWN_TO_BE_UNKNOWN,
    REAL,
    converted,
    entity_differences,
    files_in,
    iod_errors,
    need,
    read,
    real,
    run,
    synthesis,
)
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.io.dicom.copied import REQUIRED
from imputer.io.dicom.frames import DicomSeries
from imputer.io.dicom.parse import quiet
from imputer.io.dicom.write import write_dicom
from imputer.modality import Modality
from imputer.volume import Volume

REAL_SERIES = (
    "siemens_t1_tfl_classic",
    "siemens_t1_j2k_fragmented",
    "philips_t1_rescale21",
    "philips_mixed_classic_and_enhanced.zip:201",
    "philips_mixed_classic_and_enhanced.zip:401",
    "tiny/generic_anatomical_002_non_isotropic",
    "tiny/generic_compressed_j2k_001",
    "tiny/generic_compressed_jpeg_001",
    "tiny/generic_compressed_jpegls_001",
    "tiny/generic_compressed_rle_001",
    "tiny/hitachi_anatomical_001",
    "tiny/hyperfine_anatomical_001",
    "tiny/philips_enhanced_anatomical_001",
    "tiny/siemens_multiframe_anatomical_001",
)
PHANTOMS: dict[str, dict[str, Any]] = {
    "siemens": {},
    "ge": {"vendor": "ge", "plane": "sagittal", "reverse": True, "syntax": "implicit"},
    "philips": {"vendor": "philips", "plane": "coronal", "slope": 21.28, "syntax": "big"},
    "enhanced": {"enhanced": True, "plane": "oblique", "contrast": "flair"},
    "contrast agent": {"contrast": "t1ce", "syntax": "j2k"},
    "enhanced with agent": {"enhanced": True, "contrast": "t1ce"},
    "ct": {"modality": "CT"},
    "enhanced ct": {"modality": "CT", "enhanced": True},
}
CHECKED = 3  # files of a series that dciodvfy looks at: the first, middle and last; all have the same attributes


class Case:
    """A source and what was written of it as MR, from 0, and as CT, in the range of HU."""

    def __init__(self, sources: list[Path], volume: Volume, like: DicomSeries, folder: Path) -> None:
        self.sources, self.like, self.folder = sources, like, folder
        low, high = float(volume.array.min()), float(volume.array.max())
        self.volume = volume.with_array(volume.array - low if like.modality == "CT" else volume.array)
        hounsfield = volume.with_array(np.rint((volume.array - low) / (high - low) * 3000 - 1000))
        self.ct = hounsfield.array
        self.scale = write_dicom(self.volume, self.out(), like=like, synthesis=synthesis()).scale
        write_dicom(hounsfield, self.out(Modality.CT), like=like, synthesis=synthesis(Modality.CT))

    def out(self, target: Modality = Modality.T2) -> Path:
        return self.folder / target.value

    def stored(self) -> NDArray[np.float64]:
        """What an MR reader must find: (columns, rows, slices)."""
        return np.asarray(np.rint(np.maximum(self.volume.array, 0) * np.float64(self.scale)))


def _sources(name: str, folder: Path) -> tuple[list[Path], Path, dict[str, Any]]:
    """Files of a series, what to read, and how."""
    source = folder / "source"
    if name in PHANTOMS:
        make_series(source, shape=(18, 16, 8), **PHANTOMS[name])
        return files_in(source), source, {}
    archive, _, number = name.partition(":")
    if not number:
        return files_in(real(name)), real(name), {}
    with zipfile.ZipFile(real(archive)) as packed:
        members = [member for member in packed.namelist() if f"/{number}_" in member and "_Raw" not in member]
        source.mkdir()
        for index, member in enumerate(member for member in members if member.endswith(".dcm")):
            (source / f"{index}.dcm").write_bytes(packed.read(member))
    return files_in(source), real(archive), {"series": number}


@pytest.fixture(scope="module", params=[*PHANTOMS, *REAL_SERIES])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    sources, path, options = _sources(request.param, folder)
    return Case(sources, *read(path, **options), folder)


def ends_of(files: list[Path]) -> list[Path]:
    return [files[index] for index in np.linspace(0, len(files) - 1, min(CHECKED, len(files)), dtype=int)]


@pytest.mark.parametrize("target", [Modality.T2, Modality.CT])
def test_dciodvfy_finds_no_error_that_the_source_has_not(case: Case, target: Modality) -> None:
    found = iod_errors(ends_of(files_in(case.out(target))))
    assert KNOWN_TO_BE_UNKNOWN in found  # the program was there, and looked
    assert found - iod_errors(ends_of(case.sources)) - {KNOWN_TO_BE_UNKNOWN} == set()


def test_dcentvfy_finds_patient_study_and_place_to_be_the_same(case: Case) -> None:
    sources = ends_of(case.sources)  # it holds each file against each
    before = entity_differences(sources)
    derived = [file for target in (Modality.T2, Modality.CT) for file in ends_of(files_in(case.out(target)))]
    after = entity_differences([*sources, *derived])
    # Attributes that the standard demands, if only empty, and that the source lacks.
    added = {
        f"Warning - Attribute present in one instance but not the other - Element=<{keyword}>"
        for keyword in REQUIRED
        if keyword not in case.like.frames[0].dataset
    }
    assert {line for line in after - before if line.split(" IE=")[0] not in added} == set()


def test_dcm2niix_finds_the_same_voxels_in_the_same_place(case: Case, tmp_path: Path) -> None:
    need("dcm2niix")
    source = converted(_plain(case.sources, tmp_path / "source"), tmp_path / "a")
    result = converted(case.out(), tmp_path / "b")
    assert result.shape == source.shape
    corners = np.array([*product(*((0, size - 1) for size in source.shape))])
    there = [nib.affines.apply_affine(image.affine, corners) for image in (source, result)]
    assert np.abs(there[0] - there[1]).max() < 0.002
    one, other = (np.asarray(image.dataobj, dtype=np.float64) for image in (source, result))
    one = one - one.min() if case.like.modality == "CT" else np.maximum(one, 0)
    factor = other.max() / one.max()  # dcm2niix takes another rescale in files of Philips than the standard's
    assert np.abs(factor * one - other).max() <= (0 if factor == 1 else 1)


def _plain(sources: list[Path], folder: Path) -> Path:
    """The files in a form that dcm2niix of 2022 can read: it knows neither JPEG-LS nor fragments."""
    folder.mkdir()
    for number, file in enumerate(sources):
        with quiet():
            dataset = pydicom.dcmread(file)
            if dataset.file_meta.TransferSyntaxUID.is_compressed:
                dataset.decompress()
                dataset.save_as(folder / f"{number}.dcm")
            else:
                (folder / f"{number}.dcm").symlink_to(file)
    return folder


def test_simpleitk_finds_the_same_voxels_in_the_same_place(case: Case) -> None:
    image = _by_simpleitk(case.out())
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), case.stored().transpose(2, 1, 0))
    last = [size - 1 for size in case.volume.shape]
    for corner in product(*((0, index) for index in last)):
        found = np.array(image.TransformIndexToPhysicalPoint(corner)) * [-1, -1, 1]
        assert np.abs(found - (case.volume.affine @ [*corner, 1])[:3]).max() < 0.02
    assert np.array_equal(SimpleITK.GetArrayFromImage(_by_simpleitk(case.out(Modality.CT))), case.ct.transpose(2, 1, 0))


def _by_simpleitk(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(folder))
    assert len(names) == len(files_in(folder))
    reader.SetFileNames(names)
    return reader.Execute()


def test_gdcm_finds_the_same_pixels(case: Case, tmp_path: Path) -> None:
    need("gdcmraw")
    columns, rows, _ = case.volume.shape
    stored = {plane.tobytes() for plane in case.stored().T.astype("<u2")}
    for file in ends_of(files_in(case.out())):
        subprocess.run(["gdcmraw", "-i", file, "-o", tmp_path / "raw"], check=True, capture_output=True, timeout=60)
        raw = (tmp_path / "raw").read_bytes()
        assert len(raw) == 2 * columns * rows and raw in stored


def test_dcmtk_parses_every_file(case: Case) -> None:
    files = [*files_in(case.out()), *files_in(case.out(Modality.CT))]
    assert [line for line in run("dcmftest", *files).splitlines() if not line.startswith("yes:")] == []


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", "oblique"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("enhanced", [False, True])
def test_left_stays_left(plane: str, reverse: bool, enhanced: bool, tmp_path: Path) -> None:
    """The marker of the phantom, left and in front and above, by dcm2niix and by SimpleITK."""
    settings: dict[str, Any] = {"plane": plane, "reverse": reverse, "enhanced": enhanced, "shape": (24, 20, 12)}
    make_series(tmp_path / "source", **settings)
    volume, like = read(tmp_path / "source")
    write_dicom(volume, tmp_path / "out", like=like, synthesis=synthesis())
    image = _by_simpleitk(tmp_path / "out")
    array = SimpleITK.GetArrayFromImage(image)
    found = [image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]]) for index in np.argwhere(array == 1000)]
    expected = marker_position_ras(**settings)
    assert np.abs(np.mean(found, axis=0) * [-1, -1, 1] - expected).max() < 2
    nifti = converted(tmp_path / "out", tmp_path / "nifti")
    index = np.argwhere(np.asarray(nifti.dataobj) == 1000)
    assert np.abs(nib.affines.apply_affine(nifti.affine, index).mean(axis=0) - expected).max() < 2


def test_every_real_series_that_can_be_read_is_checked_here() -> None:
    real("tiny")
    for folder in [*REAL.iterdir(), *(REAL / "tiny").iterdir()]:
        name = str(folder.relative_to(REAL))
        if folder.is_dir() and name not in (*REAL_SERIES, "tiny", "licences"):  # that must be refused
            with pytest.raises(InputError):
                read(folder)
