"""ALDM from the command line: one source, several targets, its samplers, its scope, and every way to refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Image
from tiny import write_head, write_model
from tiny_aldm import FIRST_STAGE_ALONE, WITHOUT_PROJECTOR
from tiny_aldm import write_model as write_aldm

import imputer
from imputer import case as cases
from imputer.case import Settings
from imputer.errors import UsageError
from imputer.modality import Modality
from imputer.nets.vqgan3d import FirstStage
from imputer.synth import synthesise_each

from .conftest import Run, assert_refused


@pytest.fixture(scope="session")
def aldm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_aldm(tmp_path_factory.mktemp("models") / "aldm.safetensors")


@pytest.fixture(scope="session")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the authors released: autoencoder and MS-SPADE."""
    return write_aldm(tmp_path_factory.mktemp("models") / "stage2.safetensors", FIRST_STAGE_ALONE)


@pytest.fixture(scope="session")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_aldm(tmp_path_factory.mktemp("models") / "diffusion.safetensors", WITHOUT_PROJECTOR)


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A T1 with slices of 6 mm, alone in a folder of its own."""
    return write_head(tmp_path / "scan" / "t1.nii.gz", Modality.T1, shape=(44, 52, 20), spacing=(4.0, 4.0, 6.0))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a volume is encoded."""
    calls: list[int] = []
    features = FirstStage.features

    def counted(self: FirstStage, x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return features(self, x)

    monkeypatch.setattr(FirstStage, "features", counted)
    return calls


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def record_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_one_source_is_read_and_encoded_once_for_all_targets(
    run: Run, head: Path, aldm: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []
    load = cases.load
    monkeypatch.setattr(cases, "load", lambda *given, **named: (reads.append(1), load(*given, **named))[1])
    result = run("synth", head, "--to", "t2", "--to", "flair", "--to", "t1ce", "-m", aldm)
    assert result.exit_code == 0, result.output
    made = [head.with_name(f"t1_synth-{target}.nii.gz") for target in ("t2", "flair", "t1ce")]
    assert result.stdout.splitlines() == [str(path) for path in made]
    assert (len(encoded), len(reads)) == (1, 1)
    source, images = nibabel.load(head), [nibabel.load(path) for path in made]
    for image in images:
        assert image.shape == source.shape
        np.testing.assert_array_equal(image.affine, source.affine)
    voxels = [np.asarray(image.dataobj) for image in images]
    assert all(each.min() >= 0 and each.std() > 0 for each in voxels)
    assert not np.array_equal(voxels[0], voxels[1]) and not np.array_equal(voxels[0], voxels[2])


def test_a_synthetic_t1ce_comes_with_a_warning_and_no_other_target(run: Run, head: Path, aldm: Path) -> None:
    result = run("synth", head, "--to", "t1ce", "--to", "flair", "-m", aldm)
    told = [record_of(head.with_name(f"t1_synth-{target}.json"))["scope_warnings"] for target in ("t1ce", "flair")]
    assert ["made up" in " ".join(warnings) for warnings in told] == [True, False]
    assert result.stderr.count("enhancement in the T1CE is made up") == 1


def test_a_target_is_the_same_alone_and_among_others(run: Run, head: Path, aldm: Path, tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    run("synth", head, "--to", "t1ce", "--to", "flair", "-m", aldm, "-o", tmp_path / "some")
    assert run("synth", head, "--to", "flair", "-m", aldm, "-o", tmp_path / "one.nii.gz").exit_code == 0
    one, some = (nibabel.load(tmp_path / name) for name in ("one.nii.gz", "some/t1_synth-flair.nii.gz"))
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(some.dataobj))


def test_samples_and_targets_share_the_encoder(
    run: Run, head: Path, aldm: Path, tmp_path: Path, encoded: list[int]
) -> None:
    result = run("synth", head, "--to", "t2", "--to", "flair", "-m", aldm, "--samples", "3", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert len(encoded) == 1
    assert nibabel.load(tmp_path / "out" / "t1_synth-t2_std.nii.gz").get_fdata().max() > 0


def test_the_sidecar_says_how_it_was_sampled(
    run: Run, head: Path, aldm: Path, diffusion: Path, stage2: Path, tmp_path: Path
) -> None:
    wanted: list[tuple[Path, list[str], tuple[str, int, float | None]]] = [
        (aldm, [], ("projector", 4, None)),
        (aldm, ["--fast"], ("projector", 1, None)),
        (aldm, ["--sampler", "ddim", "--steps", "4", "--eta", "0"], ("ddim", 4, 0.0)),
        (aldm, ["--sampler", "none"], ("none", 0, None)),
        (diffusion, ["--steps", "2"], ("ddim", 2, 1.0)),
        (stage2, [], ("none", 0, None)),
    ]
    volumes = []
    for number, (model, arguments, expected) in enumerate(wanted):
        out = tmp_path / f"{number}.nii.gz"
        result = run("synth", head, "--to", "t2", "-m", model, "-o", out, *arguments)
        assert result.exit_code == 0, result.output
        record = record_of(tmp_path / f"{number}.json")
        assert (record["sampler"], record["steps"], record.get("eta")) == expected
        assert "tiles" not in record
        volumes.append(np.asarray(nibabel.load(out).dataobj).tobytes())
    # Both are the autoencoder with MS-SPADE; a projector beside it plays no part then.
    assert len(set(volumes)) == 5 and volumes[3] == volumes[5]


def test_the_sidecar_tells_what_the_model_did_not_see(run: Run, tmp_path: Path, aldm: Path) -> None:
    path = write_head(tmp_path / "t1.nii.gz", Modality.T1, shape=(44, 52, 40), spacing=(4.0, 4.0, 4.0))
    head = nibabel.load(path)
    wide = np.pad(head.get_fdata(dtype=np.float32), ((50, 20), (0, 0), (0, 0)))
    nibabel.save(Nifti1Image(wide, head.affine), path)
    assert run("synth", path, "--to", "t2", "-m", aldm).exit_code == 0
    record = record_of(tmp_path / "t1_synth-t2.json")
    (box,) = [undo for undo in record["undo"] if "outside" in undo]
    assert record["model_voxels_outside_field_of_view"] == box["outside"] > 0
    made, source = (np.asarray(nibabel.load(tmp_path / name).dataobj) for name in ("t1_synth-t2.nii.gz", "t1.nii.gz"))
    assert made.shape == source.shape and (made == 0).sum() >= box["outside"]


def test_tiles_are_told_and_progress_adds_up(run: Run, head: Path, aldm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imputer.methods.aldm.free_bytes", lambda device: 1)
    tall = write_head(head.with_name("tall_t1.nii.gz"), Modality.T1, shape=(44, 70, 44), spacing=(4.0, 3.0, 4.0))
    result = run("synth", tall, "--to", "t2", "--to", "flair", "-m", aldm, "--log-json")
    assert result.exit_code == 0, result.output
    for target in ("t2", "flair"):
        tiles = record_of(tall.with_name(f"tall_t1_synth-{target}.json"))["tiles"]
        assert tiles["count"] > 1 and max(tiles["size"]) <= 48
    events = [json.loads(line) for line in result.stderr.splitlines()]
    steps = [(event["done"], event["total"]) for event in events if event["event"] == "progress"]
    assert steps[-1] == (19, 19) and steps.count((19, 19)) == 2


def test_a_volume_that_does_not_fit_is_five_and_leaves_nothing(
    run: Run, head: Path, aldm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(FirstStage, "decode", full)
    assert_refused_after_notes(
        run("synth", head, "--to", "t2", "-m", aldm), 5, "voxels", "memory", "a machine with more"
    )
    assert names(head.parent) == ["t1.nii.gz"]


def assert_refused_after_notes(result: Any, code: int, *words: str) -> None:
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("imputer: error: ") and all(word in last for word in words), last


# The scope of a model.


def test_thick_slices_are_warned_of_with_figures(run: Run, head: Path, aldm: Path, tmp_path: Path) -> None:
    stated = write_aldm(
        tmp_path / "stated.safetensors", about={"scope": {"pixel_mm": [3.5, 4.5], "slice_mm": [3.0, 5.0]}}
    )
    assert "warning" not in run("synth", head, "--to", "t2", "-m", aldm, "--dry-run").stderr
    result = run("synth", head, "--to", "t2", "-m", stated)
    said = "slices every 6 mm are outside the 3 to 5 mm that the model was trained on"
    assert said in result.stderr and "pixels" not in result.stderr
    assert record_of(head.with_name("t1_synth-t2.json"))["scope_warnings"] == [said]
    thick = write_head(tmp_path / "t1.nii.gz", Modality.T1, shape=(44, 52, 8), spacing=(4.0, 4.0, 15.0))
    result = run("synth", thick, "--to", "t2", "-m", aldm, "--dry-run")  # which states no limits
    assert "slices every 15 mm are coarse for a model that works in voxels of 4 mm" in result.stderr


def test_what_the_model_lacks_is_four_and_names_what_it_has(run: Run, head: Path, aldm: Path, tmp_path: Path) -> None:
    has = "t1, t1ce, t2 or flair"
    assert_refused(run("synth", head, "--to", "pd", "-m", aldm), 4, has, "t1 to pd")
    assert_refused(run("synth", head, "--to", "t2", "--to", "ct", "-m", aldm), 4, has, "t1 to ct")
    assert_refused(run("synth", head, "--from", "pd", "--to", "t2", "-m", aldm), 4, has, "pd to t2")
    few = write_aldm(tmp_path / "few.safetensors", sources=(Modality.T2,))
    assert_refused(run("synth", head, "--to", "flair", "-m", few), 4, "from t2 to t1,")
    assert names(head.parent) == ["t1.nii.gz"]


def test_an_autoencoder_alone_is_four(run: Run, head: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from tiny_aldm import FIRST_STAGE, make_header, make_network

    from imputer.nets.checkpoint import write_package

    network = make_network(FIRST_STAGE_ALONE, replace(FIRST_STAGE, classes=0))
    write_package(tmp_path / "stage1.safetensors", network.state_dict(), make_header(network, targets=()))
    assert_refused(run("synth", head, "--to", "t2", "-m", tmp_path / "stage1.safetensors"), 4, "MS-SPADE", "stage")


# What makes no sense.


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        ("aldm", ["--sampler", "euler"], ["euler", "projector, ddim, none"]),
        ("aldm", ["--steps", "5"], ["1 to 4", "not 5"]),
        ("aldm", ["--sampler", "ddim", "--steps", "3"], ["1000", "200", "not 3"]),
        ("aldm", ["--sampler", "ddim", "--fast"], ["not 1"]),
        ("aldm", ["--sampler", "none", "--steps", "4"], ["without a sampler", "not 4"]),
        ("aldm", ["--sampler", "none", "--samples", "2"], ["all samples are the same"]),
        ("aldm", ["--eta", "0.5"], ["eta", "ddim"]),
        ("diffusion", ["--sampler", "projector"], ["no sampler 'projector'", "ddim, none"]),
        ("diffusion", ["--steps", "1000"], ["not 1000"]),
        ("stage2", ["--sampler", "ddim"], ["no sampler 'ddim'"]),
        ("stage2", ["--steps", "4"], ["not 4"]),
        ("tiny_model", ["--sampler", "ddim"], ["one sampler", "--sampler"]),
        ("tiny_model", ["--eta", "1"], ["eta"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["", "dry"])
def test_wrong_sampling_is_two(
    run: Run, head: Path, request: pytest.FixtureRequest, model: str, arguments: list[str], words: list[str], more: Any
) -> None:
    path = request.getfixturevalue(model)
    assert_refused(run("synth", head, "--to", "t2", "-m", path, *arguments, *more), 2, *words)
    assert names(head.parent) == ["t1.nii.gz"]


def test_an_eta_that_is_none_is_two(run: Run, head: Path, aldm: Path) -> None:
    for eta in ("1.5", "-1", "much"):
        assert run("synth", head, "--to", "t2", "-m", aldm, "--sampler", "ddim", "--eta", eta).exit_code == 2


def test_all_outputs_are_checked_before_any_is_made(
    run: Run, head: Path, aldm: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    head.with_name("t1_synth-flair.json").write_text("mine")
    monkeypatch.setattr(cases, "load", lambda *given, **named: pytest.fail("read before the outputs were checked"))
    assert_refused(run("synth", head, "--to", "t2", "--to", "flair", "-m", aldm), 6, "t1_synth-flair.json")
    assert encoded == [] and names(head.parent) == ["t1.nii.gz", "t1_synth-flair.json"]


def test_each_target_has_a_model_of_its_own_choice(head: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Without a named model, and with files that differ, every target is made by the one that fits it."""
    outcomes = list(
        synthesise_each(head, {Modality.T2: tmp_path / "a.nii", Modality.FLAIR: None}, Settings(to=Modality.T2))
    )
    assert [outcome.record["model"]["id"] for outcome in outcomes] == ["syndiff-t1-t2", "syndiff-t1-flair"]
    assert outcomes[0].path == tmp_path / "a.nii" and outcomes[1].path is None


def test_two_targets_in_one_file_are_refused(head: Path, aldm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    with pytest.raises(UsageError, match="one file"):
        synthesise_each(head, {Modality.T2: out, Modality.FLAIR: out}, Settings(to=Modality.T2), model=aldm)
    assert not out.exists()


def test_from_python_a_method_that_is_loaded_once_encodes_once(head: Path, aldm: Path, encoded: list[int]) -> None:
    model = imputer.load_model(aldm, device="cpu")
    made = [imputer.synthesise(head, to=target, model=model) for target in ("t2", "flair", "t2")]
    assert len(encoded) == 1
    np.testing.assert_array_equal(made[0].volume.array, made[2].volume.array)
    ddim = imputer.synthesise(head, to="t2", model=model, sampler="ddim", steps=2, eta=0.0)
    assert ddim.record["sampler"] == "ddim" and ddim.record["eta"] == 0


# Batches.


def test_a_batch_makes_all_targets_of_a_case_from_one_latent(
    run: Run, tmp_path: Path, aldm: Path, encoded: list[int]
) -> None:
    for number in range(2):
        write_head(tmp_path / "in" / f"case{number}_t1.nii.gz", Modality.T1, seed=number)
    words = ["batch", tmp_path / "in", tmp_path / "out", "--to", "t2", "--to", "flair", "-m", aldm, "-d", "cpu"]
    result = run(*words, "--sampler", "none")
    assert result.exit_code == 0, result.output
    assert len(encoded) == 2
    records = [record_of(path) for path in sorted((tmp_path / "out").glob("*.json")) if path.name != "run.json"]
    assert {record["sampler"] for record in records} == {"none"} and len(records) == 4
    assert record_of(tmp_path / "out" / "run.json")["slices"] > 4 * 16  # of a whole volume its axial slices
    assert_refused(run(*words), 2, "sampler", "--overwrite")  # other settings do not mix


def test_a_batch_that_asks_for_the_impossible_fails_case_by_case(run: Run, tmp_path: Path, stage2: Path) -> None:
    write_head(tmp_path / "in" / "case_t1.nii.gz", Modality.T1)
    result = run(
        "batch", tmp_path / "in", tmp_path / "out", "--to", "t2", "-m", stage2, "--sampler", "ddim", "--eta", "0"
    )
    assert result.exit_code == 9, result.output
    failure = record_of(tmp_path / "out" / "run.json")["failures"][0]
    assert "no sampler 'ddim'" in failure["message"]
    assert "--sampler ddim --eta 0.0" in failure["command"]
    assert_refused(run("batch", tmp_path / "in", tmp_path / "x", "--to", "t2", "--sampler", "euler"), 2, "euler")


def test_another_method_is_not_touched_by_all_this(run: Run, head: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.safetensors")
    assert run("synth", head, "--to", "t2", "-m", model).exit_code == 0
    record = record_of(head.with_name("t1_synth-t2.json"))
    assert not {"sampler", "eta", "tiles", "model_voxels_outside_field_of_view"} & set(record)
