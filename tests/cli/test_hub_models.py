"""One user pushes a model, another one runs it by its name: commands over real HTTP, then without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer, clean_client
from tiny import make_generator, make_header
from typer.testing import Result

from imputer.modality import Modality
from imputer.nets.checkpoint import write_package
from imputer.weights import transfer

from .conftest import Run, assert_refused

NAME = "hf://lab/t1-to-t2"
# Any attempt to reach another machine ends the process with a code of its own.
GUARD = """
import os, socket, sys
def refuse(*arguments):
    os._exit(99)
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from imputer.cli.app import app
sys.argv = ["imputer", *sys.argv[1:]]
app()
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """An empty Hub; this process is the user who may write to ``lab``."""
    with clean_client(monkeypatch, tmp_path / "hf"), HubServer() as running:
        running.tokens = {"hf_lab": "lab"}
        monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 0.001)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", "hf_lab")
        monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "mine"))
        yield running


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run with a tiny network from T1 to T2, for non-commercial use."""
    header = make_header()
    header["about"] |= {"licence": "CC-BY-NC-4.0", "non_commercial": True}
    (tmp_path / "run" / "models").mkdir(parents=True)
    write_package(tmp_path / "run" / "models" / "syndiff-t1-t2.safetensors", make_generator().state_dict(), header)
    (tmp_path / "run" / "config.toml").write_text('source = "t1"\ntarget = "t2"\n')
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 9, "forward.psnr": 20.25, "forward.ssim": 0.5}\n')
    return tmp_path / "run"


@pytest.fixture
def pushed(run: Run, server: HubServer, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name, with its commit, of the run on the Hub; from now on this is another user without a token."""
    result = run("models", "push", "lab/t1-to-t2", trained)
    assert result.exit_code == 0, result.output
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "theirs"))
    return result.stdout.strip()


def test_another_user_runs_what_was_pushed(run: Run, pushed: str, t1: Path) -> None:
    assert pushed.startswith(f"{NAME}@") and len(pushed) == len(NAME) + 41
    result = run("synth", t1, "--to", "t2", "-m", NAME)
    assert result.exit_code == 0, result.output
    assert "non-commercial use only (CC-BY-NC-4.0)" in result.stderr
    record = json.loads((t1.parent / "t1_synth-t2.json").read_text())["model"]
    assert (record["id"], record["origin"], record["non_commercial"]) == ("tiny", pushed, True)
    assert len(record["weights_sha256"]) == 64


@pytest.mark.parametrize(("source", "target", "direction"), [("t1", "t2", "forward"), ("t2", "t1", "backward")])
def test_another_user_trains_on_from_what_was_pushed(
    run: Run, pushed: str, t1: Path, source: str, target: str, direction: str
) -> None:
    t1.with_name("t2.nii.gz").write_bytes(t1.read_bytes())
    folders = ("--source", t1.parent, "--target", t1.parent, "-o", t1.parent / "run")
    contrasts = ("--from", source, "--to", target, "--paired")
    result = run("train", "syndiff", *folders, *contrasts, "--init", NAME, "--crop", "64x64", "--dry-run")
    assert result.exit_code == 0, result.output
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in result.stdout.splitlines()}
    assert (said["direction"], said["licence"]) == (direction, "CC-BY-NC-4.0")


def test_what_was_pulled_needs_no_network(run: Run, pushed: str, server: HubServer, t1: Path) -> None:
    assert_refused(run("synth", t1, "--to", "t2", "-m", NAME, "--offline"), 4, NAME, "imputer models pull")
    pulled = run("models", "pull", NAME)
    assert pulled.exit_code == 0, pulled.output
    assert "non-commercial" in pulled.stderr
    before = len(server.requests)
    for arguments in (
        ("synth", t1, "--to", "t2", "-m", NAME, "--offline", "-o", t1.parent / "a.nii.gz"),
        ("synth", t1, "--to", "t2", "-m", pushed, "-o", t1.parent / "b.nii.gz"),  # a commit never changes
        ("models", "path", NAME),
        ("models", "info", NAME, "--offline"),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    first, second = ((t1.parent / name).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert first == second
    assert len(server.requests) == before


def test_a_batch_asks_the_hub_once_however_many_cases_it_has(
    run: Run, pushed: str, server: HubServer, t1: Path, tmp_path: Path
) -> None:
    assert run("models", "pull", NAME).exit_code == 0
    asked = []
    for count in (1, 4):
        folder = tmp_path / f"in{count}"
        folder.mkdir()
        for number in range(count):
            (folder / f"case{number}_t1.nii.gz").write_bytes(t1.read_bytes())
        before = len(server.requests)
        result = run("batch", folder, tmp_path / f"out{count}", "--to", "t2", "-m", NAME, "--fast")
        assert result.exit_code == 0, result.output
        asked.append(len(server.requests) - before)
        record = json.loads((tmp_path / f"out{count}" / "case0_t1_synth-t2.json").read_text(encoding="utf-8"))
        assert record["model"]["origin"] == pushed
    assert asked[0] == asked[1] == 1


def test_the_card_and_the_index_say_what_the_run_said(pushed: str, server: HubServer) -> None:
    files = server.repos["lab/t1-to-t2"].commits[pushed.split("@")[1]]
    card, index = (files[name].content.decode() for name in ("README.md", "imputer.toml"))
    for words in ("CC-BY-NC-4.0", "20.25", "not for diagnosis", f"imputer synth t1.nii.gz --to t2 -m {NAME}"):
        assert words in card
    assert 'id = "tiny"' in index and "non_commercial = true" in index


def test_a_pulled_model_is_listed_verified_and_removed(run: Run, pushed: str) -> None:
    path = Path(run("models", "pull", NAME).stdout.strip())
    assert run("models", "list").stdout.splitlines()[-1].split()[:3] == [NAME, "t1", "t2"]
    assert run("models", "verify").stdout.splitlines()[-1].split() == [pushed, "sound"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert_refused_after_output(run("models", "verify", NAME), pushed)
    assert run("models", "rm", NAME).stdout.strip() == str(path)
    assert not path.exists()
    assert_refused(run("models", "rm", NAME), 4, NAME)


def assert_refused_after_output(result: Result, name: str) -> None:
    assert result.exit_code == 4
    assert "SHA-256" in result.stdout and f"Not usable: {name}." in result.stderr


def test_both_directions_of_a_run_are_in_one_repository(
    run: Run, server: HubServer, trained: Path, tmp_path: Path, t1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = make_header(Modality.T2, Modality.T1)
    back["about"] |= {"id": "back", "licence": "CC0-1.0"}
    write_package(trained / "models" / "syndiff-t2-t1.safetensors", make_generator().state_dict(), back)
    assert run("models", "push", "lab/both", trained).exit_code == 0
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "theirs"))
    name = "hf://lab/both"
    assert_refused(run("models", "export", name, "-o", tmp_path / "x.zip"), 4, name, "imputer models pull")
    assert len(run("models", "pull", name, "--from", "t2").stdout.splitlines()) == 1
    assert_refused(run("models", "path", name), 4, "tiny", "models pull")
    assert len(run("models", "pull", name).stdout.splitlines()) == 2
    assert_refused(run("models", "export", name, "-o", tmp_path / "x.zip"), 4, "several", "--from")
    assert run("models", "export", name, "-o", tmp_path / "x.zip", "--to", "t1").exit_code == 0
    assert [record["id"] for record in json.loads(run("models", "info", name, "--json").stdout)] == ["tiny", "back"]
    assert run("synth", t1, "--to", "t2", "-m", name, "--offline").exit_code == 0
    assert len(run("models", "rm", name).stdout.splitlines()) == 2


def test_a_pair_that_the_repository_does_not_make(run: Run, pushed: str, t1: Path) -> None:
    assert_refused(run("synth", t1, "--to", "flair", "-m", NAME), 4, NAME, "t1->t2")


def test_a_changed_file_on_the_hub_is_never_used(run: Run, pushed: str, server: HubServer, t1: Path) -> None:
    server.fail(place="cdn", change=lambda content: content[:-1] + bytes([content[-1] ^ 1]), times=-1)
    assert_refused(run("synth", t1, "--to", "t2", "-m", NAME), 4, "SHA-256")
    assert list(t1.parent.iterdir()) == [t1]


@pytest.mark.parametrize(
    ("how", "environment"), [("--offline", {}), ("", {"IMPUTER_OFFLINE": "1"}), ("", {"HF_HUB_OFFLINE": "1"})]
)
def test_offline_opens_no_socket(
    server: HubServer, t1: Path, how: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", GUARD, "synth", str(t1), "--to", "t2", "-m", NAME, *([how] if how else [])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (4, ""), ended.stderr
    assert "imputer models pull" in ended.stderr


def test_the_guard_would_see_a_socket(server: HubServer, t1: Path) -> None:
    command = [sys.executable, "-c", GUARD, "synth", str(t1), "--to", "t2", "-m", NAME]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 99


def test_a_licence_given_at_the_push_reaches_the_sidecar(
    run: Run, server: HubServer, tmp_path: Path, t1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mine.safetensors"
    header = make_header()
    header["about"]["licence"] = "unspecified"
    write_package(package, make_generator().state_dict(), header)
    assert_refused(run("models", "push", "bad name", package, "--licence", "CC0-1.0", "--dry-run"), 2, "bad name")
    assert_refused(run("models", "push", "lab/nc", package), 4, "--licence")
    assert run("models", "push", "lab/nc", package, "--licence", "CC-BY-NC-4.0").exit_code == 0
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "theirs"))
    result = run("synth", t1, "--to", "t2", "-m", "hf://lab/nc")
    assert "non-commercial use only (CC-BY-NC-4.0)" in result.stderr
    record = json.loads((t1.parent / "t1_synth-t2.json").read_text())["model"]
    assert (record["licence"], record["non_commercial"]) == ("CC-BY-NC-4.0", True)
    assert "does not state" in result.stderr  # a model that was named has its cautions too


def test_a_stated_licence_is_not_changed(run: Run, server: HubServer, trained: Path) -> None:
    assert_refused(run("models", "push", "lab/x", trained, "--licence", "MIT"), 2, "CC-BY-NC-4.0")


def test_a_share_serves_names_of_the_hub_offline(
    run: Run, pushed: str, tmp_path: Path, t1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("models", "pull", NAME).exit_code == 0
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "third"))
    monkeypatch.setenv("IMPUTER_WEIGHTS_PATH", str(tmp_path / "theirs"))
    assert run("models", "list").stdout.splitlines()[-1].split()[0] == NAME
    assert run("synth", t1, "--to", "t2", "-m", NAME, "--offline").exit_code == 0
    assert not (tmp_path / "third").exists()


def test_a_hub_model_that_was_exported_goes_by_its_id(
    run: Run, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("models", "pull", NAME).exit_code == 0
    assert run("models", "export", NAME, "-o", tmp_path / "x.zip").exit_code == 0
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "third"))
    monkeypatch.setenv("IMPUTER_OFFLINE", "1")
    name = run("models", "import", tmp_path / "x.zip").stdout.strip()
    assert run("models", "list").stdout.splitlines()[-1].split()[0] == name == "tiny"
    assert run("models", "path", name).exit_code == 0


def test_a_flipped_byte_in_the_index_is_never_believed(run: Run, pushed: str, server: HubServer, t1: Path) -> None:
    server.fail(path="imputer.toml", change=lambda text: text.replace(b"CC-BY-NC-4.0", b"CC-BY-XX-4.0"))
    assert_refused(run("synth", t1, "--to", "t2", "-m", NAME), 4, "damaged")
