"""Fingerprints: one image has one, whatever its file is called and however its axes are stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image

from imputer.io.dispatch import load
from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.preprocess.fingerprint import digest, fingerprint
from imputer.preprocess.orient import Orient
from imputer.volume import Volume


@pytest.fixture
def head() -> Volume:
    return make_head([Modality.T1], shape=(24, 28, 5), spacing=(8.0, 8.0, 30.0), seed=2)[Modality.T1]


def test_it_never_changes() -> None:
    """Noise is drawn from the digest: another one would change every synthetic volume."""
    ramp = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.diag([-1.0, -1.0, 2.0, 1.0]))
    assert digest(ramp) == "ee1d90b03d45e6e14fe9040e402bb46468ffc19c3878b84cff33f233b605d8b2"
    assert fingerprint(ramp) == digest(ramp)[:16]


def test_name_format_and_order_of_axes_do_not_matter(head: Volume, tmp_path: Path) -> None:
    whole = replace(head, array=np.rint(head.array))
    turned, _ = Orient("PIR").forward(whole)
    nibabel.save(Nifti1Image(whole.array.astype(np.int16), whole.affine), tmp_path / "t1.nii.gz")
    nibabel.save(Nifti1Image(turned.array, turned.affine), tmp_path / "other.nii")
    assert fingerprint(load(tmp_path / "t1.nii.gz")) == fingerprint(load(tmp_path / "other.nii")) == fingerprint(whole)
    assert fingerprint(replace(whole, modality=Modality.T2)) == fingerprint(whole)


@pytest.mark.parametrize("change", ["voxel", "shape", "mirrored"])
def test_another_image_has_another_one(head: Volume, change: str) -> None:
    array = head.array.copy()
    if change == "voxel":
        array[3, 4, 2] += 1
    elif change == "shape":
        array = array[:, :, :-1]
    else:
        array = array[::-1]
    assert fingerprint(head.with_grid(array, head.affine)) != fingerprint(head)
