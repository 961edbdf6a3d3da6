"""What the page of a run says in words and numbers: of the run as a whole, and of each of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imputer.files import json_object

Facts = list[tuple[str, str]]

_ENDED = {"stopped": "stopped before all were done", "full": "no space was left"}


def run_facts(run: Path, records: Sequence[Mapping[str, Any]]) -> Facts:
    """Of `run.json`, where there is one, and of the sidecars of a run."""
    told = json_object(run / "run.json")
    facts: Facts = []
    seconds, slices = _number(told.get("seconds")), _number(told.get("slices"))
    if slices:
        facts.append(("Slices made", f"{slices:.0f}"))
    if seconds is not None:
        facts.append(("Last run took", clock(seconds)))
    if isinstance(told.get("started"), str):
        facts.append(("Last run began", told["started"][:16].replace("T", " ")))
    if told.get("ended_by") in _ENDED:
        facts.append(("Last run", _ENDED[told["ended_by"]]))
    for name, values in (
        ("Model", [_model(record) for record in records]),
        ("Device", [str(record.get("device") or "") for record in records]),
        ("Licence", [_licence(record) for record in records]),
    ):
        different = sorted({value for value in values if value})
        if different:
            facts.append((name, ", ".join(different)))
    return facts


def case_facts(record: Mapping[str, Any] | None) -> Facts:
    """Of a sidecar: the model and its settings; nothing of the source but its contrast."""
    if record is None:
        return []
    facts = [("Model", _model(record)), ("Licence", _licence(record))]
    for name, key in (
        ("Sampler", "sampler"),
        ("Steps", "steps"),
        ("Samples", "samples"),
        ("Seed", "seed"),
        ("Precision", "precision"),
        ("Device", "device"),
        ("Seconds", "seconds"),
    ):
        value = record.get(key)
        if isinstance(value, str | int | float) and value != "":
            facts.append((name, str(value)))
    versions = record.get("versions")
    if isinstance(versions, Mapping) and isinstance(versions.get("imputer"), str):
        facts.append(("imputer", versions["imputer"]))
    return [(name, value) for name, value in facts if value]


def clock(seconds: float) -> str:
    """A time as h:mm:ss, or in seconds below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _model(record: Mapping[str, Any]) -> str:
    model = record.get("model")
    if not isinstance(model, Mapping):
        return ""
    return " ".join(str(model[key]) for key in ("id", "version") if model.get(key))


def _licence(record: Mapping[str, Any]) -> str:
    model = record.get("model")
    if not isinstance(model, Mapping) or not model.get("licence"):
        return ""
    return str(model["licence"]) + (", not for commercial use" if model.get("non_commercial") is True else "")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
