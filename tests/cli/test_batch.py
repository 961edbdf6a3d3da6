"""imputer batch: what is made, what is said, how it resumes, stops and refuses."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from tiny import write_model

from imputer.errors import OutputError
from imputer.modality import Modality
from imputer.phantom import make_head

from .conftest import Run, assert_refused

SMALL = {"shape": (40, 44, 3), "spacing": (4.5, 4.5, 40.0)}


def put_head(path: Path, modality: Modality = Modality.T1, seed: int = 0) -> None:
    head = make_head([modality], **SMALL, seed=seed)[modality]  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(Nifti1Image(head.array.astype(np.int16), head.affine), path)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases of a T1 in a flat folder."""
    folder = tmp_path_factory.mktemp("heads")
    for number in range(6):
        put_head(folder / f"case{number}_t1.nii.gz", seed=number)
    return folder


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "cases.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, bytes]:
    """All results by their paths, sidecars without what depends on the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".imputer" not in path.relative_to(folder).parts:
            data = path.read_bytes()
            if path.suffix == ".json" and path.name != "run.json":
                record = json.loads(data)
                record.pop("seconds", None)
                data = json.dumps(record).encode()
            if path.name not in ("run.json", "cases.csv", "report.html"):
                found[path.relative_to(folder).as_posix()] = data
    return found


def test_every_case_of_a_folder(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("batch", heads, out, "--to", "t2", "-m", tiny_model, "--fast")
    assert result.exit_code == 0, result.output
    made = [out / f"case{number}_t1_synth-t2.nii.gz" for number in range(6)]
    assert sorted(result.stdout.splitlines()) == [str(path) for path in made]
    alone = run(
        "synth", heads / "case3_t1.nii.gz", "--to", "t2", "-m", tiny_model, "--fast", "-o", tmp_path / "a.nii.gz"
    )
    assert alone.exit_code == 0
    assert (tmp_path / "a.nii.gz").read_bytes() == made[3].read_bytes()
    assert [(row["case"], row["status"], row["message"]) for row in rows(out)] == [
        (f"case{number}", "done", "") for number in range(6)
    ]
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["cases"] == {"done": 6, "failed": 0, "open": 0}
    assert record["failures"] == [] and record["slices"] > 0
    before = tree(out)
    again = run("batch", heads, out, "--to", "t2", "-m", tiny_model, "--fast")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "6 of them done before" in again.stderr
    assert tree(out) == before


def test_a_missing_or_changed_result_is_made_again(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    words = ["batch", heads, tmp_path / "out", "--to", "t2", "-m", tiny_model, "--fast"]
    assert run(*words).exit_code == 0
    before = tree(tmp_path / "out")
    (tmp_path / "out" / "case1_t1_synth-t2.nii.gz").unlink()
    (tmp_path / "out" / "case2_t1_synth-t2.json").write_text("{}")
    again = run(*words)
    assert sorted(Path(line).name[:5] for line in again.stdout.splitlines()) == ["case1", "case2"]
    assert tree(tmp_path / "out") == before


def break_cases(folder: Path) -> dict[str, str]:
    """Twelve cases, each broken in a way of its own, and a word of what must be said."""
    good = folder / "good00_t1.nii.gz"
    image = nibabel.load(good)
    data, affine = np.asarray(image.dataobj), image.affine

    def put(name: str, array: np.ndarray, matrix: np.ndarray = affine) -> None:
        nibabel.save(Nifti1Image(array, matrix), folder / f"{name}_t1.nii.gz")

    (folder / "bad01_t1.nii.gz").write_bytes(b"")
    (folder / "bad02_t1.nii.gz").write_bytes(good.read_bytes()[:900])
    (folder / "bad03_t1.nii.gz").write_text("no volume")
    put("bad04", np.stack([data, data], axis=-1))
    put("bad05", data[:, :, 0])
    put("bad06", np.zeros_like(data))
    put("bad07", np.full(data.shape, np.nan, np.float32))
    put("bad08", data, np.diag([0.01, 0.01, 0.01, 1.0]))
    put("bad09", data.astype(np.complex64))
    (folder / "bad10_t1.nii.gz").symlink_to(folder / "nowhere.nii.gz")
    huge = bytearray(Nifti1Image(data, affine).to_bytes()[:352])
    huge[42:48] = b"\xff\x7f\xff\x7f\xff\x7f"
    (folder / "bad11_t1.nii").write_bytes(bytes(huge))
    rgb = np.zeros(data.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(Nifti1Image(rgb, affine), folder / "bad12_t1.nii.gz")
    return {f"bad{number:02d}": "" for number in range(1, 13)}


def test_twelve_broken_cases_of_twenty(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(8):
        put_head(folder / f"good{number:02d}_t1.nii.gz", seed=number)
    bad = break_cases(folder)
    result = run("batch", folder, out, "--to", "t2", "-m", tiny_model, "--fast")
    assert result.exit_code == 8, result.output
    found = {row["case"].removesuffix("_t1.nii.gz"): row for row in rows(out)}  # a dead link is told by its file
    assert {case for case, row in found.items() if row["status"] == "failed"} >= set(bad)
    assert sum(row["status"] == "done" for row in found.values()) == 8
    assert len({row["message"] for case, row in found.items() if case in bad}) == 12
    assert len(list(out.glob("*.nii.gz"))) == 8
    failures = json.loads((out / "run.json").read_text(encoding="utf-8"))["failures"]
    command = next(each["command"] for each in failures if each["case"] == "bad02")
    alone = subprocess.run(
        [sys.executable, "-m", *command.split()], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert alone.returncode == 3 and found["bad02"]["message"].split(".")[0] in alone.stderr


def test_all_failed_is_nine(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a_t1.nii.gz").write_bytes(b"nothing")
    assert run("batch", tmp_path / "in", tmp_path / "out", "--to", "t2", "-m", tiny_model).exit_code == 9


def test_completing_makes_what_is_missing_from_what_is_real(run: Run, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    put_head(folder / "A" / "A_t1.nii.gz", Modality.T1)
    put_head(folder / "B" / "B_t1.nii.gz", Modality.T1)
    put_head(folder / "B" / "B_t2.nii.gz", Modality.T2)
    plan = run("batch", folder, out, "--complete", "t1,t2,flair", "--dry-run")
    assert plan.exit_code == 0 and not out.exists()
    assert "t2" in plan.stdout and "flair" in plan.stdout
    record = json.loads(run("batch", folder, out, "--complete", "t1,t2,flair", "--dry-run", "--json").stdout)
    assert [(job["case"], job["from"], job["to"]) for job in record["jobs"]] == [
        ("A", "t1", "t2"),
        ("A", "t1", "flair"),
        ("B", "t2", "flair"),
    ]
    result = run("batch", folder, out, "--complete", "t1,t2,flair", "--fast")
    assert result.exit_code == 0, result.output
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))
    assert made == ["A/A_t1_synth-flair.nii.gz", "A/A_t1_synth-t2.nii.gz", "B/B_t2_synth-flair.nii.gz"]


def test_a_bids_dataset_gets_derivatives(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for subject in ("01", "02"):
        put_head(folder / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz")
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    result = run("batch", folder, out, "--to", "t2", "-m", tiny_model, "--fast", "--participant", "02")
    assert result.exit_code == 0, result.output
    base = out / "derivatives" / "imputer"
    assert (base / "sub-02" / "anat" / "sub-02_desc-synth_T2w.nii.gz").is_file()
    assert (base / "sub-02" / "anat" / "sub-02_desc-synth_T2w.json").is_file()
    assert not (base / "sub-01").exists()
    described = json.loads((base / "dataset_description.json").read_text(encoding="utf-8"))
    assert described["DatasetType"] == "derivative" and described["GeneratedBy"][0]["Name"] == "imputer"


def test_parts_make_the_whole_together(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    for number in ("0", "1"):
        slurm = {"SLURM_ARRAY_TASK_ID": number, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0"}
        words = ["--to", "t2", "-m", tiny_model, "--fast", "--num-parts", "auto", "--part-id", "auto"]
        result = run("batch", heads, out, *words, env=slurm)
        assert result.exit_code == 0 and len(result.stdout.splitlines()) == 3
    assert run("batch", heads, whole, "--to", "t2", "-m", tiny_model, "--fast").exit_code == 0
    assert tree(out) == tree(whole)
    assert [row["status"] for row in rows(out)] == ["done"] * 6
    last = run("batch", heads, out, "--to", "t2", "-m", tiny_model, "--fast")
    assert (last.exit_code, last.stdout) == (0, "")


@pytest.mark.parametrize("way", [["--devices", "cpu,cpu"], ["--dask", "local:2"]])
def test_spread_out_it_makes_the_same(way: list[str], heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    if way[0] == "--dask":
        pytest.importorskip("distributed")
    for name, more in (("serial", []), ("spread", way)):
        words = ["--to", "t2", "-m", str(tiny_model), "--fast", *more]
        command = [sys.executable, "-m", "imputer", "batch", str(heads), str(tmp_path / name), *words]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "spread") == tree(tmp_path / "serial")


def start(heads: Path, out: Path, model: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "imputer", "batch", heads, out, "--to", "t2", "-m", model]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def test_kill_nine_at_any_moment_and_resume(heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert start(heads, whole, tiny_model).communicate() and (whole / "cases.csv").is_file()
    moments = random.Random(5)
    said: list[str] = []
    for _ in range(6):
        process = start(heads, out, tiny_model)
        try:
            said += process.communicate(timeout=2.0 + 1.5 * moments.random())[0].splitlines()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said += process.communicate()[0].splitlines()
    process = start(heads, out, tiny_model)
    said += process.communicate()[0].splitlines()
    assert process.returncode == 0
    assert tree(out) == tree(whole)
    assert len(said) == len(set(said)), "nothing is done twice"
    assert not list(out.rglob(".imputer-*"))
    assert [row["status"] for row in rows(out)] == ["done"] * 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(
    number: signal.Signals, run: Run, heads: Path, tiny_model: Path, tmp_path: Path
) -> None:
    process = start(heads, tmp_path / "out", tiny_model)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    said = [first.strip(), *rest.split()]
    whole = [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".nii.gz")]
    assert sorted(str(path) for path in whole) == sorted(said)
    assert len(whole) < 6
    assert all(path.with_name(path.name[:-7] + ".json").is_file() for path in whole)
    assert not list((tmp_path / "out").rglob(".imputer-*"))
    assert "run the same command again" in errors
    again = run("batch", heads, tmp_path / "out", "--to", "t2", "-m", tiny_model)
    assert again.exit_code == 0 and len(again.stdout.splitlines()) == 6 - len(whole)


def test_two_runs_on_one_output(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    process = start(heads, tmp_path / "out", tiny_model)
    lock = tmp_path / "out" / ".imputer" / "part-0001-of-0001.json"
    while not lock.exists() and process.poll() is None:
        time.sleep(0.05)
    try:
        result = run("batch", heads, tmp_path / "out", "--to", "t2", "-m", tiny_model)
        assert_refused(result, 6, "Another run", str(process.pid))
    finally:
        process.kill()
        process.communicate()


def test_another_model_or_setting_does_not_mix(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    words = ["batch", heads, tmp_path / "out", "--to", "t2", "--fast"]
    assert run(*words, "-m", tiny_model).exit_code == 0
    assert_refused(run(*words, "-m", tiny_model, "--seed", "5"), 2, "seed", "--overwrite")
    other = shutil.copy(tiny_model, tmp_path / "other.safetensors")
    assert_refused(run(*words, "-m", other), 2, "model", "--overwrite")
    result = run(*words, "-m", tiny_model, "--seed", "5", "--overwrite")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 6


def test_what_makes_no_sense(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert_refused(run("batch", heads, tmp_path / "out"), 2, "--to")
    assert_refused(run("batch", heads, tmp_path / "out", "--to", "t2", "--complete", "t2"), 2, "--complete")
    assert_refused(run("batch", heads, heads / "out", "--to", "t2"), 6, "output folder")
    assert_refused(run("batch", heads / "none", tmp_path / "out", "--to", "t2"), 3, "none")
    (tmp_path / "empty").mkdir()
    assert_refused(run("batch", tmp_path / "empty", tmp_path / "out", "--to", "t2"), 3, "empty")
    (tmp_path / "file").write_text("")
    assert_refused(run("batch", heads, tmp_path / "file", "--to", "t2"), 6, "file")
    for parts in (["--num-parts", "2", "--part-id", "3"], ["--num-parts", "auto"], ["--part-id", "x"]):
        assert_refused(
            run("batch", heads, tmp_path / "out", "--to", "t2", *parts), 2, "part" if parts[-1] != "auto" else "auto"
        )
    assert not (tmp_path / "out").exists()


def test_names_with_spaces_and_umlauts(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    put_head(tmp_path / "in put" / "Fall é 1" / "t1.nii.gz")
    result = run("batch", tmp_path / "in put", tmp_path / "aus gabe", "--to", "t2", "-m", tiny_model, "--fast")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "aus gabe" / "Fall é 1" / "t1_synth-t2.nii.gz").is_file()


def test_json_lines_for_programs(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = run("batch", heads, tmp_path / "out", "--to", "t2", "-m", tiny_model, "--fast", "--log-json")
    events = [json.loads(line) for line in result.stderr.splitlines()]
    cases = [event for event in events if event.get("event") == "case"]
    assert len(cases) == 6 and {case["status"] for case in cases} == {"done"}


def test_a_bar_on_the_terminal_leaves_the_paths_to_stdout(heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "imputer", "batch", heads, tmp_path / "out", "--to", "t2", "-m", tiny_model]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200"}
    words = [str(word) for word in command]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # that is how a terminal ends on Linux
            while piece := os.read(ours, 1 << 16):
                shown += piece
        assert process.stdout is not None
        said = process.stdout.read().splitlines()
    os.close(ours)
    assert process.returncode == 0
    assert len(said) == 6 and all(Path(line).is_file() for line in said)
    assert b"6/6" in shown and b"slices/s" in shown


def test_completing_a_dicom_tree_heeds_what_each_study_has(run: Run, tmp_path: Path) -> None:
    from dicom_phantom import make_series

    head = {"shape": (44, 48, 6), "spacing": (4.5, 4.0, 26.0)}
    make_series(tmp_path / "in" / "A" / "s", **head)
    make_series(tmp_path / "in" / "B" / "s", **head, study="B")
    make_series(tmp_path / "in" / "B" / "t", **head, study="B", series_number=4, contrast="t2")
    words = ["batch", tmp_path / "in", tmp_path / "out", "--complete", "t1,t2"]
    record = json.loads(run(*words, "--dry-run", "--json").stdout)
    assert [(job["case"], job["from"], job["to"]) for job in record["jobs"]] == [("A", "t1", "t2")]
    assert record["complete"] == 1
    result = run(*words, "--fast")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'out' / 'A_synth-t2'}\n"


def test_a_dicom_tree(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    from dicom_phantom import make_series

    for name in ("A", "B"):
        make_series(tmp_path / "in" / name / "s", shape=(44, 48, 6), spacing=(4.5, 4.0, 26.0), study=name)
    result = run("batch", tmp_path / "in", tmp_path / "out", "--to", "t2", "-m", tiny_model, "--fast")
    assert result.exit_code == 0, result.output
    folders = sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir() and path.name != ".imputer")
    assert len(folders) == 2
    again = run("batch", tmp_path / "in", tmp_path / "out", "--to", "t2", "-m", tiny_model, "--fast")
    assert (again.exit_code, again.stdout) == (0, "")


def test_write_model_is_what_the_fixture_uses(tmp_path: Path, tiny_model: Path) -> None:
    """The model of these tests is deterministic, so that runs of different processes can be compared."""
    assert write_model(tmp_path / "again.safetensors").read_bytes() == tiny_model.read_bytes()


def test_a_full_disk_stops_the_run_and_it_goes_on_later(
    run: Run, heads: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imputer import case as module

    write, calls = module.write_results, iter(range(100))

    def full(*arguments: object, **more: object) -> object:
        if next(calls) < 2:
            return write(*arguments, **more)  # type: ignore[arg-type]
        raise OutputError("No space is left to write it.") from OSError(errno.ENOSPC, "No space left on device")

    words = ["batch", heads, tmp_path / "out", "--to", "t2", "-m", tiny_model, "--fast"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_results", full)
        result = run(*words)
    assert result.exit_code == 6 and "the run stopped" in result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert {row["status"] for row in rows(tmp_path / "out")} == {"done", "failed", "open"}
    again = run(*words)
    assert again.exit_code == 0 and len(again.stdout.splitlines()) == 4


def test_the_command_of_a_failed_dicom_case_writes_where_the_batch_would(
    run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    from dicom_phantom import make_series

    make_series(tmp_path / "in" / "A b" / "s", shape=(44, 48, 6), spacing=(4.5, 4.0, 26.0))[2].unlink()
    assert run("batch", tmp_path / "in", tmp_path / "out", "--to", "t2", "-m", tiny_model).exit_code == 9
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    words = shlex.split(record["failures"][0]["command"])
    make_series(tmp_path / "in" / "A b" / "s", shape=(44, 48, 6), spacing=(4.5, 4.0, 26.0))
    assert run(*words[1:], "--fast").stdout == f"{tmp_path / 'out' / 'A b_synth-t2'}\n"


def test_parts_of_an_array_with_steps(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    array = {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_STEP": "2"}
    words = ["--to", "t2", "-m", tiny_model, "--fast", "--num-parts", "auto", "--part-id", "auto"]
    for task in ("2", "4", "6"):
        result = run("batch", heads, tmp_path / "out", *words, env={**array, "SLURM_ARRAY_TASK_ID": task})
        assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2, result.output


def test_nothing_of_a_patient_is_told(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    from dicom_phantom import CANARIES, make_series

    make_series(tmp_path / "in" / "one" / "s", shape=(44, 48, 6), spacing=(4.5, 4.0, 26.0))
    make_series(tmp_path / "in" / "two" / "s", shape=(44, 48, 6), spacing=(4.5, 4.0, 26.0))[2].unlink()
    words = ["--to", "t2", "-m", tiny_model, "--fast", "-vv", "--log-json", "-ot", "nifti"]
    result = run("batch", tmp_path / "in", tmp_path / "out", *words)
    assert result.exit_code == 8, result.output
    texts = [result.output.encode()]
    texts += [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".gz"]
    for canary in CANARIES:
        assert not any(canary.encode() in text for text in texts)


def test_files_of_others_are_never_replaced(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "case2_t1_synth-t2.nii.gz").write_text("mine")
    for _ in range(2):
        result = run("batch", heads, out, "--to", "t2", "-m", tiny_model, "--fast")
        assert result.exit_code == 8 and "exists already" in result.stderr
        assert (out / "case2_t1_synth-t2.nii.gz").read_text() == "mine"
    assert run("batch", heads, out, "--to", "t2", "-m", tiny_model, "--fast", "--overwrite").exit_code == 0


def test_what_a_dead_worker_left_half_made_is_replaced(run: Run, heads: Path, tiny_model: Path, tmp_path: Path) -> None:
    """As another worker finds it that takes the job over: the sidecar is there, the volume is not."""
    words = ["batch", heads, tmp_path / "out", "--to", "t2", "-m", tiny_model, "--fast"]
    assert run(*words).exit_code == 0
    before = tree(tmp_path / "out")
    ledger = tmp_path / "out" / ".imputer" / "ledger-0001-of-0001.jsonl"
    lines = ledger.read_text().splitlines()
    begun = json.dumps({"id": json.loads(lines[4])["id"], "status": "begun", "is_ours": True})
    ledger.write_text("\n".join([*lines[:4], begun, lines[5]]) + "\n")
    (tmp_path / "out" / "case4_t1_synth-t2.nii.gz").unlink()
    again = run(*words)
    assert again.exit_code == 0 and len(again.stdout.splitlines()) == 1
    assert tree(tmp_path / "out") == before
