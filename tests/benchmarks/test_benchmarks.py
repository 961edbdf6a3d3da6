"""The benchmarks run from end to end, at sizes that say nothing of speed, and their JSON tells what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_head
from torch.nn.modules.module import register_module_forward_hook

from imputer.modality import Modality

ROOT = Path(__file__).resolve().parents[2]
ONCE = ("--rounds", "1")
TIMED = (*ONCE, "--precisions", "--matrices", "64")
OF_A_CASE = ("--size", "32", "--slices", "2", "--spacing", "6", "40")
MACHINE = {"machine", "processor", "cores", "device", "python", "torch"}
SPREAD = {"median", "least", "greatest"}
STAGES = {"start-up", "read", "model", "prepare", "network", "undo and write"}

pytestmark = pytest.mark.slow


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def results(*arguments: str, folder: Path) -> dict[str, Any]:
    """Run a benchmark that must succeed; return its JSON."""
    output = folder / "results.json"
    done = call(*arguments, "--output", str(output))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    assert set(found) >= {*MACHINE, "settings", "rounds"}
    return found


def summary(out: Path) -> dict[str, str]:
    rows = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return {row["name"]: row["came"] for row in rows}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """What `benchmarks.gpu` leaves of every script but ALDM's."""
    out = tmp_path_factory.mktemp("gpu") / "out"
    jobs = ("tests", "generator", "pipeline", "batch")
    done = call(
        "benchmarks.gpu", str(out), "--device", "cpu", "--small", "--model", str(tiny_model), "--only", *jobs
    )  # fmt: skip
    logs = {path.name: path.read_text(encoding="utf-8")[-1000:] for path in out.glob("*.log")}
    assert done.returncode == 0, (done.stdout, done.stderr, logs)
    assert summary(out) == dict.fromkeys(jobs, "done")
    return out


def read(out: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    assert set(found) >= {*MACHINE, "settings", "rounds"}
    return found


def test_the_generator_is_compared_with_the_plain_one(out: Path) -> None:
    plain, kept, ours, *candidates = read(out, "generator")["variants"]
    assert (plain["variant"], kept["from the first"]["max"]) == ("plain", 0)
    assert [each["variant"] for each in candidates] == ["norms in channels last, fp32", "default layout, fp32"]
    assert all(0 < each["from the first"]["max"] < 1e-4 for each in candidates)
    assert 0 < ours["from the first"]["max"] < 1e-3
    assert set(ours["faster than plain"]) == SPREAD


@pytest.mark.parametrize(("candidate", "is_last"), [("default layout", False), ("norms in channels last", True)])
def test_a_candidate_keeps_its_layout(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path, candidate: str, is_last: bool
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.generator import _build

    maps: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, out: torch.Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d):
            maps.append(out)

    settings = {"model": str(tiny_model), "device": "cpu", "batch": 2, "size": 32, "plain": False, "precision": "fp32"}
    hook = register_module_forward_hook(keep)
    try:
        with torch.inference_mode():
            _build({**settings, "candidate": candidate})()
    finally:
        hook.remove()
    assert maps
    assert all(each.is_contiguous(memory_format=torch.channels_last) == is_last for each in maps)


def test_the_pipeline_tells_the_stages_and_what_is_written(out: Path) -> None:
    found = read(out, "pipeline")
    compressed, plain = found["variants"]
    assert [compressed["variant"], plain["variant"]] == ["fp32, .nii.gz", "fp32, .nii"]
    assert found["slices with anything in them"] == 2 and found["network gflop"] > 0
    for row in (compressed, plain):
        assert set(row["stages"]) == STAGES
        assert all(set(each) == SPREAD for each in row["stages"].values())
        assert row["from the first"]["max"] == row["stages from the command"]["max"] == 0
        assert row["beside the network"]["median"] < row["seconds"]["median"]
        assert row["peak bytes"] > 2**20


def test_the_batch_makes_what_the_single_commands_make(out: Path) -> None:
    found = read(out, "batch")
    assert found["greatest difference"] == 0
    assert all(set(found[name]) == SPREAD for name in ("batch seconds", "singles seconds", "singles over batch"))
    assert min(found["batch peak bytes"], found["single peak bytes"]) > 2**20


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    """The batch lacks its model; ALDM, which comes after it, has one of its own."""
    nowhere = str(tmp_path / "nowhere.safetensors")
    done = call(
        "benchmarks.gpu", str(tmp_path), "--device", "cpu", "--small", "--model", nowhere, "--only", "batch", "aldm"
    )  # fmt: skip
    assert done.returncode == 1
    assert summary(tmp_path) == {"batch": "failed (1)", "aldm": "done"}
    assert "nowhere.safetensors" in (tmp_path / "batch.log").read_text(encoding="utf-8")
    (row,) = read(tmp_path, "aldm")["variants"]
    assert set(row["parts"]) == {"encoder", "MS-SPADE", "sampling 1", "sampling 2", "decoder"}
    assert all(part["tflop"] > 0 and set(part["seconds"]) == SPREAD for part in row["parts"].values())
    assert row["parts"]["sampling 2"]["tflop"] == 2 * row["parts"]["sampling 1"]["tflop"]
    assert set(row["sampling ratio"]) == set(row["whole ratio"]) == SPREAD
    assert row["from the first"]["max"] == 0


def test_the_generator_grows(tmp_path: Path, tiny_model: Path) -> None:
    found = results(
        "benchmarks.generator", *TIMED, "--model", str(tiny_model), "--size", "32", "--grow", "batch",
        "--values", "1", "2", folder=tmp_path,
    )  # fmt: skip
    assert [row["batch"] for row in found["rows"]] == [1, 2]
    assert [each["variant"] for each in found["rows"][1]["variants"]] == ["ours, fp32"]


def test_the_pipeline_grows_with_a_very_small_network(tmp_path: Path) -> None:
    found = results(
        "benchmarks.pipeline", *TIMED, "--random", "smallest", *OF_A_CASE, "--grow", "slices", "--values", "1", "3",
        folder=tmp_path,
    )  # fmt: skip
    assert [row["shape"] for row in found["rows"]] == [[32, 32, 1], [32, 32, 3]]
    assert [row["slices with anything in them"] for row in found["rows"]] == [1, 3]
    assert all(row["network gflop"] < row["slices with anything in them"] for row in found["rows"])


def test_the_batch_grows_alone(tmp_path: Path, tiny_model: Path) -> None:
    found = results(
        "benchmarks.batch", *ONCE, "--model", str(tiny_model), "--shape", "32", "32", "2",
        "--spacing", "6", "6", "40", "--grow", "cases", "--values", "1", "2", folder=tmp_path,
    )  # fmt: skip
    assert [row["cases"] for row in found["rows"]] == [1, 2]
    assert all(row["batch peak bytes"] > 2**20 and "singles seconds" not in row for row in found["rows"])


def test_aldm_grows_in_few_steps_and_in_half_precision_is_told_from_fp32(tmp_path: Path) -> None:
    from tiny_aldm import write_model

    model = write_model(tmp_path / "aldm.safetensors")
    found = results(
        "benchmarks.aldm", *ONCE, "--precisions", "bf16", "--matrices", "64", "--model", str(model),
        "--grow", "size", "--values", "16", folder=tmp_path,
    )  # fmt: skip
    (row,) = found["rows"]
    assert row["shape"] == [16, 16, 16]
    full, half = row["variants"]
    assert "sampling 200" not in full["parts"]
    assert full["from the first"]["max"] == 0 < half["from the first"]["max"]


def test_half_precision_is_told_from_fp32_by_model_and_pair(tmp_path: Path, tiny_model: Path) -> None:
    from tiny_aldm import MODALITIES, write_model

    scan, output = tmp_path / "t1.nii.gz", tmp_path / "results.json"
    write_head(scan, Modality.T1, shape=(40, 44, 6), spacing=(5.0, 5.0, 25.0))
    models = (str(tiny_model), str(write_model(tmp_path / "aldm.safetensors")))
    done = call(
        "benchmarks.precision", str(scan), "--models", *models, "--slices", "2", "--box", "16", "16", "16",
        "--output", str(output),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert [row["model"] for row in rows] == [models[0]] * 2 + [models[1]] * 2 * (len(MODALITIES) - 1)
    for coarse, fine in zip(rows[::2], rows[1::2], strict=True):
        assert (coarse["precision"], fine["precision"]) == ("bf16", "fp16")
        assert coarse["source"] == "t1" != coarse["target"] == fine["target"]
        assert 0 < fine["max"] < coarse["max"]


def test_a_dry_run_prints_the_commands_in_order_of_worth(tmp_path: Path) -> None:
    done = call("benchmarks.gpu", str(tmp_path / "out"), "--dry-run")
    assert done.returncode == 0, done.stderr
    modules = [line.split(" -m ", 1)[1].split()[0] for line in done.stdout.splitlines()]
    assert list(dict.fromkeys(modules)) == [
        "pytest", "benchmarks.generator", "benchmarks.pipeline", "benchmarks.batch", "benchmarks.aldm"
    ]  # fmt: skip
    assert done.stdout.count("--device cuda") == len(modules) - 1
    assert not (tmp_path / "out").exists()


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    done = call(
        "benchmarks.gpu", str(tmp_path), "--device", "cpu", "--small", "--only", "tests", "aldm", "--limit", "0.01"
    )  # fmt: skip
    assert done.returncode == 1
    assert summary(tmp_path) == dict.fromkeys(("tests", "aldm"), "too long")


def test_a_job_that_there_is_not_is_named(tmp_path: Path) -> None:
    done = call("benchmarks.gpu", str(tmp_path / "out"), "--only", "nonsense")
    assert done.returncode != 0
    assert "nonsense" in done.stderr and not (tmp_path / "out").exists()
