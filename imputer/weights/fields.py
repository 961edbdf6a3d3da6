"""The fields of a TOML table of unknown origin: each is taken once and checked; the first wrong one is named."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection
from typing import Any, NoReturn

from imputer.errors import ModelError
from imputer.modality import Modality
from imputer.safetensors_header import UNSEEN

SUFFIX = ".safetensors"
_REQUIRED: Any = object()
_TYPES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class Fields:
    """One table: what is left at the end is unknown.

    Parameters
    ----------
    table : the table as tomllib gives it.
    where : the file, and which model of it, for errors.
    prefix : what comes before the names of fields in errors, e.g. "home.".
    """

    def __init__(self, table: dict[str, Any], where: str, prefix: str = "") -> None:
        self._left = dict(table)
        self.where = where
        self._prefix = prefix

    def refuse(self, name: str, problem: str) -> NoReturn:
        """Raise ModelError for a field."""
        raise ModelError(
            f"{self.where}, field {self._prefix}{name}: {problem}.", remedy="Correct that file, or get it again."
        )

    def take(self, name: str, kind: type, *, default: Any = _REQUIRED) -> Any:
        """Take a field out; it must be there unless there is a default. A whole number passes for a float."""
        value = self._left.pop(name, default)
        if value is _REQUIRED:
            self.refuse(name, "is missing")
        if value is default:
            return default
        if kind is float and type(value) is int and abs(value) <= 2**53:
            value = float(value)
        fits = type(value) is kind  # isinstance would let true pass for 1
        if not fits:
            self.refuse(name, f"{shown(value)} is not {_TYPES[kind]}")
        if kind is float and not math.isfinite(value):
            self.refuse(name, "is not a finite number")
        # It is shown on terminals: no escape sequences, no text that runs backwards.
        if kind is str and any(unicodedata.category(sign) in UNSEEN for sign in value if sign not in "\n\t"):
            self.refuse(name, "holds control characters")
        return value

    def text(self, name: str) -> str:
        """Take a text that is not empty."""
        value: str = self.take(name, str)
        if not value.strip():
            self.refuse(name, "is empty")
        return value

    def match(self, name: str, pattern: str | re.Pattern[str], what: str) -> str:
        """Take a text that a pattern describes wholly; `what` says in words what it must be."""
        value: str = self.take(name, str)
        if not re.fullmatch(pattern, value):
            self.refuse(name, f"{shown(value)} is not {what}")
        return value

    def matches(self, name: str, pattern: re.Pattern[str], what: str, *, most: int) -> tuple[str, ...]:
        """Take a list of texts that a pattern describes wholly, each there once; it may be missing or empty."""
        values: list[Any] = self.take(name, list, default=[])
        for value in values:
            if not (isinstance(value, str) and pattern.fullmatch(value)):
                self.refuse(name, f"{shown(value)} is not {what}")
        if len(values) > most or len(set(values)) < len(values):
            self.refuse(name, f"must have {most} at most, and each once")
        return tuple(values)

    def choice(self, name: str, known: Collection[str]) -> str:
        """Take one of the known words."""
        value: str = self.take(name, str)
        if value not in known:
            self.refuse(name, f"{shown(value)} is unknown; known are {', '.join(known)}")
        return value

    def size(self, name: str) -> int:
        """Take a number of bytes above 0."""
        value: int = self.take(name, int)
        if not 0 < value < 2**63:
            self.refuse(name, f"{shown(value)} is no size of a file")
        return value

    def file(self, name: str) -> str:
        """Take the path of a weights file below some folder: relative, with slashes, and never out of the folder."""
        value: str = self.take(name, str)
        if any(part in ("", ".", "..") for part in value.split("/")) or re.search(r"[\\:\n\t]", value):
            self.refuse(name, f"{shown(value)} is not a plain relative path")
        if not value.endswith(SUFFIX):
            self.refuse(name, f"{shown(value)} does not end in {SUFFIX}")
        return value

    def modalities(self, name: str, *, default: Any = _REQUIRED, empty: bool = False) -> Any:
        """Take a list of modalities, a tuple then, by their proper names, not by aliases; `empty` allows for none."""
        values: list[Any] = self.take(name, list, default=default)
        if values is default:
            return default
        for value in values:
            if value not in tuple(Modality):
                self.refuse(name, f"{shown(value)} is unknown; known are {', '.join(Modality)}")
        if not (values or empty) or len(set(values)) < len(values):
            self.refuse(name, "must name one modality at least, and each once")
        return tuple(Modality(value) for value in values)

    def span(self, name: str) -> tuple[float, float]:
        """Take two lengths in mm, the smaller one first."""
        values: list[Any] = self.take(name, list)
        if len(values) != 2 or any(type(value) not in (int, float) for value in values):
            self.refuse(name, "must be two lengths in mm")
        if not 0 < values[0] <= values[1] < 2**53:
            self.refuse(name, "must be two lengths above 0 mm, the smaller one first")
        return float(values[0]), float(values[1])

    def table(self, name: str) -> Fields:
        """Take a table."""
        return self.inner(name, self.take(name, dict))

    def tables(self, name: str, *, default: Any = _REQUIRED) -> list[Fields]:
        """Take a list of tables."""
        values: list[Any] = self.take(name, list, default=default)
        return [self.inner(name, value) for value in values]

    def inner(self, name: str, table: Any, *, where: str = "") -> Fields:
        """The fields of a table inside this one; with `where`, their names in errors begin anew there."""
        if type(table) is not dict:
            self.refuse(name, f"{shown(table)} is not a table")
        return Fields(table, where) if where else Fields(table, self.where, f"{self._prefix}{name}.")

    def finish(self) -> None:
        """Refuse what nobody took."""
        for name in self._left:
            self.refuse(name if re.fullmatch(r"[\w-]{1,60}", name) else shown(name), "is unknown")


def shown(value: object) -> str:
    """A foreign value as one short line without control characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        text = f"this {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
