"""A run takes over what its starting model has to fit: network, pixels, intensities, direction, training volumes."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_generator, make_header, write_model

from imputer.errors import ModelError
from imputer.modality import Modality
from imputer.nets.checkpoint import load_strictly, read_header, read_tensors, write_package
from imputer.nets.disdiff import DisDiff
from imputer.nets.ncsnpp import NCSNpp
from imputer.preprocess.recipe import released_recipe
from imputer.train.aldm_config import AldmConfig
from imputer.train.aldm_model import starting_tensors
from imputer.train.config import TrainConfig
from imputer.train.disdiff_config import DisDiffTrainConfig, model_config
from imputer.train.initial import taken_over
from imputer.train.seen import look_at
from imputer.train.syndiff import network_config
from imputer.train.widen import load_initial
from imputer.weights import store
from imputer.weights.manifest import Entry, entries

EMBEDDED = {entry.id: entry for entry in entries() if entry.embedded}
SYNDIFF = [entry for entry in EMBEDDED.values() if entry.method == "syndiff"]
T1_TO_T2 = TrainConfig(output="run", source_dir="scans", target_dir="scans", paired=True)


def file_of(entry: str) -> Path:
    return store.verified(EMBEDDED[entry])


def write_with(path: Path, changes: dict[str, Any]) -> Path:
    """Write the tiny model with another header."""
    write_package(path, make_generator().state_dict(), {**make_header(Modality.T1, Modality.T2), **changes})
    return path


@pytest.mark.parametrize("entry", SYNDIFF, ids=lambda entry: entry.id)
def test_an_embedded_syndiff_fits_without_a_setting(entry: Entry) -> None:
    first, *others = (source.value for source in entry.sources)
    run = replace(T1_TO_T2, source=first, other_sources=tuple(others), target=entry.targets[0].value)
    config = taken_over(run, file_of(entry.id))
    with torch.device("meta"):
        shape = NCSNpp(network_config(config)).state_dict()
    assert {name: tensor.shape for name, tensor in read_tensors(file_of(entry.id)).items()} == {
        name: tensor.shape for name, tensor in shape.items()
    }
    assert (config.pixel_mm, config.direction, config.initial) == (0.9, "forward", str(file_of(entry.id)))
    assert config.fusion == read_header(file_of(entry.id)).get("fusion", "channels")


def test_an_embedded_disdiff_fits_without_a_setting() -> None:
    path = file_of("disdiff-t1-t2")
    run = DisDiffTrainConfig(output="run", source_dir="scans", target_dir="scans")
    load_strictly(DisDiff(model_config(taken_over(run, path))), read_tensors(path), path.name)


def test_an_embedded_aldm_fits_without_a_setting() -> None:
    path = file_of("aldm-t1-t1ce-t2-flair")
    config = taken_over(AldmConfig(output="run", data_dir="scans", modalities=("t1", "t2")), path)
    assert starting_tensors(config).keys() == read_tensors(path).keys()
    assert config.modalities == ("t1", "t1ce", "t2", "flair")


def test_a_model_of_one_source_becomes_one_of_two() -> None:
    path = file_of("syndiff-t1-flair")
    config = taken_over(replace(T1_TO_T2, other_sources=("t2",), target="flair"), path)
    network = NCSNpp(network_config(config))
    load_initial(network, config)
    assert network.config.image_channels == 3


@pytest.mark.parametrize(
    ("source", "target", "direction", "white"),
    [("t1", "t2", "forward", "source_white"), ("t2", "t1", "backward", "target_white"),
     ("t1", "pd", "forward", "source_white")],
)  # fmt: skip
def test_the_direction_is_the_models(tmp_path: Path, source: str, target: str, direction: str, white: str) -> None:
    recipe = [{"step": "intensity", "scale": "global_mean", "white": 5, "percentile": 99.9}]
    path = write_with(tmp_path / "model.safetensors", {"recipe": recipe})
    config = taken_over(replace(T1_TO_T2, source=source, target=target), path)
    whites = {"source_white": 4.0, "target_white": 4.0, white: 5.0}
    assert (config.direction, {name: getattr(config, name) for name in whites}) == (direction, whites)


def test_intensities_on_another_scale_are_not_taken_over(tmp_path: Path) -> None:
    """The authors' models go by a percentile, all runs by the mean."""
    changes = {"recipe": released_recipe(256).to_json()}
    assert taken_over(T1_TO_T2, write_with(tmp_path / "model.safetensors", changes)).source_white == 4.0


def test_the_licence_goes_on(tmp_path: Path) -> None:
    path = write_with(tmp_path / "model.safetensors", {"about": {"licence": "CC-BY-NC-4.0"}})
    assert taken_over(T1_TO_T2, path).licence == "CC-BY-NC-4.0"
    assert taken_over(T1_TO_T2, file_of("syndiff-t1-t2")).licence == "CC-BY-4.0"


def test_the_rest_of_the_run_stays_as_it_was(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.safetensors")
    before, after = asdict(T1_TO_T2), asdict(taken_over(T1_TO_T2, path))
    assert {name for name in before if before[name] != after[name]} == {
        "initial", "direction", "pixel_mm", "width", "channel_multipliers", "blocks_per_level", "attention_levels",
        "latent_size", "latent_width", "shared_noise", "licence",
    }  # fmt: skip


def test_the_model_of_another_method_is_refused() -> None:
    with pytest.raises(ModelError, match=r"disdiff-t1-t2\.safetensors .*'train syndiff'"):
        taken_over(T1_TO_T2, file_of("disdiff-t1-t2"))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"network": {"width": "wide"}}, "width"),
        ({"network": {"width": True}}, "width"),
        ({"network": {"channel_multipliers": [1, "2"]}}, "channel_multipliers"),
        ({"network": {"channel_multipliers": 3}}, "channel_multipliers"),
        ({"schedule": {"steps": 4.5}}, "diffusion_steps"),
        ({"recipe": [{"step": "resample", "spacing_mm": "1"}]}, "pixel_mm"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    path = write_with(tmp_path / "model.safetensors", changes)
    with pytest.raises(ModelError, match=f"model.safetensors has no usable {name}"):
        taken_over(T1_TO_T2, path)


def test_what_a_header_does_not_tell_stays_as_it_was(tmp_path: Path) -> None:
    changes = {"recipe": 7, "network": [], "schedule": None, "shared_noise": None, "about": {}}
    config = taken_over(T1_TO_T2, path := write_with(tmp_path / "model.safetensors", changes))
    assert config == replace(T1_TO_T2, initial=str(path), direction="forward")


@pytest.mark.parametrize("name", ["syndiff-t1-t2", "disdiff-t1-t2"])
def test_what_an_embedded_model_saw_counts_as_seen(name: str, tmp_path: Path) -> None:
    """The manifest lists its training volumes, not its header; a copy of the file is the same model."""
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file_of(name).read_bytes())
    assert EMBEDDED[name].fingerprints
    assert set(look_at([], str(copy)).fingerprints) == set(EMBEDDED[name].fingerprints)
