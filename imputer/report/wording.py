"""What may be said of a case on a page that is shown around: its id, and no name of a file of the input."""

from __future__ import annotations

import re
from collections.abc import Mapping

from imputer.files import SUFFIXES

SOURCE, RESULT, FILE, FILES, PLACE = "the source", "the result", "a file", "files", "a folder"
_LONGEST = 600  # characters
_PATH = re.compile(r"(?<![\w<])(?:[A-Za-z]:)?[/\\][^\s,;:'\"()]+")
_ENDING = re.compile(rf"(?:{'|'.join(re.escape(suffix) for suffix in SUFFIXES)})(?!\w|\.\w)", re.IGNORECASE)
_BOUNDARY = re.compile(r"[,;:'\"()]\s*|[.!?]\s+")
_SENTENCE = re.compile(r"(^|[.!?] )([a-z])")


def without_names(text: str, names: Mapping[str, str]) -> str:
    """A sentence without names of files: those known to be of the case, paths, and whatever ends like an image.

    Of what ends so, all from the last punctuation on is left out: a name may hold blanks, and better too much goes than
    a name of a patient stays.

    Parameters
    ----------
    text : as a message of an error, a warning or a note.
    names : of the files of the case, without folders, and what is said instead of each.
    """
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda found: names[found.group()], text)
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rsplit(" ", 1)[0] + " …"
    text = _without_endings(_PATH.sub(PLACE, text))
    return _SENTENCE.sub(lambda found: found.group().upper(), text)


def _without_endings(text: str) -> str:
    """Leave out each name that ends like an image."""
    kept = ""
    start = 0
    for ending in _ENDING.finditer(text):
        piece = text[start : ending.start()]
        boundary = max((found.end() for found in _BOUNDARY.finditer(piece)), default=0)
        if boundary == 0 and kept.endswith((FILE, FILES)):
            kept = kept.removesuffix(FILE).removesuffix(FILES) + FILES
        else:
            kept += piece[:boundary] + FILE
        start = ending.end()
    return kept + text[start:]
