"""What a search finds: cases, and what spoke against taking more of them. Plain data that travels between processes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imputer.errors import InputError
from imputer.modality import Modality

Remarks = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Case:
    """The scans of one subject or session; synthetic volumes are never among them.

    Parameters
    ----------
    id : path below the root with forward slashes, of a folder or of the common part of file names; unique.
    scans : files whose modality is told by their name.
    unknown : images whose modality is not: a file, or the folder or zip of a DICOM study.
    folder : where the case lies, relative to the root.
    layout : "bids", "subjects", "flat" or "dicom".
    ambiguous : modalities that are there more than once, so that none of the files is taken.
    """

    id: str
    scans: Mapping[Modality, Path]
    unknown: tuple[Path, ...]
    folder: Path
    layout: str
    ambiguous: frozenset[Modality] = frozenset()


@dataclass(frozen=True)
class Cohort:
    """The cases of a folder.

    Parameters
    ----------
    root : the folder, absolute.
    layout : of the cases; where there are several kinds, of the first that there is of bids, subjects, flat, dicom.
    cases : sorted by id.
    problems : (case or path, sentence): what is there but could not be taken.
    skipped : number of files and folders that are no inputs: hidden, label maps, results of this program.
    notes : (case or path, sentence): what was decided where there was a choice.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    problems: Remarks
    skipped: int
    notes: Remarks = ()


def same_name(name: str) -> str:
    """Form of a name in which those are equal that some file systems cannot tell apart (case, composed letters)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def without_doubles(cases: Iterable[Case]) -> tuple[list[Case], list[tuple[str, str]]]:
    """Leave out cases that differ in name by no more than case or composition of letters, and say so.

    None of them is taken: which is the right one only the user knows, and their results would be the same files
    wherever the file system does not tell them apart.
    """
    by_name: dict[str, list[Case]] = {}
    for case in cases:
        by_name.setdefault(same_name(case.id), []).append(case)
    kept = [group[0] for group in by_name.values() if len(group) == 1]
    problems = [
        (case.id, f"has the same name as {', '.join(repr(other.id) for other in group if other is not case)}.")
        for group in by_name.values()
        for case in group
        if len(group) > 1
    ]
    return kept, problems


class Participants:
    """Which cases were asked for: all, or those of the subjects named, with or without "sub-"."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {name.strip().removeprefix("sub-"): name for name in names}
        self._met: set[str] = set()

    @property
    def is_filter(self) -> bool:
        """Whether not everybody was asked for."""
        return bool(self._names)

    def wants(self, case: str) -> bool:
        """Whether a case, or the first folder of its path, was asked for."""
        for name in (case, case.partition("/")[0]):
            if name.removeprefix("sub-") in self._names:
                self._met.add(name.removeprefix("sub-"))
                return True
        return not self._names

    def check(self) -> None:
        """Raise InputError where somebody was asked for who is not there."""
        missing = [shown for name, shown in self._names.items() if name not in self._met]
        if missing:
            raise InputError(f"There is no case of {', '.join(missing)}.", remedy="Check the participants asked for.")
