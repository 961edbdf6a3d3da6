"""BIDS: the anatomical scans of a dataset, and the names and the description of what is derived from them.

Of the specification (1.10) this needs the folders ``sub-X[/ses-Y]/anat``, the entities of a name and its suffix; no
metadata, so no inheritance. pybids 0.22 was measured for it and not taken: 48 s and 380 MiB to index 50,000 files with
metadata off (a listing of the same folders takes less than a second), behind 390 MB of pandas, SciPy and SQLAlchemy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imputer import __version__
from imputer.files import make_folder, replacing, strip_suffixes
from imputer.io.cohort import Case, Participants
from imputer.io.tree import PIPELINE, Folder, Tree, join, shown
from imputer.modality import Modality

DESCRIPTION = "dataset_description.json"
BIDS_VERSION = "1.10.0"
_SUFFIXES = {
    "t1w": Modality.T1,
    "t2w": Modality.T2,
    "flair": Modality.FLAIR,
    "pdw": Modality.PD,
    "pd": Modality.PD,  # deprecated
    "ct": Modality.CT,
}
# Entities before desc and suffix of the image as it is written; CT has none in the specification yet.
_WRITTEN = {
    Modality.T1: ("", "T1w"),
    Modality.T1CE: ("ce-gd_", "T1w"),
    Modality.T2: ("", "T2w"),
    Modality.FLAIR: ("", "FLAIR"),
    Modality.PD: ("", "PDw"),
    Modality.CT: ("", "ct"),
}
_IMAGES = (".nii.gz", ".nii")
_MAGNITUDE = "part-mag"


@dataclass(frozen=True)
class _Scan:
    """A file of an anat folder, by its name."""

    name: str
    modality: Modality
    others: tuple[str, ...]  # entities besides subject, session, run and contrast agent
    run: int

    @property
    def rank(self) -> tuple[int, tuple[str, ...], int]:
        """What comes first is taken: the fewest entities, then the first of the acquisitions, then the first run."""
        return len(self.others), self.others, self.run


@dataclass
class Found:
    """What a search of one layout found: cases, and what is said of them."""

    cases: list[Case] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    skipped: int = 0


def find_bids(tree: Tree, participants: Participants) -> Found:
    """Cases of a BIDS dataset, one for each subject or session with an anatomical image.

    Of several runs, acquisitions or reconstructions of a contrast the first is taken, and noted. What lies beside the
    subjects (derivatives, sourcedata, code) is not looked at.
    """
    found = Found()
    without: list[str] = []
    for subject in tree.listing("").folders:
        if not subject.startswith("sub-") or not participants.wants(subject):
            continue
        before = len(found.cases)
        for place, anat in _anat_folders(tree, subject):
            _add_case(tree, place, anat, found)
        if len(found.cases) == before:
            without.append(subject)
    if participants.is_filter:
        found.problems += [(subject, "has no anatomical image.") for subject in without]
    elif without and found.cases:
        found.notes.append((tree.name, f"holds {len(without)} subjects without an anatomical image."))
    return found


def _anat_folders(tree: Tree, subject: str) -> Iterator[tuple[str, Folder]]:
    """Yield (subject or session, its anat folder)."""
    places = [subject, *(join(subject, name) for name in tree.listing(subject).folders if name.startswith("ses-"))]
    for place in places:
        if "anat" in tree.listing(place).folders:
            yield place, tree.listing(join(place, "anat"))


def _add_case(tree: Tree, place: str, anat: Folder, found: Found) -> None:
    """Add the case of an anat folder, unless it holds no image at all."""
    images = [name for name in tree.images(anat) if name.lower().endswith(_IMAGES)]
    own = "_".join(place.split("/")) + "_"
    by_modality: dict[Modality, list[_Scan]] = {}
    for name in images:
        if not name.startswith(own) or _is_of_session(name.removeprefix(own)):
            found.problems.append((join(anat.place, name), f"does not have the name of a scan of {place}."))
        elif (scan := _scan(name, own)) is not None:
            by_modality.setdefault(scan.modality, []).append(scan)
        else:
            found.skipped += 1
    if not images:
        return
    scans: dict[Modality, Path] = {}
    ambiguous = set()
    for modality, candidates in sorted(by_modality.items()):
        first, *others = sorted(candidates, key=lambda scan: (scan.rank, scan.name))
        if others and others[0].rank == first.rank:
            both = f"{first.name} and {others[0].name}"
            found.problems.append((place, f"has two files that are its {modality}: {both}; neither is taken."))
            ambiguous.add(modality)
            continue
        if others:
            found.notes.append((place, f"has {len(candidates)} {modality} images; {first.name} is taken."))
        scans[modality] = tree.path(anat.place, first.name)
    found.cases.append(Case(place, scans, (), Path(place), "bids", frozenset(ambiguous)))


def _is_of_session(rest: str) -> bool:
    """Whether a name goes on with a session that its folders do not tell."""
    return rest.startswith("ses-")


def _scan(name: str, own: str) -> _Scan | None:
    """What the name of an image says after its subject and session; None where it is no contrast known here."""
    *entities, suffix = strip_suffixes(Path(name)).removeprefix(own).split("_")
    modality = _SUFFIXES.get(suffix.lower())
    if modality is None or any(part.startswith("part-") and part != _MAGNITUDE for part in entities):
        return None
    if modality is Modality.T1 and any(part.startswith("ce-") for part in entities):
        modality = Modality.T1CE
    run = 0
    others = []
    for part in entities:
        key, _, value = part.partition("-")
        if key == "run":
            run = int(value) if value.isdecimal() else 0
        elif key != "ce" and part != _MAGNITUDE:
            others.append(part)
    return _Scan(name, modality, tuple(others), run)


def derivatives_of(out: Path) -> Path:
    """Folder of this pipeline's dataset: ``<out>/derivatives/imputer``, where `out` does not end like that already."""
    for count in (2, 1):
        if out.parts[-count:] == PIPELINE[:count]:
            return out.joinpath(*PIPELINE[count:])
    return out.joinpath(*PIPELINE)


def below_pipeline(relative: Path) -> Path:
    """A path below an output folder without the folders of this pipeline, where it begins with them."""
    count = len(PIPELINE)
    return Path(*relative.parts[count:]) if relative.parts[:count] == PIPELINE else relative


def bids_output(case: Case, target: Modality, out: Path) -> Path:
    """File of a synthetic image of a BIDS case, e.g. ``derivatives/imputer/sub-X/anat/sub-X_desc-synth_T2w.nii.gz``."""
    entities, suffix = _WRITTEN[target]
    name = f"{'_'.join(case.folder.parts)}_{entities}desc-synth_{suffix}.nii.gz"
    return derivatives_of(out) / case.folder / "anat" / name


def write_dataset_description(out: Path, *, source: Path | None = None) -> Path:
    """Write the description that makes the results a BIDS derivatives dataset; one that is there already stays.

    Parameters
    ----------
    out : output folder of the batch; the file goes to `derivatives_of` it, which is made.
    source : root of the dataset that the results come from; None: not told.

    Raises
    ------
    OutputError
        Where it cannot be written.
    """
    folder = derivatives_of(Path(out))
    path = folder / DESCRIPTION
    if path.is_file():
        return path
    description: dict[str, Any] = {
        "Name": "imputer: synthetic contrasts, not for diagnosis",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "imputer",
                "Version": __version__,
                "Description": "Images with desc-synth are synthetic; the JSON file of each tells how it was made.",
            }
        ],
    }
    if source is not None:
        description["SourceDatasets"] = [_source_dataset(Path(source), folder)]
    make_folder(folder)
    with replacing(path, overwrite=True) as temporary:  # a job beside this one writes the same
        temporary.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _source_dataset(source: Path, folder: Path) -> dict[str, str]:
    """Where the source lies as seen from the derivatives, and its DOI where it states one."""
    try:
        url = Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        url = source.name
    told = {"URL": shown(url)}
    try:
        doi = json.loads((source / DESCRIPTION).read_text(encoding="utf-8")).get("DatasetDOI")
    except (OSError, ValueError, AttributeError):
        doi = None
    return {**told, "DOI": doi} if isinstance(doi, str) else told
