"""DisDiff's training: what each loss trains, what a run refuses, resumes and hands out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import GRID
from tiny_disdiff import CONFIG, make_method
from torch import Tensor

from imputer.diffusion.schedule import Schedule
from imputer.errors import ModelError, UsageError
from imputer.io.dispatch import load
from imputer.modality import Modality
from imputer.nets.checkpoint import read_header, read_tensors
from imputer.nets.disdiff import Decoder
from imputer.phantom import make_head
from imputer.preprocess.fingerprint import fingerprint
from imputer.pretrained.load import load_model
from imputer.synth import synthesise
from imputer.train.augment import place
from imputer.train.config import read_config
from imputer.train.diffusive import Condition, Draw, Window
from imputer.train.disdiff import (
    Common,
    Contrast,
    DisDiffLosses,
    make_common,
    make_contrast,
    undecided_loss,
)
from imputer.train.disdiff_config import DisDiffTrainConfig, model_config
from imputer.train.disdiff_scores import Swapper, content_scores, cycle_scores, spread
from imputer.train.loop import LAST
from imputer.train.scores import HeldOut
from imputer.train.start import check, start

from .conftest import MakeDisDiff
from .test_resume import assert_same_end, stopped_at

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

ALL = Window(0, 0, 0)


class Bench:
    """The networks of a tiny run, images of both contrasts, and which of the networks a loss reaches."""

    def __init__(self, config: DisDiffTrainConfig) -> None:
        torch.manual_seed(0)
        self.contrasts = {name: make_contrast(config) for name in ("forward", "backward")}
        self.common: Common = make_common(config)
        self.losses = DisDiffLosses(config, Schedule(), torch.device("cpu"))
        self.images = {name: torch.rand(1, 1, 64, 64) * 2 - 1 for name in self.contrasts}

    def codes(self):  # type: ignore[no-untyped-def]
        return self.losses.codes(self.contrasts, self.common, self.images)

    def trained_by(self, loss: Tensor) -> set[str]:
        """Names of the networks that get a gradient other than 0 from a loss."""
        networks: dict[str, torch.nn.Module] = {"shared": self.common.shared}
        if self.common.content_critic is not None:
            networks["content_critic"] = self.common.content_critic
        for name, contrast in self.contrasts.items():
            both = (*contrast.generators(), *contrast.critics())
            networks |= {f"{name}.{part}": network for part, network in both}
        for network in networks.values():
            network.zero_grad()
        loss.backward()
        return {
            name
            for name, network in networks.items()
            if any(each.grad is not None and bool(each.grad.abs().sum() > 1e-12) for each in network.parameters())
        }


@pytest.fixture
def bench(make_disdiff: MakeDisDiff) -> Bench:
    return Bench(make_disdiff())


def disentangling(bench: Bench) -> Mapping[str, Tensor]:
    given = (bench.contrasts, bench.common, bench.images["forward"], bench.codes(), ALL)
    return bench.losses.disentangling_loss("forward", *given)


def test_each_loss_of_the_disentanglement_trains_its_networks(bench: Bench) -> None:
    own, shared = {"forward.content", "forward.attribute", "forward.decoder"}, {"shared"}
    into_other = {"forward.content", "backward.attribute", "backward.decoder"}
    for part, expected in {
        "reconstruction": own | shared,
        "swap": into_other | shared | {"backward.swap_critic"},
        "cycle": own | into_other | shared | {"backward.content"},
        "content": {"forward.content", "content_critic"} | shared,
        "attribute": into_other | shared,
        "magnitude": {"forward.attribute"},
    }.items():
        assert bench.trained_by(disentangling(bench)[part]) == expected, part


def test_contents_of_a_slice_in_two_contrasts_are_drawn_together(bench: Bench) -> None:
    codes = bench.codes()
    one, other = codes.content["forward"], codes.content["backward"]
    assert bench.trained_by(bench.losses.align_loss(one, other)) == {"forward.content", "backward.content", "shared"}
    for wanted, expected in ((one, 0.0), (3 * one + 5, 0.0), (-one, 2.0)):
        assert float(bench.losses.align_loss(one, wanted).detach()) == pytest.approx(expected, abs=1e-5)


def test_the_discriminators_train_themselves_alone(bench: Bench) -> None:
    with torch.no_grad():
        codes = bench.codes()
    contrast = bench.contrasts["forward"]
    loss = bench.losses.swap_critic_loss(contrast, bench.images["forward"], codes.swapped["backward"], ALL)
    assert bench.trained_by(loss) == {"forward.swap_critic"}
    loss = bench.losses.content_critic_loss(bench.common, *codes.content.values(), penalise=True)
    assert bench.trained_by(loss) == {"content_critic"}


def test_an_image_is_swapped_into_the_other_contrast(bench: Bench) -> None:
    codes = bench.codes()
    decoder = bench.contrasts["backward"].decoder
    assert decoder is not None
    expected = decoder(codes.content["forward"], codes.attribute["backward"])
    assert torch.equal(codes.swapped["forward"], expected)


def test_content_that_nobody_can_place_costs_least() -> None:
    assert float(undecided_loss(torch.zeros(2, 1, 3, 3))) == pytest.approx(math.log(2))
    for logit in (-1.0, 1.0, 4.0):
        assert float(undecided_loss(torch.full((2, 1, 3, 3), logit))) > math.log(2)


def _diffusion_loss(bench: Bench, trainer_condition: Condition) -> Tensor:
    x_0 = bench.images["forward"]
    draw = Draw.make(x_0, 4, 4, torch.Generator().manual_seed(0))
    direction = bench.contrasts["forward"]
    for parameter in direction.diffusive.parameters():  # a fresh generator says nothing of its inputs
        parameter.data.add_(0.02)
    losses = bench.losses.diffusive_loss(direction, x_0, trainer_condition, draw, ALL)
    assert {"pixel", "adversarial"} <= losses.keys()
    return losses["pixel"]


@pytest.mark.parametrize("kind", ["unpaired", "paired", "own"])
def test_the_diffusive_loss_trains_generator_projection_and_content_encoder(
    make_disdiff: MakeDisDiff, tmp_path: Path, kind: str
) -> None:
    trainer = _trainer(make_disdiff(own_content=float(kind == "own"), mean_attribute=0.0), tmp_path)
    bench = Bench(trainer.config)
    bench.contrasts, bench.common = trainer.directions, trainer.common
    partner = torch.rand(1, 1, 64, 64) if kind == "paired" else None
    of_source = trainer._partner_content("forward", partner)
    condition = trainer._condition(
        "forward", bench.images["forward"], of_source, bench.codes(), torch.Generator().manual_seed(0)
    )
    encoder = "forward.content" if kind == "own" else "backward.content"  # that of the source
    assert condition.attribute is not None and not condition.attribute.requires_grad
    expected = {"forward.diffusive", "forward.projection", encoder, "shared"}
    assert bench.trained_by(_diffusion_loss(bench, condition)) == expected


def _trainer(config: DisDiffTrainConfig, folder: Path):  # type: ignore[no-untyped-def]
    from imputer.train.adversarial_trainer import RunData
    from imputer.train.disdiff_trainer import DisDiffTrainer
    from imputer.train.engine import launch
    from imputer.train.start import plan, sampler_of

    training, _ = plan(config)
    samplers = {name: sampler_of(config, training, name) for name in ("forward", "backward")}
    data = RunData(samplers, {"forward": [], "backward": []}, {})
    return DisDiffTrainer(config, folder, launch("cpu", 1, "32-true"), data)


def test_the_mean_attribute_takes_the_images_own_place(make_disdiff: MakeDisDiff, tmp_path: Path) -> None:
    trainer = _trainer(make_disdiff(mean_attribute=1.0), tmp_path)
    trainer.step(0)
    bench = Bench(trainer.config)
    bench.contrasts, bench.common = trainer.directions, trainer.common
    given = ("forward", bench.images["forward"], None, bench.codes(), torch.Generator())
    condition = trainer._condition(*given)
    assert torch.equal(condition.attribute, trainer._means["forward"][None])
    assert float(condition.attribute.abs().sum()) > 0
    without = trainer._condition(*given[:3], None, torch.Generator())
    assert without.attribute is None


KINDS: dict[str, dict[str, object]] = {
    "unpaired": {"batch_size": 2},
    "paired": {"paired": True, "rollout": 0.7, "adversarial_crop": 64, "crop": (64, 96), "patch_weight": 0.1},
    "without-disentanglement": {"disentangle": False, "paired": True, "adversarial_weight": 0.0},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_and_resumed_ends_the_same(make_disdiff: MakeDisDiff, tmp_path: Path, kind: str) -> None:
    config = make_disdiff(steps=4, checkpoint_every=2, exclude=("head0", "head2"), **KINDS[kind])
    start(replace(config, output=str(tmp_path / "whole")))
    stopped_at(config, 3)
    assert torch.load(tmp_path / "run" / LAST, weights_only=True)["step"] == 2
    start(config, resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_one_model_makes_both_directions_and_keeps_the_mean_attributes(
    make_disdiff: MakeDisDiff, scans: Path, tmp_path: Path
) -> None:
    pytest.importorskip("skimage", reason="scores need the extra train")
    config = make_disdiff(holdout=("head1", "head2"), title="Mine", validate_every=1)
    (path,) = start(config)
    assert path.name == "disdiff-t1-t2.safetensors"
    header = read_header(path)
    assert (header["sources"], header["targets"], header["about"]["title"]) == (["t1", "t2"], ["t1", "t2"], "Mine")
    assert header["about"]["scope"]["pixel_mm"] == [3.0, 3.0]
    both = [fingerprint(load(path)) for path in scans.rglob("head0_*.nii.gz")]
    assert len(both) == 2 and header["about"]["fingerprints"] == sorted(both)
    assert not any("decoder" in name for name in read_tensors(path))
    for source, target in ((Modality.T1, Modality.T2), (Modality.T2, Modality.T1)):
        head = make_head([source], **GRID)[source]
        volume = synthesise(head, to=target, model=path, device="cpu").volume
        assert np.isfinite(volume.array).all() and volume.array.std() > 0
    model = load_model(path, device="cpu")
    means = model.network.mean_attribute  # type: ignore[attr-defined]
    assert all(float(mean.abs().sum()) > 0 for mean in means.values())
    folder = tmp_path / "run"
    assert read_config(folder / "config.toml", DisDiffTrainConfig) == config
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    scores = {"forward.psnr", "backward.ssim", "t1.cycle_psnr", "t2.cycle_psnr", "content.same", "content.other"}
    assert scores <= last.keys()
    assert {path.name for path in (folder / "samples").glob("*2.png")} == {
        "forward_0000002.png",
        "backward_0000002.png",
    }


def test_a_run_begins_as_the_model_that_it_is_given(make_disdiff: MakeDisDiff, tmp_path: Path) -> None:
    (first,) = start(make_disdiff(exclude=("head1", "head2")))
    frozen = {"initial": str(first), "generator_rate": 0.0, "final_rate": 0.0, "output": str(tmp_path / "second")}
    (second,) = start(make_disdiff(exclude=("head0", "head2"), seed=1, **frozen))
    ours, theirs = read_tensors(second), read_tensors(first)
    assert ours.keys() == theirs.keys()
    weights = [name for name in ours if not name.startswith("mean_attribute")]  # those are of the run's own data
    assert weights and all(torch.equal(ours[name], theirs[name]) for name in weights)
    seen = {*read_header(first)["about"]["fingerprints"]}
    assert len(seen) == 2 and seen < {*read_header(second)["about"]["fingerprints"]}
    with pytest.raises(ModelError, match=r"disdiff-t1-t2\.safetensors do not fit"):
        start(make_disdiff(content_width=8, **{**frozen, "output": str(tmp_path / "third")}))


def test_the_shipped_mean_is_that_of_the_training_slices(make_disdiff: MakeDisDiff, tmp_path: Path) -> None:
    trainer = _trainer(make_disdiff(), tmp_path)
    trainer.step(0)
    model = trainer._model("forward")
    slices = [each for stack in trainer.samplers["forward"].stacks for each in stack.slices]  # images of T2
    placed = [place(torch.from_numpy(each.astype(np.float32)), (64, 64))[None] for each in slices]
    expected = torch.cat([model.network.attribute_of(each, "t2") for each in placed]).mean(dim=0)
    assert torch.allclose(model.network.mean_attribute["t2"], expected, atol=1e-5)
    few = spread(trainer.samplers["forward"].stacks, (64, 64), 3)
    assert few.shape == (3, 1, 64, 64)
    assert np.array_equal(few[-1], placed[-1][0].numpy())


def test_content_scores_compare_contrasts_of_a_case_and_cases() -> None:
    model = make_method()
    model.network.content["t2"].load_state_dict(model.network.content["t1"].state_dict())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 1, 1, 32, 32)).astype(np.float32)
    cases = [HeldOut(str(k), images[k], images[k]) for k in (0, 1)]
    scores = content_scores(model, cases)  # the same image through the same encoder, and other images
    assert scores["content.same"] == pytest.approx(1, abs=1e-5)
    assert scores["content.other"] < 0.9
    assert content_scores(model, cases[:1]).keys() == {"content.same"}
    assert content_scores(model, []) == {}


def test_cycle_scores_are_those_of_swapping_there_and_back() -> None:
    model = make_method()
    decoders = {name: Decoder(CONFIG.content_width, 1, 3) for name in ("t1", "t2")}
    x = np.random.default_rng(1).uniform(-1, 1, (2, 1, 32, 32)).astype(np.float32)
    scores = cycle_scores(Swapper(model, decoders), {"t1": x, "t2": -x})
    assert scores.keys() == {"t1.cycle_psnr", "t2.cycle_psnr"}
    image = torch.from_numpy(x)
    with torch.no_grad():
        mean = model.network.mean_attribute["t2"].expand(2, -1)
        there = decoders["t2"](model.network.encode(image, "t1"), mean)
        back = decoders["t1"](model.network.encode(there, "t2"), model.network.attribute_of(image, "t1"))
        error = float(((back - image) / 2).square().mean())
    peak = float((image.max() + 1) / 2)
    assert scores["t1.cycle_psnr"] == pytest.approx(10 * math.log10(peak**2 / error), abs=0.01)


def test_reconstruction_and_cycle_are_learnt(make_disdiff: MakeDisDiff) -> None:
    losses: list[float] = []
    config = make_disdiff(steps=40, generator_rate=5e-3, augment=False, swap_weight=0.1, log_every=100)

    def keep(step: int, values: dict[str, float]) -> None:
        parts = ("reconstruction", "cycle")
        losses.append(sum(values[f"{name}.{part}"] for name in ("forward", "backward") for part in parts))

    start(config, on_step=keep)
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:4])


def test_a_model_without_disentanglement_has_no_attributes(make_disdiff: MakeDisDiff) -> None:
    config = make_disdiff(disentangle=False, steps=1)
    contrast = make_contrast(config)
    assert (contrast.attribute, contrast.decoder, contrast.swap_critic) == (None, None, None)
    assert model_config(config).noise_size == model_config(config).generator.latent_size == 4
    (path,) = start(config)
    assert not load_model(path, device="cpu").takes_style


def test_without_weight_there_is_no_content_discriminator(make_disdiff: MakeDisDiff) -> None:
    assert make_common(make_disdiff()).content_critic is not None
    assert make_common(make_disdiff(content_weight=0.0)).content_critic is None
    assert isinstance(make_contrast(make_disdiff(content_weight=0.0)), Contrast)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "t1"}, "same modality"),
        ({"attribute_size": 0}, "disentangle=false"),
        ({"target_white": 3.0}, "source_white"),
        ({"own_content": 1.5}, "own_content"),
        ({"content_weight": -1.0}, "content_weight"),
        ({"reconstruction_weight": math.nan}, "reconstruction_weight"),
        ({"content_width": 0}, "content_width"),
        ({"content_width": 9}, "content_width"),
        ({"discriminator_width": 0}, "discriminator_width"),
        ({"adversarial_weight": 0.0}, "adversarial loss"),
        ({"crop": (66, 64)}, "multiples of 4"),
        ({"crop": (32, 32), "paired": True, "adversarial_weight": 0.0}, "at least 64"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(
    make_disdiff: MakeDisDiff, changes: dict[str, object], words: str
) -> None:
    check(make_disdiff())
    with pytest.raises(UsageError, match=words):
        check(make_disdiff(**changes))
