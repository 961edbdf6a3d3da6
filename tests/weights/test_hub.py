"""Models of the Hub over real HTTP: names, downloads that survive everything, refusals, proxies, offline, uploading."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tiny_entry
from hub_server import Blob, ForwardProxy, HubServer, clean_client, flipped
from safetensors.numpy import save

from imputer.errors import ModelError, UsageError
from imputer.weights import hub, hub_errors, store, transfer
from imputer.weights.hub import HubName, obtain, parse, push, resolve
from imputer.weights.manifest import Entry, HubFile, Imported, ImportOnly, render, write

ROOT = Path(__file__).resolve().parents[2]
REPO = "lab/t1-to-t2"
FILE = "model.safetensors"
NAME = f"hf://{REPO}"


def package(seed: int, size: int = 400_000) -> bytes:
    """A real model package of about that size."""
    about = {"id": "tiny", "licence": "CC-BY-NC-4.0", "title": "Tiny", "scope": {"body_part": "head"}}
    header = {"format": 1, "method": "syndiff", "source": "t1", "target": "t2", "about": about}
    values = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return save({"weight": values}, metadata={"imputer": json.dumps(header)})


CONTENT = package(1)
SIZE = len(CONTENT)


def make_entry(commit: str = "0" * 40, content: bytes = CONTENT, file: str = FILE, name: str = "tiny") -> Entry:
    return tiny_entry.make_entry(content, name, home=HubFile(REPO, commit, file))


def index_of(*entries: Entry) -> bytes:
    """The index that lies beside the files."""
    return render([replace(entry, home=Imported(Path(hub.file_in(entry)))) for entry in entries]).encode()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with clean_client(monkeypatch, tmp_path / "hf"):
        monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 0.001)
        yield


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with one repository: an index and the model in it."""
    with HubServer() as running:
        fill(running)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def fill(server: HubServer) -> None:
    server.tokens = {"hf_lab": "lab", "hf_guest": "guest"}
    server.add(REPO, {hub.INDEX: index_of(make_entry()), FILE: CONTENT})


@pytest.fixture
def entry(server: HubServer) -> Entry:
    """The model of the repository, pinned to the commit that it has now."""
    return make_entry(server.repos[REPO].branches["main"])


def part_of(entry: Entry) -> Path:
    return store.target_path(entry.sha256).with_suffix(".part")


def left_in_cache() -> list[str]:
    """What lies in the cache's folder of models besides locks."""
    folder = store.home() / "models"
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".lock") if folder.is_dir() else []


def assert_obtained(entry: Entry, content: bytes = CONTENT) -> None:
    path = obtain(entry, offline=False)
    assert path == store.target_path(entry.sha256)
    assert path.read_bytes() == content
    assert left_in_cache() == [path.name]


def refused(call: Callable[[], object], *words: str) -> ModelError:
    """The call raises ModelError (exit code 4) with these words, in one line that tells no token and no folder."""
    with pytest.raises(ModelError) as caught:
        call()
    text = str(caught.value)
    assert caught.value.exit_code == 4
    for word in words:
        assert word in text, text
    assert "hf_" not in text and str(store.home()) not in text and "\n" not in text
    assert caught.value.remedy
    return caught.value


# Names.


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf://lab/t1-to-t2", HubName("lab/t1-to-t2")),
        ("hf://lab/t1_t2.v1@v1.0", HubName("lab/t1_t2.v1", "v1.0")),
        ("hf://a/b@refs/pr/1", HubName("a/b", "refs/pr/1")),
        (f"hf://a/b@{'0' * 40}", HubName("a/b", "0" * 40)),
    ],
)
def test_a_name_has_a_repository_and_maybe_a_revision(text: str, name: HubName) -> None:
    assert parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "lab/model", "hf://", "hf://lab", "hf://lab/", "hf:///model", "hf://lab/model/file", "hf://lab/model@",
        "hf://lab/model@a b", "hf://lab/model@a@b", "hf://../model", "hf://lab/..", "hf://lab/mo..del", "hf://lab/a--b",
        "hf://lab/model@../../x", "hf://lab/model?x=1", "hf://lab/model#x", "HF://lab/model", "hf://lab/model\n",
        "hf://lab/model@x\\y", f"hf://lab/{'m' * 97}", "hf://lab/.model",
    ],
)  # fmt: skip
def test_nonsense_is_no_name(text: str) -> None:
    with pytest.raises(UsageError, match="no name on the Hub"):
        parse(text)


# What a name stands for.


def test_branches_tags_commits_and_the_default_are_resolved(server: HubServer) -> None:
    first = server.repos[REPO].branches["main"]
    server.repos[REPO].tags["v1"] = first
    other = package(2)
    changed = make_entry(content=other)
    second = server.add(REPO, {hub.INDEX: index_of(changed), FILE: other})
    side = server.add(REPO, {hub.INDEX: index_of(make_entry())}, branch="feature/side")
    wanted = {None: second, "main": second, "v1": first, first: first, "feature/side": side}
    for revision, commit in wanted.items():
        name = HubName(REPO, revision)
        found = resolve(name, offline=False)
        assert (found.name, found.commit) == (name, commit)
        content = other if commit == second else CONTENT
        assert found.entries == (make_entry(commit, content),)


def test_a_commit_that_is_known_needs_no_request(server: HubServer) -> None:
    found = resolve(parse(NAME), offline=False)
    before = len(server.requests)
    assert resolve(HubName(REPO, found.commit), offline=False).entries == found.entries
    assert len(server.requests) == before


def test_an_index_cannot_point_elsewhere(server: HubServer) -> None:
    listed = replace(make_entry(), home=HubFile("evil/other", "1" * 40, FILE))
    only = replace(make_entry(name="theirs"), home=ImportOnly("Ask them.", "https://example.org/x"), bytes=0, sha256="")
    commit = server.add(REPO, {hub.INDEX: render([listed, only]).encode()})
    found = resolve(parse(NAME), offline=False).entries
    assert [entry.home for entry in found] == [HubFile(REPO, commit, FILE), only.home]


@pytest.mark.parametrize("index", [b"format = 2\nmodel = 3", b"\xff\xfe", b"<html>", b"format = 2\n[[model]]\nid = 1"])
def test_a_broken_index_is_one_error_and_is_not_kept(server: HubServer, index: bytes) -> None:
    server.add(REPO, {hub.INDEX: index})
    for _ in range(2):
        refused(lambda: resolve(parse(NAME), offline=False), hub.INDEX, REPO)
    assert list(store.home().rglob("*.toml")) == []


def test_an_absurdly_long_index_is_not_read_to_its_end(server: HubServer) -> None:
    server.add(REPO, {hub.INDEX: b"#" * 5_000_000})
    refused(lambda: resolve(parse(NAME), offline=False), hub.INDEX, "4 MB")


def test_a_damaged_kept_index_is_removed(server: HubServer) -> None:
    found = resolve(parse(NAME), offline=False)
    (kept,) = store.home().rglob(hub.INDEX)
    kept.write_text("format = 2\n")
    refused(lambda: resolve(parse(NAME), offline=True), "damaged")
    assert not kept.exists()
    assert resolve(parse(NAME), offline=False) == found


def test_a_repository_with_one_package_and_no_index(server: HubServer) -> None:
    commit = server.add("lab/bare", {FILE: CONTENT, "README.md": b"hello"})
    found = resolve(parse("hf://lab/bare"), offline=False)
    (entry,) = found.entries
    assert entry.home == HubFile("lab/bare", commit, FILE)
    assert (entry.id, entry.pair, entry.method, entry.title) == ("tiny", "t1->t2", "syndiff", "Tiny")
    assert (entry.bytes, entry.sha256) == (SIZE, hashlib.sha256(CONTENT).hexdigest())
    assert entry.licence.weights == "CC-BY-NC-4.0"
    assert obtain(entry, offline=True).read_bytes() == CONTENT
    assert resolve(parse("hf://lab/bare"), offline=True) == found


def test_repositories_without_a_model_of_ours(server: HubServer) -> None:
    server.add("lab/none", {"README.md": b"hello"})
    server.add("lab/two", {"a.safetensors": CONTENT, "b.safetensors": CONTENT})
    server.add("lab/foreign", {FILE: save({"weight": np.zeros(3, dtype=np.float32)})})
    server.add("lab/pickle", {"model.safetensors": b"\x80\x04 a pickle"})
    for name in ("none", "two"):
        refused(lambda: resolve(parse(f"hf://lab/{name}"), offline=False), f"hf://lab/{name}", "no model of imputer")  # noqa: B023
    refused(lambda: resolve(parse("hf://lab/foreign"), offline=False), FILE, "no imputer header")
    refused(lambda: resolve(parse("hf://lab/pickle"), offline=False), FILE, "not a readable safetensors")
    assert left_in_cache() == []


def test_an_answer_that_is_not_the_hubs(server: HubServer) -> None:
    server.fail(path="/api/models", status=200)  # as the page that a hotel's network shows first
    refused(lambda: resolve(parse(NAME), offline=False), "not one of the Hub", "firewall")


def test_another_commit_than_the_pinned_one(server: HubServer) -> None:
    stranger = "1" * 40
    server.repos[REPO].tags[stranger] = server.repos[REPO].branches["main"]
    refused(lambda: resolve(HubName(REPO, stranger), offline=False), "another commit")


# Fetching.


def test_a_model_is_fetched_once(server: HubServer, entry: Entry) -> None:
    told: list[tuple[str, int, int]] = []
    path = obtain(entry, offline=False, progress=lambda *step: told.append(step))
    assert path.read_bytes() == CONTENT
    assert left_in_cache() == [f"{entry.sha256}.safetensors"]
    assert told[-1] == ("download", SIZE, SIZE) and told == sorted(told) and len(told) > 1
    before = len(server.requests)
    assert obtain(entry, offline=False) == path
    assert len(server.requests) == before


def test_a_killed_download_goes_on_where_it_ended(server: HubServer, entry: Entry, tmp_path: Path) -> None:
    server.fail(place="cdn", hold=200_000, times=1)
    process = start_obtaining(entry, tmp_path)
    part = part_of(entry)
    wait_until(lambda: part.is_file() and part.stat().st_size >= 100_000, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = part.stat().st_size
    assert 100_000 <= there <= 200_000
    assert part.read_bytes() == CONTENT[:there]
    server.release.set()
    told: list[int] = []
    path = obtain(entry, offline=False, progress=lambda stage, done, total: told.append(done))
    assert path.read_bytes() == CONTENT
    assert left_in_cache() == [path.name]
    first, second = server.asked("cdn", "GET")
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={there}-"
    assert second.sent == SIZE - there
    assert min(told) > there


def test_a_connection_that_is_cut_again_and_again_gets_there(server: HubServer, entry: Entry) -> None:
    cuts = hub_errors.ATTEMPTS + 1  # more than without any progress
    server.fail(place="cdn", cut=50_000, times=cuts)
    assert_obtained(entry)
    ranges = [request.headers.get("range") for request in server.asked("cdn", "GET")]
    assert ranges == [None, *(f"bytes={50_000 * number}-" for number in range(1, cuts + 1))]
    assert sum(request.sent for request in server.asked("cdn")) == SIZE


def test_a_silent_server_is_given_up_and_asked_again(
    server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "READ_SECONDS", 0.3)
    server.fail(place="cdn", hold=100_000, times=1)
    assert_obtained(entry)
    assert server.asked("cdn")[-1].headers["range"] == "bytes=100000-"


def test_a_line_that_brings_nothing_is_given_up(server: HubServer, entry: Entry) -> None:
    part_of(entry).parent.mkdir(parents=True)
    part_of(entry).write_bytes(CONTENT[:1000])
    server.fail(place="cdn", cut=0)
    refused(lambda: obtain(entry, offline=False), "breaks off")
    assert len(server.asked("cdn")) == hub_errors.ATTEMPTS
    assert part_of(entry).read_bytes() == CONTENT[:1000]  # for the next time
    server.faults.clear()
    assert_obtained(entry)


def test_a_server_without_ranges_gives_all_again(server: HubServer, entry: Entry) -> None:
    server.fail(place="cdn", cut=150_000, times=1)
    server.fail(place="cdn", no_range=True)
    assert_obtained(entry)
    assert [request.sent for request in server.asked("cdn", "GET")] == [150_000, SIZE]


def test_what_is_left_of_a_finished_download_needs_no_request(server: HubServer, entry: Entry) -> None:
    part_of(entry).parent.mkdir(parents=True)
    part_of(entry).write_bytes(CONTENT)
    assert_obtained(entry)
    assert server.requests == []


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * SIZE, CONTENT + b"more"], ids=["short", "whole", "long"])
def test_wrong_leftovers_are_thrown_away(server: HubServer, entry: Entry, left: bytes) -> None:
    part_of(entry).parent.mkdir(parents=True)
    part_of(entry).write_bytes(left)
    assert_obtained(entry)
    assert server.asked("cdn")[-1].sent == SIZE


def test_a_damaged_file_in_the_cache_is_fetched_again(server: HubServer, entry: Entry) -> None:
    path = obtain(entry, offline=False)
    path.write_bytes(flipped(1000)(CONTENT))
    refused(lambda: obtain(entry, offline=True), "SHA-256", "models pull")
    assert left_in_cache() == []
    path.write_bytes(CONTENT[:-1])
    assert_obtained(entry)


def test_a_share_is_used_before_the_network(
    server: HubServer, entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (share / f"{entry.sha256}.safetensors").write_bytes(CONTENT)
    monkeypatch.setenv("IMPUTER_WEIGHTS_PATH", str(share))
    assert obtain(entry, offline=False).parent == share
    assert server.requests == []
    (share / f"{entry.sha256}.safetensors").write_bytes(flipped(1000)(CONTENT))
    assert_obtained(entry)  # into the cache: the share is not ours to mend


def test_small_files_come_from_the_hub_itself(server: HubServer, entry: Entry) -> None:
    server.repos[REPO].commits[entry.home.revision][FILE].lfs = False  # type: ignore[union-attr]
    server.fail(place="hub", path="/resolve/", cut=150_000, times=1)
    assert_obtained(entry)
    assert server.asked("cdn") == []
    assert server.asked("hub", "GET", FILE)[-1].headers["range"] == "bytes=150000-"


def test_eight_processes_fetch_one_file_once(server: HubServer, entry: Entry, tmp_path: Path) -> None:
    server.fail(place="cdn", hold=200_000, times=1)  # until all of them want it
    processes = [start_obtaining(entry, tmp_path) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "start\n"
    server.release.set()
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, results
    assert {out for out, _ in results} == {f"{store.target_path(entry.sha256)}\n"}
    assert left_in_cache() == [f"{entry.sha256}.safetensors"]
    assert store.target_path(entry.sha256).read_bytes() == CONTENT
    assert [request.sent for request in server.asked("cdn", "GET")] == [SIZE]


# What must never be used.


def test_a_flipped_byte(server: HubServer, entry: Entry) -> None:
    server.fail(place="cdn", change=flipped(SIZE - 5))
    refused(lambda: obtain(entry, offline=False), "tiny", "SHA-256", REPO)
    assert left_in_cache() == []
    server.faults.clear()
    assert_obtained(entry)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "change", [lambda content: content[:-1000], lambda content: content + b"x", lambda content: content * 2]
)
def test_another_size(server: HubServer, entry: Entry, change: Callable[[bytes], bytes], chunked: bool) -> None:
    server.fail(place="cdn", change=change, chunked=chunked)
    refused(lambda: obtain(entry, offline=False), FILE, "bytes on the Hub", str(SIZE))
    assert left_in_cache() == []


def test_a_size_that_is_claimed_and_not_sent(server: HubServer, entry: Entry) -> None:
    server.fail(place="cdn", change=lambda content: content[:-1000], length=SIZE)
    refused(lambda: obtain(entry, offline=False), FILE, f"{SIZE - 1000} bytes")
    assert left_in_cache() == []


def test_a_swapped_revision(server: HubServer, entry: Entry) -> None:
    other = package(2)
    assert len(other) == SIZE
    server.add(REPO, {FILE: other, hub.INDEX: index_of(make_entry(content=other))})
    assert_obtained(entry)  # the branch has moved; the entry means the commit
    store.target_path(entry.sha256).unlink()
    server.large[hashlib.sha256(other).hexdigest()] = other
    server.repos[REPO].commits[make_revision(entry)][FILE] = Blob(other, lfs=True)
    refused(lambda: obtain(entry, offline=False), "SHA-256")
    assert left_in_cache() == []


def make_revision(entry: Entry) -> str:
    assert isinstance(entry.home, HubFile)
    return entry.home.revision


def test_a_file_that_is_no_package(server: HubServer) -> None:
    for content, words in ((b"\x80\x04 pickle", "not a readable"), (save({"w": np.zeros(2)}), "no imputer header")):
        commit = server.add(REPO, {FILE: content})
        refused(lambda: obtain(make_entry(commit, content), offline=False), FILE, words)  # noqa: B023
        assert left_in_cache() == []


def test_an_import_only_model_is_not_fetched(server: HubServer) -> None:
    entry = replace(make_entry(), home=ImportOnly("Ask the authors.", "https://example.org"), bytes=0, sha256="")
    refused(lambda: obtain(entry, offline=False), "Ask the authors.")
    assert server.requests == []


# Refusals.


def both(entry: Entry) -> tuple[Callable[[], object], ...]:
    return lambda: resolve(parse(NAME), offline=False), lambda: obtain(entry, offline=False)


def test_nothing_there(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(lambda: resolve(parse("hf://lab/absent"), offline=False), "no public repository lab/absent", "HF_TOKEN")
    refused(lambda: resolve(parse(f"{NAME}@v9"), offline=False), REPO, "no revision v9")
    refused(lambda: obtain(make_entry("1" * 40), offline=False), REPO, "no revision 1111")
    missing = replace(entry, home=HubFile(REPO, make_revision(entry), "gone.safetensors"))
    refused(lambda: obtain(missing, offline=False), f"no gone.safetensors of {REPO}")
    monkeypatch.setenv("HF_TOKEN", "hf_guest")
    refused(lambda: resolve(parse("hf://lab/absent"), offline=False), "no repository lab/absent", "token")
    assert left_in_cache() == []


def test_private(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    server.repos[REPO].private = True
    for call in both(entry):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        refused(call, "no public repository", "HF_TOKEN")
        monkeypatch.setenv("HF_TOKEN", "hf_guest")
        refused(call, "or the token may not see it")
        monkeypatch.setenv("HF_TOKEN", "hf_unknown")
        refused(call, "does not accept the token")
        monkeypatch.setenv("HF_TOKEN", "hf_lab")
        call()


def test_gated(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    server.repos[REPO].gated = True
    for call in both(entry):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        refused(call, "gated", "Accept its terms", REPO, "HF_TOKEN")
        monkeypatch.setenv("HF_TOKEN", "hf_guest")
        server.repos[REPO].readers = set()
        refused(call, "gated", "Accept its terms", REPO)
        server.repos[REPO].readers = {"guest"}
        call()


def test_the_token_goes_to_the_hub_alone(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_lab")
    resolve(parse(NAME), offline=False)
    assert_obtained(entry)
    assert {request.headers.get("authorization") for request in server.asked("hub")} == {"Bearer hf_lab"}
    assert [request.headers.get("authorization") for request in server.asked("cdn")] == [None]
    assert all("imputer/" in request.headers["user-agent"] for request in server.requests)


def test_a_renamed_repository_is_followed_with_the_token(
    server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_lab")
    server.repos["lab/renamed"] = server.repos.pop(REPO)
    server.repos["lab/renamed"].private = True
    server.moved[REPO] = "lab/renamed"
    assert resolve(parse(NAME), offline=False).entries == (entry,)
    assert_obtained(entry)


def test_redirects_in_a_circle(server: HubServer, entry: Entry) -> None:
    server.moved[REPO] = REPO
    refused(lambda: obtain(entry, offline=False), "in a circle")


@pytest.mark.parametrize("status", [500, 502, 503, 429])
@pytest.mark.parametrize("place", ["hub", "cdn"])
def test_a_passing_failure(server: HubServer, entry: Entry, status: int, place: str) -> None:
    server.fail(place=place, path="/resolve/" if place == "hub" else "", status=status, times=2)
    assert_obtained(entry)
    assert len(server.asked(place)) == 3


def test_a_failure_for_ever(server: HubServer, entry: Entry) -> None:
    server.fail(place="hub", status=500)
    for call in both(entry):
        before = len(server.requests)
        refused(call, "127.0.0.1", "status 500", "later")
        assert len(server.requests) - before == hub_errors.ATTEMPTS


def test_waits_grow_and_are_those_that_the_server_asks_for(
    server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 1.0)
    server.fail(place="hub", status=503, times=3)
    server.fail(place="hub", status=429, times=1, headers={"Retry-After": "7"})
    server.fail(place="hub", status=429, times=1, headers={"RateLimit": '"api";r=0;t=55'})
    assert_obtained(entry)
    assert [round(wait, 2) for wait in waits if wait] == [1, 2, 4, 7, 55]


@pytest.mark.parametrize("after", ["3600", "Fri, 31 Dec 2199 23:59:59 GMT"])
def test_too_long_a_wait_is_told_instead_of_waited(server: HubServer, entry: Entry, after: str) -> None:
    server.fail(place="hub", status=429, times=1, headers={"Retry-After": after})
    refused(lambda: obtain(entry, offline=False), "too many requests", " s;", "HF_TOKEN")
    assert len(server.requests) == 1
    assert_obtained(entry)


@pytest.mark.parametrize("after", ["soon", "", "-1", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_a_senseless_wait_is_no_error(server: HubServer, entry: Entry, after: str) -> None:
    server.fail(place="hub", status=429, times=1, headers={"Retry-After": after})
    assert_obtained(entry)


def test_a_storage_host_that_refuses(server: HubServer, entry: Entry) -> None:
    server.fail(place="cdn", status=403, times=1)  # a signature that has run out: the Hub gives a new one
    assert_obtained(entry)
    store.target_path(entry.sha256).unlink()
    server.fail(place="cdn", status=403)
    refused(lambda: obtain(entry, offline=False), "keeps its files", "firewall")


def test_an_unknown_refusal(server: HubServer, entry: Entry) -> None:
    server.fail(place="hub", status=418)
    refused(lambda: obtain(entry, offline=False), "418", FILE)


# The network between.


def test_no_network(entry_elsewhere: Entry) -> None:
    for call in both(entry_elsewhere):
        refused(call, "127.0.0.1 cannot be reached", "HTTPS_PROXY", "--offline")


@pytest.fixture
def entry_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A model on a Hub that is not there: nobody listens on its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    return make_entry()


def test_a_mirror_is_asked_and_nobody_else(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer() as mirror:
        fill(mirror)
        monkeypatch.setenv("HF_ENDPOINT", f"{mirror.url}/")
        assert resolve(parse(NAME), offline=False).commit == make_revision(entry)
        assert_obtained(entry)
        assert mirror.asked("hub") and mirror.asked("cdn")
    assert server.requests == []


@pytest.mark.parametrize("address", ["huggingface.co", "ftp://hub", "http://", "http://a b", "http://hub:port"])
def test_a_mirror_that_is_no_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    refused(lambda: resolve(parse(NAME), offline=False), "HF_ENDPOINT")


def test_a_proxy_is_used(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        resolve(parse(NAME), offline=False)
        assert_obtained(entry)
        hosts = {address.split("/")[2] for _, address in proxy.seen}
        assert hosts == {server.url.split("/")[2], server.cdn_url.split("/")[2]}
        assert len(proxy.seen) == len(server.requests)


def test_a_proxy_that_refuses(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with ForwardProxy(refuse=True) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        refused(lambda: obtain(entry, offline=False), "proxy", "407", "HTTPS_PROXY")
        assert len(proxy.seen) == 1
    assert server.requests == []


def test_a_proxy_that_is_no_address(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "what://is:this")
    refused(lambda: obtain(entry, offline=False), "settings of the network", "HTTPS_PROXY")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody trusts yet, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command, which makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-days", "2", "-out", str(files[0]), "-keyout", str(files[1]),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return files


@pytest.fixture
def secure(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The same Hub over https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with HubServer(context) as running:
        fill(running)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_a_certificate_that_nobody_trusts(secure: HubServer) -> None:
    entry = make_entry(secure.repos[REPO].branches["main"])
    for call in both(entry):
        refused(call, "certificate of 127.0.0.1", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    assert secure.requests == []


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_private_authority_and_a_tunnel(
    secure: HubServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(certificate[0]))
    before = dict(os.environ)
    entry = make_entry(secure.repos[REPO].branches["main"])
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert resolve(parse(NAME), offline=False).entries == (entry,)
        assert_obtained(entry)
        assert {method for method, _ in proxy.seen} == {"CONNECT"}
        assert len({target for _, target in proxy.seen}) == 2
        transfer.session().close()  # ends the tunnels
    assert {**before, "HTTPS_PROXY": proxy.url} == dict(os.environ)


def test_a_bundle_of_certificates_that_is_none(
    secure: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    refused(lambda: resolve(parse(NAME), offline=False), "settings of the network", "REQUESTS_CA_BUNDLE")


def test_https_is_not_given_up(
    secure: HubServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with HubServer() as plain:
        fill(plain)
        secure.fail(place="hub", path="/resolve/", status=302, headers={"Location": f"{plain.url}/{REPO}/resolve/x/y"})
        entry = make_entry(secure.repos[REPO].branches["main"])
        refused(lambda: obtain(entry, offline=False), "not protected by https")
        assert plain.requests == []


def test_a_token_that_cannot_be_sent(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("schlüssel", "a\x01b"):
        monkeypatch.setenv("HF_TOKEN", token)
        refused(lambda: obtain(entry, offline=False), "HF_TOKEN")
    assert server.requests == []


# The disk.


def test_a_full_disk(server: HubServer, entry: Entry) -> None:
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("needs /dev/full, on which every write fails for want of space")
    part_of(entry).parent.mkdir(parents=True)
    part_of(entry).symlink_to(full)
    refused(lambda: obtain(entry, offline=False), "No space left", "IMPUTER_HOME")
    assert left_in_cache() == []


def test_a_model_larger_than_the_disk(server: HubServer, entry: Entry) -> None:
    refused(lambda: obtain(replace(entry, bytes=1 << 60), offline=False), "MB are free", "IMPUTER_HOME")
    assert server.requests == []
    assert left_in_cache() == []


def test_a_cache_that_is_no_folder(server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    place = store.home().with_name("file")
    place.write_text("in the way")
    monkeypatch.setenv("IMPUTER_HOME", str(place))
    for call in both(entry):
        refused(call, "IMPUTER_HOME")


# Offline.


@pytest.mark.parametrize("how", ["flag", "IMPUTER_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_opens_no_socket(
    server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    server.repos[REPO].tags["v1"] = make_revision(entry)
    found = {text: resolve(parse(text), offline=False).entries for text in (NAME, f"{NAME}@v1", f"{NAME}@main")}
    path = obtain(entry, offline=False)
    before = len(server.requests)
    if how != "flag":
        monkeypatch.setenv(how, "1")

    opened = forbid_sockets(monkeypatch)
    offline = how == "flag"
    for text, entries in found.items():
        assert resolve(parse(text), offline=offline).entries == entries
    assert resolve(HubName(REPO, make_revision(entry)), offline=offline).entries == (entry,)
    assert obtain(entry, offline=offline) == path
    for unknown in ("hf://lab/other", f"{NAME}@v2", f"{NAME}@{'1' * 40}"):
        refused(lambda: resolve(parse(unknown), offline=offline), unknown, "models pull", "models export")  # noqa: B023
    path.unlink()
    refused(lambda: obtain(entry, offline=offline), "tiny", "models pull tiny", "models export")
    (tmp_path / "up").mkdir()
    if not offline:
        refused(lambda: push(REPO, tmp_path / "up", message="x"), "Offline")
    assert len(server.requests) == before and opened == []


def forbid_sockets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let nothing be connected or looked up from now on; the list tells what was tried."""
    tried: list[str] = []

    def guard(name: str) -> Callable[..., NoReturn]:
        def refuse(*_: Any, **__: Any) -> NoReturn:
            tried.append(name)
            raise OSError("no sockets here")

        return refuse

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, guard(name))
    monkeypatch.setattr(socket, "getaddrinfo", guard("getaddrinfo"))
    return tried


def test_the_guard_against_sockets_would_notice(
    server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = forbid_sockets(monkeypatch)
    refused(lambda: obtain(entry, offline=False), "cannot be reached")
    assert tried


def test_a_client_that_was_set_offline_says_so(
    server: HubServer, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as by TRANSFORMERS_OFFLINE
    refused(lambda: obtain(entry, offline=False), "offline", "TRANSFORMERS_OFFLINE")
    assert server.requests == []


def test_names_are_understood_without_the_hubs_client() -> None:
    code = (
        "import sys; from imputer.weights import hub; hub.parse('hf://a/b');"
        "print([name for name in ('huggingface_hub', 'torch', 'httpx2', 'httpx') if name in sys.modules])"
    )
    assert run_python(code) == "[]\n"


# Uploading.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as it is uploaded, with something besides that is nobody's business."""
    folder = tmp_path / "up"
    folder.mkdir()
    (folder / FILE).write_bytes(package(3))
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\nmade from phantoms\n")
    (folder / "log.jsonl").write_text("private notes")
    listed = make_entry(content=package(3))
    write(folder / hub.INDEX, [replace(listed, home=Imported(Path("/somewhere/secret") / FILE))])
    return folder


def test_what_one_user_pushes_another_one_runs(
    server: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_lab")
    commit = push("lab/new", folder, message="a model")
    repo = server.repos["lab/new"]
    assert repo.branches["main"] == commit and repo.messages[commit] == "a model" and not repo.private
    files = {path: blob.content for path, blob in repo.commits[commit].items() if path != ".gitattributes"}
    assert files.keys() == {hub.INDEX, FILE, "README.md"}
    assert b"secret" not in files[hub.INDEX]
    assert server.asked(path="agent-harnesses") == []  # huggingface_hub's telemetry
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "another"))
    for text in ("hf://lab/new", f"hf://lab/new@{commit}"):
        (entry,) = resolve(parse(text), offline=False).entries
        assert entry == replace(make_entry(content=package(3)), home=HubFile("lab/new", commit, FILE))
    assert obtain(entry, offline=False).read_bytes() == package(3)


def test_pushing_again_and_pushing_privately(server: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = push("lab/new", folder, message="one", private=True, token="hf_lab")
    assert server.repos["lab/new"].private
    assert push("lab/new", folder, message="two", token="hf_lab") == first  # nothing has changed
    (folder / "README.md").write_text("better")
    second = push("lab/new", folder, message="three", token="hf_lab")
    assert second != first and server.repos["lab/new"].commits[second]["README.md"].content == b"better"
    assert len(server.asked("cdn", "PUT")) == 1


def test_a_push_that_the_hub_refuses(server: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(lambda: push("lab/new", folder, message="x"), "a token for the Hub is needed")
    assert server.requests == []
    monkeypatch.setenv("HF_TOKEN", "hf_guest")
    refused(lambda: push("lab/new", folder, message="x"), "does not allow", "lab/new")
    refused(lambda: push(REPO, folder, message="x"), "does not allow", REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    refused(lambda: push("lab/new", folder, message="x"), "does not accept the token")
    monkeypatch.setenv("HF_TOKEN", "hf_lab")
    server.fail(place="cdn", method="PUT", status=403)
    refused(lambda: push("lab/new", folder, message="x"), "keeps its files")
    assert list(server.repos["lab/new"].commits[server.repos["lab/new"].branches["main"]]) == [".gitattributes"]


def test_a_push_without_a_network(entry_elsewhere: Entry, folder: Path) -> None:
    refused(lambda: push("lab/new", folder, message="x", token="hf_lab"), "cannot be reached")


def test_nothing_unsound_is_pushed(server: HubServer, folder: Path) -> None:
    def go() -> str:
        return push("lab/new", folder, message="x", token="hf_lab")

    for name in ("lab", "lab/new@main", "a/b/c"):
        with pytest.raises(UsageError):
            push(name, folder, message="x", token="hf_lab")
    (folder / FILE).write_bytes(flipped(1000)(package(3)))
    refused(go, "tiny", "SHA-256")
    (folder / FILE).unlink()
    refused(go, "tiny", "missing")
    write(folder / hub.INDEX, [])
    refused(go, "names no model")
    (folder / hub.INDEX).unlink()
    with pytest.raises(ModelError, match=hub.INDEX):
        go()
    assert server.requests == []


def test_a_push_leaves_the_hubs_client_as_it_was(
    server: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    before = constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_TELEMETRY, are_progress_bars_disabled()
    push("lab/new", folder, message="x", token="hf_lab")
    after = constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_TELEMETRY, are_progress_bars_disabled()
    assert before == after


# Other processes.


def start_obtaining(entry: Entry, folder: Path) -> subprocess.Popen[str]:
    """Start a process that fetches a model and prints where it is."""
    path = folder / "wanted.toml"
    if not path.exists():
        write(path, [entry])
    code = (
        "import sys; from pathlib import Path; import huggingface_hub; from imputer.weights import hub, manifest;"
        "entry = manifest.read(Path(sys.argv[1]))[0]; print('start', flush=True);"
        "print(hub.obtain(entry, offline=False))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], env=environment(), check=True, capture_output=True, text=True
    ).stdout


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if there():
            return
        if process.poll() is not None:
            pytest.fail(f"the process ended too early: {process.communicate()}")
        time.sleep(0.01)
    process.kill()
    pytest.fail("it does not come")
