"""The sidecar: what was made from what, by which model, with which settings. It holds no patient's data.

Of the input it names the file and its hash, and nothing of its header.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from imputer.files import replacing, sha256_of
from imputer.modality import Modality

NOTICE = "Synthetic image, not for diagnosis."
# Distributions whose version can change a result.
_DISTRIBUTIONS = ("imputer", "torch", "numpy", "nibabel", "SimpleITK", "pydicom", "safetensors")


@dataclass(frozen=True)
class ModelRecord:
    """Which weights: `weights_sha256` is 64 hexadecimal digits, `origin` where their file came from."""

    id: str
    version: str
    weights_sha256: str
    licence: str
    citation: str
    origin: str
    non_commercial: bool


@dataclass(frozen=True)
class RunRecord:
    """How they were run: `precision` as fp32, bf16 or fp16, `device` as cpu, cuda:0 or mps, `seconds` of wall time.

    `sampler` is "" of a method that has only one, `eta` the noise of DDIM and None of others.
    """

    steps: int
    samples: int
    seed: int
    precision: str
    device: str
    seconds: float
    sampler: str = ""
    eta: float | None = None


def source_record(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """What is said of an input: its name without folders and its SHA-256, taken here unless given.

    Raises
    ------
    OSError
        Where the file cannot be read.
    """
    return {"file": path.name, "sha256": sha256_of(path) if sha256 is None else sha256}


def sidecar(
    *,
    source: Mapping[str, Any] | None,
    from_: Modality,
    to: Modality,
    model: ModelRecord,
    run: RunRecord,
    intensity_scale: Mapping[str, Any] | float | str,
    scope_warnings: Sequence[str],
    recipe: Sequence[Mapping[str, Any]],
    undo: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    notes: Sequence[str] = (),
    risk: Mapping[str, Any] | None = None,
    outside: int | None = None,
    style: Mapping[str, Any] | None = None,
    sources: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """What the JSON beside a synthetic volume says, ready for `write_json`.

    Parameters
    ----------
    source : see `source_record`; None for a volume that only existed in memory. Of several the first one.
    sources : of a model that takes several together: each that was there; None of other models.
    intensity_scale : how the grey values of the result came about.
    scope_warnings : what about the input is outside the model's scope; empty where nothing is.
    risk : a score from 0 to 1 of these warnings and their texts; a heuristic, no probability. None: not said.
    recipe, undo : the preprocessing steps as data, and what they noted to be undone by.
    versions : of the software, see `software_versions`.
    notes : what was changed on reading, e.g. "12 NaN voxels set to 0".
    style : of the reference scan whose look the result has, see `source_record`; None: that of the training data.
    outside : voxels, on the model's grid, that it did not see: background in the result; None without a box.
    """
    return {
        "synthetic": True,
        "notice": NOTICE,
        "source": None if source is None else dict(source),
        **({} if sources is None else {"sources": [dict(each) for each in sources]}),
        **({} if style is None else {"style": dict(style)}),
        "from": from_.value,
        "to": to.value,
        "model": {
            "id": model.id,
            "version": model.version,
            "weights_sha256": model.weights_sha256,
            "licence": model.licence,
            "citation": model.citation,
            "origin": model.origin,
            "non_commercial": model.non_commercial,
        },
        **({"sampler": run.sampler} if run.sampler else {}),
        "steps": run.steps,
        **({} if run.eta is None else {"eta": run.eta}),
        "samples": run.samples,
        "seed": run.seed,
        "precision": run.precision,
        "device": run.device,
        "intensity_scale": intensity_scale,
        "scope_warnings": list(scope_warnings),
        **({} if risk is None else {"risk": dict(risk)}),
        **({} if outside is None else {"model_voxels_outside_field_of_view": outside}),
        "notes": list(notes),
        "versions": dict(versions),
        "seconds": round(run.seconds, 3),
        "recipe": [dict(step) for step in recipe],
        "undo": [dict(step) for step in undo],
    }


def software_versions() -> dict[str, str]:
    """Versions of Python and of the installed distributions that a result depends on; none of them is imported."""
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def write_json(path: Path, data: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write data as indented UTF-8 JSON, wholly or not at all.

    numpy scalars and arrays and paths (their names) are written as plain values, NaN and infinity as null, since JSON
    has no such numbers.

    Raises
    ------
    OutputError
        Where the file exists (without `overwrite`) or cannot be written.
    """
    text = json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))  # names of files may be no UTF-8


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.name
    return value
