"""From the id of a model or a file to a model that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imputer.errors import ModelError
from imputer.files import sha256_of
from imputer.methods import syndiff
from imputer.methods.base import Identity, Method, choose_device
from imputer.nets.checkpoint import load_strictly, read_header, read_tensors
from imputer.nets.ncsnpp import NCSNpp
from imputer.pretrained.official_syndiff import import_generator
from imputer.weights.manifest import entries, find, verified_path

PACKAGE_SUFFIX = ".safetensors"
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")


def load_model(model: str | Path, *, device: str = "auto") -> Method:
    """Return the model of an id of `imputer models list` or of a model package (.safetensors).

    The file's hash is checked before use where the manifest knows it. Raises ModelError where the model does not exist,
    is damaged or does not fit its header, DeviceError where the device is not there.
    """
    place = choose_device(device)
    path, known = model_file(model)
    header = read_header(path)
    generator = _filled_generator(path, header)
    return syndiff.build(header, generator.to(place), _identity(path, header, known))


def load_generator(path: str | Path) -> nn.Module:
    """Return the bare network of a model package or of the authors' `.pth` alike, on the CPU, in evaluation mode.

    Called as `(x[B, 2, H, W], t[B], z[B, nz]) -> [B, 2, H, W]`: x the noisy target x_t and the source, in [-1, 1]; t
    int64 step indices; z from N(0, I). An id of `imputer models list` works too. Raises ModelError as `load_model`.
    """
    if str(path).endswith(CHECKPOINT_SUFFIXES):
        return import_generator(Path(path))
    file, _ = model_file(path)
    return _filled_generator(file, read_header(file)).eval().requires_grad_(False)


def model_file(model: str | Path) -> tuple[Path, str]:
    """Return the file of a model and, for one of the manifest, its SHA-256, already checked."""
    text = str(model)
    if text in {entry.id for entry in entries()}:
        entry = find(text)
        return verified_path(entry), entry.sha256
    path = Path(text)
    if text.startswith("hf://"):
        raise ModelError("Models of the Hugging Face Hub are not supported yet.", remedy="Give a file or an id.")
    if path.suffix in CHECKPOINT_SUFFIXES:
        raise ModelError(f"{path.name} is not a model package.", remedy="Convert it with 'imputer models import'.")
    if path.suffix != PACKAGE_SUFFIX:
        find(text)  # raises, and names the ids that exist
    return path, ""


def _filled_generator(path: Path, header: Mapping[str, Any]) -> NCSNpp:
    if header.get("method") != syndiff.NAME:
        raise ModelError(f"{path.name} was made for the method {header.get('method')!r}, which this version has not.")
    with torch.device("meta"):  # no memory, and no draw from the global generator, for weights that are replaced
        generator = syndiff.network_from_header(header, path.name)
    load_strictly(generator, read_tensors(path), path.name)
    return generator


def _identity(path: Path, header: Mapping[str, Any], sha256: str) -> Identity:
    about = header.get("about")
    about = about if isinstance(about, Mapping) else {}
    texts = {key: str(about.get(key, "")) for key in ("version", "title", "licence", "citation", "trained_on")}
    identity = str(about.get("id") or path.name)
    return Identity(id=identity, sha256=sha256 or sha256_of(path), scope=dict(about.get("scope", {})), **texts)
