"""Where models lie: the cache, shares that nobody writes to, the registry, and the lock that processes share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest
from tiny_entry import make_entry, package_bytes

from imputer.errors import ModelError, OutputError
from imputer.weights import store
from imputer.weights.manifest import Embedded, Entry, HubFile, Imported, ImportOnly, entries

ROOT = Path(__file__).resolve().parents[2]
CONTENT = package_bytes()
NOBODY = 65534
CANNOT = 77
READ_ONLY = f"""
import os, sys
from pathlib import Path
import filelock, platformdirs, tiny_entry
from imputer.weights import store
if os.geteuid() == 0:  # root may write anywhere; after the imports, as the other may not read them
    try:
        os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
    except OSError:
        sys.exit({CANNOT})
place = Path(sys.argv[1])
os.environ.update(IMPUTER_WEIGHTS_PATH=str(place / "share"), IMPUTER_HOME=str(place / "cache"))
path = store.verified(tiny_entry.make_entry(tiny_entry.package_bytes()))
try:
    (path.parent / "mine").touch()
except PermissionError:
    print("read", path.name)
"""
COUNT = """
import sys, time
from pathlib import Path
from imputer.weights import store
counter = Path(sys.argv[1])
for _ in range(15):
    with store.locked("0" * 64):
        number = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(number + 1))
"""
HOLD = """
import time
from imputer.weights import store
with store.locked("0" * 64):
    print("held", flush=True)
    time.sleep(60)
"""
EMBEDDED = next(entry for entry in entries() if isinstance(entry.home, Embedded))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test, not yet made; no setting of the developer's shell."""
    for name in ("IMPUTER_WEIGHTS_PATH", "IMPUTER_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def entry() -> Entry:
    return make_entry(CONTENT)


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that IMPUTER_WEIGHTS_PATH names."""
    folder = tmp_path / "share"
    folder.mkdir()
    monkeypatch.setenv("IMPUTER_WEIGHTS_PATH", str(folder))
    return folder


def put(entry: Entry, content: bytes = CONTENT) -> Path:
    """Write a file where the cache keeps that entry's."""
    path = store.target_path(entry.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder, with what a change would change."""
    facts = {path: path.stat() for path in [folder, *folder.rglob("*")]}
    return {str(path): (about.st_mtime_ns, about.st_size, about.st_mode) for path, about in facts.items()}


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Nobody writes below the folder meanwhile; where the user is not root, nobody can."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = listing(folder)
    try:
        yield
        assert listing(folder) == before
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_the_cache_is_where_the_user_says(cache: Path, monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    assert store.home() == cache
    assert store.search_folders() == (cache / "models",)
    assert store.target_path(entry.sha256) == cache / "models" / f"{entry.sha256}.safetensors"
    monkeypatch.setenv("IMPUTER_HOME", "~/mine")
    assert store.home() == Path.home() / "mine"


@pytest.mark.parametrize("value", [None, ""])
def test_the_cache_is_the_platforms_otherwise(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("IMPUTER_HOME")
    else:
        monkeypatch.setenv("IMPUTER_HOME", value)
    assert store.home() == Path(platformdirs.user_cache_dir("imputer", appauthor=False))


def test_looking_makes_no_folder(cache: Path, entry: Entry) -> None:
    assert store.file_of(entry) is None
    assert store.registered() == ()
    assert len(store.all_entries()) == len(entries())
    with pytest.raises(ModelError, match=r"mine is not usable: its file is not on this machine.*imputer models import"):
        store.verified(entry)
    assert not cache.exists()


def test_an_embedded_model_is_in_the_package() -> None:
    assert isinstance(EMBEDDED.home, Embedded)
    assert store.verified(EMBEDDED) == ROOT / EMBEDDED.home.file
    assert store.fault(ROOT / EMBEDDED.home.file, EMBEDDED) is None


def test_a_damaged_embedded_model_is_left_and_told() -> None:
    path = store.verified(EMBEDDED)
    before = path.stat().st_mtime_ns
    with pytest.raises(ModelError, match=r"SHA-256.*Install imputer again"):
        store.verified(replace(EMBEDDED, sha256="0" * 64))
    assert path.stat().st_mtime_ns == before


def test_a_model_in_the_cache_is_found_and_checked(entry: Entry) -> None:
    path = put(entry)
    assert store.file_of(entry) == store.verified(entry) == path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CONTENT[:-1], f"{len(CONTENT) - 1} bytes instead of {len(CONTENT)}"),
        (package_bytes(1), "SHA-256"),
        (b"", "0 b"),
    ],
)
def test_a_damaged_file_in_the_cache_is_removed(entry: Entry, content: bytes, words: str) -> None:
    path = put(entry, content)
    hub = replace(entry, home=HubFile("owner/repo", "a" * 40, "model.safetensors"))
    with pytest.raises(ModelError) as caught:
        store.verified(hub)
    assert words in caught.value.message
    assert "was removed" in caught.value.message
    assert "imputer models pull mine" in caught.value.remedy
    assert not path.exists()
    assert [left.suffix for left in path.parent.iterdir()] == [".lock"]


def test_shares_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    shares = [tmp_path / name for name in ("first", "second", "third")]
    monkeypatch.setenv("IMPUTER_WEIGHTS_PATH", os.pathsep.join(["", *map(str, shares), " "]))
    for share in shares[1:]:
        share.mkdir()
        (share / f"{entry.sha256}.safetensors").write_bytes(CONTENT)
    assert store.search_folders()[1:] == tuple(shares)
    assert store.verified(entry) == shares[1] / f"{entry.sha256}.safetensors"
    mine = put(entry)
    assert store.verified(entry) == mine


def test_a_share_may_be_laid_out_like_a_cache(share: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPUTER_HOME", str(share))  # who keeps the share fills it like a cache
    put(entry)
    store.register(entry, overwrite=False)
    monkeypatch.setenv("IMPUTER_HOME", str(share.parent / "another"))
    with untouched(share):
        assert store.registered() == (entry,)
        assert store.verified(entry) == share / "models" / f"{entry.sha256}.safetensors"


@pytest.mark.parametrize(
    "home", [HubFile("owner/repo", "a" * 40, "sub/plain.safetensors"), Imported(Path("/x/plain.safetensors"))]
)
def test_a_share_may_use_plain_names(share: Path, entry: Entry, home: HubFile | Imported) -> None:
    entry = replace(entry, home=home)
    (share / "plain.safetensors").write_bytes(b"of another model")
    assert store.file_of(entry) is None
    (share / "plain.safetensors").write_bytes(CONTENT)
    assert store.verified(entry) == share / "plain.safetensors"


def test_a_damaged_file_on_a_share_is_left_and_the_next_place_is_tried(share: Path, entry: Entry) -> None:
    (share / f"{entry.sha256}.safetensors").write_bytes(package_bytes(1))
    (share / "mine.safetensors").write_bytes(CONTENT)
    with untouched(share):
        assert store.verified(entry) == share / "mine.safetensors"
    (share / "mine.safetensors").unlink()
    with untouched(share), pytest.raises(ModelError, match=r"SHA-256 of its file is wrong \(left as it is"):
        store.verified(entry)
    bad = put(entry, package_bytes(2))
    with untouched(share), pytest.raises(ModelError, match=r"was removed; .*left as it is"):
        store.verified(entry)
    assert not bad.exists()


def test_a_share_is_used_without_a_write(share: Path, entry: Entry, cache: Path) -> None:
    (share / f"{entry.sha256}.safetensors").write_bytes(CONTENT)
    with untouched(share):
        assert store.verified(entry) == share / f"{entry.sha256}.safetensors"
        with store.locked(entry.sha256):
            assert store.file_of(entry) is not None
        store.register(entry, overwrite=False)
        assert store.remove(entry.id) == [cache / "registry" / "mine.toml"]
    assert [path.name for path in share.iterdir()] == [f"{entry.sha256}.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_share_that_cannot_be_written_to_is_read() -> None:
    with tempfile.TemporaryDirectory() as folder:  # the folders of pytest are for one user only
        place = Path(folder)
        (place / "share").mkdir()
        file = place / "share" / f"{make_entry(CONTENT).sha256}.safetensors"
        file.write_bytes(CONTENT)
        with untouched(place):
            other = python(READ_ONLY, place)
            said, errors = other.communicate()
        if other.returncode == CANNOT:
            pytest.skip("this machine lets root become no other user")
        assert (said, errors) == (f"read {file.name}\n", "")


def test_a_share_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entry: Entry) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMPUTER_WEIGHTS_PATH", os.pathsep.join([str(tmp_path / "gone"), str(tmp_path / "file")]))
    path = put(entry)
    assert store.verified(entry) == path
    assert store.registered() == ()


def test_what_is_registered_comes_back(entry: Entry) -> None:
    other = make_entry(package_bytes(1), "other", home=HubFile("owner/repo", "b" * 40, "other.safetensors"))
    store.register(entry, overwrite=False)
    store.register(other, overwrite=False)
    assert store.registered() == (entry, other)
    assert store.all_entries() == (*entries(), entry, other)


def test_an_id_is_registered_once_unless_told(entry: Entry) -> None:
    put(entry)
    store.register(entry, overwrite=False)
    another = make_entry(package_bytes(1))
    with pytest.raises(OutputError, match="mine is registered already"):
        store.register(another, overwrite=False)
    assert store.registered() == (entry,)
    store.register(another, overwrite=True)
    assert store.registered() == (another,)
    assert store.file_of(entry) is None  # nothing needs the replaced one's file


@pytest.mark.parametrize("identifier", [EMBEDDED.id, "../up", "a/b", ".hidden", "", "C:x"])
def test_an_id_that_is_taken_or_a_path_is_refused(entry: Entry, cache: Path, identifier: str) -> None:
    with pytest.raises(ModelError):
        store.register(replace(entry, id=identifier), overwrite=True)
    assert not cache.exists()


def test_an_import_stands_in_for_an_import_only_model(entry: Entry) -> None:
    theirs = next(known for known in entries() if isinstance(known.home, ImportOnly))
    assert isinstance(theirs.home, ImportOnly)
    with pytest.raises(ModelError) as caught:
        store.verified(theirs)
    assert " ".join(theirs.home.instructions.split()) == caught.value.remedy
    mine = replace(entry, id=theirs.id)
    store.register(mine, overwrite=False)
    found = store.all_entries()
    assert [each.id for each in found] == [each.id for each in entries()]
    assert mine in found and theirs not in found


def test_a_share_has_a_registry_too(share: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("IMPUTER_HOME", str(share))
    store.register(entry, overwrite=False)
    monkeypatch.setenv("IMPUTER_HOME", str(cache))
    mine = replace(entry, title="Mine")
    with untouched(share):
        assert store.registered() == (entry,)
        store.register(mine, overwrite=False)
        assert store.registered() == (mine,)
        store.remove("mine")
        assert store.registered() == (entry,)
        with pytest.raises(ModelError, match="mine is not on this machine"):
            store.remove("mine")


def test_a_broken_registry_on_a_share_stops_nobody(
    share: Path, entry: Entry, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (share / "registry").mkdir()
    (share / "registry" / "broken.toml").write_text("nonsense")
    store.register(entry, overwrite=False)
    assert store.registered() == (entry,)
    assert "broken.toml" in caplog.text


@pytest.mark.parametrize("text", ["nonsense", "", "format = 2\nmodel = []"])
def test_a_broken_registry_names_its_file_and_can_be_mended(cache: Path, entry: Entry, text: str) -> None:
    store.register(entry, overwrite=False)
    (cache / "registry" / "broken.toml").write_text(text)
    for look in (store.registered, store.all_entries):
        with pytest.raises(ModelError, match=r"broken\.toml.*imputer models rm broken"):
            look()
    assert store.remove("broken") == [cache / "registry" / "broken.toml"]
    assert store.registered() == (entry,)


def test_remove_takes_the_file_along(entry: Entry, cache: Path) -> None:
    path = put(entry)
    path.with_suffix(".part").write_bytes(b"half")
    store.register(entry, overwrite=False)
    gone = store.remove("mine")
    assert gone == [cache / "registry" / "mine.toml", path, path.with_suffix(".part")]
    assert not any(each.exists() for each in gone)
    with pytest.raises(ModelError, match="no model 'mine'"):
        store.remove("mine")


def test_remove_keeps_a_file_that_another_needs(entry: Entry) -> None:
    path = put(entry)
    store.register(entry, overwrite=False)
    store.register(replace(entry, id="twin"), overwrite=False)
    assert [each.name for each in store.remove("mine")] == ["mine.toml"]
    assert path.exists()
    assert path in store.remove("twin")
    assert not path.exists()


def test_remove_leaves_a_users_own_file(entry: Entry, tmp_path: Path) -> None:
    file = tmp_path / "theirs.safetensors"
    file.write_bytes(CONTENT)
    store.register(replace(entry, home=Imported(file)), overwrite=False)
    assert store.verified(store.registered()[0]) == file
    store.remove("mine")
    assert file.read_bytes() == CONTENT


def test_an_embedded_model_is_not_removed() -> None:
    with pytest.raises(ModelError, match="part of imputer itself"):
        store.remove(EMBEDDED.id)
    assert store.verified(EMBEDDED).exists()


@pytest.mark.parametrize("name", ["IMPUTER_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(
    ("value", "answer"),
    [("1", True), ("true", True), (" YES ", True), ("On", True), ("0", False), ("no", False), ("", False)],
)
def test_offline_is_said_in_three_ways(monkeypatch: pytest.MonkeyPatch, name: str, value: str, answer: bool) -> None:
    assert store.is_offline() is False
    monkeypatch.setenv(name, value)
    assert store.is_offline() is answer
    assert store.is_offline(True) is True


def test_a_cache_that_cannot_be_written_is_one_error(cache: Path, entry: Entry) -> None:
    cache.write_text("a file, where a folder should be")
    with pytest.raises(ModelError, match=r"cannot be written to.*IMPUTER_HOME"), store.locked(entry.sha256):
        pytest.fail("there is no lock")
    with pytest.raises(ModelError, match=r"cannot be written to.*IMPUTER_HOME"):
        store.register(entry, overwrite=False)
    assert cache.is_file()


def test_many_processes_take_turns(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    workers = [python(COUNT, counter) for _ in range(8)]
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    assert counter.read_text() == str(8 * 15)


def test_a_lock_that_another_holds_is_waited_for_then_told_and_ends_with_its_process() -> None:
    with python(HOLD) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ModelError, match="Another process has been working"),
            store.locked("0" * 64, wait_seconds=0.2),
        ):
            pytest.fail("two hold the lock")
        with store.locked("1" * 64, wait_seconds=0):
            pass  # another model is free
        holder.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        holder.communicate()
    with store.locked("0" * 64, wait_seconds=5):
        pass


def test_a_wait_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    with python(HOLD) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ModelError), store.locked("0" * 64, wait_seconds=0):
            pytest.fail("two hold the lock")
        holder.kill()
        holder.communicate()
    assert "waiting for it" in caplog.text


def test_who_holds_a_lock_may_take_it_again(cache: Path) -> None:
    with store.locked("0" * 64), store.locked("0" * 64, wait_seconds=0):
        pass
    with python(COUNT.replace("range(15)", "range(1)"), cache / "models" / "counter") as other:
        (cache / "models" / "counter").write_text("0")
        assert other.wait() == 0  # both have let go


def test_the_lock_is_let_go_after_an_error() -> None:
    with pytest.raises(KeyError), store.locked("0" * 64):
        raise KeyError
    with store.locked("0" * 64, wait_seconds=0):
        pass
