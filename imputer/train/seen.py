"""What a model package tells of the volumes that it was trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imputer.files import sha256_of
from imputer.io.dispatch import load
from imputer.modality import Modality
from imputer.nets.checkpoint import read_header
from imputer.preprocess.fingerprint import fingerprint
from imputer.preprocess.likeness import spans_of
from imputer.preprocess.survey import Survey, survey
from imputer.weights import store
from imputer.weights.manifest import MOST_FINGERPRINTS
from imputer.weights.package import fingerprints_of


@dataclass(frozen=True)
class Seen:
    """What was seen of training volumes.

    Parameters
    ----------
    fingerprints : of all of them, sorted, each there once; they end at the most that a header may hold.
    measured : what they looked like, see `imputer.preprocess.likeness.spans_of`.
    """

    fingerprints: tuple[str, ...] = ()
    measured: tuple[dict[str, Any], ...] = ()

    def of(self, sources: Collection[str]) -> list[dict[str, Any]]:
        """Return what the volumes of these contrasts looked like."""
        return [each for each in self.measured if each["modality"] in sources]


NOTHING = Seen()


def look_at(volumes: Iterable[tuple[Modality, Path]], initial: str = "") -> Seen:
    """Look at volumes, given with their contrasts, as they lie in their files.

    `initial` is the package of a starting model, "" for none, whose training volumes count as seen: those that its
    header lists, and those that the manifest does where it is one of ours. ModelError where it cannot be read.
    """
    prints: set[str] = set()
    surveys: list[tuple[Modality, Survey]] = []
    for modality, path in dict.fromkeys(volumes):
        volume = load(path)
        prints.add(fingerprint(volume))
        found = survey(volume)
        surveys += [(modality, found)] if found is not None else []
    if initial:
        prints |= _seen_by(Path(initial))
    return Seen(tuple(sorted(prints)[:MOST_FINGERPRINTS]), tuple(spans_of(surveys)))


def _seen_by(model: Path) -> set[str]:
    found = {*fingerprints_of(read_header(model), model.name)}
    digest = sha256_of(model)
    return found.union(*(entry.fingerprints for entry in store.all_entries() if entry.sha256 == digest))
