"""Whether a reference is among the volumes that the model of its prediction was trained on."""

from __future__ import annotations

from pathlib import Path

from imputer.errors import ModelError
from imputer.io.pairs import sidecar_of
from imputer.preprocess.fingerprint import fingerprint
from imputer.volume import Volume
from imputer.weights.manifest import Entry
from imputer.weights.store import all_entries


def seen_in_training(prediction: Path, reference: Volume) -> str | None:
    """Warning where the model that the prediction's sidecar names learnt from the reference; None where none is known.

    The model is looked up among those of the manifest and of this machine, by the SHA-256 of its weights, else by its
    id; `reference` is as read from its file.
    """
    told = sidecar_of(prediction).get("model")
    if not isinstance(told, dict):
        return None
    try:
        entry = _entry(all_entries(), told.get("weights_sha256"), told.get("id"))
    except ModelError as error:
        return f"Whether the model was trained on the reference is not known: {error.message}"
    if entry is None or fingerprint(reference) not in entry.fingerprints:
        return None
    return (
        f"The reference is one of the volumes that the model {entry.id} was trained on: "
        f"these figures say nothing of new cases."
    )


def _entry(entries: tuple[Entry, ...], sha256: object, identifier: object) -> Entry | None:
    by_weights = [entry for entry in entries if entry.sha256 and entry.sha256 == sha256]
    return next(iter(by_weights or [entry for entry in entries if entry.id == identifier]), None)
