"""What file names say besides the modality: whose scan it is, and whether it is a scan at all."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from imputer.files import strip_suffixes
from imputer.modality import Modality, guess_modality

# Words of names that mark what was drawn or computed on a scan; such a file is no scan even if it names one.
_LABEL_WORDS = frozenset(
    (
        *("seg", "segmentation", "mask", "brainmask", "roi", "label", "labels", "labelmap"),
        *("dseg", "probseg", "aseg", "aparc", "aparc+aseg", "parcellation"),
    )
)
_SEPARATORS = re.compile(r"([_\-.\s]+)")
_DIMENSIONS = ("2d", "3d")


def modality_of(name: str) -> Modality | None:
    """Modality that the name of a file or folder tells, else None."""
    return guess_modality(Path(name))


def is_label_map(name: str) -> bool:
    """Whether a file is a mask or a segmentation by its name."""
    first, *others = _SEPARATORS.split(strip_suffixes(Path(name)).lower())[::2]
    return not _LABEL_WORDS.isdisjoint(others or [first])  # seg-001_t1 is the scan of somebody called so


def without_label_words(text: str) -> str:
    """Name without the words that mark a mask or a segmentation: ``p1_mask`` gives ``p1``, ``mask`` nothing."""
    pieces = ["", *_SEPARATORS.split(text)]  # separator and word in turn
    pairs = zip(pieces[::2], pieces[1::2], strict=True)
    kept = [(separator, word) for separator, word in pairs if word.lower() not in _LABEL_WORDS]
    return "".join(f"{separator}{word}" if place else word for place, (separator, word) in enumerate(kept))


def without_modality(name: str) -> str:
    """Name of a file without its suffix and the words that tell its modality: what a subject's scans share.

    ``IXI002-Guys-0828-T1.nii.gz`` gives ``IXI002-Guys-0828``, ``t1.nii.gz`` nothing.
    """
    stem = strip_suffixes(Path(name))
    if stem.lower().startswith("sub-"):
        return _without_suffix(stem)
    pieces = ["", *_SEPARATORS.split(stem)]  # separator and word in turn
    kept: list[str] = []
    after_t1 = False
    for separator, word in zip(pieces[::2], pieces[1::2], strict=True):
        modality = _word_tells(word)
        drop = modality is not None or word.lower() in _DIMENSIONS or (after_t1 and _enhances(word))
        after_t1 = modality is Modality.T1
        if not drop and word:
            kept += [separator, word] if kept else [word]
    return "".join(kept)


def key_of(text: str) -> str:
    """Form of a name without modality by which files are put together: their separators may differ."""
    return _SEPARATORS.sub("_", text)


def _without_suffix(stem: str) -> str:
    """Entities of a BIDS name; what tells the contrast agent belongs to the modality."""

    def tells_modality(part: str) -> bool:
        return part.lower().startswith("ce-") if "-" in part else _word_tells(part) is not None

    return "_".join(part for part in stem.split("_") if not tells_modality(part))


@lru_cache(maxsize=4096)
def _word_tells(word: str) -> Modality | None:
    return modality_of(f"{word}.nii")


@lru_cache(maxsize=4096)
def _enhances(word: str) -> bool:
    """Whether a word after a T1 makes it contrast-enhanced."""
    return modality_of(f"t1_{word}.nii") is Modality.T1CE
