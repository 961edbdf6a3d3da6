"""A run from its settings to its models: what is planned, what is refused, what comes out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import GRID, write_model

from imputer.errors import DeviceError, ImputerError, ModelError, UsageError
from imputer.io.dispatch import load
from imputer.modality import Modality
from imputer.nets.checkpoint import read_header
from imputer.phantom import make_head
from imputer.preprocess.fingerprint import fingerprint
from imputer.pretrained.load import load_model
from imputer.synth import synthesise
from imputer.train.config import TrainConfig, read_config, write_config
from imputer.train.start import check, plan, sampler_of, start

from .conftest import MakeConfig

pytest.importorskip("lightning_fabric", reason="training needs the extra train")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "t1"}, "same"),
        ({"target": "t1w"}, "same"),
        ({"target": "t9"}, "t9"),
        ({"direction": "sideways"}, "sideways"),
        ({"direction": "forward"}, "--paired"),
        ({"adversarial_weight": 0.0}, "--set adversarial_weight="),
        ({"log_every": 0}, "log_every"),
        ({"r1_every": 0}, "r1_every"),
        ({"patch_weight": 0.1}, "paired"),
        ({"both_grids": True}, "paired"),
        ({"initial": "model.safetensors"}, "--paired"),
        ({"tilted_grids": 2}, "paired"),
        ({"paired": True, "tilted_grids": -1}, "tilted_grids"),
        ({"initial": "model.safetensors", "paired": True}, "--direction"),
        ({"width": 0}, "width.*--set"),
        ({"diffusion_steps": 0}, "steps.*--set"),
        ({"crop": (64, 66)}, "multiples of 4"),
        ({"crop": (66, 66), "channel_multipliers": (1, 1)}, "multiples of 4"),
        ({"crop": (32, 32)}, "at least 64"),
        ({"adversarial_crop": 32}, "at least 64"),
        ({"adversarial_crop": 128}, "adversarial_crop"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    make_config: MakeConfig, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    config = make_config(**changes)
    with pytest.raises(UsageError, match=words):
        check(config)
    with pytest.raises(UsageError, match=words):
        start(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"paired": True, "adversarial_weight": 0.0, "crop": (32, 36)},
        {"paired": True, "direction": "backward"},
        {"adversarial_crop": 64, "crop": (64, 128)},
    ],
)
def test_settings_that_fit_pass(make_config: MakeConfig, changes: dict[str, object]) -> None:
    check(make_config(**changes))


def test_the_plan_divides_the_cases(make_config: MakeConfig, tmp_path: Path) -> None:
    training, held_out = plan(make_config(paired=True, holdout=("head1",), exclude=("head2",)))
    assert [case.name for case in training] == ["head0"]
    assert [case.name for case in held_out] == ["head1"]
    assert not (tmp_path / "run").exists()


def test_paired_training_takes_pairs_only(make_config: MakeConfig, scans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t2"
    folder.mkdir()
    (folder / "head1_t2.nii.gz").write_bytes((scans / "t2" / "head1_t2.nii.gz").read_bytes())
    training, _ = plan(make_config(paired=True, target_dir=str(folder)))
    assert [case.name for case in training] == ["head1"]
    training, _ = plan(make_config(target_dir=str(folder)))
    assert len(training) == 3
    with pytest.raises(UsageError, match="same name"):
        plan(make_config(paired=True, target_dir=str(folder), holdout=("head1",)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
@pytest.mark.parametrize("devices", [1, 2])
def test_a_device_that_is_not_there_is_a_device_error(make_config: MakeConfig, tmp_path: Path, devices: int) -> None:
    with pytest.raises(DeviceError, match=r"cuda.*--device cpu"):
        start(make_config(accelerator="cuda", devices=devices))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"accelerator": "abacus"}, {"precision": "12-mixed"}])
def test_names_that_the_engine_does_not_know_are_refused(make_config: MakeConfig, changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(str(value) for value in changes.values())):
        start(make_config(**changes))


def test_without_the_extra_the_error_names_it(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(ImputerError, match=r"imputer\[train\]"):
        start(make_config())


def test_pairs_can_be_learnt_on_tilted_grids(make_config: MakeConfig, cohort: Path) -> None:
    folders = {"source_dir": str(cohort), "target_dir": str(cohort), "target": "flair"}
    config = make_config(paired=True, tilted_grids=2, **folders)
    training, _ = plan(config)
    plain = sampler_of(replace(config, tilted_grids=0), training, "forward").stacks
    stacks, again, turned = (sampler_of(config, training, name).stacks for name in ("forward", "forward", "backward"))
    assert [stack.name for stack in stacks[len(plain) :]] == [case.name for case in training for _ in range(2)]
    assert len(stacks) == len(again) == len(turned) == 3 * len(plain) == 6
    for number, stack in enumerate(stacks):
        if number < len(plain):
            assert np.array_equal(stack.slices, plain[number].slices)
            continue
        assert np.array_equal(stack.slices, again[number].slices)
        assert np.array_equal(stack.slices, turned[number].partner)
        assert np.array_equal(stack.partner, turned[number].slices)
        assert all(stack.slices.shape != each.slices.shape for each in plain)


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_pairs_can_be_learnt_on_the_grids_of_both(make_config: MakeConfig, cohort: Path, name: str) -> None:
    folders = {"source_dir": str(cohort), "target_dir": str(cohort), "target": "flair"}
    config = make_config(paired=True, both_grids=True, **folders)
    training, _ = plan(config)
    both, own = sampler_of(config, training, name).stacks, sampler_of(replace(config, both_grids=False), training, name)
    assert len(both) == 2 * len(own.stacks) == 4
    other = sampler_of(
        replace(config, both_grids=False), training, {"forward": "backward", "backward": "forward"}[name]
    )
    for number, on_source in enumerate(own.stacks):
        assert np.array_equal(both[2 * number].slices, on_source.slices)
        on_target = other.stacks[number]  # the other direction's own grid, seen from its end
        assert np.array_equal(both[2 * number + 1].slices, on_target.partner)
        assert np.array_equal(both[2 * number + 1].partner, on_target.slices)
        assert not np.array_equal(both[2 * number + 1].slices, on_source.slices)


def fingerprints_below(scans: Path, *heads: str) -> list[str]:
    """Those of both contrasts of some heads, held-out ones left out, sorted."""
    return sorted(fingerprint(load(path)) for head in heads for path in scans.rglob(f"{head}_*.nii.gz"))


@pytest.mark.parametrize("changes", [{}, {"paired": True}], ids=["unpaired", "paired"])
def test_both_directions_come_out_and_work(
    make_config: MakeConfig, scans: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    pytest.importorskip("skimage", reason="scores need the extra train")
    messages: list[str] = []
    config = make_config(holdout=("head2",), title="Mine", licence="CC0-1.0", **changes)
    models = start(config, on_message=messages.append)
    assert [path.name for path in models] == ["syndiff-t1-t2.safetensors", "syndiff-t2-t1.safetensors"]
    assert "2 cases to train on, 1 held out" in messages[0]
    for path, source, target in zip(models, (Modality.T1, Modality.T2), (Modality.T2, Modality.T1), strict=True):
        about = read_header(path)["about"]
        assert (about["title"], about["licence"]) == ("Mine", "CC0-1.0")
        assert (about["scope"]["pixel_mm"], about["scope"]["slice_mm"]) == ([3.0, 4.0], [15.0, 18.0])
        assert about["fingerprints"] == fingerprints_below(scans, "head0", "head1")
        head = make_head([source], **GRID)[source]
        outcome = synthesise(head, to=target, model=path, device="cpu")
        assert outcome.volume.shape == head.shape
        assert np.isfinite(outcome.volume.array).all() and outcome.volume.array.std() > 0
    folder = tmp_path / "run"
    assert read_config(folder / "config.toml", TrainConfig) == config
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert {"forward.psnr", "forward.ssim", "backward.psnr", "backward.ssim"} <= lines[-1].keys()
    assert {path.name for path in (folder / "samples").iterdir()} == {"forward_0000002.png", "backward_0000002.png"}


def test_one_direction_starts_from_a_model(make_config: MakeConfig, tmp_path: Path) -> None:
    first = start(make_config(paired=True, direction="forward", output=str(tmp_path / "first")))
    config = make_config(
        paired=True, direction="forward", initial=str(first[0]), steps=1, generator_rate=0.0, final_rate=0.0
    )
    (again,) = start(config)
    one, two = (load_model(path, device="cpu") for path in (first[0], again))
    x, t, z = torch.randn(1, 2, 32, 32), torch.tensor([2]), torch.randn(1, 4)
    assert torch.equal(one.generator(x, t, z), two.generator(x, t, z))  # type: ignore[attr-defined]


def test_a_model_to_start_from_that_does_not_fit_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(paired=True, direction="forward", initial=str(tmp_path / "gone.safetensors"))
    with pytest.raises(ModelError, match="gone"):
        start(config)
    other = write_model(tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="wrong shape"):
        start(replace(config, initial=str(other), output=str(tmp_path / "second")))


def test_unpaired_training_lowers_the_cycle_loss(make_config: MakeConfig) -> None:
    losses: list[float] = []
    config = make_config(steps=24, generator_rate=5e-3, augment=False, cycle_weight=5.0, log_every=100)
    start(config, on_step=lambda step, values: losses.append(values["forward.cycle"] + values["backward.cycle"]))
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])


SCRIPT = """
import sys
from pathlib import Path
import torch
from imputer.train import loop
from imputer.train.config import TrainConfig, read_config
from imputer.train.start import start

def keep(trainer, path, number):  # what each process holds at the end, not the first one only
    torch.save(trainer.state()["networks"], path.with_name(f"rank{int(not trainer.is_main)}.pth"))

loop.save_checkpoint = keep
start(read_config(Path(sys.argv[1]), TrainConfig), on_step=lambda step, losses: print("step", step))
"""


@pytest.mark.slow
def test_two_processes_train_one_model(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(devices=2, steps=3)
    write_config(config, tmp_path / "config.toml")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "config.toml")]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step") == 3  # one process speaks
    first, second = (torch.load(tmp_path / "run" / f"rank{rank}.pth", weights_only=True) for rank in (0, 1))
    for network, tensors in first.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second[network][name]), f"{network}.{name}"
    models = sorted((tmp_path / "run" / "models").iterdir())
    assert len(models) == 2
    start(replace(config, devices=1, output=str(tmp_path / "alone")))  # the other process's slices counted
    alone = tmp_path / "alone" / "models" / models[0].name
    assert alone.read_bytes() != models[0].read_bytes()
