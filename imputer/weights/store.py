"""Where the files of models lie on this machine: in the package, in the cache, on shares; and the local registry.

The cache is `IMPUTER_HOME`: `models/<sha256>.safetensors`, and `registry/<id>.toml` for models that did not come with
imputer. The folders of `IMPUTER_WEIGHTS_PATH` are searched after it and never written to, so that a share may be
read-only and in use by many processes. No network here; the environment is read at each call.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imputer.errors import ModelError, OutputError
from imputer.files import sha256_of
from imputer.weights.fields import SUFFIX
from imputer.weights.manifest import Embedded, Entry, HubFile, Imported, ImportOnly, entries, find, read, write

_ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package
_MODELS = "models"
_REGISTRY = "registry"
_NO = ("", "0", "false", "no", "off")
_WAIT_SECONDS = 6 * 3600.0  # for another process that fetches the same model, over a slow line

log = logging.getLogger(__name__)


def home() -> Path:
    """The user's cache folder, of `IMPUTER_HOME` or else the platform's; made when it is first written to."""
    if place := os.environ.get("IMPUTER_HOME"):
        return Path(os.path.expanduser(place))
    from platformdirs import user_cache_path

    try:
        return user_cache_path("imputer", appauthor=False)
    except RuntimeError:  # no HOME, and a user that the system does not know
        return Path("/nonexistent") / "imputer"  # nothing to read there; who would write is told to set IMPUTER_HOME


def caches() -> tuple[Path, ...]:
    """The cache, then the folders of `IMPUTER_WEIGHTS_PATH`, which may be laid out like one."""
    return home(), *_shares()


def search_folders() -> tuple[Path, ...]:
    """The cache's `models`, then the folders of `IMPUTER_WEIGHTS_PATH`.

    A share that is laid out like a cache, with a folder `models`, gives that folder too.
    """
    folders = [home() / _MODELS]
    for share in _shares():
        folders.append(share)
        if _exists(share / _MODELS, Path.is_dir):
            folders.append(share / _MODELS)
    return tuple(folders)


def file_of(entry: Entry) -> Path | None:
    """The file of an entry where there is one, sound or not; in the cache before on a share."""
    return next(_files_of(entry), None)


def fault(path: Path, entry: Entry) -> str | None:
    """What is wrong with a file (missing, size, hash), or None where it is the entry's."""
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"its file has {size} bytes instead of {entry.bytes}"
        return None if sha256_of(path) == entry.sha256 else "the SHA-256 of its file is wrong"
    except FileNotFoundError:
        return "its file is missing"
    except OSError as error:
        return f"its file cannot be read ({error.strerror or type(error).__name__})"


def problem(entry: Entry) -> str | None:
    """What is wrong with the file of an entry that is first found; None where nothing is. Changes nothing."""
    path = file_of(entry)
    return "its file is not on this machine" if path is None else fault(path, entry)


def verified(entry: Entry) -> Path:
    """The file of an entry, after a check of its size and SHA-256.

    A damaged one in the cache is removed; one in the package or on a share is left. The next place is tried then.

    Raises
    ------
    ModelError
        Where no place has a sound file; says why, and how to get one.
    """
    problems = []
    for path in _files_of(entry):
        found = fault(path, entry)
        if found is None:
            return path
        if path == target_path(entry.sha256) and _removed_if_damaged(path, entry):
            found += ", and was removed"
        elif not entry.embedded:
            found += " (left as it is, outside the cache)"
        problems.append(found)
    said = "; ".join(problems) or "its file is not on this machine"
    raise ModelError(f"The model {entry.id} is not usable: {said}.", remedy=_remedy(entry))


def target_path(sha256: str) -> Path:
    """Where the cache keeps the file with that hash, whether or not it is there."""
    return home() / _MODELS / f"{sha256}{SUFFIX}"


@contextmanager
def locked(sha256: str, *, wait_seconds: float = _WAIT_SECONDS) -> Iterator[None]:
    """Let one process at a time write or remove the file with that hash; makes the cache's folder.

    May be entered again by the thread that holds it. The lock is the operating system's, so it ends with its process;
    its empty file stays, as removing it would let two in.

    Raises
    ------
    ModelError
        Where the cache cannot be written to, or another process holds the lock for longer than `wait_seconds`.
    """
    from filelock import FileLock, Timeout

    path = target_path(sha256).with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, is_singleton=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("Another process is working on the same model; waiting for it.")
            lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise ModelError(
            f"Another process has been working on the same model for {wait_seconds:g} s.",
            remedy="See whether it hangs, end it, and try again.",
        ) from error
    except (OSError, NotImplementedError) as error:
        raise unwritable(error) from error
    try:
        yield
    finally:
        lock.release()


def unwritable(error: Exception) -> ModelError:
    """The error of a cache that cannot be written to."""
    if isinstance(error, OutputError):
        message = error.message
    else:
        reason = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
        message = f"The folder of the models cannot be written to ({reason})."
    return ModelError(message, remedy="Set IMPUTER_HOME to a folder with free space that you may write to.")


def check_space(folder: Path, needed: int) -> None:
    """ModelError where a folder's disk has not that many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"The model needs {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free.",
            remedy="Free some, or set IMPUTER_HOME to a folder on another disk.",
        )


def registered() -> tuple[Entry, ...]:
    """Entries of the local registry, then of the shares'; of two with one id the first.

    Raises
    ------
    ModelError
        Where a file of a registry is not readable; names it.
    """
    found: dict[str, Entry] = {}
    for folder in caches():
        for path in _listed(folder / _REGISTRY):
            try:
                entry = _only_entry(path)
            except ModelError as error:
                if folder == home():
                    raise
                log.warning("%s", error)  # one bad file on a share shall not stop all who use it
                continue
            found.setdefault(entry.id, entry)
    return tuple(found.values())


def register(entry: Entry, *, overwrite: bool) -> None:
    """Write an entry into the local registry; the file of one that it replaces goes where nothing else needs it.

    Raises
    ------
    ModelError
        Where a model of that id comes with imputer, or the cache cannot be written to.
    OutputError
        Where the id is taken and `overwrite` is false.
    """
    before = check_id(entry, overwrite=overwrite)
    path = _registry_path(entry.id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, [entry])
    except (OSError, OutputError) as error:
        raise unwritable(error) from error
    if before is not None:
        remove_unused(before.sha256)


def check_id(entry: Entry, *, overwrite: bool) -> Entry | None:
    """Return the entry in the local registry that `register` would replace; raises what it would raise."""
    shipped = {known.id: known for known in entries()}
    if entry.id in shipped and shipped[entry.id].is_runnable:
        raise ModelError(f"A model {entry.id} comes with imputer.", remedy="Choose another id.")
    path = _registry_path(entry.id)
    if not path.exists():
        return None
    if not overwrite:
        raise OutputError(f"A model {entry.id} is registered already.", remedy="Choose another id, or add --overwrite.")
    return _replaced(path)


def remove(identifier: str) -> list[Path]:
    """Remove a model from the local registry, and its file from the cache where no other entry has the same.

    Returns what was removed. Shares stay as they are.

    Raises
    ------
    ModelError
        Where there is no such model, it comes with imputer, or nothing of it lies in the cache.
    """
    path = _registry_path(identifier)
    entry = _replaced(path) if path.is_file() else find(identifier, all_entries())
    if entry is not None and entry.embedded:
        raise ModelError(f"The model {identifier} is part of imputer itself.", remedy="It goes when imputer goes.")
    gone = []
    try:
        if path.is_file():
            path.unlink()
            gone.append(path)
        if entry is not None:
            gone += remove_unused(entry.sha256, but=identifier)
    except OSError as error:
        raise unwritable(error) from error
    if entry is not None and not gone:
        where = "lies on a share, which is left as it is" if file_of(entry) else "is not on this machine"
        raise ModelError(f"The model {identifier} {where}.", remedy="There is nothing to remove.")
    return gone


def remove_unused(sha256: str, but: str = "") -> list[Path]:
    """Remove a file of the cache, and what is left of fetching it, unless an entry other than `but` has that hash.

    Returns what was removed.
    """
    if not sha256 or any(entry.sha256 == sha256 for entry in all_entries() if entry.id != but):
        return []
    target = target_path(sha256)
    if not target.parent.is_dir():
        return []
    gone = []
    with locked(sha256):
        for path in (target, target.with_suffix(".part")):
            if path.exists():
                path.unlink()
                gone.append(path)
    return gone


def remove_file(entry: Entry) -> list[Path]:
    """Remove the cached file of a model that is not registered, unless another entry has the same; tell what is gone.

    Raises
    ------
    ModelError
        Where there is nothing to remove, or the cache cannot be written to.
    """
    try:
        gone = remove_unused(entry.sha256)
    except OSError as error:
        raise unwritable(error) from error
    if not gone:
        raise ModelError(f"No file of {entry.id} can be removed.", remedy="It is not here, or another model needs it.")
    return gone


def all_entries() -> tuple[Entry, ...]:
    """The models that come with imputer, then the registered ones.

    A registered model takes the place of an import-only one of the same id: somebody has imported it.
    """
    own = {entry.id: entry for entry in registered()}
    shipped = [own.pop(entry.id, entry) if not entry.is_runnable else entry for entry in entries()]
    taken = {entry.id for entry in shipped}
    return (*shipped, *(entry for identifier, entry in own.items() if identifier not in taken))


def is_offline(flag: bool = False) -> bool:
    """Whether no socket may be opened: by `flag`, `IMPUTER_OFFLINE` or `HF_HUB_OFFLINE` (not 0, false, no, off)."""
    values = (os.environ.get(name, "") for name in ("IMPUTER_OFFLINE", "HF_HUB_OFFLINE"))
    return flag or any(value.strip().lower() not in _NO for value in values)


def _shares() -> list[Path]:
    places = os.environ.get("IMPUTER_WEIGHTS_PATH", "").split(os.pathsep)
    return [Path(os.path.expanduser(place)) for place in places if place.strip()]


def _exists(path: Path, kind: Callable[[Path], bool] = Path.is_file) -> bool:
    """Whether a path is there; a share that is gone or not ours to read has nothing."""
    with suppress(OSError):
        return kind(path)
    return False


def _listed(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    return []


def _files_of(entry: Entry) -> Iterator[Path]:
    """Yield the places where an entry's file is, in the order in which they are used."""
    if isinstance(entry.home, ImportOnly):
        return
    if isinstance(entry.home, Embedded):
        candidates = [_ROOT / entry.home.file]
    else:
        hashed = f"{entry.sha256}{SUFFIX}"
        plain = Path(entry.home.file if isinstance(entry.home, HubFile) else entry.home.path).name
        cache, *shares = search_folders()
        candidates = [cache / hashed]
        for folder in shares:
            candidates += [folder / hashed, *_of_size(folder / plain, entry.bytes)]
        if isinstance(entry.home, Imported) and entry.home.path.is_absolute():  # else a name inside an archive
            candidates.append(entry.home.path)
    yield from (path for path in dict.fromkeys(candidates) if _exists(path))


def _of_size(path: Path, size: int) -> list[Path]:
    """The path where a file of that size is there: many models may have one plain name."""
    return [path] if _exists(path, lambda there: there.stat().st_size == size) else []


def _removed_if_damaged(path: Path, entry: Entry) -> bool:
    """Remove a file of the cache under its lock, unless somebody has put a sound one there meanwhile."""
    try:
        with locked(entry.sha256):
            if fault(path, entry) is not None:
                path.unlink(missing_ok=True)
                return True
    except (OSError, ModelError):
        pass  # a cache that is not ours to change: the file is reported, and not used
    return False


def _remedy(entry: Entry) -> str:
    if isinstance(entry.home, Embedded):
        return "Install imputer again."
    if isinstance(entry.home, ImportOnly):
        return entry.home.instructions
    if isinstance(entry.home, HubFile):
        return f"Get it with 'imputer models pull {entry.id}'."
    return "Import it again with 'imputer models import'."


def _registry_path(identifier: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", identifier):  # never a path
        raise ModelError(f"There is no model {identifier!r}.", remedy="An id has letters, digits, dots and dashes.")
    return home() / _REGISTRY / f"{identifier}.toml"


def _only_entry(path: Path) -> Entry:
    """The entry of a registry's file; ModelError where it does not hold exactly one."""
    if path.parent.parent == home():
        remedy = f"Remove it with 'imputer models rm {path.stem}'."
    else:
        remedy = "Tell who keeps the share, or take it out of IMPUTER_WEIGHTS_PATH."
    try:
        found = read(path)
    except ModelError as error:
        raise ModelError(f"A registered model is broken. {error.message}", remedy=remedy) from error
    if len(found) != 1:
        raise ModelError(f"{path.name} of the registry holds {len(found)} models instead of one.", remedy=remedy)
    return found[0]


def _replaced(path: Path) -> Entry | None:
    """The entry of a registry's file that is to go; None where it is broken, which shall not keep it from going."""
    with suppress(ModelError):
        return _only_entry(path)
    return None
