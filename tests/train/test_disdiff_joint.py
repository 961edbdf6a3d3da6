"""DisDiff's training with several sources: contents that are averaged, one source a step taken apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import imputer
from imputer.diffusion.schedule import Schedule
from imputer.errors import UsageError
from imputer.nets.checkpoint import read_header, read_tensors
from imputer.train.disdiff import DisDiffLosses, make_common, make_source
from imputer.train.disdiff_config import DisDiffTrainConfig
from imputer.train.start import check, start
from imputer.weights.manifest import Imported
from imputer.weights.package import entry_of

from .conftest import MakeDisDiff
from .test_resume import assert_same_end, stopped_at

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

MakeJoint = Callable[..., DisDiffTrainConfig]


@pytest.fixture
def make_joint(make_disdiff: MakeDisDiff, of_two_sources: dict[str, object]) -> MakeJoint:
    """Settings of a tiny run from T1 and T2 to FLAIR, with changes by name."""

    def make(**changes: object) -> DisDiffTrainConfig:
        return make_disdiff(**{**of_two_sources, **changes})

    return make


def test_the_content_of_several_sources_is_the_mean_of_theirs(make_joint: MakeJoint) -> None:
    config = make_joint()
    torch.manual_seed(0)
    sources, common = {name: make_source(config) for name in ("t1", "t2")}, make_common(config)
    losses = DisDiffLosses(config, Schedule(), torch.device("cpu"))
    x = torch.rand(2, 2, 64, 64) * 2 - 1
    x[1, 0] = -1  # the second image has no T1
    together = losses.encode_together(sources, common, x)
    one, two = (losses.encode(source, common, x[:, n : n + 1]) for n, source in enumerate(sources.values()))
    torch.testing.assert_close(together[0], (one[0] + two[0]) / 2)
    torch.testing.assert_close(together[1], two[1])


@pytest.mark.parametrize("disentangle", [True, False])
def test_a_run_ends_in_a_model_that_serves_any_subset(
    make_joint: MakeJoint, cohort: Path, tmp_path: Path, disentangle: bool
) -> None:
    pytest.importorskip("skimage", reason="scores need the extra train")
    config = make_joint(holdout=("head0",), rollout=0.5, disentangle=disentangle)
    (path,) = start(config)
    assert path.name == "disdiff-t1-t2-flair.safetensors"
    header = read_header(path)
    assert (header["sources"], header["targets"], header["required"]) == (["t1", "t2"], ["flair"], [])
    entry = entry_of(path, Imported(path))
    assert (entry.pair, entry.source_text, entry.needed) == ("t1+t2->flair", "t1 + t2 or fewer", ())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"forward.psnr", "forward.psnr.t1", "forward.psnr.t2"} <= lines[-1].keys()
    if disentangle:
        assert "content.same" in lines[-1]
        taken_apart = [name for line in lines for name in ("t1", "t2") if f"{name}.reconstruction" in line]
        assert taken_apart == ["t1", "t2"]
        assert all("forward.align" in line for line in lines[:2])
    made = {}
    for names in (("t1", "t2"), ("t2",), ("t1",)):
        sources = {name: cohort / f"head0_{name}.nii.gz" for name in names}
        made[names] = imputer.synthesise(sources, to="flair", model=path, device="cpu", steps=1).volume.array
        assert np.isfinite(made[names]).all() and made[names].std() > 0
    assert not np.array_equal(made["t1", "t2"], made["t1",])


def test_a_run_of_several_sources_begins_as_the_model_that_it_is_given(make_joint: MakeJoint, tmp_path: Path) -> None:
    (first,) = start(make_joint())
    frozen = {"initial": str(first), "generator_rate": 0.0, "final_rate": 0.0, "output": str(tmp_path / "second")}
    (second,) = start(make_joint(seed=1, **frozen))
    ours, theirs = read_tensors(second), read_tensors(first)
    encoders = {name for name in ours if name.startswith(("content.t1.", "content.t2.", "shared.", "attribute.flair."))}
    assert len({name.split(".")[0] for name in encoders}) == 3
    assert all(torch.equal(ours[name], theirs[name]) for name in encoders)


def test_a_run_of_several_sources_that_was_stopped_ends_as_one_that_was_not(
    make_joint: MakeJoint, tmp_path: Path
) -> None:
    config = make_joint(steps=4, checkpoint_every=1, batch_size=2)
    start(replace(config, output=str(tmp_path / "whole")))
    stopped_at(config, 2)
    start(config, resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_several_sources_need_pairs(make_joint: MakeJoint) -> None:
    check(make_joint())
    with pytest.raises(UsageError, match=r"Add --paired\.$"):
        check(make_joint(paired=False))
