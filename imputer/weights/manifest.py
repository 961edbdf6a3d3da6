"""The weights manifest: ``weights_manifest.toml`` as frozen entries, and the check of a file against its entry.

No torch, no network: names, licences and hashes can be read before anything heavy is loaded.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from imputer.errors import ModelError
from imputer.files import sha256_of
from imputer.modality import Modality

# The folder that holds the package: the root of the repository or, for an installed wheel, of site-packages.
_PACKAGE = Path(__file__).resolve().parents[1]
_NAME = "weights_manifest.toml"
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One trained model.

    `file` is relative to the folder that holds the package; `bytes` and `sha256` (64 hexadecimal digits) are its size
    and hash.
    """

    id: str
    method: str
    source: Modality
    target: Modality
    file: str
    sha256: str
    bytes: int
    licence: str
    title: str
    trained_on: str
    citation: str
    version: str
    embedded: bool

    @property
    def path(self) -> Path:
        """Where the file of an embedded model lies, whether or not it exists."""
        return _PACKAGE.parent / self.file

    @property
    def pair(self) -> str:
        """Source and target as one word, e.g. ``t1->t2``."""
        return f"{self.source.value}->{self.target.value}"


def manifest_path() -> Path:
    """The manifest in the package (wheel) or beside it (repository, editable install)."""
    for path in (_PACKAGE / _NAME, _PACKAGE.parent / _NAME):
        if path.is_file():
            return path
    raise ModelError(f"The weights manifest {_NAME} is missing.", remedy="Install imputer again.")


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of the manifest: of two that fit, the earlier one is the better one."""
    return read(manifest_path())


def read(path: Path) -> tuple[Entry, ...]:
    """Parse a manifest file; ModelError where it is not one."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            raise ValueError(f"format {data['format']} is not {_FORMAT}")
        return tuple(_entry(record) for record in data["model"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The weights manifest {path.name} cannot be read ({error}).") from error


def _entry(record: dict[str, Any]) -> Entry:
    values = dict(record)
    values["source"] = Modality(values["source"])
    values["target"] = Modality(values["target"])
    return Entry(**values)


def find(identifier: str) -> Entry:
    """The entry of that id; ModelError names the ids that exist."""
    for entry in entries():
        if entry.id == identifier:
            return entry
    known = ", ".join(entry.id for entry in entries())
    raise ModelError(f"There is no model {identifier!r}.", remedy=f"Models: {known}.")


def candidates(source: Modality | None = None, target: Modality | None = None) -> tuple[Entry, ...]:
    """Entries that make `target` from `source`, best first; None stands for any."""
    return tuple(entry for entry in entries() if source in (None, entry.source) and target in (None, entry.target))


def fault(entry: Entry) -> str | None:
    """What is wrong with the file of an entry (missing, size, hash), or None where nothing is."""
    if not entry.path.is_file():
        return f"the file {Path(entry.file).name} is missing"
    size = entry.path.stat().st_size
    if size != entry.bytes:
        return f"the file has {size} bytes, the manifest says {entry.bytes}"
    if sha256_of(entry.path) != entry.sha256:
        return "the SHA-256 of the file is not the one in the manifest"
    return None


def verified_path(entry: Entry) -> Path:
    """The file of an entry, after a check of its size and SHA-256; ModelError where it fails."""
    problem = fault(entry)
    if problem is not None:
        raise ModelError(f"The model {entry.id} is not usable: {problem}.", remedy="Install imputer again.")
    return entry.path
