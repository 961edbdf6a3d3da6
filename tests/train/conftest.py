"""What the tests of training share: three small heads and settings under which a step takes a tenth of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import write_head

from imputer.modality import Modality
from imputer.train.config import TrainConfig
from imputer.train.disdiff_config import DisDiffTrainConfig

MakeConfig = Callable[..., TrainConfig]
MakeDisDiff = Callable[..., DisDiffTrainConfig]


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders t1 and t2 with the same three heads, on grids of differing size and spacing."""
    folder = tmp_path_factory.mktemp("scans")
    grids = (((52, 60, 5), (3.0, 3.0, 18.0)), ((40, 45, 6), (4.0, 4.0, 15.0)), ((56, 64, 5), (3.0, 2.8, 18.0)))
    for head, (shape, spacing) in enumerate(grids):
        for modality in (Modality.T1, Modality.T2):
            path = folder / modality.value / f"head{head}_{modality.value}.nii.gz"
            write_head(path, modality, seed=head, shape=shape, spacing=spacing)
    return folder


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heads with FLAIR; the first has T1 and T2 on grids of their own, the second lacks T2, the third T1."""
    folder = tmp_path_factory.mktemp("cohort")
    t1: dict[str, Any] = {"shape": (44, 52, 6), "spacing": (4.0, 4.0, 18.0)}
    t2: dict[str, Any] = {"shape": (7, 60, 50), "spacing": (16.0, 3.5, 4.2), "axes": "SAR"}
    flair: dict[str, Any] = {"shape": (46, 54, 6), "spacing": (3.9, 3.9, 18.0)}
    grids = {Modality.T1: t1, Modality.T2: t2, Modality.FLAIR: flair}
    for head, has in enumerate((("t1", "t2", "flair"), ("t1", "flair"), ("t2", "flair"))):
        for modality in map(Modality, has):
            write_head(folder / f"head{head}_{modality}.nii.gz", modality, seed=head, **grids[modality])
    return folder


@pytest.fixture
def make_config(scans: Path, tmp_path: Path) -> MakeConfig:
    """Settings of a tiny run on the three heads, with changes by name; the run's folder is ``run`` unless told."""

    def make(**changes: object) -> TrainConfig:
        return TrainConfig(**{**_tiny(scans, tmp_path), "resnet_width": 4, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_disdiff(scans: Path, tmp_path: Path) -> MakeDisDiff:
    """The same of DisDiff."""

    def make(**changes: object) -> DisDiffTrainConfig:
        own = {"batch_size": 1, "content_width": 4, "content_blocks": 1, "content_maps": 2, "attribute_width": 4}
        settings = {**_tiny(scans, tmp_path), **own, "attribute_size": 3, **changes}
        return DisDiffTrainConfig(**settings)  # type: ignore[arg-type]

    return make


@pytest.fixture
def of_two_sources(cohort: Path) -> dict[str, object]:
    """Settings, of either method, that make FLAIR of T1 and T2 together."""
    return {
        "source_dir": str(cohort),
        "target_dir": str(cohort),
        "other_sources": ("t2",),
        "target": "flair",
        "paired": True,
        "pixel_mm": 4.0,
    }


def _tiny(scans: Path, folder: Path) -> dict[str, object]:
    return {
        "source_dir": str(scans / "t1"),
        "target_dir": str(scans / "t2"),
        "output": str(folder / "run"),
        "steps": 2,
        "crop": (64, 64),
        "pixel_mm": 3.0,
        "width": 4,
        "channel_multipliers": (1, 1, 1),
        "attention_levels": (),
        "blocks_per_level": 1,
        "latent_size": 4,
        "latent_width": 8,
        "discriminator_width": 2,
        "accelerator": "cpu",
        "log_every": 1,
        "r1_every": 2,
        "validation_slices": 1,
    }
