"""A training run that was killed and resumed ends with the same weights, to the bit, as one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from imputer.errors import InputError, OutputError, UsageError
from imputer.train.config import write_config
from imputer.train.loop import LAST
from imputer.train.start import AnySliceConfig, start

from .conftest import MakeConfig

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

KINDS: dict[str, dict[str, Any]] = {
    "unpaired": {"exclude": ("head2",)},
    "paired": {
        "exclude": ("head0", "head2"),
        "paired": True,
        "register": True,
        "rollout": 0.7,
        "warmup": 3,
        "batch_size": 2,
    },
    "patch": {"paired": True, "adversarial_weight": 0.0, "patch_weight": 0.1, "structure_weight": 0.2},
    "one-direction": {"paired": True, "direction": "forward", "adversarial_crop": 64, "crop": (64, 96)},
}
SCRIPT = """
import sys
from pathlib import Path
from imputer.train.config import TrainConfig, read_config
from imputer.train.start import AnySliceConfig, start
for path in sys.argv[1:]:
    start(read_config(Path(path), TrainConfig), resume=True)
"""


class Killed(Exception):
    """Stands for the end of the process."""


def leaves(state: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every tensor and value of a checkpoint with its path."""
    if isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        for key, value in items:
            yield from leaves(value, f"{name}/{key}")
    else:
        yield name, state


def assert_same_end(one: Path, two: Path) -> None:
    """Checkpoints and models of two runs agree in every bit."""
    first, second = (dict(leaves(torch.load(run / LAST, weights_only=True))) for run in (one, two))
    assert first.keys() == second.keys()
    assert any("optimisers" in name and "exp_avg_sq" in name for name in first)
    differing = [
        name
        for name, value in first.items()
        if not (torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name])
    ]
    assert differing == []
    models = sorted(path.name for path in (one / "models").iterdir())
    assert models == sorted(path.name for path in (two / "models").iterdir())
    for name in models:
        assert (one / "models" / name).read_bytes() == (two / "models" / name).read_bytes()


def stopped_at(config: AnySliceConfig, step: int) -> None:
    """Train until a step is done, and no further."""

    def stop(done: int, losses: dict[str, float]) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        start(config, on_step=stop)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_and_resumed_ends_the_same(make_config: MakeConfig, tmp_path: Path, kind: str) -> None:
    config = make_config(steps=5, checkpoint_every=2, **KINDS[kind])
    whole = replace(config, output=str(tmp_path / "whole"))
    start(whole)
    stopped_at(config, 4)  # after the checkpoint of step 2, before that of step 4
    assert torch.load(tmp_path / "run" / LAST, weights_only=True)["step"] == 2
    done: list[int] = []
    start(config, resume=True, on_step=lambda number, losses: done.append(number))
    assert done == [3, 4, 5]
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_resuming_before_the_first_checkpoint_starts_again(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(steps=2, checkpoint_every=50, exclude=("head1", "head2"))
    start(replace(config, output=str(tmp_path / "whole")))
    stopped_at(config, 1)
    start(config, resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_another_seed_is_another_run(make_config: MakeConfig, tmp_path: Path) -> None:
    for seed in (0, 1):
        start(make_config(steps=1, seed=seed, paired=True, output=str(tmp_path / str(seed))))
    one, two = ((tmp_path / str(seed) / "models" / "syndiff-t1-t2.safetensors").read_bytes() for seed in (0, 1))
    assert one != two


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_loses_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(steps=16, checkpoint_every=1, exclude=("head1", "head2"))
    whole = replace(config, output=str(tmp_path / "whole"))
    for each, name in ((config, "config.toml"), (whole, "whole.toml")):
        write_config(each, tmp_path / name)
    command = [sys.executable, "-c", SCRIPT]
    first = subprocess.Popen([*command, str(tmp_path / "config.toml")], stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / LAST).exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert torch.load(tmp_path / "run" / LAST, weights_only=True)["step"] < 16
    both = [str(tmp_path / name) for name in ("config.toml", "whole.toml")]
    subprocess.run([*command, *both], check=True, stderr=subprocess.DEVNULL)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_a_folder_with_a_run_is_not_overwritten(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(steps=1, paired=True)
    start(config)
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(OutputError, match="--resume"):
        start(config)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


@pytest.mark.parametrize("damage", ["junk", "short", "other"])
def test_a_checkpoint_that_does_not_fit_is_refused(make_config: MakeConfig, tmp_path: Path, damage: str) -> None:
    config = make_config(steps=1, paired=True)
    start(config)
    last = tmp_path / "run" / LAST
    if damage == "junk":
        last.write_bytes(b"junk")
    elif damage == "short":
        last.write_bytes(last.read_bytes()[:5000])
    else:
        other = replace(config, width=8, output=str(tmp_path / "other"))
        start(other)
        last.write_bytes((tmp_path / "other" / LAST).read_bytes())
    with pytest.raises(InputError, match=LAST):
        start(config, resume=True)


def test_a_run_is_not_resumed_with_other_settings(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(steps=1, paired=True)
    start(config)
    before = (tmp_path / "run" / "config.toml").read_bytes()
    with pytest.raises(UsageError, match=r"generator_rate was 0\.00016, now 0\.1\. .*--init") as caught:
        start(replace(config, generator_rate=0.1, title="other"), resume=True)
    assert "title" not in str(caught.value)
    assert (tmp_path / "run" / "config.toml").read_bytes() == before
    start(replace(config, title="other", log_every=7), resume=True)
