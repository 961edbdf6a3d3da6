"""A training run becomes a folder that can be pushed to the Hub: packages, index, model card."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from imputer.errors import ModelError, OutputError, UsageError
from imputer.weights.card import card
from imputer.weights.fields import SUFFIX
from imputer.weights.hub import CARD
from imputer.weights.manifest import INDEX, METRICS, Entry, Imported, Score, write
from imputer.weights.package import NOT_STATED, entry_of, forbids_commerce

_MODELS, _LOG, _SETTINGS = "models", "log.jsonl", "config.toml"
_UNSTATED = (NOT_STATED, "unspecified")  # the second is what training writes where nobody said it
_KEYS = dict(zip(("psnr", "ssim"), METRICS[:2], strict=True))


def models_of(run: Path, *, licence: str | None = None) -> tuple[Entry, ...]:
    """Return the entries of a package file, or of the packages in a folder of `imputer train`, with its last scores.

    `licence` is that of the weights where the packages state none.

    Raises
    ------
    ModelError
        Where there is no package, or one is not sound.
    """
    if run.is_file():
        return (_licensed(entry_of(run, Imported(run)), licence),)
    folder = run / _MODELS if (run / _MODELS).is_dir() else run
    packages = sorted(folder.glob(f"*{SUFFIX}"))
    if not packages:
        raise ModelError(f"{run.name} holds no model package.", remedy="Give a run of 'imputer train' that has ended.")
    settings = _settings(run / _SETTINGS)
    entries = (_licensed(entry_of(path, Imported(path)), licence) for path in packages)
    return tuple(replace(entry, scores=_scores(entry, run, settings)) for entry in entries)


def _licensed(entry: Entry, licence: str | None) -> Entry:
    if licence is None or licence == entry.licence.weights:
        return entry
    if entry.licence.weights not in _UNSTATED:
        raise UsageError(
            f"The licence of {entry.id} is stated in its file: {entry.licence.weights}.", remedy="Leave --licence out."
        )
    non_commercial = entry.licence.non_commercial or forbids_commerce(licence)
    return replace(entry, licence=replace(entry.licence, weights=licence, non_commercial=non_commercial))


def stage(entries: tuple[Entry, ...], folder: Path, repo: str) -> None:
    """Put packages, index and card of entries with local files into an empty folder, as a repository has them.

    Raises
    ------
    ModelError
        Where a licence is not stated: nobody may use what nobody has licensed.
    OutputError
        Where the folder is full.
    """
    for entry in entries:
        if entry.licence.weights in _UNSTATED:
            raise ModelError(
                f"The licence of {entry.id} is not stated, so nobody could use it.",
                remedy="Say it with --licence, for instance --licence CC-BY-4.0.",
            )
    try:
        for entry in entries:
            assert isinstance(entry.home, Imported)
            shutil.copyfile(entry.home.path, folder / entry.home.path.name)
        write(folder / INDEX, [_portable(entry) for entry in entries])
        (folder / CARD).write_text(card(entries, repo), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f"The models could not be gathered in the folder for temporary files ({reason}).",
            remedy="Make room there, or set TMPDIR to another folder.",
        ) from error


def _portable(entry: Entry) -> Entry:
    """The entry with its file named as in the repository; a commit's name is not known before it is made."""
    assert isinstance(entry.home, Imported)
    return replace(entry, home=Imported(Path(entry.home.path.name)))


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _scores(entry: Entry, run: Path, settings: Mapping[str, Any]) -> tuple[Score, ...]:
    """Scores of held-out cases of a model, of the last line of its log that has any.

    A run of SynDiff has two models, forward being that from the settings' source; one of DisDiff has one model for both
    directions. One of ALDM has one model, which the last of its stages, each with a log of its own, made.
    """
    stages = settings.get("stages")
    if isinstance(stages, list) and stages:
        found = _last_values(run / str(stages[-1]) / _LOG, "")
        return _told("volumes of held-out subjects", "mean", found)
    if "source" not in settings:
        return ()
    source, target = settings["source"], settings.get("target")
    scores: tuple[Score, ...] = ()
    for direction, first, second in (("forward", source, target), ("backward", target, source)):
        if first in entry.sources and second in entry.targets:
            has_one_pair = len(entry.targets) == 1
            case = "mean" if has_one_pair else f"mean, {first} to {second}"
            scores += _told("slices of held-out cases", case, _last_values(run / _LOG, f"{direction}."))
    return scores


def _told(what: str, case: str, found: Mapping[str, float]) -> tuple[Score, ...]:
    return tuple(Score(f"{what}, on the model's grid", case, metric, value) for metric, value in found.items())


def _last_values(log: Path, prefix: str) -> dict[str, float]:
    """The values of the metrics whose keys begin with a prefix, of the last line of a log that has any."""
    found: dict[str, float] = {}
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    for line in lines:
        record = _record(line)
        values = {metric: record.get(prefix + key) for key, metric in _KEYS.items()}
        numbers = {metric: value for metric, value in values.items() if isinstance(value, float)}
        found = numbers or found
    return found


def _record(line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
