"""What ``imputer models`` says of a model: as a line of a table, as JSON, as one line a field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imputer.weights.manifest import Entry, Score

HEADING = ["ID", "FROM", "TO", "METHOD", "SIZE", "LICENCE", "STATE"]


def row_of(entry: Entry) -> list[str]:
    """The line of a model in the table of `models list`, under `HEADING`."""
    from imputer.weights.hub import name_of
    from imputer.weights.store import file_of

    licence = entry.licence.weights + (" (non-commercial)" if entry.licence.non_commercial else "")
    repo = name_of(entry).partition("@")[0]  # a commit is too long for a column, and --json has it
    pair, state = (entry.source_text, entry.target_text), _state(entry, file_of(entry))
    return [repo, *pair, entry.method, _megabytes(entry.bytes), licence, state]


def _state(entry: Entry, file: Path | None) -> str:
    """Where a model is, in a word: whether it can be used at once, or what has to be done first."""
    if not entry.is_runnable:
        return "import-only"
    if entry.embedded:
        return "embedded"
    return "here" if file else "to pull"


def record_of(entry: Entry) -> dict[str, Any]:
    """All that is known of a model, JSON-safe."""
    from dataclasses import asdict

    from imputer.weights.hub import name_of
    from imputer.weights.store import file_of

    file = file_of(entry)
    home = {key: str(value) for key, value in asdict(entry.home).items()}
    return {
        "id": entry.id,
        "name": name_of(entry),
        "title": entry.title,
        "method": entry.method,
        "from": entry.source_text,
        "to": entry.target_text,
        "sources": [str(each) for each in entry.sources],
        "targets": [str(each) for each in entry.targets],
        "joint": not entry.any_one_source,
        "required": [str(each) for each in entry.needed],
        "version": entry.version,
        "scope": asdict(entry.scope),
        "trained_on": entry.trained_on,
        "fingerprints": list(entry.fingerprints),
        "licence": entry.licence.weights,
        "licences": asdict(entry.licence),
        "citation": entry.citation,
        "scores": [asdict(score) for score in entry.scores],
        "state": _state(entry, file),
        "embedded": entry.embedded,
        "home": home,
        "bytes": entry.bytes,
        "sha256": entry.sha256,
        "path": str(file) if file else None,
    }


def readable(record: dict[str, Any]) -> dict[str, object]:
    """The record with one line a field: what a person wants to read."""
    scope, licence, home = record["scope"], record["licences"], record["home"]
    kind = "non-commercial" if licence["non_commercial"] else "commercial use not excluded"
    lines: dict[str, object] = {"id": record["name"]}
    lines.update({key: record[key] for key in ("title", "method", "from", "to", "version")})
    lines["anatomy"] = f"{scope['anatomy']}, skull-stripped: {scope['skull_stripped']}"
    lines["trained for"] = f"pixels of {_span(scope['pixel_mm'])} mm, slices {_span(scope['slice_mm'])} mm apart"
    lines.update({"note": scope["note"]} if scope["note"] else {})
    lines["trained on"] = record["trained_on"]
    lines["licence"] = f"weights {licence['weights']}; code {licence['code']}; data {licence['data']} ({kind})"
    lines["citation"] = record["citation"]
    lines.update({f"score {number}": _said(score) for number, score in enumerate(record["scores"], 1)})
    lines["state"] = record["state"]
    lines.update(home)
    lines.update({"bytes": record["bytes"], "sha256": record["sha256"]} if record["sha256"] else {})
    lines.update({"path": record["path"]} if record["path"] else {})
    return lines


def _span(values: tuple[float, float]) -> str:
    low, high = values
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _said(score: Score | dict[str, Any]) -> str:
    values = score if isinstance(score, dict) else vars(score)
    beside = (
        f", {values['baseline_name'] or 'baseline'} {values['baseline']:g}" if values["baseline"] is not None else ""
    )
    return f"{values['metric']} {values['value']:g}{beside} ({values['data']}, {values['case']})"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size else "-"
