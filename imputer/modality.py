"""The kinds of image that are known here, their aliases, and what a file name tells about them."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from imputer.errors import UsageError
from imputer.files import SYNTHETIC_ENDING


class Modality(StrEnum):
    """Kind of image: the weighting of an MR sequence, or computed tomography."""

    T1 = "t1"
    T1CE = "t1ce"
    T2 = "t2"
    FLAIR = "flair"
    PD = "pd"
    CT = "ct"


ALIASES: dict[Modality, tuple[str, ...]] = {
    Modality.T1: ("t1w", "t1n", "mprage"),
    Modality.T1CE: ("t1c", "t1gd", "t1post"),
    Modality.T2: ("t2w",),
    Modality.FLAIR: ("t2f",),
    Modality.PD: ("pdw",),
    Modality.CT: ("sct",),
}
_BY_NAME = {name: modality for modality, aliases in ALIASES.items() for name in (modality.value, *aliases)}
# A word that follows a T1 word and makes it contrast-enhanced, as in t1_post or T1w-gd.
_CONTRAST_WORDS = frozenset({"ce", "c", "gd", "gad", "gado", "gadolinium", "post", "contrast", "postcontrast"})
_DIMENSIONS = re.compile(r"^(2d|3d)|(2d|3d)$")


def parse_modality(text: str) -> Modality:
    """Modality of a name or alias, in any case.

    Raises
    ------
    UsageError
        Where nothing has this name; the message lists what exists.
    """
    found = _BY_NAME.get(text.strip().lower())
    if found is None:
        known = ", ".join(modality.value for modality in Modality)
        raise UsageError(f"Unknown modality {text.strip()!r}.", remedy=f"Known are: {known}.")
    return found


def guess_modality(path: Path) -> Modality | None:
    """Modality that the name of a file tells: its BIDS suffix, or a word of the name.

    Folders are not looked at. None where the name tells nothing, or more than one thing.
    """
    stem = path.name.lower().split(".nii")[0]
    own = SYNTHETIC_ENDING.search(stem.split(".")[0])
    if own is not None:
        return _BY_NAME.get(own.group(1))
    parts = stem.split("_")
    enhanced = False
    if stem.startswith("sub-"):  # BIDS: key-value pairs (space-T1w) say nothing of the image itself, but for the agent
        enhanced = any(part.startswith("ce-") for part in parts)
        parts = [part for part in parts if "-" not in part]
    found = _modalities(re.findall(r"[a-z0-9*]+", "_".join(parts)))
    if enhanced and found == {Modality.T1}:
        return Modality.T1CE
    return found.pop() if len(found) == 1 else None


def _modalities(words: list[str]) -> set[Modality]:
    """All modalities that the words of a name tell, pairs such as "t1 post" and "t2 flair" taken together."""
    found: set[Modality] = set()
    skip = False
    for word, following in pairwise([*words, ""]):
        modality = None if skip else _BY_NAME.get(_DIMENSIONS.sub("", word))
        skip = False
        if modality is Modality.T1 and following in _CONTRAST_WORDS:
            modality, skip = Modality.T1CE, True
        elif modality is Modality.T2 and following == "flair":
            modality, skip = Modality.FLAIR, True
        elif modality is Modality.T2 and following == "star":
            continue  # T2* is another contrast
        if modality is not None:
            found.add(modality)
    return found


def split_role(text: str) -> tuple[Path, Modality | None]:
    """``t1=PATH`` as path and modality; a file whose name happens to hold = is a path. UsageError for no modality."""
    role, separator, path = text.partition("=")
    if not separator or Path(text).exists() or "/" in role:
        return Path(text), None
    return Path(path), parse_modality(role)
