"""A tiny model that takes T1 and T2 together and makes FLAIR, and heads whose sources lie on grids of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
from nibabel.nifti1 import Nifti1Image
from tiny import CONFIG, GRID, RECIPE, make_generator

from imputer.diffusion.schedule import Schedule
from imputer.methods import syndiff
from imputer.methods.base import Identity
from imputer.modality import Modality
from imputer.nets.checkpoint import write_package
from imputer.phantom import make_head

T1, T2, PD, FLAIR = Modality.T1, Modality.T2, Modality.PD, Modality.FLAIR
JOINT_CONFIG = replace(CONFIG, image_channels=3)
# Another orientation, another size of voxels and a tilt, round the same head.
OTHER_GRID: dict[str, Any] = {"shape": (7, 58, 50), "spacing": (19.0, 3.7, 4.3), "axes": "SPL", "oblique_degrees": 4.0}


def make_joint(required: Sequence[Modality] = (), fusion: str = syndiff.CHANNELS) -> syndiff.SynDiff:
    """Return a method from T1 and T2 together to FLAIR that needs no file."""
    return syndiff.SynDiff(
        make_generator(JOINT_CONFIG), Schedule(), RECIPE, T1, FLAIR,
        output_scale=1000.0, identity=Identity("tiny-joint", scope={"body_part": "head"}), shared_noise=False,
        others=(T2,), required=required, fusion=fusion,
    )  # fmt: skip


def joint_header(required: Sequence[Modality] = (), identifier: str = "tiny-joint") -> dict[str, Any]:
    """Return the header of the model's package."""
    about = {"id": identifier, "version": "1", "licence": "CC0-1.0", "scope": {"body_part": "head"}}
    return syndiff.header(
        JOINT_CONFIG, Schedule(), RECIPE, T1, FLAIR,
        output_scale=1000.0, shared_noise=False, about=about, others=(T2,), required=required,
    )  # fmt: skip


def write_joint(path: Path, required: Sequence[Modality] = (), identifier: str = "tiny-joint") -> Path:
    """Write the model as a package."""
    write_package(path, make_generator(JOINT_CONFIG).state_dict(), joint_header(required, identifier))
    return path


def write_scans(folder: Path, **grids: dict[str, Any]) -> Path:
    """Write one head's contrasts as ``t1.nii.gz`` and so on; each keyword gives what differs from `GRID`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, grid in grids.items():
        modality = Modality(name)
        volume = make_head([modality], **{**GRID, **grid})[modality]
        nibabel.save(Nifti1Image(volume.array, volume.affine), folder / f"{name}.nii.gz")
    return folder
