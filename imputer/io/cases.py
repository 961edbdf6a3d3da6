"""Finding cases in a folder: BIDS, folders of subjects, flat folders, DICOM studies, and mixtures of the last three.

Names alone decide; no header is read, and of DICOM only whether some file of a folder is such. What a name means:

* BIDS is what `imputer.io.bids` finds; a folder with ``dataset_description.json`` is nothing else.
* A folder of volumes below the root is one subject where no modality is there twice, or where one set of scans is named
  like the folder or by the modality alone; of a modality that is there twice, that one is taken. Else, and in the root,
  the scans that share their name without the modality are one case.
* A folder that is named by the modality of all that is in it (``IXI-T1/IXI002-Guys-0828-T1.nii.gz``) is no folder of a
  subject: its scans belong to those of the folder beside it.
* A volume whose name tells no modality is a case of its own, but for masks and segmentations, and for what a subject's
  folder holds besides scans.
* Each folder of the root with DICOM anywhere in it is one case, and each zip; where DICOM lies in the root itself, the
  root is. Folders with NIfTI scans are not looked at as DICOM.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imputer.errors import InputError, UsageError
from imputer.io.bids import DESCRIPTION, Found, find_bids
from imputer.io.cohort import Case, Cohort, Participants, without_doubles
from imputer.io.dispatch import is_dicom
from imputer.io.names import is_label_map, key_of, modality_of, without_modality
from imputer.io.outputs import output_of
from imputer.io.tree import Folder, Tree, has_image_name, join
from imputer.modality import Modality

__all__ = ["LAYOUTS", "Case", "Cohort", "find_cohort", "output_of", "told_by_headers"]

LAYOUTS = ("auto", "bids", "subjects", "flat", "dicom")
_PROBES = 3  # files of a folder that are looked at, at most, before it counts as one without DICOM
_DICOM_NAMES = (".dcm", ".ima", ".dicom")
_OTHER_NAMES = (
    *(".json", ".txt", ".csv", ".tsv", ".xml", ".html", ".md", ".pdf", ".png", ".jpg", ".gif", ".svg"),
    *(".bval", ".bvec", ".mat", ".raw", ".log", ".py", ".m", ".sh", ".yaml", ".yml", ".toml", ".gz", ".zip", ".tar"),
)


@dataclass(frozen=True)
class _Image:
    """A volume by its name; `key` is what it shares with the other scans of its case, `text` that as it is written."""

    folder: str
    name: str
    modality: Modality | None
    text: str
    key: str

    @property
    def path(self) -> str:
        return join(self.folder, self.name)


def find_cohort(
    root: Path, *, layout: str = "auto", participants: Sequence[str] = (), out: Path | None = None
) -> Cohort:
    """Cases of a folder, by its names.

    Hidden files, results of this program, and links that go round in a circle are never inputs.

    Parameters
    ----------
    root : folder to search.
    layout : one of `LAYOUTS`; auto: what is there.
    participants : only these subjects, with or without "sub-": folders of the root, or whole ids; empty: all.
    out : folder of the results; left out of the search where it lies below the root.

    Raises
    ------
    UsageError
        For another layout.
    InputError
        Where the root is no folder or cannot be read, holds no case, or not one of the participants.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"There is no layout {layout!r}.", remedy=f"There are: {', '.join(LAYOUTS)}.")
    tree = Tree(Path(root), out)
    wanted = Participants(participants)
    found = _found(tree, layout, wanted)
    cases, doubles = without_doubles(found.cases)
    kept = sorted((case for case in cases if wanted.wants(case.id)), key=lambda case: case.id)
    problems = sorted({(place or tree.name, text) for place, text in (*tree.problems, *found.problems, *doubles)})
    wanted.check()
    if not kept:
        raise _nothing(tree, layout, problems)
    layouts = {case.layout for case in kept}
    return Cohort(
        root=tree.root,
        layout=next(name for name in LAYOUTS if name in layouts),
        cases=tuple(kept),
        problems=tuple(problems),
        skipped=tree.skipped + tree.own + found.skipped,
        notes=tuple(sorted({*tree.notes, *found.notes})),
    )


def _nothing(tree: Tree, layout: str, problems: Sequence[tuple[str, str]]) -> InputError:
    what = "volume" if layout == "auto" else f"case of the layout {layout}"
    if problems:
        return InputError(f"{tree.name} holds no {what} that can be used: {problems[0][0]} {problems[0][1]}")
    if tree.own:
        return InputError(f"{tree.name} holds results of this program only.", remedy="Give the folder of the scans.")
    remedy = "Give a BIDS dataset, a folder of NIfTI files or of subjects, or a tree of DICOM studies."
    return InputError(f"{tree.name} holds no {what}.", remedy=remedy)


def _found(tree: Tree, layout: str, wanted: Participants) -> Found:
    top = tree.listing("")
    if layout in ("auto", "bids"):
        found = find_bids(tree, wanted)
        if found.cases or layout == "bids" or DESCRIPTION in top.files:
            return found
    folders = [top] if layout == "flat" else list(tree.walk())
    volumes = Found() if layout == "dicom" else find_volumes(tree, folders)
    if layout not in ("auto", "dicom"):
        return volumes
    return _joined(volumes, _dicom_places(tree, folders), tree)


def find_volumes(tree: Tree, folders: Iterable[Folder]) -> Found:
    """Cases of the volumes in some folders, as the text at the top of this file has it."""
    found = Found()
    by_place: dict[str, list[_Image]] = {}
    for folder in folders:
        names = tree.images(folder)
        kept = [name for name in names if not is_label_map(name)]
        found.skipped += len(names) - len(kept)
        guesses = {name: modality_of(name) for name in kept}
        place = _place(folder.place, {guess for guess in guesses.values() if guess is not None})
        for name, guess in guesses.items():
            text = without_modality(name)
            by_place.setdefault(place, []).append(_Image(folder.place, name, guess, text, key_of(text)))
    for place, images in by_place.items():
        if place and _is_one_subject(place, images):
            _add_subject(tree, place, images, found)
        else:
            _add_by_name(tree, place, images, found)
    return found


def _place(folder: str, told: set[Modality]) -> str:
    """Folder that scans belong to: the one above, where their folder is named by their modality."""
    above, _, name = folder.rpartition("/")
    if not folder or told != {modality_of(f"{name}.nii")}:
        return folder
    rest = without_modality(name)
    return join(above, rest) if rest else above


def _is_one_subject(place: str, images: Sequence[_Image]) -> bool:
    told = [image for image in images if image.modality is not None]
    once = len({image.modality for image in told}) == len(told)
    return bool(told) and (once or any(_is_main(image, place) for image in told))


def _is_main(image: _Image, place: str) -> bool:
    """Whether a scan is named like its folder, or by its modality alone."""
    return image.key in ("", key_of(place.rpartition("/")[2]))


def _add_subject(tree: Tree, place: str, images: Sequence[_Image], found: Found) -> None:
    """Add the case of a subject's folder: of each modality the scan named like the folder, else the only one."""
    told = [image for image in images if image.modality is not None]
    chosen: list[_Image] = []
    for modality in {image.modality for image in told}:
        same = [image for image in told if image.modality is modality]
        chosen += [image for image in same if _is_main(image, place)] or same
    left = len(told) - len(chosen)
    if left:
        found.notes.append((place, f"has {left} more scans beside those named like the folder; they are not used."))
    found.skipped += left + len(images) - len(told)
    found.cases.append(_case(tree, place, place, chosen, (), found))


def _add_by_name(tree: Tree, place: str, images: Sequence[_Image], found: Found) -> None:
    """Add the cases of a folder of many: scans belong together that share their name without the modality."""
    groups: dict[str, list[_Image]] = {}
    for image in images:
        groups.setdefault(image.key, []).append(image)
    scanned = {key for key, group in groups.items() if any(image.modality is not None for image in group)}
    for key, group in groups.items():
        told = [image for image in group if image.modality is not None]
        unknown = tuple(tree.path(image.path) for image in group if image.modality is None)
        if not told and _goes_on(key, scanned):  # p1_adc beside p1_t1
            found.skipped += len(unknown)
            continue
        text = min(image.text for image in group)
        is_folder = not text or key == key_of(place.rpartition("/")[2])
        name = place if is_folder else join(place, text)
        found.cases.append(_case(tree, name or tree.name, place, told, unknown, found))


def _goes_on(key: str, others: set[str]) -> bool:
    """Whether a name is one of the others and more words."""
    words = key.split("_")
    return any("_".join(words[:count]) in others for count in range(len(words)))


def _case(tree: Tree, name: str, place: str, told: Sequence[_Image], unknown: tuple[Path, ...], found: Found) -> Case:
    """Make a case; modalities that are there more than once become problems."""
    by_modality: dict[Modality, list[_Image]] = {}
    for image in told:
        assert image.modality is not None
        by_modality.setdefault(image.modality, []).append(image)
    for modality, same in by_modality.items():
        if len(same) > 1:
            both = " and ".join(sorted(image.path for image in same)[:2])
            found.problems.append((name, f"has {len(same)} files that are its {modality}: {both}; none is taken."))
    scans = {modality: tree.path(same[0].path) for modality, same in sorted(by_modality.items()) if len(same) == 1}
    ambiguous = frozenset(by_modality) - frozenset(scans)
    return Case(name, scans, unknown, Path(place), "subjects" if place else "flat", ambiguous)


def _dicom_places(tree: Tree, folders: Iterable[Folder]) -> list[str]:
    """Folders of the root, or the root (""), that hold DICOM, and zips of DICOM in the root."""
    places: dict[str, None] = {}
    for folder in folders:
        first = folder.place.partition("/")[0]
        if first not in places and "" not in places and _holds_dicom(tree, folder):
            places[first] = None
    zips = [name for name in tree.listing("").files if name.lower().endswith(".zip")]
    return ([""] if "" in places else list(places)) + [name for name in zips if _is_dicom(tree, name)]


def _holds_dicom(tree: Tree, folder: Folder) -> bool:
    """Look at a few files of a folder: all of one folder are DICOM, or none is."""
    names = [name for name in folder.files if not has_image_name(name) and not name.lower().endswith(_OTHER_NAMES)]
    names.sort(key=lambda name: (not name.lower().endswith(_DICOM_NAMES), "." in name, name))
    return any(_is_dicom(tree, join(folder.place, name)) for name in names[:_PROBES])


def _is_dicom(tree: Tree, place: str) -> bool:
    path = tree.path(place)
    try:
        if is_dicom(path):
            return True
    except OSError:
        pass  # in a folder that can be listed but not entered
    if not os.access(path, os.R_OK):
        tree.problems.append((place, "cannot be read, so that nobody knows whether it is DICOM."))
    return False


def _joined(volumes: Found, places: Sequence[str], tree: Tree) -> Found:
    """Cases of volumes and of DICOM: a folder with scans told by their names is no DICOM case, and the other way."""
    with_scans: set[str] = set()
    for case in volumes.cases:
        if case.scans or case.ambiguous:
            with_scans |= {case.id.partition("/")[0], *_homes(tree, case)}
    studies = [place for place in places if place not in with_scans and not (place == "" and with_scans)]
    if len(studies) < len(places):
        count = len(places) - len(studies)
        volumes.notes.append((tree.name, f"has {count} folders with DICOM beside NIfTI; the NIfTI scans are used."))
    kept = [case for case in volumes.cases if "" not in studies and not _homes(tree, case) & set(studies)]
    volumes.skipped += len(volumes.cases) - len(kept)
    new = [Case(place or tree.name, {}, (tree.path(place),), Path(place), "dicom") for place in studies]
    return replace(volumes, cases=kept + new)


def _homes(tree: Tree, case: Case) -> set[str]:
    """Folders of the root in which the files of a case lie; "" of one in the root itself."""
    paths = (path.relative_to(tree.root) for path in (*case.scans.values(), *case.unknown))
    return {path.parts[0] if len(path.parts) > 1 else "" for path in paths}


def told_by_headers(case: Case) -> Case:
    """A DICOM case with the contrasts of its series that can be used; as it was where its headers tell none.

    Headers are read here, which takes about a tenth of a second a series.
    """
    if case.layout != "dicom":
        return case
    from imputer.io.dicom.series import scan  # here: who has no DICOM needs no library for it

    path = case.unknown[0]
    try:
        found = [one.modality for one in scan(path) if not one.problem and not one.synthetic]
    except InputError:
        return case
    counts = Counter(modality for modality in found if modality is not None)
    if not counts:
        return case
    scans = {modality: path for modality in Modality if counts[modality] == 1}
    doubled = frozenset(modality for modality in Modality if counts[modality] > 1)
    return replace(case, scans=scans, unknown=(), ambiguous=doubled)
