"""The weights manifest: models as frozen entries, read from TOML and written to it.

The same format serves `weights_manifest.toml`, which comes with imputer, the index `imputer.toml` of a repository on
the Hub, and the local registry. No torch, no network: names, licences and hashes are there before anything heavy is.
A file may come from anybody, so every field is checked and the first wrong one is named.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from imputer.errors import ModelError
from imputer.files import replacing
from imputer.modality import Modality
from imputer.weights.fields import Fields
from imputer.weights.measured import Measured, measured_of

# The folder that holds the package: the root of the repository or, for an installed wheel, of site-packages.
_PACKAGE = Path(__file__).resolve().parents[1]
_NAME = "weights_manifest.toml"
INDEX = "imputer.toml"  # a manifest in a repository of the Hub or in an archive, of the models beside it
_FORMAT = 2
LARGEST = 4_000_000  # bytes; a manifest of a thousand models has less

METHODS = ("syndiff", "disdiff", "aldm")
STYLED = ("disdiff",)  # methods that may give a result the look of a reference scan
ONE_SOURCE = ("aldm",)  # methods that work from any one of their sources
# Those that do unless the model says which of its sources it requires, if only none: then they enter together.
ONE_SOURCE_UNLESS_TOLD = ("disdiff",)
METRICS = ("PSNR (dB)", "SSIM")
SKULL_STRIPPED = ("yes", "no", "either")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
REVISION = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
FINGERPRINT = re.compile(r"[0-9a-f]{16}")
MOST_FINGERPRINTS = 20_000  # of a model
_URL = re.compile(r"https://[^\s\"<>]+")


@dataclass(frozen=True)
class Scope:
    """What a model was trained on; outside of it nobody knows what comes out.

    Parameters
    ----------
    anatomy : e.g. "brain".
    skull_stripped : "yes", "no" or "either".
    pixel_mm, slice_mm : least and greatest size of a pixel within a slice, and distance between slices, in mm.
    note : what else is to be known.
    """

    anatomy: str
    skull_stripped: str
    pixel_mm: tuple[float, float]
    slice_mm: tuple[float, float]
    note: str = ""


@dataclass(frozen=True)
class Embedded:
    """A file that comes with imputer; `file` is relative to the folder that holds the package, with slashes."""

    file: str


@dataclass(frozen=True)
class HubFile:
    """A file in a repository ("owner/name") of the Hub, at one commit (40 hexadecimal digits)."""

    repo: str
    revision: str
    file: str


@dataclass(frozen=True)
class ImportOnly:
    """Weights of others that imputer may not or cannot fetch: how to bring them in, and the page that offers them."""

    instructions: str
    url: str


@dataclass(frozen=True)
class Imported:
    """A file on this machine, of the local registry; never in the manifest that comes with imputer."""

    path: Path


Home = Embedded | HubFile | ImportOnly | Imported
KINDS: dict[str, type[Home]] = {"embedded": Embedded, "hub": HubFile, "import-only": ImportOnly, "imported": Imported}


@dataclass(frozen=True)
class Licence:
    """The licences of the code, of the weights and of the training data, and whether any forbids commercial use."""

    code: str
    weights: str
    data: str
    non_commercial: bool


@dataclass(frozen=True)
class Score:
    """One measurement: on what, of which case, by which metric, and what a simple baseline reaches there."""

    data: str
    case: str
    metric: str
    value: float
    baseline: float | None = None
    baseline_name: str = ""


@dataclass(frozen=True)
class Entry:
    """One trained model; `bytes` and `sha256` (64 hexadecimal digits) are its file's: 0 and "" where import-only.

    `required` are those of several sources that enter together which must be there; None: all of them.
    `fingerprints` (see `imputer.preprocess.fingerprint`) are of the volumes, sources and targets, that it was trained
    on, `measured` tells what its sources among them looked like; empty where that is not known.
    """

    id: str
    method: str
    sources: tuple[Modality, ...]
    targets: tuple[Modality, ...]
    title: str
    version: str
    trained_on: str
    citation: str
    scope: Scope
    home: Home
    licence: Licence
    bytes: int = 0
    sha256: str = ""
    scores: tuple[Score, ...] = ()
    required: tuple[Modality, ...] | None = None
    fingerprints: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()

    @property
    def any_one_source(self) -> bool:
        """Whether it takes one source at a time."""
        unless_told = self.method in ONE_SOURCE_UNLESS_TOLD and self.required is None
        return len(self.sources) == 1 or self.method in ONE_SOURCE or unless_told

    @property
    def needed(self) -> tuple[Modality, ...]:
        """Sources that a model of several together cannot do without; none of one that takes one at a time."""
        if self.any_one_source:
            return ()
        return self.sources if self.required is None else self.required

    @property
    def pair(self) -> str:
        """Sources and targets as one word, e.g. ``t1->t2``; ``t1+t2->flair`` from both, ``t1/t2->t2/t1`` from any."""
        return f"{('/' if self.any_one_source else '+').join(self.sources)}->{'/'.join(self.targets)}"

    @property
    def source_text(self) -> str:
        """What it starts from: ``t1, t2`` is any one of them, ``t1 + t2`` is both at once.

        ``t1 + t2 or fewer`` also takes any of them alone, ``t1 (+ t2)`` cannot do without T1.
        """
        if self.any_one_source:
            return ", ".join(self.sources)
        optional = [source for source in self.sources if source not in self.needed]
        if not self.needed:
            return f"{' + '.join(self.sources)} or fewer"
        return " + ".join(self.needed) + (f" (+ {' + '.join(optional)})" if optional else "")

    @property
    def target_text(self) -> str:
        """What it makes: ``t1, t2`` is any of them."""
        return ", ".join(self.targets)

    @property
    def is_runnable(self) -> bool:
        """Whether there is a file of it, here or on the Hub."""
        return not isinstance(self.home, ImportOnly)

    @property
    def embedded(self) -> bool:
        """Whether it comes with imputer."""
        return isinstance(self.home, Embedded)


def manifest_path() -> Path:
    """The manifest in the package (wheel) or beside it (repository, editable install)."""
    for path in (_PACKAGE / _NAME, _PACKAGE.parent / _NAME):
        if path.is_file():
            return path
    raise ModelError(f"The weights manifest {_NAME} is missing.", remedy="Install imputer again.")


@cache
def entries() -> tuple[Entry, ...]:
    """All models of the manifest that comes with imputer; of two that fit, the earlier one is the better one."""
    return read(manifest_path())


def find(identifier: str, among: Sequence[Entry] | None = None) -> Entry:
    """The model of that id; ModelError suggests near ones and names all that exist.

    Without `among`, the models that come with imputer are searched.
    """
    known = {entry.id: entry for entry in (entries() if among is None else among)}
    if identifier in known:
        return known[identifier]
    near = difflib.get_close_matches(identifier.lower(), known, n=3)
    suggestion = f"Did you mean {' or '.join(near)}? " if near else ""
    raise ModelError(f"There is no model {identifier!r}.", remedy=f"{suggestion}Models: {', '.join(known)}.")


def read(path: Path) -> tuple[Entry, ...]:
    """Read a manifest file; ModelError names the file, the model and the field where something is wrong."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST // 10**6} MB")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else error
        raise ModelError(f"The weights manifest {path.name} cannot be read ({reason}).") from error
    return parse(text, path.name)


def parse(text: str, name: str) -> tuple[Entry, ...]:
    """Return the models of a manifest's text; errors as those of `read`, with `name` for the file's."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The weights manifest {name} cannot be read ({error}).") from error
    top = Fields(table, name)
    number = top.take("format", int)
    if number != _FORMAT:
        raise ModelError(
            f"The weights manifest {name} has format {number}; this version reads format {_FORMAT}.",
            remedy="Update imputer." if number > _FORMAT else "Get the file again.",
        )
    found: dict[str, Entry] = {}
    for position, values in enumerate(top.take("model", list), 1):
        fields = top.inner("model", values, where=f"{name}, model {position}")
        entry = _entry(fields, name)
        if entry.id in found:
            fields.refuse("id", "another model has the same")
        found[entry.id] = entry
    top.finish()
    return tuple(found.values())


def _entry(fields: Fields, name: str) -> Entry:
    identifier = fields.match("id", _ID, "a name of letters, digits, dots, dashes and underscores")
    fields.where = f"{name}, model {identifier}"
    home = _home(fields.table("home"))
    has_file = not isinstance(home, ImportOnly)
    entry = Entry(
        id=identifier,
        method=fields.choice("method", METHODS),
        sources=fields.modalities("sources"),
        targets=fields.modalities("targets"),
        title=fields.text("title"),
        version=fields.text("version"),
        trained_on=fields.text("trained_on"),
        citation=fields.text("citation"),
        scope=_scope(fields.table("scope")),
        home=home,
        licence=_licence(fields.table("licence")),
        bytes=fields.size("bytes") if has_file else 0,
        sha256=fields.match("sha256", SHA256, "a SHA-256 of 64 hexadecimal digits") if has_file else "",
        scores=tuple(_score(score) for score in fields.tables("score", default=[])),
        required=fields.modalities("required", default=None, empty=True),
        fingerprints=fields.matches("fingerprints", FINGERPRINT, "16 hexadecimal digits", most=MOST_FINGERPRINTS),
        measured=tuple(map(measured_of, fields.tables("measured", default=[]))),
    )
    if entry.required is not None and (entry.any_one_source or not {*entry.required} <= {*entry.sources}):
        fields.refuse("required", "names what is no source, or the model takes one source at a time")
    fields.finish()
    return entry


def _scope(fields: Fields) -> Scope:
    scope = Scope(
        anatomy=fields.text("anatomy"),
        skull_stripped=fields.choice("skull_stripped", SKULL_STRIPPED),
        pixel_mm=fields.span("pixel_mm"),
        slice_mm=fields.span("slice_mm"),
        note=fields.take("note", str, default=""),
    )
    fields.finish()
    return scope


def _home(fields: Fields) -> Home:
    home: Home
    kind = fields.choice("kind", KINDS)
    if kind == "embedded":
        home = Embedded(fields.file("file"))
    elif kind == "hub":
        repo = fields.match("repo", _REPO, "a repository as owner/name")
        revision = fields.match("revision", REVISION, "a commit of 40 hexadecimal digits")
        home = HubFile(repo, revision, fields.file("file"))
    elif kind == "import-only":
        home = ImportOnly(fields.text("instructions"), fields.match("url", _URL, "an https address"))
    else:
        home = Imported(Path(fields.text("path")))
    fields.finish()
    return home


def _licence(fields: Fields) -> Licence:
    licence = Licence(
        code=fields.text("code"),
        weights=fields.text("weights"),
        data=fields.text("data"),
        non_commercial=fields.take("non_commercial", bool),
    )
    fields.finish()
    return licence


def _score(fields: Fields) -> Score:
    score = Score(
        data=fields.text("data"),
        case=fields.text("case"),
        metric=fields.choice("metric", METRICS),
        value=fields.take("value", float),
        baseline=fields.take("baseline", float, default=None),
        baseline_name=fields.take("baseline_name", str, default=""),
    )
    fields.finish()
    return score


def write(path: Path, models: Sequence[Entry]) -> None:
    """Write a manifest that `read` turns into the same entries; the file is replaced wholly or not at all.

    Raises
    ------
    ModelError
        Where `read` would refuse a field of an entry; names it.
    OutputError
        Where the system refuses to write.
    """
    text = render(models)
    parse(text, path.name)
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def render(models: Sequence[Entry]) -> str:
    """Return the text of a manifest of these models, as `write` writes it."""
    lines = [f"format = {_FORMAT}"]
    if not models:
        lines.append("model = []")
    for entry in models:
        values = asdict(entry)
        (kind,) = (word for word, home in KINDS.items() if type(entry.home) is home)
        lists = {"score": values.pop("scores"), "measured": values.pop("measured")}
        tables = {"scope": values.pop("scope"), "home": {"kind": kind, **values.pop("home")}}
        tables["licence"] = values.pop("licence")
        if not entry.is_runnable:
            del values["bytes"], values["sha256"]
        if not entry.fingerprints:  # versions before these knew no such field
            del values["fingerprints"]
        lines += ["", "[[model]]", *_assignments(values)]
        for name, table in tables.items():
            lines += ["", f"[model.{name}]", *_assignments(table)]
        for name, members in lists.items():
            for member in members:
                lines += ["", f"[[model.{name}]]", *_assignments(member)]
    return "\n".join(lines) + "\n"


def _assignments(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name} = {_toml(value)}" for name, value in table.items() if value is not None)


def _toml(value: Any) -> str:
    """Write a value in TOML. Strings are as in JSON; a finite float's repr is valid in both."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
