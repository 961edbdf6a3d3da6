"""imputer models with a model of many pairs: out of the authors' file, into the registry, over the Hub and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import HubServer, clean_client
from lightning_files import first_stage, write_checkpoint

from imputer.nets.aldm import make_aldm
from imputer.nets.checkpoint import read_header, write_package
from imputer.nets.vqgan3d import FirstStageConfig

from .conftest import Run, assert_refused

CLASSES = "t1,t1ce,t2,flair"
SYNDIFF = Path(__file__).parents[1] / "data" / "syndiff_tiny.pth"


@pytest.fixture(scope="module")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("theirs") / "stage2.ckpt", first_stage())


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("theirs") / "stage1.ckpt", first_stage(spade=False))


@pytest.fixture
def package(run: Run, stage2: Path, tmp_path: Path) -> Path:
    """The model file of stage 2, with a network of a few kilobytes in it."""
    path = tmp_path / "mine.safetensors"
    assert run("models", "import", stage2, "--targets", CLASSES, "-o", path).exit_code == 0
    header = read_header(path)
    config = FirstStageConfig(width=4, groups=4, codebook_size=16, spade_widths=(8,), spade_hidden=4)
    header["network"]["first_stage"] |= {
        "width": 4, "groups": 4, "codebook_size": 16, "spade_widths": [8], "spade_hidden": 4,
    }  # fmt: skip
    header["about"] |= {"licence": "CC-BY-NC-4.0"}
    header["about"]["scope"] |= {"pixel_mm": [1.0, 1.0], "slice_mm": [1.0, 1.0]}
    torch.manual_seed(0)
    write_package(path, make_aldm(config).state_dict(), header, overwrite=True)
    return path


def test_a_checkpoint_becomes_a_model_file_beside_it(run: Run, stage2: Path, tmp_path: Path) -> None:
    copy = tmp_path / "last.ckpt"
    copy.write_bytes(stage2.read_bytes())
    result = run("models", "import", copy, "--targets", CLASSES, "--json")
    assert json.loads(result.stdout) == {"id": "last", "model": str(tmp_path / "last.safetensors")}
    assert_refused(run("models", "import", copy, "--targets", CLASSES), 6, "last.safetensors", "--overwrite")
    assert run("models", "import", copy, "--targets", CLASSES, "--sources", "T1w", "--overwrite").exit_code == 0
    assert read_header(tmp_path / "last.safetensors")["sources"] == ["t1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("--from t1 --to t2", "--targets t1,t1ce,t2,flair")),
        (("--sources", "t1"), ("--targets",)),
        (("--targets", CLASSES, "--from", "t1"), ("--from and --targets",)),
        (("--targets", CLASSES, "--steps", "4"), ("--steps and --targets",)),
        (("--targets", "t1,t1,t2,flair"), ("--targets names a modality twice",)),
        (("--targets", "t1,t7,t2,flair"), ("t7", "flair")),
        (("--targets", "t1,,t2,flair"), ("flair",)),
        (("--targets", CLASSES, "-o", "x.zip"), ("x.zip", ".safetensors")),
        (("--from", "t1", "--to", "t2"), ("stage2.ckpt is a checkpoint of ALDM", "--targets")),
    ],
)
def test_options_that_do_not_fit_are_a_question_of_usage(
    run: Run, stage2: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(run("models", "import", stage2, *options), 2, *words)
    assert list(stage2.parent.iterdir()) == [stage2]


def test_a_checkpoint_of_syndiff_is_told_apart(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    assert_refused(run("models", "import", SYNDIFF, "--targets", CLASSES, "-o", out), 2, "SynDiff generator", "--from")
    assert not out.exists()


def test_another_number_of_classes_is_four(run: Run, stage2: Path, tmp_path: Path) -> None:
    result = run("models", "import", stage2, "--targets", "t1,t2", "-o", tmp_path / "out.safetensors")
    assert_refused(result, 4, "stage2.ckpt has 4 classes", "2 targets")
    assert list(tmp_path.iterdir()) == []


def test_stage_1_comes_in_and_makes_nothing(run: Run, stage1: Path, tmp_path: Path, t1: Path) -> None:
    path = tmp_path / "one.safetensors"
    assert run("models", "import", stage1, "--targets", CLASSES, "-o", path).exit_code == 0
    assert_refused(run("synth", t1, "--to", "t2", "-m", path), 4, "one is an autoencoder without MS-SPADE")
    assert_refused(run("models", "import", path), 4, "one.safetensors", "MS-SPADE")
    assert_refused(run("models", "push", "me/mine", path, "--dry-run"), 4, "MS-SPADE")


def test_a_model_file_says_itself_what_it_makes(run: Run, package: Path) -> None:
    assert_refused(run("models", "import", package, "--targets", CLASSES), 2, "mine.safetensors", "Leave --targets out")


def test_a_registered_model_is_listed_and_comes_after_those_of_one_pair(run: Run, package: Path, t1: Path) -> None:
    assert run("models", "import", package).stdout == "mine\n"
    row = next(line for line in run("models", "list").stdout.splitlines() if line.startswith("mine "))
    assert "t1, t1ce, t2, flair  t1, t1ce, t2, flair  aldm" in row
    fields = dict(line.split(maxsplit=1) for line in run("models", "info", "mine").stdout.splitlines())
    assert fields["from"] == fields["to"] == "t1, t1ce, t2, flair"
    record = json.loads(run("models", "info", "mine", "--json").stdout)
    assert record["sources"] == record["targets"] == CLASSES.split(",")
    said = run("inspect", t1).stdout
    assert "syndiff-t1-t2" in next(line for line in said.splitlines() if line.startswith("to t2"))
    assert [line.split() for line in run("models", "verify", "mine").stdout.splitlines()] == [["mine", "sound"]]


def test_export_and_import_keep_all_pairs(run: Run, package: Path, tmp_path: Path) -> None:
    assert run("models", "import", package).exit_code == 0
    assert run("models", "export", "mine", "-o", tmp_path / "mine.zip").exit_code == 0
    there = {"IMPUTER_HOME": str(tmp_path / "there"), "IMPUTER_OFFLINE": "1"}
    assert run("models", "import", tmp_path / "mine.zip", env=there).stdout == "mine\n"
    record = json.loads(run("models", "info", "mine", "--json", env=there).stdout)
    assert (record["targets"], record["state"]) == (CLASSES.split(","), "here")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """An empty Hub; this process is the user who may write to ``lab``."""
    with clean_client(monkeypatch, tmp_path / "hf"), HubServer() as running:
        running.tokens = {"hf_lab": "lab"}
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", "hf_lab")
        monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "home"))
        yield running


def test_a_run_goes_to_the_hub_with_the_scores_of_its_last_stage_and_comes_back(
    run: Run, server: HubServer, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    for name in ("models", "spade/models"):
        (folder / name).mkdir(parents=True)
    package.rename(folder / "models" / "aldm.safetensors")
    (folder / "config.toml").write_text('stages = ["autoencoder", "spade"]\n')
    lines = ('{"step": 5, "psnr": 9.5, "ssim": 0.25}', '{"step": 9, "psnr": 20.25, "ssim": 0.5}', '{"step": 9}')
    (folder / "spade" / "log.jsonl").write_text("\n".join(lines))
    pushed = run("models", "push", "lab/aldm", folder)
    assert pushed.exit_code == 0, pushed.output
    card = server.repos["lab/aldm"].commits[pushed.stdout.strip().split("@")[1]]["README.md"].content.decode()
    assert "imputer synth t1.nii.gz --to t1ce --to t2 --to flair -m hf://lab/aldm" in card
    assert "20.25" in card and "9.5" not in card
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "theirs"))
    for words in (("--from", "flair", "--to", "t1"), ("--to", "t2"), ()):
        assert len(run("models", "pull", "hf://lab/aldm", *words).stdout.splitlines()) == 1
    refused = run("models", "pull", "hf://lab/aldm", "--to", "pd")
    assert_refused(refused, 4, "It makes: t1/t1ce/t2/flair->t1/t1ce/t2/flair.")
    assert "sound" in run("models", "verify").stdout.splitlines()[-1]
    assert "t1, t1ce, t2, flair" in run("models", "list").stdout.splitlines()[-1]
    assert run("models", "rm", "hf://lab/aldm").exit_code == 0
