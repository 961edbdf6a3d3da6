"""What the tests of training share: three small heads and settings under which a step takes a tenth of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
