"""Predictions and their references in two folders, matched by name: whose they are, and which contrast.

A prediction may be called as this program calls its results (``t1_synth-t2.nii.gz``, ``sub-1_desc-synth_T2w.nii.gz``),
or like the reference. Names alone decide, as in `imputer.io.cases`, which finds the references.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imputer.errors import InputError, UsageError
from imputer.files import STD_ENDING, SYNTHETIC_ENDING, json_object, std_beside, strip_suffixes
from imputer.io.cases import find_cohort
from imputer.io.cohort import same_name
from imputer.io.names import is_label_map, key_of, modality_of, without_label_words, without_modality
from imputer.io.tree import has_image_name, is_synthetic
from imputer.modality import Modality

_OWN_ENTITY = re.compile(r"_desc-synth(?=_|$)", re.IGNORECASE)
_NO_SUBJECT = frozenset({"anat", "derivatives", "imputer"})  # folders that say nothing of whose a scan is


@dataclass(frozen=True)
class Pair:
    """A prediction and its reference.

    Attributes
    ----------
    case : name for tables, without folders of the machine.
    prediction, reference : files, or DICOM series.
    against : prediction of another method, or None.
    mask, roi : files of regions, or None.
    """

    case: str
    prediction: Path
    reference: Path
    against: Path | None = None
    mask: Path | None = None
    roi: Path | None = None

    @property
    def deviation(self) -> Path | None:
        """Standard deviation of several samples, where it lies beside the prediction under its name."""
        beside = std_beside(_sidecar(self.prediction))
        return beside if beside.is_file() else None


@dataclass(frozen=True)
class Pairs:
    """What belongs together, and what found no partner.

    Attributes
    ----------
    pairs : sorted by case.
    predictions, references : names, below their folders, of what was left over.
    problems : sentences: of what there were several.
    folders : whether there were folders, and not two files.
    """

    pairs: tuple[Pair, ...]
    predictions: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    folders: bool = False


@dataclass(frozen=True)
class _File:
    """A file with what its name says; `keys` are names of its subject, the most telling first, the folder's last."""

    path: Path
    shown: str
    keys: tuple[str, ...]
    modality: Modality | None
    folder: str = ""

    def without_folder(self) -> _File:
        """The same, not known by the name of its folder alone."""
        kept = tuple(key for key in self.keys if key != self.folder)
        return replace(self, keys=kept) if kept else self


@dataclass
class _Match:
    """Files of a second folder by those of a first one."""

    partners: dict[Path, _File] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def find_pairs(
    prediction: Path,
    reference: Path,
    *,
    against: Path | None = None,
    mask: Path | None = None,
    roi: Path | None = None,
) -> Pairs:
    """Put predictions and references together: two files, or two folders by case and contrast.

    Parameters
    ----------
    against : another prediction, or folder of such.
    mask, roi : a file for all cases, or a folder with one for each; of a case without one the field is None.

    Raises
    ------
    UsageError
        Where one is a folder and the other a file.
    InputError
        Where a path does not exist, or nothing matches.
    """
    for path in (prediction, reference, against, mask, roi):
        if path is not None and not path.exists():
            raise InputError(f"{path.name or path} does not exist.")
    if not _is_cohort(prediction) and not _is_cohort(reference):
        if any(path is not None and _is_cohort(path) for path in (against, mask, roi)):
            raise UsageError("Two files cannot be matched with a folder.", remedy="Give files, or folders throughout.")
        return Pairs((Pair(strip_suffixes(prediction), prediction, reference, against, mask, roi),))
    mixed = not _is_cohort(prediction) or not _is_cohort(reference)
    if mixed or (against is not None and not _is_cohort(against)):
        raise UsageError("A file and a folder cannot be matched.", remedy="Give two files, or folders throughout.")
    return _of_folders(prediction, reference, against, mask, roi)


def sidecar_of(prediction: Path) -> dict[str, Any]:
    """What the JSON file beside a prediction says; nothing where there is none that can be read."""
    return json_object(_sidecar(prediction))


def _is_cohort(path: Path) -> bool:
    """Whether a path is a folder of volumes; one without any can only be a DICOM series."""
    return path.is_dir() and bool(_volumes(path))


def _of_folders(prediction: Path, reference: Path, against: Path | None, mask: Path | None, roi: Path | None) -> Pairs:
    references = _references(reference, prediction)
    predictions = _predictions(prediction)
    found = _match(predictions, references)
    if not found.partners:
        raise InputError(
            f"No volume of {_named(prediction)} has a reference in {_named(reference)}.",
            remedy="Names must tell the same case and contrast, e.g. p1/t1_synth-t2.nii.gz and p1/t2.nii.gz.",
        )
    pairs = []
    others = _match(_predictions(against), references) if against is not None else _Match()
    rivals = {partner.path: path for path, partner in others.partners.items()}
    masks, rois = _regions(mask), _regions(roi)
    for own in predictions:
        if own.path not in found.partners:
            continue
        partner = found.partners[own.path]
        regions = (_region_of(own, partner, each) for each in (masks, rois))
        case = own.shown.removesuffix(own.path.name) + strip_suffixes(own.path)
        pairs.append(Pair(case, own.path, partner.path, rivals.get(partner.path), *regions))
    matched = {partner.path for partner in found.partners.values()}
    contrasts = {partner.modality for partner in found.partners.values()}
    left = [each.shown for each in references if each.path not in matched and each.modality in contrasts]
    return Pairs(
        tuple(sorted(pairs, key=lambda pair: pair.case)),
        tuple(own.shown for own in predictions if own.path not in found.partners),
        tuple(left),
        (*found.problems, *others.problems),
        folders=True,
    )


def _predictions(folder: Path) -> list[_File]:
    """Volumes of a folder; where some are results of this program, by name or sidecar, only those."""
    files = [path for path in _volumes(folder) if not is_label_map(path.name) and not _is_deviation(path)]
    own = [_file(path, folder) for path in [path for path in files if _is_own(path)] or files]
    counts = Counter((each.path.parent, each.modality) for each in own)
    # A folder names its scan only where it is that of one subject, with one scan of a contrast.
    return [each if counts[each.path.parent, each.modality] == 1 else each.without_folder() for each in own]


def _references(folder: Path, predictions: Path) -> list[_File]:
    """Scans of a folder, without results of this program."""
    cohort = find_cohort(folder, out=predictions)
    found = []
    for case in cohort.cases:
        scans: Iterable[tuple[Modality | None, Path]] = case.scans.items()
        loose = [(None, path) for path in case.unknown] if case.layout != "dicom" else []
        for modality, path in (*scans, *loose):
            file = _file(path, cohort.root).without_folder()  # where it is a subject's, it is the id of the case
            keys = dict.fromkeys((*file.keys[:1], _key(case.id), *file.keys[1:]))
            found.append(replace(file, keys=tuple(keys), modality=modality))
    return found


def _regions(path: Path | None) -> Path | list[_File]:
    """Masks of a folder, none of None; or the one file that is for all.

    Where some volumes of the folder are called masks, the others are scans.
    """
    if path is None or not path.is_dir():
        return path if path is not None else []
    files = _volumes(path)
    called = [each for each in files if is_label_map(each.name)]
    return [_file(each, path) for each in called or files]


def _region_of(own: _File, partner: _File, regions: Path | Sequence[_File]) -> Path | None:
    """The mask of a case: the only one that has the first of its names that any has."""
    if isinstance(regions, Path):
        return regions
    for key in (*partner.keys, *own.keys):
        same = [each for each in regions if key in each.keys]
        if len(same) == 1:
            return same[0].path
    return None


def _match(predictions: Sequence[_File], references: Sequence[_File]) -> _Match:
    found = _Match()
    taken: dict[Path, list[_File]] = {}
    for own in predictions:
        partner = _partner(own, references)
        if partner is not None:
            taken.setdefault(partner.path, []).append(own)
            found.partners[own.path] = partner
    for rivals in taken.values():
        if len(rivals) > 1:  # which of them is meant only the user knows
            shown = found.partners[rivals[0].path].shown
            names = " and ".join(each.shown for each in rivals[:2])
            found.problems.append(f"{len(rivals)} predictions belong to {shown}: {names}; none is taken.")
            for each in rivals:
                del found.partners[each.path]
    return found


def _partner(own: _File, references: Sequence[_File]) -> _File | None:
    """The only reference that has the first of the prediction's names that any has, of its contrast or of none told."""
    for key in own.keys:
        same = [each for each in references if key in each.keys]
        fitting = [each for each in same if each.modality == own.modality]
        fitting = fitting or [each for each in same if each.modality is None]
        if len(fitting) == 1:
            return fitting[0]
    return None


def _file(path: Path, root: Path) -> _File:
    relative = Path(os.path.relpath(path, root))
    stem = strip_suffixes(relative)
    cleaned = _OWN_ENTITY.sub("", SYNTHETIC_ENDING.sub("", stem))
    text = key_of(without_label_words(without_modality(f"{cleaned}.nii")))
    folder = "_".join(part for part in relative.parts[:-1] if part.lower() not in _NO_SUBJECT)
    both = "_".join(part for part in (folder, text) if part)
    keys = [key for key in dict.fromkeys((both, text, folder)) if key]
    told = tuple(map(_key, keys or ["."]))
    return _File(path, relative.as_posix(), told, modality_of(path.name), _key(folder))


def _key(text: str) -> str:
    return same_name(key_of(text.replace("/", "_")))


def _volumes(folder: Path) -> list[Path]:
    """Volumes below a folder by their names, but hidden ones, sorted."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if has_image_name(name) and not name.startswith(".")]
    return sorted(found)


def _is_deviation(path: Path) -> bool:
    stem = strip_suffixes(path)
    image = path.with_name(f"{stem.removesuffix(STD_ENDING)}{path.name[len(stem) :]}")
    return stem.endswith(STD_ENDING) and image.is_file()


def _is_own(path: Path) -> bool:
    stem = strip_suffixes(path)
    if SYNTHETIC_ENDING.search(stem) or _OWN_ENTITY.search(stem):
        return True
    return is_synthetic(_sidecar(path))


def _sidecar(prediction: Path) -> Path:
    return prediction.with_name(f"{strip_suffixes(prediction)}.json")


def _named(folder: Path) -> str:
    return folder.name or str(folder)
