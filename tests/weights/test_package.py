"""What a model file's own header says becomes its entry: one pair or many, and never a model that makes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny_entry

from imputer.errors import ModelError
from imputer.modality import Modality
from imputer.weights.choice import makes
from imputer.weights.manifest import Imported, parse, render
from imputer.weights.package import entry_of

CLASSES = (Modality.T1, Modality.T1CE, Modality.T2, Modality.FLAIR)
MANY = {
    "format": 1,
    "method": "aldm",
    "sources": ["t1", "t2"],
    "targets": [str(each) for each in CLASSES],
    "network": {"first_stage": {"classes": 4}, "unet": None, "projector": None},
    "about": {"id": "aldm", "licence": "CC0-1.0", "scope": {"pixel_mm": [1.0, 1.0], "slice_mm": [1.0, 1.0]}},
}


def write(path: Path, **changes: Any) -> Path:
    header = {"__metadata__": {"imputer": json.dumps(MANY | changes)}}
    path.write_bytes(tiny_entry.safetensors_bytes(header))
    return path


def test_lists_of_sources_and_targets_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "many.safetensors")
    entry = entry_of(path, Imported(path))
    assert (entry.sources, entry.targets, entry.pair) == (CLASSES[::2], CLASSES, "t1/t2->t1/t1ce/t2/flair")
    assert makes(entry, Modality.T2, Modality.FLAIR) and not makes(entry, Modality.FLAIR, Modality.T2)
    assert parse(render([entry]), "again") == (entry,)


def test_fingerprints_of_the_training_volumes_are_read(tmp_path: Path) -> None:
    known = ["0123456789abcdef", "fedcba9876543210"]
    path = write(tmp_path / "many.safetensors", about={"fingerprints": known})
    assert entry_of(path, Imported(path)).fingerprints == tuple(known)
    assert entry_of(write(path), Imported(path)).fingerprints == ()


@pytest.mark.parametrize("listed", ["0123456789abcdef", ["0123"], [7], [["0123456789abcdef"]], {}, ["0" * 16] * 20001])
def test_fingerprints_that_are_none_are_refused(tmp_path: Path, listed: object) -> None:
    path = write(tmp_path / "many.safetensors", about={"fingerprints": listed})
    with pytest.raises(ModelError, match=r"header of many\.safetensors .*fingerprints"):
        entry_of(path, Imported(path))


MEASURED = {
    "modality": "t1",
    "stripped": False,
    "volumes": 2,
    "quantiles": [[0.6, 0.7], [1.0, 1.0], [1.2, 1.3], [1.8, 2]],
    "coverage_mm": [117.0, 144],
    "area_cm2": [240.0, 243.0],
    "balance": [-0.5, -0.4],
}


def test_what_the_training_volumes_looked_like_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "many.safetensors", about={"scope": {"measured": [MEASURED]}})
    entry = entry_of(path, Imported(path))
    assert [asdict(each)["area_cm2"] for each in entry.measured] == [(240.0, 243.0)]
    assert parse(render([entry]), "again") == (entry,)
    assert entry_of(write(path), Imported(path)).measured == ()


@pytest.mark.parametrize("measured", ["t1", [7], [{}], [{**MEASURED, "modality": "t9"}], [{**MEASURED, "volumes": 0}]])
def test_what_cannot_be_a_measurement_is_refused(tmp_path: Path, measured: object) -> None:
    path = write(tmp_path / "many.safetensors", about={"scope": {"measured": measured}})
    with pytest.raises(ModelError, match=r"The header of many\.safetensors, field measured"):
        entry_of(path, Imported(path))


def test_one_pair_is_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(tiny_entry.package_bytes())
    assert entry_of(path, Imported(path)).pair == "t1->t2"


@pytest.mark.parametrize("name", ["sources", "targets"])
@pytest.mark.parametrize("value", [[], ["t1", "t1"], ["t1", "T1w"], ["t9"], [["t1"]], [None], None, "t1", {"t1": 1}])
def test_lists_that_are_none_are_refused(tmp_path: Path, name: str, value: object) -> None:
    path = write(tmp_path / "many.safetensors", **{name: value})
    with pytest.raises(ModelError, match=rf"many\.safetensors names no {name[:-1]} modality"):
        entry_of(path, Imported(path))


def test_an_autoencoder_that_makes_nothing_is_no_model_to_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "alone.safetensors", network={"first_stage": {"classes": 0}})
    with pytest.raises(ModelError, match=r"alone\.safetensors is an autoencoder without MS-SPADE"):
        entry_of(path, Imported(path))


@pytest.mark.parametrize("network", [None, [], {"first_stage": None}, {"first_stage": []}, {}])
def test_a_network_that_is_not_described_is_no_reason_to_stop_here(tmp_path: Path, network: object) -> None:
    path = write(tmp_path / "odd.safetensors", network=network)
    assert entry_of(path, Imported(path)).targets == CLASSES


JOINT = {"method": "syndiff", "sources": ["t1", "t2"], "targets": ["flair"]}


@pytest.mark.parametrize(
    ("required", "needed", "text"),
    [
        ({}, (Modality.T1, Modality.T2), "t1 + t2"),
        ({"required": []}, (), "t1 + t2 or fewer"),
        ({"required": ["t2"]}, (Modality.T2,), "t2 (+ t1)"),
    ],
)
def test_a_model_of_several_sources_together_says_which_it_needs(
    tmp_path: Path, required: dict[str, Any], needed: tuple[Modality, ...], text: str
) -> None:
    path = write(tmp_path / "joint.safetensors", **JOINT, **required)
    entry = entry_of(path, Imported(path))
    assert (entry.pair, entry.needed, entry.source_text) == ("t1+t2->flair", needed, text)
    assert parse(render([entry]), "again") == (entry,)


@pytest.mark.parametrize("value", ["t1", ["flair"], [["t1"]], 7, {"t1": 1}])
def test_required_sources_that_are_none_are_refused(tmp_path: Path, value: object) -> None:
    path = write(tmp_path / "joint.safetensors", **JOINT, required=value)
    with pytest.raises(ModelError, match=r"joint\.safetensors requires sources that it does not list"):
        entry_of(path, Imported(path))
