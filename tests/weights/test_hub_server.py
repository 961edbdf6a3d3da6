"""The tests' own Hub against the plain client functions of huggingface_hub: it must behave as the real one does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Fault, ForwardProxy, HubServer, clean_client, flipped
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_download,
    hf_hub_url,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

REPO = "lab/model"
WEIGHTS = bytes(range(256)) * 1000
TEXT = b"about the model\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks LFS
    with clean_client(monkeypatch, tmp_path / "hf"):
        yield


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.tokens = {"hf_lab": "lab", "hf_guest": "guest"}
        server.add(REPO, {"model.safetensors": WEIGHTS, "docs/about.txt": TEXT})
        yield server


def api(hub: HubServer, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def fetch(hub: HubServer, file: str, folder: Path, *, revision: str | None = None, token: str | bool = False) -> bytes:
    path = hf_hub_download(REPO, file, revision=revision, endpoint=hub.url, token=token, cache_dir=folder)
    return Path(path).read_bytes()


def test_model_info_tells_commit_and_files(hub: HubServer) -> None:
    info = api(hub).model_info(REPO, files_metadata=True)
    assert info.sha == hub.repos[REPO].branches["main"]
    about = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert about.keys() == {"model.safetensors", "docs/about.txt"}
    weights = about["model.safetensors"]
    assert weights.size == len(WEIGHTS) and weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert about["docs/about.txt"].lfs is None


def test_revisions_are_branches_tags_and_commits(hub: HubServer) -> None:
    first = hub.repos[REPO].branches["main"]
    hub.repos[REPO].tags["v1"] = first
    second = hub.add(REPO, {"docs/about.txt": b"new"})
    side = hub.add(REPO, {"docs/about.txt": b"side"}, branch="feature/side")
    client = api(hub)
    wanted = {None: second, "main": second, "v1": first, first: first, first[:8]: first, "feature/side": side}
    assert {name: client.model_info(REPO, revision=name).sha for name in wanted} == wanted
    refs = client.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    assert {ref.name for ref in refs.branches} == {"main", "feature/side"}
    with pytest.raises(RevisionNotFoundError):
        client.model_info(REPO, revision="v2")


def test_tree_and_paths(hub: HubServer) -> None:
    client = api(hub)
    entries = {entry.path: entry for entry in client.list_repo_tree(REPO, recursive=True)}
    assert entries.keys() == {"model.safetensors", "docs/about.txt"}
    (found,) = client.get_paths_info(REPO, ["model.safetensors", "absent"])
    assert found.size == len(WEIGHTS) and found.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_files_come_from_the_hub_or_by_way_of_the_cdn(hub: HubServer, tmp_path: Path) -> None:
    assert fetch(hub, "docs/about.txt", tmp_path) == TEXT
    assert hub.asked("cdn") == []
    assert fetch(hub, "model.safetensors", tmp_path, token="hf_lab") == WEIGHTS
    (request,) = hub.asked("cdn", "GET")
    assert request.sent == len(WEIGHTS)
    assert "authorization" not in request.headers
    assert all(asked.headers.get("authorization") == "Bearer hf_lab" for asked in hub.asked("hub", path="safetensors"))


def test_metadata_of_a_file(hub: HubServer) -> None:
    url = hf_hub_url(REPO, "model.safetensors", endpoint=hub.url)
    metadata = get_hf_file_metadata(url, token=False, endpoint=hub.url)
    assert metadata.commit_hash == hub.repos[REPO].branches["main"]
    assert metadata.etag == hashlib.sha256(WEIGHTS).hexdigest()
    assert metadata.size == len(WEIGHTS)
    assert metadata.location.startswith(hub.cdn_url)


def test_a_renamed_repository_redirects(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["lab/better"] = hub.repos.pop(REPO)
    hub.moved[REPO] = "lab/better"
    assert api(hub).model_info(REPO).id == "lab/better"
    assert fetch(hub, "model.safetensors", tmp_path) == WEIGHTS


def test_what_is_missing_is_said(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError) as anonymous:
        api(hub).model_info("lab/absent")
    assert anonymous.value.response.status_code == 401  # the real one does not tell strangers what exists
    with pytest.raises(RepositoryNotFoundError) as known:
        api(hub, "hf_guest").model_info("lab/absent")
    assert known.value.response.status_code == 404
    with pytest.raises(RemoteEntryNotFoundError):
        fetch(hub, "absent.txt", tmp_path)
    with pytest.raises(HfHubHTTPError) as wrong:
        api(hub, "hf_wrong").model_info(REPO)
    assert wrong.value.response.status_code == 401


def test_private_and_gated_repositories(hub: HubServer, tmp_path: Path) -> None:
    repo = hub.repos[REPO]
    repo.private = True
    for token in (False, "hf_guest"):
        with pytest.raises(RepositoryNotFoundError):
            api(hub, token).model_info(REPO)
    assert api(hub, "hf_lab").model_info(REPO).private
    repo.private, repo.gated = False, True
    assert api(hub).model_info(REPO).gated == "auto"
    for token, status in ((False, 401), ("hf_guest", 403)):
        with pytest.raises(GatedRepoError) as refused:
            fetch(hub, "model.safetensors", tmp_path / str(status), token=token)
        assert refused.value.response.status_code == status
    repo.readers.add("guest")
    assert fetch(hub, "model.safetensors", tmp_path, token="hf_guest") == WEIGHTS


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's way of uploading
def test_creating_and_committing(hub: HubServer, tmp_path: Path) -> None:
    client = api(hub, "hf_lab")
    assert client.whoami()["name"] == "lab"
    url = client.create_repo("lab/new", private=True)
    assert url.repo_id == "lab/new" and hub.repos["lab/new"].private
    client.create_repo("lab/new", exist_ok=True)
    with pytest.raises(HfHubHTTPError):
        client.create_repo("lab/new")
    files = {
        "model.safetensors": WEIGHTS[::-1],
        "README.md": b"---\nlicense: mit\n---\n",
        "more.safetensors": b"\0" * 20,
    }
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    info = client.create_commit("lab/new", operations, commit_message="first")
    repo = hub.repos["lab/new"]
    assert info.oid == repo.branches["main"] and repo.messages[info.oid] == "first"
    assert files.items() <= {path: blob.content for path, blob in repo.commits[info.oid].items()}.items()
    uploads = len(hub.asked("cdn", "PUT"))
    assert uploads == 2
    # Nothing is sent twice, and no empty commit is made.
    again = client.create_commit(
        "lab/new", [CommitOperationAdd("model.safetensors", WEIGHTS[::-1])], commit_message="again"
    )
    assert again.oid == info.oid and len(hub.asked("cdn", "PUT")) == uploads


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_folder_is_uploaded(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "up" / "sub").mkdir(parents=True)
    (tmp_path / "up" / "model.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "up" / "sub" / "notes.txt").write_bytes(TEXT)
    commit = api(hub, "hf_lab").upload_folder(repo_id=REPO, folder_path=tmp_path / "up", commit_message="folder").oid
    assert hub.repos[REPO].commits[commit]["sub/notes.txt"].content == TEXT


def test_strangers_cannot_write(hub: HubServer) -> None:
    operation = CommitOperationAdd("a.txt", b"a")
    for token, status in ((False, 401), ("hf_guest", 403)):
        for act in ("create", "commit"):
            client = api(hub, token)
            with pytest.raises(HfHubHTTPError) as refused:
                if act == "create":
                    client.create_repo("lab/new")
                else:
                    client.create_commit(REPO, [operation], commit_message="x")
            assert refused.value.response.status_code == status


def test_faults(hub: HubServer, tmp_path: Path) -> None:
    hub.fail(place="hub", path="/api/models", status=503, times=1, headers={"Retry-After": "7"})
    with pytest.raises(HfHubHTTPError) as refused:
        api(hub).model_info(REPO)
    assert refused.value.response.headers["Retry-After"] == "7"
    assert api(hub).model_info(REPO).id == REPO  # once only
    hub.fail(place="cdn", change=flipped(1000), times=1)
    damaged = fetch(hub, "model.safetensors", tmp_path / "flipped")
    assert [at for at in range(len(WEIGHTS)) if damaged[at] != WEIGHTS[at]] == [1000]
    hub.fail(place="cdn", change=lambda content: content[:100], chunked=True, times=1)
    with pytest.raises(OSError, match="Consistency check failed"):
        fetch(hub, "model.safetensors", tmp_path / "short")
    # huggingface_hub tries again by itself where a connection is cut.
    hub.fail(place="cdn", cut=100_000, times=1)
    assert fetch(hub, "model.safetensors", tmp_path / "cut") == WEIGHTS
    assert [request.sent for request in hub.asked("cdn", "GET")[-2:]] == [100_000, len(WEIGHTS)]


def test_ranges(hub: HubServer) -> None:
    url = f"{hub.cdn_url}/files/{hashlib.sha256(WEIGHTS).hexdigest()}"

    def ask(wanted: str) -> tuple[int, bytes, str | None]:
        answer = get_session().get(url, headers={"Range": wanted})
        return answer.status_code, answer.content, answer.headers.get("content-range")

    size = len(WEIGHTS)
    assert ask("bytes=100000-") == (206, WEIGHTS[100_000:], f"bytes 100000-{size - 1}/{size}")
    assert ask("bytes=10-19") == (206, WEIGHTS[10:20], f"bytes 10-19/{size}")
    assert ask(f"bytes={size}-") == (416, b"", f"bytes */{size}")
    hub.fail(place="cdn", no_range=True, chunked=True, times=1)
    assert ask("bytes=100000-") == (200, WEIGHTS, None)


def test_a_fault_is_for_what_it_names() -> None:
    hub_fault = Fault(place="hub", path="/api/", method="GET")
    with HubServer() as hub:
        with pytest.raises(LocalEntryNotFoundError):
            hf_hub_download(REPO, "a", endpoint=hub.url, token="hf_none", revision="main", local_files_only=True)
        assert hub.requests == []
        with pytest.raises(HfHubHTTPError):
            HfApi(endpoint=hub.url, token=False).model_info(REPO)
        assert hub_fault.fits(hub.requests[0])
        assert not Fault(place="cdn").fits(hub.requests[0]) and not Fault(times=0).fits(hub.requests[0])


def test_the_proxy_relays(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert fetch(hub, "model.safetensors", tmp_path) == WEIGHTS
        assert ("GET", f"{hub.cdn_url}/files/{hashlib.sha256(WEIGHTS).hexdigest()}?signature=secret") in proxy.seen
