"""Models of the Hugging Face Hub: what a name like ``hf://owner/repo@revision`` stands for, fetching, and uploading.

A repository of ours has an index, `imputer.toml`, in the manifest's format; its entries name the files beside it. A
name is first resolved to a commit, of which the index is kept (`<cache>/hub/<owner>--<repo>/<commit>/imputer.toml`, and
`refs/<revision>` for the way there without a network); files are fetched at that commit and checked against it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imputer.errors import ModelError, OutputError, UsageError
from imputer.files import replacing
from imputer.safetensors_header import check
from imputer.weights import store, transfer
from imputer.weights.hub_errors import Wanted
from imputer.weights.manifest import (
    INDEX,
    LARGEST,
    REVISION,
    SHA256,
    Entry,
    HubFile,
    Imported,
    ImportOnly,
    Licence,
    Scope,
    render,
)
from imputer.weights.manifest import parse as parse_manifest
from imputer.weights.manifest import read as read_manifest
from imputer.weights.manifest import write as write_manifest
from imputer.weights.package import entry_of
from imputer.weights.upload import upload

SCHEME = "hf://"
CARD = "README.md"
_HUB = "hub"  # folder of the cache
STAGE = "download"  # what `progress` is told

Progress = Callable[[str, int, int], None]

_PART_OF_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"hf://({_PART_OF_NAME}/{_PART_OF_NAME})(?:@([^\s@?#\\]{{1,200}}))?")
_LARGEST_INFO = 50_000_000  # bytes of what the Hub says of a repository; a list of all files is in it


@dataclass(frozen=True)
class HubName:
    """A repository ("owner/name") and a branch, tag or commit of it; None: its default branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Resolved:
    """The models of a repository at one commit (40 hexadecimal digits); each has a `HubFile` there as its home."""

    name: HubName
    commit: str
    entries: tuple[Entry, ...]


def parse(text: str) -> HubName:
    """Return the parts of ``hf://owner/repo`` or ``hf://owner/repo@revision``; UsageError where it is neither."""
    found = _NAME.fullmatch(text)
    if found is None or ".." in text or "--" in found[1]:
        raise UsageError(
            f"{text!r} is no name on the Hub.", remedy="Write hf://owner/repo or hf://owner/repo@revision."
        )
    return HubName(found[1], found[2])


def resolve(name: HubName, *, offline: bool, progress: Progress | None = None) -> Resolved:
    """Return the commit that a name stands for now, and the models there.

    A commit whose index is here already needs no network. A repository without an index that holds one model package
    is understood too; the package is fetched for its header then.

    Raises
    ------
    ModelError
        Where there is no such repository or revision, no way to it, or nothing of imputer in it.
    """
    if store.is_offline(offline):
        return _resolve_offline(name)
    if name.revision is not None and REVISION.fullmatch(name.revision) and _index_path(name, name.revision).is_file():
        return _at_hand(name, name.revision)
    info = _info(name)
    commit = info["sha"]
    if not _index_path(name, commit).is_file():
        files = {file.get("rfilename"): file for file in info["siblings"] if isinstance(file, dict)}
        entries = (
            _read_index(name, commit, files[INDEX]) if INDEX in files else _read_package(name, commit, files, progress)
        )
        _keep(name, commit, entries)
    _keep_ref(name, commit)
    return _at_hand(name, commit)


def kept() -> tuple[Entry, ...]:
    """The models of the Hub whose files are on this machine.

    What was kept of a repository and is damaged is left out: `resolve` says what is wrong with it.
    """
    found: list[Entry] = []
    for cache in store.caches():
        for path in sorted((cache / _HUB).glob(f"*/*/{INDEX}")):
            with suppress(ModelError):
                found += [entry for entry in read_manifest(path) if store.file_of(entry)]
    return tuple(dict.fromkeys(found))


def here() -> tuple[Entry, ...]:
    """All models whose files are on this machine; those that come with imputer even where theirs are gone."""
    own = (entry for entry in store.all_entries() if entry.embedded or store.file_of(entry))
    return (*own, *kept())


def name_of(entry: Entry) -> str:
    """How `-m` names a model: by its id, or by repository and commit."""
    home = entry.home
    return f"{SCHEME}{home.repo}@{home.revision}" if isinstance(home, HubFile) else entry.id


def obtain(entry: Entry, *, offline: bool, progress: Progress | None = None) -> Path:
    """Return the file of a model, checked (size, SHA-256); one of the Hub is fetched where it is not here.

    A fetch that was broken off, even by a killed process, goes on where it ended. Of several processes one fetches and
    the others wait. `progress` is called with ("download", bytes so far, bytes in all).

    Raises
    ------
    ModelError
        Where the file is neither here nor to be had, or is not the one that the entry describes.
    """
    if not isinstance(entry.home, HubFile):
        return store.verified(entry)
    try:
        return store.verified(entry)
    except ModelError as error:
        if store.is_offline(offline):
            raise ModelError(error.message, remedy=_offline_remedy(entry.id)) from error
    with store.locked(entry.sha256):
        with suppress(ModelError):  # somebody else has fetched it meanwhile
            return store.verified(entry)
        return _fetch(entry, entry.home, progress)


def push(repo: str, folder: Path, *, message: str, private: bool = False, token: str | None = None) -> str:
    """Upload a folder's index, the packages that it names, and the card; return the commit (40 hexadecimal digits).

    Parameters
    ----------
    repo : "owner/name"; made where there is none.
    folder : with `imputer.toml`, the packages, `README.md`; nothing else of it is uploaded.
    message : of the one commit.
    private : whether a new repository is.
    token : of an account that may write there; None: the user's own.

    Raises
    ------
    ModelError
        Where a package is missing or damaged, before anything is sent; where the Hub refuses.
    UsageError
        Where `repo` is not "owner/name".
    """
    name = parse(f"{SCHEME}{repo}")
    if name.revision is not None:
        raise UsageError(f"{repo!r} is no repository.", remedy="Write owner/name.")
    if store.is_offline():
        raise ModelError("Offline, nothing can be uploaded.", remedy="Unset IMPUTER_OFFLINE and HF_HUB_OFFLINE.")
    entries = read_manifest(folder / INDEX)
    if not entries:
        raise ModelError(f"The index {INDEX} names no model.", remedy="Add one.")
    files: dict[str, Path | bytes] = {}
    portable = []
    for entry in entries:
        file = file_in(entry)
        problem = store.fault(folder / file, entry)
        if problem is not None:
            raise ModelError(f"The model {entry.id} cannot be uploaded: {problem}.", remedy="Make the folder again.")
        check(folder / file)
        files[file] = folder / file
        portable.append(replace(entry, home=Imported(Path(file))))  # its commit is not known before it is made
    if (folder / CARD).is_file():
        files[CARD] = folder / CARD
    return upload(repo, {INDEX: render(portable).encode(), **files}, private=private, message=message, token=token)


def _fetch(entry: Entry, home: HubFile, progress: Progress | None) -> Path:
    """Download under the lock: to a temporary name, which becomes the file's after all checks."""
    target = store.target_path(entry.sha256)
    part = target.with_suffix(".part")
    wanted = Wanted(home.repo, home.revision, home.file)
    told = _Steps(entry.bytes, progress)
    try:
        begun = part.stat().st_size if part.exists() else 0
        if begun > entry.bytes:
            part.unlink()
            begun = 0
        store.check_space(part.parent, entry.bytes - begun)
        transfer.download(transfer.file_url(wanted), part, entry.bytes, wanted, told)
        problem = store.fault(part, entry)
        if problem is not None and begun:  # what was there from before may be what is wrong
            part.unlink()
            transfer.download(transfer.file_url(wanted), part, entry.bytes, wanted, told)
            problem = store.fault(part, entry)
        if problem is not None:
            part.unlink()
            raise ModelError(
                f"The model {entry.id} is not usable: as the Hub sends it, {problem}.",
                remedy=f"It was removed. Try again; if it stays so, tell who keeps {SCHEME}{home.repo}.",
            )
        try:
            check(part, wanted.file)
        except ModelError:
            part.unlink()
            raise
        part.replace(target)
    except OSError as error:
        raise store.unwritable(error) from error
    return target


class _Steps:
    """Passes on how far a download is, a hundred times in all: every piece would be too often."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._last = -1

    def __call__(self, done: int) -> None:
        step = 100 * done // self._total
        if self._progress is not None and step != self._last:
            self._last = step
            self._progress(STAGE, done, self._total)


def _info(name: HubName) -> dict[str, Any]:
    """What the Hub says of a repository at a revision: commit ("sha") and files ("siblings")."""
    wanted = Wanted(name.repo, name.revision or "")
    at = "" if name.revision is None else f"/revision/{quote(name.revision, safe='')}"
    text = transfer.read(f"{transfer.endpoint()}/api/models/{name.repo}{at}?blobs=true", wanted, largest=_LARGEST_INFO)
    try:
        info = json.loads(text)
        if not REVISION.fullmatch(info["sha"]) or not isinstance(info["siblings"], list):
            raise ValueError("no commit, or no files")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(
            f"The answer about {wanted} is not one of the Hub.",
            remedy="Check HF_ENDPOINT, and whether a firewall or proxy stands between.",
        ) from error
    if name.revision is not None and REVISION.fullmatch(name.revision) and info["sha"] != name.revision:
        raise ModelError(f"The Hub gives another commit than the one asked for of {name.repo}.", remedy="Try again.")
    return dict(info)


def _read_index(name: HubName, commit: str, about: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The index of a repository, with its files' homes in this repository at this commit, whatever it says itself.

    `about` is what the Hub says of the file; its name in git tells whether the bytes are those of the commit.
    """
    wanted = Wanted(name.repo, commit, INDEX)
    text = transfer.read(transfer.file_url(wanted), wanted, largest=LARGEST)
    blob = about.get("blobId")
    if isinstance(blob, str) and blob != hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest():
        raise ModelError(f"The index {wanted} came damaged.", remedy="Try again.")
    try:
        found = parse_manifest(text.decode("utf-8"), str(wanted))
    except UnicodeDecodeError as error:
        raise ModelError(f"The index {wanted} is not text.", remedy="Tell who keeps the repository.") from error
    except ModelError as error:
        raise ModelError(error.message, remedy=error.remedy or "Tell who keeps the repository.") from error
    return tuple(
        entry if isinstance(entry.home, ImportOnly) else replace(entry, home=HubFile(name.repo, commit, file_in(entry)))
        for entry in found
    )


def file_in(entry: Entry) -> str:
    """The path of an entry's file inside a repository, by what its home says."""
    if isinstance(entry.home, ImportOnly):
        raise ModelError(f"The model {entry.id} has no file.", remedy=entry.home.instructions)
    if isinstance(entry.home, Imported):
        return entry.home.path.name
    return entry.home.file


def _read_package(
    name: HubName, commit: str, files: Mapping[Any, Mapping[str, Any]], progress: Progress | None
) -> tuple[Entry, ...]:
    """The one model package of a repository without an index, as its own header describes it."""
    packages = [file for file in files if isinstance(file, str) and file.endswith(".safetensors")]
    if len(packages) != 1:
        raise ModelError(
            f"{name} holds no model of imputer: no {INDEX}, and {len(packages)} safetensors files instead of one.",
            remedy="Check the name; 'imputer models push' makes such a repository.",
        )
    about = files[packages[0]].get("lfs")
    sha256, size = (about.get("sha256"), about.get("size")) if isinstance(about, dict) else (None, None)
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256) or type(size) is not int or size <= 0:
        raise ModelError(f"The Hub does not tell the SHA-256 of {packages[0]} of {name}.", remedy=f"Add an {INDEX}.")
    home = HubFile(name.repo, commit, packages[0])
    scope, licence = Scope("", "", (0.0, 0.0), (0.0, 0.0)), Licence("", "", "", non_commercial=False)
    blank = Entry(name.repo.split("/")[1], "", (), (), "", "", "", "", scope, home, licence, size, sha256)
    path = obtain(blank, offline=False, progress=progress)
    entry = entry_of(path, home)
    return (replace(entry, id=blank.id) if entry.id == path.stem else entry,)


def _resolve_offline(name: HubName) -> Resolved:
    commit = name.revision if name.revision is not None and REVISION.fullmatch(name.revision) else None
    if commit is None:
        with suppress(OSError, ValueError):
            commit = _ref_path(name).read_text(encoding="utf-8").strip()
    if commit is None or not REVISION.fullmatch(commit) or not _index_path(name, commit).is_file():
        raise ModelError(f"{name} is not on this machine.", remedy=_offline_remedy(str(name)))
    return _at_hand(name, commit)


def _at_hand(name: HubName, commit: str) -> Resolved:
    """The kept index of a commit; a damaged one is removed."""
    path = _index_path(name, commit)
    try:
        return Resolved(name, commit, read_manifest(path))
    except ModelError as error:
        with suppress(OSError):
            path.unlink()
        raise ModelError(
            f"What was kept of {name} is damaged, and was removed. {error.message}",
            remedy="Try again, with a network.",
        ) from error


def _keep(name: HubName, commit: str, entries: tuple[Entry, ...]) -> None:
    path = _index_path(name, commit)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(path, entries)
    except (OSError, OutputError) as error:
        raise store.unwritable(error) from error


def _keep_ref(name: HubName, commit: str) -> None:
    path = _ref_path(name)
    try:
        if path.is_file() and path.read_text(encoding="utf-8").strip() == commit:
            return
        path = store.home() / path.relative_to(path.parents[3])
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, overwrite=True) as temporary:
            temporary.write_text(f"{commit}\n", encoding="utf-8")
    except (OSError, OutputError) as error:
        raise store.unwritable(error) from error


def _kept_path(name: HubName, *parts: str) -> Path:
    """Where something about a repository is kept: in the cache or else on a share; in the cache where it is nowhere."""
    paths = [cache.joinpath(_HUB, name.repo.replace("/", "--"), *parts) for cache in store.caches()]
    return next((path for path in paths if path.is_file()), paths[0])


def _index_path(name: HubName, commit: str) -> Path:
    return _kept_path(name, commit, INDEX)


def _ref_path(name: HubName) -> Path:
    """The file with the commit that a revision was last; the default branch's name is none that `quote` can give."""
    return _kept_path(name, "refs", "@default" if name.revision is None else quote(name.revision, safe=""))


def _offline_remedy(what: str) -> str:
    return (
        f"Run 'imputer models pull {what}' with a network; or bring the model over with 'imputer models export' "
        "and 'imputer models import'."
    )
