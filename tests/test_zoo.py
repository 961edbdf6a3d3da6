"""Volumes as the world stores them: whatever the file, the result has the source's geometry to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image

from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.synth import synthesise

FIELDS = ("dim", "pixdim", "xyzt_units", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z")
QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


def head(shape: tuple[int, int, int], spacing: tuple[float, float, float], **options: Any) -> Nifti1Image:
    volume = make_head([Modality.T1], shape=shape, spacing=spacing, seed=5, **options)[Modality.T1]
    image = Nifti1Image(volume.array, volume.affine)
    image.header.set_xyzt_units("mm", "sec")
    return image


def las() -> Nifti1Image:
    return head((48, 56, 9), (4.0, 4.0, 15.0), axes="LAS")


def pir() -> Nifti1Image:
    return head((56, 9, 48), (4.0, 15.0, 4.0), axes="PIR")


def oblique() -> Nifti1Image:
    return head((48, 56, 9), (4.0, 4.0, 15.0), oblique_degrees=17.0)


def clinical() -> Nifti1Image:
    return head((320, 384, 6), (0.5, 0.5, 4.0))


def odd() -> Nifti1Image:
    return head((401, 307, 33), (0.45, 0.6, 4.0))


def scaled_integers() -> Nifti1Image:
    image = head((48, 56, 9), (4.0, 4.0, 15.0))
    image.header.set_slope_inter(0.37, -12.5)
    image.set_data_dtype(np.int16)
    return image


def double() -> Nifti1Image:
    image = head((48, 56, 9), (4.0, 4.0, 15.0))
    image.set_data_dtype(np.float64)
    return image


def with_nan() -> Nifti1Image:
    image = head((48, 56, 9), (4.0, 4.0, 15.0))
    voxels = image.get_fdata(dtype=np.float32)
    voxels[5:9, 10, 4] = np.nan
    return Nifti1Image(voxels, image.affine, image.header)


def with_empty_slices() -> Nifti1Image:
    image = head((48, 56, 9), (4.0, 4.0, 15.0))
    voxels = image.get_fdata(dtype=np.float32)
    voxels[:, :, [0, 4, 8]] = 0
    return Nifti1Image(voxels, image.affine, image.header)


def trailing_axis() -> Nifti1Image:
    image = head((48, 56, 9), (4.0, 4.0, 15.0))
    return Nifti1Image(image.get_fdata(dtype=np.float32)[..., None], image.affine, image.header)


def qform_only() -> Nifti1Image:
    image = head((48, 56, 9), (4.0, 4.0, 15.0), oblique_degrees=9.0)
    image.set_qform(image.affine, code=1)
    image.set_sform(None, code=0)
    return image


ZOO = [
    las,
    pir,
    oblique,
    clinical,
    odd,
    scaled_integers,
    double,
    with_nan,
    with_empty_slices,
    trailing_axis,
    qform_only,
]


@pytest.mark.parametrize("animal", ZOO, ids=lambda animal: animal.__name__)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_the_result_has_the_geometry_of_the_source(
    animal: Callable[[], Nifti1Image], suffix: str, tiny_model: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / f"t1{suffix}", tmp_path / f"made{suffix}"
    nibabel.save(animal(), source)
    synthesise(source, to="t2", model=tiny_model, device="cpu", output=target)
    before, after = nibabel.load(source), nibabel.load(target)
    assert after.shape == before.shape
    np.testing.assert_array_equal(after.affine, before.affine)
    for field in (*FIELDS, *QUATERNION):
        np.testing.assert_array_equal(after.header[field], before.header[field], err_msg=field)
    voxels = np.asarray(after.dataobj)
    assert np.isfinite(voxels).all()
    assert np.ptp(voxels) > 0


def test_axial_slices_follow_the_affine_and_not_the_array(tiny_model: Path, tmp_path: Path) -> None:
    """The same head stored in another order of the axes gives the same voxels, reordered."""
    image = head((48, 56, 9), (4.0, 4.0, 15.0), axes="RAS")
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt("SPL")
    ))  # fmt: skip
    made = []
    for number, each in enumerate((image, turned)):
        nibabel.save(each, tmp_path / f"t1_{number}.nii.gz")
        options = {"model": tiny_model, "device": "cpu", "output": tmp_path / f"made_{number}.nii.gz"}
        synthesise(tmp_path / f"t1_{number}.nii.gz", to="t2", from_="t1", **options)
        made.append(nibabel.as_closest_canonical(nibabel.load(tmp_path / f"made_{number}.nii.gz")))
    difference = np.abs(made[0].get_fdata() - made[1].get_fdata())
    assert difference.max() <= 1  # of the whole numbers that are written: only their rounding may differ
