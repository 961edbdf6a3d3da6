"""imputer models: results as text and JSON, damage found, foreign checkpoints refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from tiny import make_generator, make_header
from tiny_entry import make_entry, package_bytes

from imputer.modality import Modality
from imputer.nets.checkpoint import write_package
from imputer.weights import store
from imputer.weights.manifest import Imported

from .conftest import Run, assert_refused

PAIRS = ["syndiff-t1-t2", "syndiff-t2-t1", "syndiff-t1-flair", "syndiff-t2-flair"]
IDS = [*PAIRS, "syndiff-t2-t1-flair", "disdiff-t1-t2", "aldm-t1-t1ce-t2-flair"]


def test_list_has_the_embedded_models_first(run: Run) -> None:
    result = run("models", "list")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, *rows = [line.split() for line in result.stdout.splitlines()]
    assert heading == ["ID", "FROM", "TO", "METHOD", "SIZE", "LICENCE", "STATE"]
    assert [row[:4] for row in rows[:4]] == [[name, *name.split("-")[1:], "syndiff"] for name in PAIRS]
    assert [row[0] for row in rows[: len(IDS)]] == IDS
    assert {row[-1] for row in rows[: len(IDS)]} == {"embedded"}
    assert {row[-1] for row in rows[len(IDS) :]} == {"import-only"}


def test_list_as_json(run: Run) -> None:
    result = run("models", "list", "--json")
    assert result.exit_code == 0
    records = json.loads(result.stdout)
    assert [record["id"] for record in records[: len(IDS)]] == IDS
    assert {record["licence"] for record in records[: len(IDS)]} == {"CC-BY-4.0"}


def test_info(run: Run) -> None:
    record = json.loads(run("models", "info", "syndiff-t2-flair", "--json").stdout)
    assert (record["from"], record["to"], record["embedded"]) == ("t2", "flair", True)
    text = run("models", "info", "syndiff-t2-flair").stdout
    for words in (record["citation"], record["trained_on"], record["sha256"], "SSIM", "CC-BY-4.0", "best intensity"):
        assert words in text


def test_info_of_a_model_that_has_to_be_imported_says_how(run: Run) -> None:
    text = run("models", "info", "syndiff-ixi-t1-pd").stdout
    for words in ("imputer models import", "https://github.com/icon-lab/SynDiff", "non-commercial", "Ozbey"):
        assert words in text
    assert_refused(run("models", "pull", "syndiff-ixi-t1-pd"), 4, "syndiff-ixi-t1-pd", "imputer models import")


@pytest.mark.parametrize("command", ["info", "path", "verify", "pull", "rm"])
def test_an_unknown_id_is_four_and_says_which_exist(run: Run, command: str) -> None:
    assert_refused(run("models", command, "syndif-t1-t2"), 4, "Did you mean syndiff-t1-t2", *IDS)


def test_path(run: Run) -> None:
    result = run("models", "path", "syndiff-t1-t2")
    assert result.exit_code == 0
    assert Path(result.stdout.strip()).is_file()
    assert json.loads(run("models", "path", "syndiff-t1-t2", "--json").stdout)["path"] == result.stdout.strip()


def test_verify(run: Run) -> None:
    result = run("models", "verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()] == [[name, "sound"] for name in IDS]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A registered model from T1 to CT, whose file, outside the cache, has changed since."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(package_bytes())
    entry = make_entry(package_bytes(), "mine", home=Imported(file), targets=(Modality.CT,))
    store.register(entry, overwrite=False)
    file.write_bytes(package_bytes(seed=1))
    return file


def test_verify_finds_damage_and_changes_nothing(run: Run, damaged: Path) -> None:
    for arguments in (("models", "verify"), ("models", "verify", "mine"), ("doctor",)):
        result = run(*arguments)
        assert result.exit_code == 4
        assert "SHA-256" in result.stdout
        assert result.stderr.startswith("imputer: error: Not usable: mine.")
    (record,) = json.loads(run("models", "verify", "mine", "--json").stdout)
    assert (record["id"], record["sound"]) == ("mine", False)
    assert damaged.read_bytes() == package_bytes(seed=1)


def test_a_damaged_model_is_not_used(run: Run, damaged: Path, t1: Path) -> None:
    assert_refused(run("synth", t1, "--to", "ct"), 4, "SHA-256")
    assert_refused(run("synth", t1, "--to", "ct", "-m", "mine"), 4, "SHA-256")
    assert list(t1.parent.iterdir()) == [t1]


def test_path_of_a_missing_file(run: Run, damaged: Path) -> None:
    damaged.unlink()
    assert_refused(run("models", "path", "mine"), 4, "not on this machine")


def test_export_and_import_take_a_model_to_another_machine(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(package_bytes())
    store.register(make_entry(package_bytes(), "mine", home=Imported(file)), overwrite=False)
    archive = tmp_path / "mine.zip"
    assert run("models", "export", "mine", "-o", archive).stdout.strip() == str(archive)
    assert_refused(run("models", "export", "mine", "-o", archive), 6, "mine.zip", "--overwrite")
    there = {"IMPUTER_HOME": str(tmp_path / "there"), "IMPUTER_OFFLINE": "1"}
    assert run("models", "import", archive, env=there).stdout == "mine\n"
    where = Path(run("models", "path", "mine", env=there).stdout.strip())
    assert where.read_bytes() == package_bytes() and where.is_relative_to(tmp_path / "there")
    assert run("models", "rm", "mine", env=there).exit_code == 0
    assert not where.exists()
    assert_refused(run("models", "path", "mine", env=there), 4, "no model 'mine'")


def test_a_model_file_is_registered_and_then_chosen(run: Run, tmp_path: Path, t1: Path) -> None:
    package = tmp_path / "mine.safetensors"
    write_package(package, make_generator().state_dict(), make_header(target=Modality.PD))
    assert_refused(run("synth", t1, "--to", "pd"), 4, "syndiff-ixi-t1-pd")  # others offer one: not here
    assert run("models", "import", package, "--id", "syndiff-ixi-t1-pd").stdout == "syndiff-ixi-t1-pd\n"
    package.unlink()
    assert "here" in next(line for line in run("models", "list").stdout.splitlines() if "syndiff-ixi-t1-pd" in line)
    result = run("synth", t1, "--to", "pd")
    assert (result.exit_code, "Model: syndiff-ixi-t1-pd (T1 to PD" in result.stderr) == (0, True), result.output
    assert run("models", "rm", "syndiff-ixi-t1-pd").exit_code == 0
    assert_refused(run("synth", t1, "--to", "pd", "--overwrite"), 4, "syndiff-ixi-t1-pd")


def test_a_file_that_is_no_model_is_not_registered(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    assert_refused(run("models", "import", tmp_path / "x.safetensors"), 4, "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(package_bytes())
    assert_refused(run("models", "import", tmp_path / "y.safetensors", "--id", "../y"), 4, "y.safetensors", "id")
    assert_refused(run("models", "import", tmp_path / "y.safetensors", "--id", "syndiff-t1-t2"), 4, "comes with")
    assert "y.safetensors" not in run("models", "list").stdout


def test_an_archive_takes_no_modalities(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"nonsense")
    assert_refused(run("models", "import", tmp_path / "x.zip", "--from", "t1"), 2, "x.zip")
    assert_refused(run("models", "import", tmp_path / "x.zip"), 4, "x.zip", "models export")


def test_a_zip_of_a_version_to_come_is_no_traceback(run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as file:
        file.writestr("archive/data.pkl", b"")
    content = bytearray((tmp_path / "x.pth").read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99  # version needed to extract
    (tmp_path / "x.pth").write_bytes(content)
    assert_refused(run("models", "import", tmp_path / "x.pth", "--from", "t1", "--to", "t2"), 4, "x.pth")


def test_absurd_sizes_in_a_header_count_as_not_stated(run: Run, tmp_path: Path) -> None:
    header = make_header()
    header["about"]["scope"] |= {"pixel_mm": [1, 10**400], "slice_mm": [-1, 2]}
    write_package(tmp_path / "x.safetensors", make_generator().state_dict(), header)
    assert run("models", "import", tmp_path / "x.safetensors").exit_code == 0
    scope = json.loads(run("models", "info", "tiny", "--json").stdout)["scope"]
    assert scope["pixel_mm"] == scope["slice_mm"] == [0.01, 100.0]


def test_a_checkpoint_without_its_modalities_is_a_question_of_usage(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"nonsense")
    assert_refused(run("models", "import", tmp_path / "x.pth"), 2, "--from t1 --to t2")


def test_what_comes_with_imputer_is_not_removed(run: Run) -> None:
    assert_refused(run("models", "rm", "syndiff-t1-t2"), 4, "part of imputer")


def test_push_without_a_licence_is_refused_before_anything_is_sent(run: Run, tiny_run: Path) -> None:
    assert_refused(run("models", "push", "me/mine", tiny_run), 4, "licence", "--licence")


def test_push_dry_run_says_what_would_be_sent(run: Run, tiny_run: Path) -> None:
    result = run("models", "push", "me/mine", tiny_run, "--licence", "CC0-1.0", "--dry-run", "--json")
    record = json.loads(result.stdout)
    assert record["files"] == ["README.md", "imputer.toml", "syndiff-t1-t2.safetensors"]
    assert (record["model"], record["dry_run"]) == ("hf://me/mine", True)


@pytest.fixture
def tiny_run(tmp_path: Path) -> Path:
    """A folder as `imputer train` leaves it, with a model of a few bytes whose licence nobody said."""
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "run" / "models" / "syndiff-t1-t2.safetensors").write_bytes(package_bytes())
    (tmp_path / "run" / "config.toml").write_text('source = "t1"\ntarget = "t2"\n')
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 9, "forward.psnr": 20.25, "forward.ssim": 0.5}\n')
    return tmp_path / "run"


class Payload:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the code in the checkpoint ran",)


def write_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"module.all_modules.0.weight": Payload()}))


def write_torch_code(path: Path) -> None:
    torch.save({"module.all_modules.0.weight": Payload()}, path)


def write_nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense")


def write_other_network(path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3, 3)}, path)


def write_numbers(path: Path) -> None:
    torch.save({"conv.weight": 3}, path)


@pytest.mark.parametrize(
    "write",
    [write_code, write_torch_code, write_nonsense, write_other_network, write_numbers],
    ids=lambda w: w.__name__,
)
def test_a_wrong_checkpoint_is_four_and_leaves_nothing(
    run: Run, tmp_path: Path, write: object, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "gen_diffusive_2_50.pth"
    write(checkpoint)  # type: ignore[operator]
    result = run("models", "import", checkpoint, "--from", "t1", "--to", "t2")
    assert_refused(result, 4)
    assert "the code in the checkpoint ran" not in result.output + capfd.readouterr().out
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_import_of_a_missing_checkpoint(run: Run, tmp_path: Path) -> None:
    result = run("models", "import", tmp_path / "absent.pth", "--from", "t1", "--to", "t2")
    assert_refused(result, 4, "absent.pth")


def test_import_with_an_unknown_modality(run: Run, tmp_path: Path) -> None:
    assert_refused(run("models", "import", tmp_path / "x.pth", "--from", "t1", "--to", "t7"), 2, "t7", "flair")
