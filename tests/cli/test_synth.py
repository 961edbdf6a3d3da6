"""imputer synth: what is written and said, and every way to refuse."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Image

from imputer.modality import Modality, split_role

from .conftest import Run, assert_refused


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_volume_and_its_sidecar_beside_the_input(run: Run, t1: Path) -> None:
    result = run("synth", t1, "--to", "t2")
    assert result.exit_code == 0, result.output
    made = t1.with_name("t1_synth-t2.nii.gz")
    assert result.stdout == f"{made}\n"
    assert names(t1.parent) == ["t1.nii.gz", "t1_synth-t2.json", "t1_synth-t2.nii.gz"]
    assert nibabel.load(made).shape == nibabel.load(t1).shape
    record = json.loads(made.with_name("t1_synth-t2.json").read_text(encoding="utf-8"))
    assert record["synthetic"] is True
    assert "Model: syndiff-t1-t2 (T1 to T2" in result.stderr  # which, and why


def test_another_anatomy_than_the_models_is_a_caution(run: Run, t1: Path) -> None:
    result = run("synth", t1, "--to", "t2", "--anatomy", "knee")
    assert result.exit_code == 0, result.output
    assert "warning: the model was trained on brain, not on knee" in result.stderr
    record = json.loads(t1.with_name("t1_synth-t2.json").read_text(encoding="utf-8"))
    assert "the model was trained on brain, not on knee" in record["scope_warnings"]


def test_a_real_process_keeps_stdout_pure(t1: Path) -> None:
    command = [sys.executable, "-m", "imputer", "synth", str(t1), "--to", "t2", "--preview", "-v"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{t1.with_name('t1_synth-t2.nii.gz')}\n"
    assert done.stderr != ""
    assert "t1_synth-t2.png" in names(t1.parent)


def test_several_targets_into_a_folder(run: Run, t1: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    result = run("synth", t1, "--to", "T2w", "--to", "flair", "--to", "t2", "-o", folder, "--fast")
    assert result.exit_code == 0, result.output
    wanted = [folder / "t1_synth-t2.nii.gz", folder / "t1_synth-flair.nii.gz"]
    assert result.stdout.splitlines() == [str(path) for path in wanted]
    assert all(path.is_file() for path in wanted)
    assert names(t1.parent) == ["t1.nii.gz"]


def test_a_folder_for_several_targets_is_made(run: Run, t1: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "made"
    assert run("synth", t1, "--to", "t2", "--to", "flair", "-o", folder, "--fast").exit_code == 0
    assert len(names(folder)) == 4


def test_one_target_into_a_file(run: Run, t1: Path, tmp_path: Path) -> None:
    result = run("synth", "-i", t1, "--to", "t2", "-o", tmp_path / "out.nii", "--steps", "1")
    assert result.stdout == f"{tmp_path / 'out.nii'}\n"
    assert nibabel.load(tmp_path / "out.nii").shape == nibabel.load(t1).shape
    assert (tmp_path / "out.json").is_file()


def test_the_role_is_taken_from_the_input(run: Run, t1: Path) -> None:
    other = t1.rename(t1.with_name("image.nii.gz"))
    assert_refused(run("synth", other, "--to", "t2"), 3, "--from")
    assert run("synth", "-i", f"mprage={other}", "--to", "t2", "--fast").exit_code == 0
    assert run("synth", other, "--from", "t1", "--to", "t2", "--fast", "--overwrite").exit_code == 0


def test_split_role(tmp_path: Path) -> None:
    odd = tmp_path / "t1=x.nii"
    odd.touch()
    assert split_role("t1=a/b.nii") == (Path("a/b.nii"), Modality.T1)
    assert split_role("a/b.nii") == (Path("a/b.nii"), None)
    assert split_role(str(odd)) == (odd, None)
    assert split_role("a/b=c/t1.nii") == (Path("a/b=c/t1.nii"), None)


def test_a_dry_run_writes_nothing(run: Run, t1: Path) -> None:
    result = run("synth", t1, "--to", "t2", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{t1.with_name('t1_synth-t2.nii.gz')}\n"
    assert names(t1.parent) == ["t1.nii.gz"]


def test_quiet_says_nothing_but_warnings(run: Run, t1: Path) -> None:
    result = run("synth", t1, "--to", "t2", "--fast", "-q")
    assert result.exit_code == 0
    assert [line for line in result.stderr.splitlines() if not line.startswith("imputer: warning: ")] == []


def test_the_log_as_json(run: Run, t1: Path) -> None:
    result = run("synth", t1, "--to", "t2", "--fast", "--log-json")
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert {"progress", "done"} <= {event["event"] for event in events}
    assert events[-1]["output"] == result.stdout.strip()
    refused = run("synth", t1, "--to", "t2", "--log-json")
    assert json.loads(refused.stderr)["exit_code"] == refused.exit_code == 6


def test_the_device_of_the_environment_counts(run: Run, t1: Path) -> None:
    assert_refused(run("synth", t1, "--to", "t2", env={"IMPUTER_DEVICE": "abacus"}), 2, "abacus")
    assert run("synth", t1, "--to", "t2", "--fast", "-d", "cpu", env={"IMPUTER_DEVICE": "abacus"}).exit_code == 0


def test_offline_works(run: Run, t1: Path) -> None:
    assert run("synth", t1, "--to", "t2", "--fast", "--offline").exit_code == 0
    assert run("synth", t1, "--to", "flair", "--fast", env={"IMPUTER_OFFLINE": "1"}).exit_code == 0


# What is refused, and how.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "t7"], ["t7", "flair"]),
        (["--to", "t1"], ["t1"]),
        ([], ["--to"]),
        (["--to", "t2", "--from", "t7"], ["t7"]),
        (["--to", "t2", "-d", "abacus"], ["abacus", "cuda"]),
        (["--to", "t2", "-d", "cuda:x"], ["cuda:x"]),
        (["--to", "t2", "--batch-size", "0"], ["batch size"]),
        (["--to", "t2", "--precision", "fp8"], ["fp8", "bf16"]),
        (["--to", "t2", "-ot", "dicom"], ["DICOM", "--reference-dicom"]),
        (["--to", "t2", "-ot", "png"], ["png"]),
        (["--to", "t2", "--fast", "--steps", "2"], ["--fast"]),
        (["--to", "t2", "--from", "t1", "second.nii.gz"], ["--from", "t1=PATH"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_two(run: Run, t1: Path, arguments: list[str], words: list[str]) -> None:
    assert_refused(run("synth", t1, *arguments), 2, *words)
    assert names(t1.parent) == ["t1.nii.gz"]


def test_no_input_is_two(run: Run) -> None:
    assert_refused(run("synth", "--to", "t2"), 2, "no input")


def test_contradicting_roles_are_two(run: Run, t1: Path) -> None:
    assert_refused(run("synth", f"t1={t1}", "--from", "flair", "--to", "t2"), 2, "t1", "flair")


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--samples", "0"], ["--seed", "-1"], ["--seed", "x"]])
def test_wrong_numbers_are_two(run: Run, t1: Path, arguments: list[str]) -> None:
    result = run("synth", t1, "--to", "t2", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


AFFINE = np.diag([3.0, 3.0, 5.0, 1.0])
NOISE = np.random.default_rng(0).uniform(10, 100, (32, 40, 4)).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    nibabel.save(Nifti1Image(data, affine), path)


def write_text(path: Path) -> None:
    path.write_text("not a volume")


def write_nothing(path: Path) -> None:
    path.touch()


def write_truncated(path: Path) -> None:
    save(path, NOISE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_absurd_size(path: Path) -> None:
    """A header that claims 10^12 voxels, and hardly any data."""
    header = bytearray(Nifti1Image(NOISE, AFFINE).header.binaryblock)
    struct.pack_into("<8h", header, 40, 3, 10_000, 10_000, 10_000, 1, 1, 1, 1)
    path.write_bytes(gzip.compress(bytes(header) + b"\0" * 4096))


def write_series(path: Path) -> None:
    save(path, np.stack([NOISE, NOISE], axis=-1))


def write_flat(path: Path) -> None:
    save(path, NOISE[:, :, 0])


def write_singular(path: Path) -> None:
    image = Nifti1Image(NOISE, None)
    image.header["sform_code"] = 1
    image.header["srow_x"] = image.header["srow_y"] = [1, 0, 0, 0]
    image.header["srow_z"] = [0, 0, 1, 0]
    path.write_bytes(gzip.compress(image.header.binaryblock + b"\0" * 4 + NOISE.tobytes(order="F")))


def write_nan(path: Path) -> None:
    save(path, np.where(np.arange(4) < 3, np.nan, NOISE).astype(np.float32))


def write_constant(path: Path) -> None:
    save(path, np.full_like(NOISE, 7))


def write_colour(path: Path) -> None:
    save(path, np.zeros((32, 40, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def write_complex(path: Path) -> None:
    save(path, NOISE.astype(np.complex64))


BAD: list[Callable[[Path], None]] = [
    *(write_text, write_nothing, write_truncated, write_absurd_size, write_series, write_flat),
    *(write_singular, write_nan, write_constant, write_colour, write_complex),
]


@pytest.mark.parametrize("write", BAD, ids=lambda write: write.__name__)
def test_a_bad_input_is_three_and_leaves_nothing(run: Run, tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "t1.nii.gz"
    write(path)
    assert_refused(run("synth", path, "--to", "t2"), 3, "t1.nii.gz")
    assert names(tmp_path) == ["t1.nii.gz"]


def test_a_missing_input_is_three(run: Run, tmp_path: Path) -> None:
    assert_refused(run("synth", tmp_path / "t1.nii.gz", "--to", "t2"), 3, "t1.nii.gz")
    assert names(tmp_path) == []


def test_a_folder_as_input_is_three(run: Run, tmp_path: Path) -> None:
    assert_refused(run("synth", tmp_path, "--from", "t1", "--to", "t2"), 3)


def test_no_model_for_the_pair_is_four_and_says_which_exist(run: Run, t1: Path) -> None:
    assert_refused(run("synth", t1, "--to", "ct"), 4, "t1", "t2", "flair")
    assert_refused(run("synth", t1, "--to", "t2", "--to", "ct"), 4, "ct")
    assert names(t1.parent) == ["t1.nii.gz"]


@pytest.mark.parametrize("model", ["nonsense", "absent.safetensors", "syndiff-t2-flair"])
def test_a_model_that_is_not_there_or_does_not_fit_is_four(run: Run, t1: Path, model: str) -> None:
    assert_refused(run("synth", t1, "--to", "t2", "-m", model), 4, model)
    assert names(t1.parent) == ["t1.nii.gz"]


def test_a_file_that_is_no_model_is_four(run: Run, t1: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"nonsense" * 100)
    assert_refused(run("synth", t1, "--to", "t2", "-m", model), 4, "model.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "gpu", "gpu:1"])
def test_a_device_that_is_not_there_is_five(run: Run, t1: Path, device: str) -> None:
    assert_refused(run("synth", t1, "--to", "t2", "-d", device), 5)
    assert names(t1.parent) == ["t1.nii.gz"]


def test_an_existing_output_is_six_and_stays(run: Run, t1: Path) -> None:
    mine = t1.with_name("t1_synth-flair.nii.gz")
    mine.write_bytes(b"mine")
    result = run("synth", t1, "--to", "t2", "--to", "flair")  # refused before the first target is made
    assert_refused(result, 6, "t1_synth-flair.nii.gz", "--overwrite")
    assert mine.read_bytes() == b"mine"
    assert names(t1.parent) == ["t1.nii.gz", "t1_synth-flair.nii.gz"]
    assert run("synth", t1, "--to", "flair", "--overwrite", "--fast").exit_code == 0
    assert mine.read_bytes() != b"mine"


def test_an_existing_sidecar_is_six_and_stays(run: Run, t1: Path) -> None:
    t1.with_name("t1_synth-t2.json").write_text("mine")
    assert_refused(run("synth", t1, "--to", "t2"), 6, "t1_synth-t2.json")
    assert names(t1.parent) == ["t1.nii.gz", "t1_synth-t2.json"]


def test_the_input_is_never_the_output(run: Run, t1: Path) -> None:
    before = t1.read_bytes()
    assert_refused(run("synth", t1, "--to", "t2", "-o", t1, "--overwrite"), 2, "input")
    assert t1.read_bytes() == before


def test_an_output_in_a_folder_that_is_not_there_is_six(run: Run, t1: Path) -> None:
    assert_refused(run("synth", t1, "--to", "t2", "-o", t1.parent / "absent" / "out.nii.gz"), 6, "absent")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_six(run: Run, t1: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert_refused(run("synth", t1, "--to", "t2", "-o", locked / "out.nii.gz"), 6, "out.nii.gz")


def test_an_interrupt_is_130_and_leaves_nothing(run: Run, t1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imputer.results.save", interrupted)
    result = run("synth", t1, "--to", "t2", "--fast")
    assert (result.exit_code, result.stdout) == (130, "")
    assert names(t1.parent) == ["t1.nii.gz"]


def test_sigterm_ends_it_like_ctrl_c_and_leaves_nothing(t1: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "imputer",
        "synth",
        t1,
        "--to",
        "t2",
        "--to",
        "flair",
        "-o",
        tmp_path / "new",
        "-v",
    ]
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # it is at work
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_no_utf8(run: Run, t1: Path, tiny_model: Path) -> None:
    odd = t1.with_name(os.fsdecode(b"bad\xff_t1.nii.gz"))
    try:
        t1.rename(odd)
    except OSError:
        pytest.skip("the file system takes no such name")
    result = run("synth", odd, "--to", "t2", "-m", tiny_model, "--fast", "-o", t1.with_name("made.nii.gz"))
    assert result.exit_code == 0, result.output
    assert "bad\\udcff_t1.nii.gz" in t1.with_name("made.json").read_text(encoding="utf-8")
