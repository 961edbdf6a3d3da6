"""Training with several sources that enter together: what is matched, left out, scored, shipped and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_joint import write_joint
from torch import Generator

import imputer
from imputer.errors import InputError, UsageError
from imputer.modality import Modality
from imputer.nets.checkpoint import read_header
from imputer.nets.ncsnpp import NCSNpp
from imputer.preprocess.intensity import Intensity
from imputer.preprocess.orient import Orient
from imputer.preprocess.recipe import Recipe
from imputer.preprocess.slices import Slices
from imputer.train.config import TrainConfig, read_config, write_config
from imputer.train.data import Case, SliceSampler, Stack, find_cases, load_together, paired_stack
from imputer.train.scores import HeldOut
from imputer.train.start import check, plan, sampler_of, start
from imputer.train.syndiff import network_config
from imputer.train.widen import load_initial
from imputer.weights.manifest import Imported
from imputer.weights.package import entry_of

from .conftest import MakeConfig
from .test_resume import assert_same_end, stopped_at

T1, T2, PD, FLAIR = Modality.T1, Modality.T2, Modality.PD, Modality.FLAIR
RECIPE = Recipe((Orient(), Intensity(), Slices()))
MakeJoint = Callable[..., TrainConfig]


@pytest.fixture
def make_joint_config(make_config: MakeConfig, of_two_sources: dict[str, object]) -> MakeJoint:
    """Settings of a tiny run from T1 and T2 together to FLAIR, with changes by name."""

    def make(**changes: object) -> TrainConfig:
        return make_config(**{**of_two_sources, "direction": "forward", **changes})

    return make


def stack(present: tuple[bool, ...] = (True, True), slices: int = 3) -> Stack:
    """Slices whose first channel is 0.2, the second 0.4 and the target 0.6, all in a frame of background."""
    array = np.full((slices, len(present) + 1, 40, 40), -1, dtype=np.float16)
    for channel, is_there in enumerate((*present, True)):
        array[:, channel, 10:30, 10:30] = 0.2 * (channel + 1) if is_there else -1
    return Stack("made", array[:, :-1], array[:, -1:], present)


def shown(batch: torch.Tensor) -> list[tuple[bool, ...]]:
    """Which channels of each image of a batch are more than background."""
    return [tuple(bool((channel > -1).any()) for channel in image) for image in batch]


def test_cases_are_matched_by_all_their_sources(cohort: Path) -> None:
    cases = find_cases(cohort, cohort, T1, FLAIR, others=[(cohort, T2)])
    assert [(case.name, [path is not None for path in case.sources]) for case in cases] == [
        ("head0", [True, True]),
        ("head1", [True, False]),
        ("head2", [False, True]),
    ]
    assert all(case.is_whole for case in cases)
    assert not replace(cases[0], target=None).is_whole
    assert not Case("none", None, Path("flair.nii.gz"), (None,)).is_whole
    with pytest.raises(InputError, match="no pd volume"):
        find_cases(cohort, cohort, T1, FLAIR, others=[(cohort, PD)])


@pytest.mark.parametrize("head", [0, 1, 2])
def test_a_case_lies_on_the_grid_of_its_first_source(cohort: Path, head: int) -> None:
    case = find_cases(cohort, cohort, T1, FLAIR, others=[(cohort, T2)])[head]
    sources, target = load_together(case, "source", register=False)
    first = imputer.load(next(path for path in case.sources if path is not None))
    for volume in (*sources, target):
        if volume is not None:
            np.testing.assert_array_equal(volume.affine, first.affine)
            assert volume.shape == first.shape
    made = paired_stack(case, "source", (RECIPE, RECIPE), register=False)
    assert made.partner is not None and made.slices.shape[0::2] == made.partner.shape[0::2]
    assert made.present == tuple(path is not None for path in case.sources)
    assert shown(torch.from_numpy(made.slices[len(made.slices) // 2][None])) == [made.present]


def test_without_a_source_or_a_target_there_is_nothing_to_load(cohort: Path) -> None:
    for case in (Case("c", None, cohort / "head0_flair.nii.gz", (None,)), Case("c", cohort / "head0_t1.nii.gz", None)):
        with pytest.raises(UsageError, match="only one"):
            load_together(case, "source", register=False)


def test_sources_are_left_out_as_often_as_asked_but_never_all() -> None:
    sampler = SliceSampler([stack()], (40, 40), augmented=False, dropout=0.3)
    drawn = shown(sampler.batch(2000, Generator().manual_seed(0))[0])
    shares = {kind: drawn.count(kind) / 2000 for kind in set(drawn)}
    assert shares.keys() == {(True, True), (True, False), (False, True)}
    assert shares[True, True] == pytest.approx(0.49, abs=0.04)  # 0.7 ** 2
    assert shares[True, False] == pytest.approx(0.255, abs=0.04)  # 0.7 * 0.3, and half of 0.3 ** 2


def test_a_source_that_is_left_out_is_background_and_the_rest_stays() -> None:
    for dropout in (0.0, 0.5):
        sampler = SliceSampler([stack()], (40, 40), augmented=False, dropout=dropout)
        sources, target = sampler.batch(8, Generator().manual_seed(1))
        assert target is not None and sources.shape == (8, 2, 40, 40) and target.shape == (8, 1, 40, 40)
        for image in sources:
            for channel, value in zip(image, (0.2, 0.4), strict=True):
                assert (channel == -1).all() or channel[20, 20] == pytest.approx(value, abs=1e-3)
        assert dropout > 0 or all(kind == (True, True) for kind in shown(sources))


@pytest.mark.parametrize("present", [(True, False), (False, True)])
def test_the_only_source_of_a_case_always_stays(present: tuple[bool, ...]) -> None:
    sampler = SliceSampler([stack(present)], (40, 40), augmented=True, dropout=0.9)
    assert set(shown(sampler.batch(20, Generator().manual_seed(0))[0])) == {present}


def test_augmentation_moves_all_together_and_changes_each_source_on_its_own() -> None:
    array = np.full((1, 3, 40, 40), -1, dtype=np.float16)
    array[:, :, 8:30, 12:26] = 0.3
    sampler = SliceSampler([Stack("same", array[:, :2], array[:, 2:], (True, True))], (40, 40), augmented=True)
    sources, target = sampler.batch(12, Generator().manual_seed(2))
    assert target is not None
    rows = torch.arange(40.0)[:, None]
    for n in range(2):
        one, other = sources[:, n] + 1, target[:, 0] + 1
        for places in (rows, rows.T):
            centres = [(image * places).sum((1, 2)) / image.sum((1, 2)) for image in (one, other)]
            assert float((centres[0] - centres[1]).abs().max()) < 1.0  # warps move them by up to 10 pixels
    inside = target[:, 0] > 0.25
    means = torch.stack([(sources[:, n] * inside).sum((1, 2)) / inside.sum((1, 2)) for n in range(2)])
    assert float((means[0] - means[1]).abs().mean()) > 0.02


def test_a_batch_of_several_sources_is_a_function_of_the_generator() -> None:
    sampler = SliceSampler([stack(), stack((True, False))], (40, 40), augmented=True, dropout=0.4)
    one, two = (sampler.batch(6, Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one[0], two[0]) and one[1] is not None and two[1] is not None and torch.equal(one[1], two[1])


def test_a_held_out_case_can_show_one_source_alone() -> None:
    held = HeldOut.make(stack(slices=5), 3, 8)
    assert held.source.shape == (3, 2, 40, 40) and held.present == (True, True)
    alone = held.only(1)
    assert (alone[:, 0] == -1).all()
    np.testing.assert_array_equal(alone[:, 1], held.source[:, 1])
    assert (held.source[:, 0] > -1).any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"direction": "both"}, "--direction forward"),
        ({"direction": "backward"}, "--direction forward"),
        ({"paired": False}, "--paired"),
        ({"other_sources": ("t1",)}, "twice"),
        ({"other_sources": ("flair",)}, "same"),
        ({"other_sources": ("t9",)}, "t9"),
        ({"other_source_dirs": ("a", "b")}, "--source for each"),
        ({"other_sources": (), "other_source_dirs": ("a",)}, "no further sources"),
        ({"source_dropout": 1.0}, "source_dropout"),
        ({"fusion": "sum"}, "channels or mean"),
        ({"other_sources": (), "fusion": "mean"}, "nothing to bring together"),
    ],
)
def test_settings_that_several_sources_forbid(
    make_joint_config: MakeJoint, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check(make_joint_config(**changes))


def test_a_source_that_nobody_to_train_on_has_is_refused(make_joint_config: MakeJoint) -> None:
    assert len(plan(make_joint_config())[0]) == 3
    with pytest.raises(UsageError, match="No case to train on"):
        plan(make_joint_config(exclude=("head0", "head2")))


def test_settings_of_before_are_read(make_config: MakeConfig, tmp_path: Path) -> None:
    write_config(make_config(), tmp_path / "old.toml")
    lines = (tmp_path / "old.toml").read_text().splitlines()
    old = [line for line in lines if not line.startswith(("other_source", "source_dropout"))]
    assert len(old) == len(lines) - 3
    (tmp_path / "old.toml").write_text("\n".join(old))
    assert read_config(tmp_path / "old.toml", TrainConfig) == make_config()


def test_a_run_ends_in_a_model_that_serves_any_subset(
    make_joint_config: MakeJoint, cohort: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    pytest.importorskip("skimage", reason="scores need the extra train")
    (path,) = start(make_joint_config(holdout=("head0",), rollout=0.5, batch_size=2))
    assert path.name == "syndiff-t1-t2-flair.safetensors"
    header = read_header(path)
    assert (header["sources"], header["required"], header["target"]) == (["t1", "t2"], [], "flair")
    assert "source" not in header and header["network"]["image_channels"] == 3
    assert header["about"]["scope"]["slice_mm"] == [16.0, 18.0]
    entry = entry_of(path, Imported(path))
    assert (entry.pair, entry.source_text, entry.needed) == ("t1+t2->flair", "t1 + t2 or fewer", ())
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    scores = {f"forward.{metric}{of}" for metric in ("psnr", "ssim") for of in ("", ".t1", ".t2")}
    assert scores <= last.keys() and len({last[key] for key in scores}) == len(scores)
    assert [each.name for each in (tmp_path / "run" / "samples").iterdir()] == ["forward_0000002.png"]
    for names in (("t1", "t2"), ("t2",), ("t1",)):
        sources = {name: cohort / f"head0_{name}.nii.gz" for name in names}
        outcome = imputer.synthesise(sources, to="flair", model=path, device="cpu", steps=1)
        assert np.isfinite(outcome.volume.array).all() and outcome.volume.array.std() > 0


def test_without_dropout_the_model_requires_all(make_joint_config: MakeJoint) -> None:
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    (path,) = start(make_joint_config(source_dropout=0.0, steps=1))
    assert read_header(path)["required"] == ["t1", "t2"]


def test_a_run_whose_sources_are_asked_one_by_one(make_joint_config: MakeJoint, cohort: Path) -> None:
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    config = make_joint_config(fusion="mean", source_dropout=0.0, steps=1)
    kinds = shown(sampler_of(config, plan(config)[0], "forward").batch(30, Generator().manual_seed(0))[0])
    assert set(kinds) == {(True, False), (False, True)}
    (path,) = start(config)
    assert (read_header(path)["fusion"], read_header(path)["required"]) == ("mean", [])
    both = {name: cohort / f"head0_{name}.nii.gz" for name in ("t1", "t2")}
    assert imputer.synthesise(both, to="flair", model=path, device="cpu", steps=1).volume.array.std() > 0


def test_a_joint_run_that_was_stopped_ends_as_one_that_was_not(make_joint_config: MakeJoint, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    config = make_joint_config(steps=4, checkpoint_every=1, source_dropout=0.5, batch_size=2, register=True)
    start(replace(config, output=str(tmp_path / "whole")))
    stopped_at(config, 2)
    start(config, resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "run")
    with pytest.raises(UsageError, match=r"source_dropout was 0.5, now 0.1"):
        start(replace(config, source_dropout=0.1), resume=True)


def test_a_joint_run_starts_from_a_model_of_one_of_its_sources(
    make_config: MakeConfig, make_joint_config: MakeJoint, cohort: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    single = {"source": "t2", "source_dir": str(cohort), "target": "flair", "target_dir": str(cohort), "pixel_mm": 4.0}
    (first,) = start(make_config(**single, paired=True, direction="forward", output=str(tmp_path / "first")))
    frozen = {"steps": 1, "generator_rate": 0.0, "final_rate": 0.0, "initial": str(first)}
    (path,) = start(make_joint_config(**frozen))
    one, two = (imputer.load_generator(model) for model in (first, path))
    x, t, z = torch.randn(2, 3, 32, 32), torch.tensor([2, 0]), torch.randn(2, 4)
    np.testing.assert_allclose(two(x, t, z)[:, :1].numpy(), one(x[:, [0, 2]], t, z)[:, :1].numpy(), atol=1e-5)
    with pytest.raises(UsageError, match="starts from t2, which is no source"):
        load_initial(NCSNpp(network_config(config := make_joint_config(**frozen, other_sources=("pd",)))), config)


def test_a_start_that_has_the_sources_in_another_order_is_refused(make_joint_config: MakeJoint, tmp_path: Path) -> None:
    model = write_joint(tmp_path / "joint.safetensors")  # of T1 and T2
    config = make_joint_config(source="t2", other_sources=("t1",), initial=str(model))
    with pytest.raises(UsageError, match=r"another order: t1 \+ t2"):
        load_initial(NCSNpp(network_config(config)), config)
