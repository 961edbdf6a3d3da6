"""One model as one file, for a machine without a network: `imputer models export` writes it, `import` takes it in.

The file is a plain zip, nothing compressed: `imputer.toml` (one entry), `CARD.md`, `LICENCE.txt` and
`<sha256>.safetensors`. The same entry gives the same bytes. What comes in is held to exactly that, so that nothing is
read, let alone written, by what a foreign file claims of itself.
"""

from __future__ import annotations

import hashlib
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

from imputer.errors import ImputerError, ModelError, OutputError
from imputer.files import CHUNK_BYTES, replacing
from imputer.plain_zip import NotPlainError, PlainZip
from imputer.safetensors_header import check, shown
from imputer.weights import store
from imputer.weights.card import card
from imputer.weights.fields import SUFFIX
from imputer.weights.manifest import INDEX, Entry, HubFile, Imported, entries, parse, render
from imputer.weights.package import entry_of

CARD = "CARD.md"
LICENCE = "LICENCE.txt"
TEXTS = (INDEX, CARD, LICENCE)

_LARGEST_TEXT = 1_000_000  # bytes of the index, the card and the licence each
_LARGEST_LIST = 10_000  # bytes of the zip's list of its members, of which there are four
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold: the bytes shall not depend on the day
_UNIX = 3


def is_archive(path: Path) -> bool:
    """Whether a file is meant as an archive of `export`: by its ending, or by what a zip of another name holds."""
    if path.suffix.lower() == ".zip":
        return True
    with suppress(OSError, NotPlainError), PlainZip(path, largest_list=_LARGEST_LIST) as found:
        return INDEX in found.sizes
    return False


def export(entry: Entry, output: Path, *, overwrite: bool) -> Path:
    """Write a model with its card and licence as one file, and read it back.

    Parameters
    ----------
    entry : its file must be on this machine; it is verified before and after.
    output : file to write, normally ending in ``.zip``.
    overwrite : replace an existing file.

    Raises
    ------
    ModelError
        Where the model's file is missing or damaged.
    OutputError
        Where `output` exists or cannot be written.
    """
    source = store.verified(entry)
    check(source, entry.id)
    member = f"{entry.sha256}{SUFFIX}"
    portable = entry if isinstance(entry.home, HubFile) else replace(entry, home=Imported(Path(member)))
    texts = {INDEX: render([portable]), CARD: _card_text(entry), LICENCE: _licence_text(entry)}
    with replacing(output, overwrite=overwrite) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, text in texts.items():
                archive.writestr(_member(name), text.encode())
            with source.open("rb") as file, archive.open(_member(member, entry.bytes), "w") as out:
                _copy(iter(partial(file.read, CHUNK_BYTES), b""), out, entry, entry.id)
        with _plain(temporary, output.name) as written:
            _copy(written.pieces(member), None, _found(written, output.name), output.name)
    return output


def take_in(archive: Path, *, overwrite: bool) -> Entry:
    """Bring a model of `export` into the cache and the local registry, and return its entry there.

    One that comes with this version of imputer is not registered again. The archive is only read.

    Raises
    ------
    ModelError
        Where the archive is not one of `export`, is damaged, or holds another model than it says.
    OutputError
        Where another model of that id is registered already and `overwrite` is false.
    """
    with _plain(archive, archive.name) as opened:
        found = _found(opened, archive.name)
        shipped = next((known for known in entries() if (known.id, known.sha256) == (found.id, found.sha256)), None)
        # Not a file of the Hub any more: without a network its name there could not be looked up.
        entry = shipped or replace(found, home=Imported(store.target_path(found.sha256)))
        pieces = opened.pieces(f"{entry.sha256}{SUFFIX}")
        _adopt(entry, pieces, archive.name, shipped=shipped is not None, overwrite=overwrite)
    return entry


def take_package(package: Path, *, identifier: str | None = None, overwrite: bool) -> Entry:
    """Bring a model package into the cache and the local registry, and return its entry there.

    Parameters
    ----------
    package : a file of `imputer train` or of an import; it stays where it is.
    identifier : to register it under; None: the one that it gives itself.

    Raises
    ------
    ModelError
        Where the file is no sound package, or cannot go by that id.
    OutputError
        Where another model of that id is registered already and `overwrite` is false.
    """
    found = entry_of(package, Imported(package))
    home = Imported(store.target_path(found.sha256))
    entry = replace(found, id=identifier or found.id, home=home)
    parse(render([entry]), package.name)  # a header may say what no manifest may
    with package.open("rb") as file:
        pieces = iter(partial(file.read, CHUNK_BYTES), b"")
        _adopt(entry, pieces, package.name, shipped=False, overwrite=overwrite)
    return entry


def _adopt(entry: Entry, pieces: Iterator[bytes], name: str, *, shipped: bool, overwrite: bool) -> None:
    """Put the weights into the cache and the entry into the registry, or neither; what is there already stays."""
    is_new = not shipped and entry not in store.registered()
    if is_new:
        store.check_id(entry, overwrite=overwrite)
    if not entry.embedded and not _is_here(entry):
        _place(pieces, entry, name)
    if is_new:
        try:
            store.register(entry, overwrite=overwrite)
        except ImputerError:
            store.remove_unused(entry.sha256)
            raise


def _is_here(entry: Entry) -> bool:
    try:
        store.verified(entry)
    except ModelError:
        return False
    return True


def _place(pieces: Iterator[bytes], entry: Entry, name: str) -> None:
    """Write the weights into the cache; there is a file at the end only where it is the entry's and sane."""
    target = store.target_path(entry.sha256)
    with store.locked(entry.sha256):
        try:
            store.check_space(target.parent, entry.bytes)
            with replacing(target, overwrite=True) as temporary:
                with temporary.open("wb") as out:
                    _copy(pieces, out, entry, name)
                check(temporary, name)
                if (problem := store.fault(temporary, entry)) is not None:
                    raise ModelError(f"The model of {name} could not be written: {problem}.", remedy="Check the disk.")
        except (OSError, OutputError) as error:
            raise store.unwritable(error) from error


def _copy(pieces: Iterator[bytes], out: IO[bytes] | None, entry: Entry, name: str) -> None:
    """Write the weights, or only read them where `out` is None; ModelError where they are not the entry's."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        size += len(piece)
        if size > entry.bytes:
            break
        digest.update(piece)
        if out is not None:
            out.write(piece)
    if size != entry.bytes or digest.hexdigest() != entry.sha256:
        _refuse(name, "its model is damaged (wrong size or SHA-256)")


@contextmanager
def _plain(path: Path, name: str) -> Iterator[PlainZip]:
    """Open an archive; what is found wrong with the zip meanwhile becomes a ModelError about `name`."""
    try:
        with PlainZip(path, largest_list=_LARGEST_LIST) as archive:
            yield archive
    except NotPlainError as error:
        _refuse(name, str(error), error)


def _found(archive: PlainZip, name: str) -> Entry:
    """The entry of an archive, after all checks that need no reading of the weights; `name` is the file's in errors."""
    for member, size in archive.sizes.items():
        if member not in TEXTS and not re.fullmatch(rf"[0-9a-f]{{64}}{re.escape(SUFFIX)}", member):
            _refuse(name, f"it holds {shown(member)}, which is no part of a model")
        if member in TEXTS and size > _LARGEST_TEXT:
            _refuse(name, f"its {member} has {size} bytes")
    for each in TEXTS:
        if each not in archive.sizes:
            _refuse(name, f"it lacks {each}")
    if len(archive.sizes) != len(TEXTS) + 1:
        _refuse(name, "it does not hold one model")
    texts = {each: archive.read(each) for each in TEXTS}  # all of them: a flipped bit shows
    entry = _entry(texts[INDEX], name)
    if archive.sizes.get(f"{entry.sha256}{SUFFIX}") != entry.bytes:
        _refuse(name, "its model is not the one that its index names")
    return entry


def _entry(text: bytes, name: str) -> Entry:
    """The one entry of an archive's index."""
    try:
        found = parse(text.decode("utf-8"), f"{INDEX} in {name}")
    except UnicodeDecodeError as error:
        _refuse(name, "its index is no text", error)
    if len(found) != 1 or not found[0].is_runnable:
        _refuse(name, "its index does not name one model with a file")
    return found[0]


def _member(name: str, size: int = 0) -> zipfile.ZipInfo:
    """A member's record that is the same on every day and every system."""
    member = zipfile.ZipInfo(name, _DATE)
    member.create_system = _UNIX
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    member.file_size = size
    return member


def _card_text(entry: Entry) -> str:
    """The model card, with commands that work where there is no network: by the model's id."""
    text = card([entry]).replace("hf://OWNER/REPO", entry.id)
    return text.replace("`@` and a commit or tag behind the name pins a version. ", "")  # said of names on the Hub


def _licence_text(entry: Entry) -> str:
    licence = entry.licence
    use = "Non-commercial use only." if licence.non_commercial else "Commercial use is not excluded by these licences."
    return (
        f"Model: {entry.id}, version {entry.version}\n"
        f"Licence of the code it was made with: {licence.code}\n"
        f"Licence of the weights: {licence.weights}\n"
        f"Licence of the training data: {licence.data}\n"
        f"{use}\n"
        f"Trained on: {entry.trained_on}\n"
        f"Cite: {entry.citation}\n"
    )


def _refuse(name: str, reason: str, error: BaseException | None = None) -> NoReturn:
    raise ModelError(
        f"{name} is not a usable model archive: {reason}.",
        remedy="Copy it again, or write it again with 'imputer models export'.",
    ) from error
