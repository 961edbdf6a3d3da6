"""A folder tree as a search for images sees it: what never is an input is left out, and no folder is read twice.

One listing a folder and no other call a file: links alone, and images with a JSON file beside them, cost more. Links to
folders are followed, as cohorts are often made of them, but never to a folder that is searched anyway.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imputer.errors import InputError
from imputer.files import strip_suffixes
from imputer.io.dispatch import READ

_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "lost+found"})
PIPELINE = ("derivatives", "imputer")  # folders of this program's dataset, after BIDS
_OWN_NAME = re.compile(r"_synth-|_desc-synth(_|$)", re.IGNORECASE)
_SIDECAR_BYTES = 4096
_SYNTHETIC = re.compile(rb'"synthetic"\s*:\s*true')
_UNREADABLE = "cannot be read; ask for the right to read it, or take it out."
_UNSHOWABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, bytes that are no UTF-8, line separators


@dataclass(frozen=True)
class Folder:
    """What a folder holds that may be an input.

    Parameters
    ----------
    place : path below the root with forward slashes; "" is the root.
    files : names of ordinary files, links to such among them; sorted.
    folders : names of its folders, sorted, after them the links to folders, sorted.
    """

    place: str
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


class Tree:
    """A root and what was seen below it; it remembers each listing, so that asking twice costs nothing.

    Parameters
    ----------
    root : folder to search.
    out : folder of the results; where it lies below the root it is left out.

    Attributes
    ----------
    root : absolute.
    problems, notes : (path below the root, sentence) of what could not be read, and of what was decided.
    skipped : number of hidden files and folders, links that lead nowhere new, pipes and devices left out.
    own : number of results of this program left out.

    Raises
    ------
    InputError
        Where the root is no folder or cannot be read.
    """

    def __init__(self, root: Path, out: Path | None = None) -> None:
        self.root = Path(os.path.abspath(root))
        self.problems: list[tuple[str, str]] = []
        self.notes: list[tuple[str, str]] = []
        self.skipped = self.own = 0
        self._real = {"": os.path.realpath(self.root)}
        self._read: set[str] = set()  # real paths of the folders listed
        self._listings: dict[str, Folder] = {}
        self._images: dict[str, list[str]] = {}
        self._out = _below(os.path.realpath(out), self._real[""]) if out is not None else None
        if not os.path.isdir(self.root):
            kind = "is no folder" if os.path.exists(self.root) else "does not exist"
            raise InputError(f"{self.name} {kind}.", remedy="Give the folder of the cases.")
        self.listing("")
        if ("", _UNREADABLE) in self.problems:
            raise InputError(f"The folder {self.name} cannot be read.", remedy="Ask for the right to read it.")

    @property
    def name(self) -> str:
        """Of the root, as messages and cases directly in it have it."""
        return shown(self.root.name) or "root"

    def path(self, place: str, name: str = "") -> Path:
        """Path of something below the root."""
        return self.root.joinpath(place, name)

    def listing(self, place: str) -> Folder:
        """List a folder that an earlier listing named; empty where it cannot be read, or was read by another path."""
        if place not in self._listings:
            real = self._real[place]
            if real in self._read:
                self.skipped += 1
                self.notes.append((place, "is the same folder as one that is searched already."))
                self._listings[place] = Folder(place)
            else:
                self._read.add(real)
                self._listings[place] = self._list(place)
        return self._listings[place]

    def walk(self, place: str = "") -> Iterator[Folder]:
        """All folders from one on, each once; links to folders come last, so that a folder's own path wins."""
        waiting, links = [place], list[str]()
        while waiting or links:
            if not waiting:
                links.sort(reverse=True)
                waiting.append(links.pop())
            folder = self.listing(waiting.pop())
            yield folder
            for name in reversed(folder.folders):
                below = join(folder.place, name)
                is_link = self._real[below] != os.path.join(self._real[folder.place], name)
                (links if is_link else waiting).append(below)

    def images(self, folder: Folder) -> list[str]:
        """Names of the files that are volumes by their name, less those that their JSON files call synthetic."""
        if folder.place not in self._images:
            names = set(folder.files)
            found = []
            for name in filter(has_image_name, folder.files):
                sidecar = strip_suffixes(Path(name)) + ".json"
                if sidecar in names and is_synthetic(self.path(folder.place, sidecar)):
                    self.own += 1
                else:
                    found.append(name)
            self._images[folder.place] = found
        return self._images[folder.place]

    def _list(self, place: str) -> Folder:
        try:
            with os.scandir(os.path.join(self.root, place)) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            self.problems.append((place, _UNREADABLE))
            return Folder(place)
        files: list[str] = []
        folders: list[str] = []
        links: list[str] = []
        for entry in entries:
            if self._is_left_out(place, entry.name):
                continue
            kind = self._kind(place, entry)
            if kind != "other" and self._is_unshowable(place, entry.name, kind):
                continue
            {"file": files, "folder": folders, "link": links}.get(kind, []).append(entry.name)
        return Folder(place, tuple(files), (*folders, *links))

    def _is_left_out(self, place: str, name: str) -> bool:
        """Whether a name alone says that this is no input."""
        if name.startswith(".") or name.lower() in _SYSTEM_FOLDERS or join(place, name) == self._out:
            self.skipped += 1
            return True
        stem = strip_suffixes(Path(name))
        if (place.rpartition("/")[2], name) == PIPELINE or _OWN_NAME.search(stem):
            self.own += has_image_name(name) or stem == name  # a volume or a folder; its JSON file goes with it
            return True
        return False

    def _kind(self, place: str, entry: os.DirEntry[str]) -> str:
        """Tell "file", "folder" and "link" (to a folder) from the rest, and note where a folder really is."""
        below = join(place, entry.name)
        try:
            if not entry.is_symlink():
                if entry.is_dir(follow_symlinks=False):
                    self._real[below] = os.path.join(self._real[place], entry.name)
                    return "folder"
                return self._ordinary(entry.is_file(follow_symlinks=False))
            if entry.is_dir():
                return self._link(below, os.path.realpath(entry.path))
            if entry.is_file():
                return "file"
        except OSError:
            pass  # a link in a circle, or into a folder that cannot be entered
        if has_image_name(entry.name):
            self.problems.append((below, "is a link to nothing; its content may have to be fetched first."))
        return self._ordinary(False)

    def _ordinary(self, is_file: bool) -> str:
        self.skipped += not is_file
        return "file" if is_file else "other"

    def _link(self, link: str, real: str) -> str:
        """A link to a folder is followed unless it goes round in a circle, or up, where everything else lies."""
        if _below(self._real[""], real) is not None or self._real[""] == real:
            self.skipped += 1
            self.notes.append((link, "is a link in a circle."))
            return "other"
        self._real[link] = real
        return "link"

    def _is_unshowable(self, place: str, name: str, kind: str) -> bool:
        """Whether a name cannot stand in a table or a JSON file; of what may be an input this is a problem."""
        if name.isprintable() or not any(unicodedata.category(letter) in _UNSHOWABLE for letter in name):
            return False
        if kind != "file" or has_image_name(name):
            self.problems.append((shown(join(place, name)), "has characters in its name that cannot be shown."))
        else:
            self.skipped += 1
        return True


def is_synthetic(sidecar: Path) -> bool:
    """Whether a sidecar is one of this program; BraTS names do not tell results from scans."""
    try:
        descriptor = os.open(sidecar, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return False
    try:  # without a file object, which asks the system for more: a cohort can have as many of them as scans
        return _SYNTHETIC.search(os.read(descriptor, _SIDECAR_BYTES)) is not None
    except OSError:
        return False
    finally:
        os.close(descriptor)


def has_image_name(name: str) -> bool:
    """Whether a file is a volume by its name."""
    return name.lower().endswith(READ)


def join(place: str, name: str) -> str:
    """Path below the root of something in a folder."""
    return f"{place}/{name}" if place else name


def shown(text: str) -> str:
    """Text with what cannot be shown escaped."""
    return "".join(
        letter.encode("unicode_escape").decode("ascii") if unicodedata.category(letter) in _UNSHOWABLE else letter
        for letter in text
    )


def _below(path: str, root: str) -> str | None:
    """Path relative to the root with forward slashes; None where it is not below it."""
    relative = os.path.relpath(path, root) if os.path.splitdrive(path)[0] == os.path.splitdrive(root)[0] else ".."
    parts = relative.split(os.sep)
    return None if parts[0] in (os.pardir, os.curdir) else "/".join(parts)
