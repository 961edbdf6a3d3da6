"""ALDM's training: subjects and patches, latents, the codebook, the stages, resume, and a model that works."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import write_head

from imputer.errors import ImputerError, InputError, ModelError, OutputError, UsageError
from imputer.io.dispatch import load
from imputer.methods.base import RunOptions
from imputer.modality import Modality
from imputer.nets.aldm import make_aldm
from imputer.nets.checkpoint import read_header, read_tensors
from imputer.phantom import make_head
from imputer.preprocess.fingerprint import fingerprint
from imputer.pretrained.load import load_model
from imputer.synth import synthesise
from imputer.train.aldm_config import STAGES, AldmConfig, first_stage_config
from imputer.train.aldm_start import MODEL, check, plan, start
from imputer.train.augment import STRENGTHS
from imputer.train.codebook import entries_of
from imputer.train.latents import LatentBank, SubjectLatents, encode_subjects
from imputer.train.loop import LAST
from imputer.train.parts import halved
from imputer.train.subjects import Contrasts, PatchSampler, find_subjects, padded

from .test_resume import Killed, assert_same_end

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

MakeAldm = Callable[..., AldmConfig]
GRID = {"shape": (44, 52, 11), "spacing": (4.0, 4.0, 16.0)}


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects: one with T1, T2 and FLAIR, one with T1 and T2, one with FLAIR alone."""
    folder = tmp_path_factory.mktemp("patients")
    owned = {"anna": ("t1", "t2", "flair"), "bert": ("t1", "t2"), "carl": ("flair",)}
    for seed, (name, modalities) in enumerate(owned.items()):
        for modality in map(Modality, modalities):
            write_head(folder / name / f"{modality.value}.nii.gz", modality, seed=seed, **GRID)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def make_aldm_config(patients: Path, tmp_path: Path) -> MakeAldm:
    """Settings of a tiny run, with changes by name; the run's folder is ``run`` unless told."""

    def make(**changes: object) -> AldmConfig:
        settings: dict[str, object] = {
            "data_dir": str(patients), "output": str(tmp_path / "run"), "modalities": ("t1", "t2", "flair"),
            "voxel_mm": 8.0, "patch": 16, "latent_crop": 8, "variants": 1,
            "width": 4, "channel_multipliers": (1, 2), "groups": 2, "codebook_size": 16,
            "spade_widths": (4,), "spade_hidden": 4, "unet_width": 8, "unet_multipliers": (1, 2),
            "attention_factors": (2,), "head_channels": 8, "unet_groups": 4, "discriminator_width": 4,
            **{f"{stage}_steps": 3 for stage in STAGES}, "accelerator": "cpu", "log_every": 1, "warmup": 0,
        }  # fmt: skip
        return AldmConfig(**{**settings, **changes})  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modalities": ("t1",)}, "two different"),
        ({"modalities": ("t1", "t1w")}, "two different"),
        ({"stages": ("autoencoder", "diffusion")}, "without gaps"),
        ({"stages": ("spade", "autoencoder")}, "in this order"),
        ({"stages": ("dreaming",)}, "autoencoder, spade"),
        ({"stages": ("spade",)}, "--init"),
        ({"width": 5}, "no network.*--set"),
        ({"unet_width": 10}, "no network.*--set"),
        ({"patch": 20}, "multiple of 8"),
        ({"latent_crop": 4}, "at least 8"),
        ({"spade_steps": 0}, "spade_steps"),
        ({"intensity_strength": "wild"}, "wild.*weak"),
    ],
)
def test_aldm_settings_that_contradict_each_other_are_refused(
    make_aldm_config: MakeAldm, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check(make_aldm_config(**changes))
    with pytest.raises(UsageError, match=words):
        start(make_aldm_config(**changes))
    assert not (tmp_path / "run").exists()


def test_subjects_may_lack_contrasts(patients: Path) -> None:
    subjects = find_subjects(patients, [Modality.T1, Modality.T2, Modality.FLAIR])
    assert [sorted(each.volumes) for each in subjects] == [["flair", "t1", "t2"], ["t1", "t2"], ["flair"]]
    assert len(find_subjects(patients, [Modality.T1, Modality.T2])) == 2
    assert len(find_subjects(patients, [Modality.T1], exclude=["anna"])) == 1


def test_two_files_of_one_contrast_are_refused(tmp_path: Path) -> None:
    for name in ("scan_t1.nii.gz", "scan-T1w.nii.gz"):
        write_head(tmp_path / name, Modality.T1, **GRID)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="same t1"):
        find_subjects(tmp_path, [Modality.T1])


def test_the_aldm_plan_divides_the_subjects(make_aldm_config: MakeAldm) -> None:
    training, held_out = plan(make_aldm_config(holdout=("bert",)))
    assert ["anna" in each.name for each in training] == [True, False]
    assert len(held_out) == 1
    with pytest.raises(UsageError, match=r"t1 or t2 or flair beside another"):
        plan(make_aldm_config(holdout=("anna", "bert")))


def test_a_contrast_that_nobody_has_is_not_promised(make_aldm_config: MakeAldm) -> None:
    with pytest.raises(UsageError, match="No subject to train on has pd"):
        plan(make_aldm_config(modalities=("t1", "t2", "pd")))
    with pytest.raises(UsageError, match=r"flair beside another.*--modalities"):  # carl has it, and nothing else
        plan(make_aldm_config(holdout=("anna",)))
    plan(make_aldm_config(holdout=("anna",), stages=("autoencoder",)))


def test_patches_are_cubes_whatever_the_volume() -> None:
    rng = np.random.default_rng(0)
    small = Contrasts("small", {0: rng.uniform(-1, 1, (5, 30, 9)).astype(np.float16)})
    sampler = PatchSampler([small], 16, flip=0.5, strength=STRENGTHS["strong"])
    one, two = (sampler.batch(3, torch.Generator().manual_seed(4)) for _ in range(2))
    assert one.shape == (3, 1, 16, 16, 16) and torch.equal(one, two)
    assert float(one.min()) >= -1 and float(one.max()) <= 1


def test_a_patch_without_changes_is_a_part_of_the_volume() -> None:
    array = np.linspace(-1, 1, 20**3).reshape(20, 20, 20).astype(np.float16)
    sampler = PatchSampler([Contrasts("a", {0: array})], 8, flip=0.0, strength=STRENGTHS["none"])
    patch = sampler.batch(1, torch.Generator().manual_seed(1))[0, 0].numpy()
    starts = np.argwhere(np.isclose(array.astype(np.float32), patch[0, 0, 0], atol=1e-4))
    assert any(np.allclose(array[i : i + 8, j : j + 8, k : k + 8], patch, atol=1e-3) for i, j, k in starts)


def test_the_codebook_is_filled_with_different_latents() -> None:
    background = torch.zeros(1000, 3)
    others = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    entries = entries_of(torch.cat([background, others]), 40, torch.Generator().manual_seed(1))
    assert entries.shape == (40, 3)
    assert len(torch.unique(entries, dim=0)) == 40
    assert len(entries_of(background, 8, torch.Generator().manual_seed(1))) == 8


def test_latent_pairs_lie_at_the_same_place() -> None:
    grid = torch.arange(12 * 12 * 8, dtype=torch.float32).reshape(1, 12, 12, 8)
    latents = SubjectLatents({0: grid, 2: grid + 10_000}, {0: [grid + 20_000], 2: []})
    pair = LatentBank([latents], crop=10, multiple=4).batch(6, torch.Generator().manual_seed(0))
    assert pair.source.shape == (6, 1, 8, 8, 8)
    assert torch.equal(pair.source % 10_000, pair.target % 10_000)
    assert bool((pair.source_class != pair.target_class).all())
    offsets = torch.tensor([0.0, 0.0, 10_000.0])
    assert torch.equal(pair.target[:, 0, 0, 0, 0] // 10_000 * 10_000, offsets[pair.target_class])


def test_subjects_with_one_contrast_teach_no_translation(make_aldm_config: MakeAldm) -> None:
    model = make_aldm(replace(first_stage_config(make_aldm_config()), classes=0)).eval()
    alone = Contrasts("a", {0: np.zeros((8, 8, 8), dtype=np.float16)})
    latents = list(encode_subjects(model, [alone], multiple=8, variants=1, strength=STRENGTHS["weak"], seed=0))
    with pytest.raises(InputError, match="two contrasts"):
        LatentBank(latents, crop=8, multiple=4)


def test_encoded_subjects_come_as_they_are_and_mirrored(make_aldm_config: MakeAldm) -> None:
    model = make_aldm(replace(first_stage_config(make_aldm_config()), classes=0)).eval()
    array = np.random.default_rng(0).uniform(-1, 1, (16, 8, 8)).astype(np.float16)
    strength = STRENGTHS["weak"]
    subject = Contrasts("a", {0: array, 1: array})
    plain, mirrored = encode_subjects(model, [subject], multiple=8, variants=2, strength=strength, seed=0)
    assert [len(each.changed[1]) for each in (plain, mirrored)] == [2, 2]
    with torch.no_grad():
        assert torch.equal(plain.plain[1], model.encode(padded(array, 8))[0])
        assert torch.equal(mirrored.plain[1], model.encode(padded(array[::-1].copy(), 8))[0])


def test_all_stages_make_a_model_that_works(make_aldm_config: MakeAldm, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scores need the extra train")
    messages: list[str] = []
    config = make_aldm_config(
        holdout=("bert",), title="Mine", licence="CC0-1.0", patch_weight=0.1, class_weight=0.1, structure_weight=0.1
    )
    path = start(config, on_message=messages.append)
    assert path == tmp_path / "run" / "models" / MODEL
    assert "2 subjects to train on, 1 held out" in messages[0]
    header = read_header(path)
    assert (header["sources"], header["targets"]) == (["t1", "t2", "flair"], ["t1", "t2", "flair"])
    assert header["sampler"] == {"name": "projector", "steps": 4, "eta": 1.0}
    assert (header["about"]["title"], header["about"]["scope"]["slice_mm"]) == ("Mine", [16.0, 16.0])
    head = make_head([Modality.T1], **GRID)[Modality.T1]  # type: ignore[arg-type]
    for target in ("t2", "flair"):
        outcome = synthesise(head, to=target, model=path, device="cpu")
        assert outcome.volume.shape == head.shape
        assert np.isfinite(outcome.volume.array).all()
    for stage in STAGES:
        folder = tmp_path / "run" / stage
        last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
        assert {"psnr", "ssim"} <= last.keys()
        assert [each.name for each in (folder / "samples").iterdir()] == ["0000003.png"]


def test_each_stage_leaves_the_parts_before_it_alone(make_aldm_config: MakeAldm, tmp_path: Path) -> None:
    start(make_aldm_config())
    models = [read_tensors(tmp_path / "run" / stage / "models" / MODEL) for stage in STAGES]
    for before, after, fresh in zip(models, models[1:], ("first_stage.spade.", "unet.", "projector."), strict=False):
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        assert {name for name in after if name not in before} == {name for name in after if name.startswith(fresh)}


def test_a_stage_can_start_from_a_model(make_aldm_config: MakeAldm, patients: Path, tmp_path: Path) -> None:
    first = start(make_aldm_config(stages=STAGES[:2], output=str(tmp_path / "first"), holdout=("bert",)))
    header = read_header(first)
    assert header["sampler"]["name"] == "none"
    seen = [fingerprint(load(path)) for name in ("anna", "carl") for path in (patients / name).iterdir()]
    assert len(seen) == 4 and header["about"]["fingerprints"] == sorted(seen)
    second = read_header(start(make_aldm_config(stages=STAGES[2:], initial=str(first), exclude=("carl",))))
    assert second["sampler"]["name"] == "projector"
    assert {*seen} < {*second["about"]["fingerprints"]}  # what the starting model learnt from counts too
    with pytest.raises(ModelError, match=r"missing|wrong shape"):
        start(make_aldm_config(stages=STAGES[3:], initial=str(first), output=str(tmp_path / "third")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codebook_size": 8}, "first stage"),
        ({"groups": 4}, "first stage"),
        ({"modalities": ("t2", "t1", "flair")}, "targets"),
        ({"voxel_mm": 7.0}, "voxels or intensities"),
        ({"white": 3.0}, "voxels or intensities"),
    ],
)
def test_a_starting_model_of_other_settings_is_refused(
    make_aldm_config: MakeAldm, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    first = start(make_aldm_config(stages=STAGES[:2], output=str(tmp_path / "first")))
    with pytest.raises(ModelError, match=words):
        start(make_aldm_config(stages=STAGES[2:], initial=str(first), **changes))
    assert not (tmp_path / "run").exists()


def test_the_projectors_number_of_steps_travels_with_it(make_aldm_config: MakeAldm) -> None:
    header = read_header(start(make_aldm_config(projector_steps_back=2)))
    assert (header["sampler"]["steps"], header["projector_schedule"]["steps"]) == (2, 2)


def test_the_papers_unet_can_be_trained(make_aldm_config: MakeAldm) -> None:
    path = start(make_aldm_config(source_latent=False, condition="cross_attention"))
    assert read_header(path)["network"]["unet"]["inputs"] == 8
    stack = np.zeros((1, 1, 16, 16, 16), dtype=np.float32)
    assert np.isfinite(load_model(path, device="cpu").run(stack, RunOptions("case", target=Modality.T2))).all()


def test_mixed_precision_trains_every_stage(make_aldm_config: MakeAldm) -> None:
    path = start(make_aldm_config(precision="bf16-mixed", class_weight=0.1, patch_weight=0.1))
    assert all(torch.isfinite(tensor).all() for tensor in read_tensors(path).values())


def test_scores_on_the_way_change_nothing(make_aldm_config: MakeAldm, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scores need the extra train")
    config = make_aldm_config(holdout=("bert",))
    quiet, scored = (
        start(replace(config, validate_every=every, output=str(tmp_path / str(every)))) for every in (0, 1)
    )
    assert quiet.read_bytes() == scored.read_bytes()


@torch.inference_mode()
def test_standard_latents_change_no_reconstruction(make_aldm_config: MakeAldm) -> None:
    """The export brings latents to variance 1; volume in, volume out stays what it was."""
    from imputer.train.aldm_stages import AutoencoderStage
    from imputer.train.engine import launch

    config = make_aldm_config()
    torch.manual_seed(0)
    model = make_aldm(replace(first_stage_config(config), classes=0))
    array = np.random.default_rng(0).uniform(-1, 1, (16, 16, 16)).astype(np.float16)
    patches = PatchSampler([Contrasts("a", {0: array})], 16, flip=0.0, strength=STRENGTHS["none"])
    stage = AutoencoderStage(config, launch("cpu", 1, "32-true"), model, patches)
    x = padded(array, 8)
    before = model.decode(model.encode(x))
    model.load_state_dict(stage.averaged())
    assert torch.allclose(model.decode(model.encode(x)), before, atol=1e-5)
    features = model.first_stage.features(x)
    assert float(features.mean().abs()) < 1e-3
    assert float(features.var(dim=(0, 2, 3, 4)).mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_stopped_and_resumed_ends_the_same(
    make_aldm_config: MakeAldm, tmp_path: Path, stage: str
) -> None:
    config = make_aldm_config(checkpoint_every=1, class_weight=0.1, batch_size=2)
    whole = start(replace(config, output=str(tmp_path / "whole")))

    def stop(name: str, done: int, losses: dict[str, float]) -> None:
        if (name, done) == (stage, 3):  # after the checkpoint of step 2, before that of step 3
            raise Killed

    with pytest.raises(Killed):
        start(config, on_step=stop)
    assert torch.load(tmp_path / "run" / stage / LAST, weights_only=True)["step"] == 2
    seen: list[tuple[str, int]] = []
    again = start(config, resume=True, on_step=lambda name, done, losses: seen.append((name, done)))
    assert seen[0] == (stage, 3)
    assert_same_end(tmp_path / "whole" / stage, tmp_path / "run" / stage)
    assert whole.read_bytes() == again.read_bytes()


def test_an_aldm_run_is_not_overwritten_nor_changed_on_the_way(make_aldm_config: MakeAldm) -> None:
    config = make_aldm_config(stages=STAGES[:1])
    start(config)
    with pytest.raises(OutputError, match="--resume"):
        start(config)
    with pytest.raises(UsageError, match="autoencoder_steps was 3, now 5"):  # the codebook comes in by them
        start(replace(config, autoencoder_steps=5), resume=True)
    with pytest.raises(UsageError, match=r"codebook_weight was 1\.0, now 2\.0"):
        start(replace(config, codebook_weight=2.0), resume=True)


def test_the_autoencoder_learns_to_reconstruct(make_aldm_config: MakeAldm) -> None:
    losses: list[float] = []
    config = make_aldm_config(stages=STAGES[:1], autoencoder_steps=40, autoencoder_rate=1e-2, codebook_after=0.5)
    start(config, on_step=lambda stage, done, values: losses.append(values["l1"]))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


def test_the_projector_begins_with_the_target_like_latent(make_aldm_config: MakeAldm, tmp_path: Path) -> None:
    config = make_aldm_config(projector_rate=0.0, final_rate=0.0)
    path = start(config)
    method = load_model(path, device="cpu")
    stack = np.random.default_rng(0).uniform(-1, 1, (1, 1, 16, 16, 16)).astype(np.float32)
    projected, plain = (
        method.run(stack, RunOptions("case", target=Modality.T2, sampler=name)) for name in ("projector", "none")
    )
    assert np.allclose(projected, plain, atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"autoencoder_rate": -1.0}, {"autoencoder_rate": float("nan")}, {"ema": 2.0}, {"codebook_after": -1.0},
        {"flip": 7.0}, {"variants": -1}, {"voxel_mm": 0.0}, {"white": -3.0}, {"discriminator_width": 0},
        {"structure_weight": float("nan")}, {"batch_size": 0},
    ],
)  # fmt: skip
def test_numbers_without_sense_are_refused(make_aldm_config: MakeAldm, changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"setting {next(iter(changes))}"):
        check(make_aldm_config(**changes))


def test_a_text_that_holds_nobody_out_is_refused(make_aldm_config: MakeAldm) -> None:
    with pytest.raises(UsageError, match=r"'berta'.*--holdout"):
        plan(make_aldm_config(holdout=("bert", "berta")))


def test_an_unreadable_file_is_told_with_its_subject(
    make_aldm_config: MakeAldm, patients: Path, tmp_path: Path
) -> None:
    shutil.copytree(patients, tmp_path / "data")
    (tmp_path / "data" / "bert" / "t2.nii.gz").write_bytes(b"no scan")
    with pytest.raises(InputError, match=r"Subject bert.*t2\.nii\.gz"):
        start(make_aldm_config(data_dir=str(tmp_path / "data")))


def test_a_training_that_goes_astray_says_so_and_ships_nothing(make_aldm_config: MakeAldm, tmp_path: Path) -> None:
    with pytest.raises(ImputerError, match="astray"):
        start(make_aldm_config(stages=STAGES[:1], autoencoder_rate=10.0, final_rate=10.0, autoencoder_steps=60))
    assert not (tmp_path / "run" / "autoencoder" / "models").exists()


def test_weights_that_float16_does_not_hold_are_not_shipped() -> None:
    with pytest.raises(ImputerError, match="astray"):
        halved({"weight": torch.tensor([1.0, 1e6])})


def test_a_disk_that_takes_no_checkpoint_is_told(
    make_aldm_config: MakeAldm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="disk"):
        start(make_aldm_config(stages=STAGES[:1]))
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_what_a_killed_run_left_half_written_is_removed(make_aldm_config: MakeAldm, tmp_path: Path) -> None:
    config = make_aldm_config(stages=STAGES[:1])
    left = tmp_path / "run" / "autoencoder" / ".imputer-abc.ckpt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    start(config, resume=True)
    assert not left.exists()
