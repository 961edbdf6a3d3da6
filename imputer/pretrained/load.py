"""From the name of a model to a model that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imputer.errors import ModelError
from imputer.files import sha256_of
from imputer.methods.base import Identity, Method, choose_device
from imputer.methods.registry import METHODS, Builder
from imputer.modality import Modality, parse_modality
from imputer.nets.checkpoint import load_strictly, read_header, read_tensors
from imputer.pretrained import official_aldm, official_syndiff
from imputer.pretrained.kinds import ALDM, SYNDIFF, kind_of
from imputer.pretrained.torch_checkpoint import read_state_dict
from imputer.safetensors_header import shown, visible
from imputer.weights.find import CHECKPOINT_SUFFIXES, Found, find_model
from imputer.weights.package import forbids_commerce, measured_in


def load_model(
    model: str | Path,
    *,
    device: str = "auto",
    source: Modality | str | None = None,
    target: Modality | str | None = None,
    offline: bool = False,
) -> Method:
    """Return the model of an id of `imputer models list`, of `hf://owner/repo[@revision]` or of a file (.safetensors).

    Size and hash are checked before use where an entry tells them. `source` and `target` pick from a repository with
    several models. Raises ModelError where the model does not exist, cannot be fetched, is damaged or does not fit its
    header, DeviceError where the device is not there.
    """
    place = choose_device(device)
    pair = (None if each is None else parse_modality(str(each)) for each in (source, target))
    return build_model(find_model(model, *pair, offline=offline), place)


def build_model(found: Found, device: torch.device) -> Method:
    """Return the model of a file on a device; errors as those of `load_model`."""
    header = read_header(found.path)
    network = _filled_network(found.path, header)
    return _builder(header, found.path.name).method(header, network.to(device), _identity(found, header))


def load_generator(path: str | Path) -> nn.Module:
    """Return the bare network of a model package or of the authors' checkpoint alike, on the CPU, in evaluation mode.

    SynDiff's is called as `(x[B, 2, H, W], t[B], z[B, nz]) -> [B, 2, H, W]`: x the noisy target x_t and the source, in
    [-1, 1]; t int64 step indices; z from N(0, I). ALDM's has `encode`, `to_target` and `decode`, and `denoise` where it
    is more than a first stage (see nets/aldm); DisDiff's `encode`, `attribute_of`, `maps_of` and `estimate` (see
    nets/disdiff). A name as in `load_model` works too. Raises ModelError as `load_model`.
    """
    if str(path).endswith(CHECKPOINT_SUFFIXES):
        return _authors_network(Path(path))
    file = find_model(path).path
    return _filled_network(file, read_header(file)).eval().requires_grad_(False)


def _authors_network(path: Path) -> nn.Module:
    tensors = read_state_dict(path)
    kind = kind_of(tensors)
    if kind == SYNDIFF:
        return official_syndiff.import_network(tensors, path.name)
    if kind == ALDM:
        return official_aldm.import_network(tensors, path.name)
    raise ModelError(f"{path.name} is neither a SynDiff generator nor a checkpoint of ALDM.", remedy="Check the path.")


def _filled_network(path: Path, header: Mapping[str, Any]) -> nn.Module:
    with torch.device("meta"):  # no memory, and no draw from the global generator, for weights that are replaced
        network = _builder(header, path.name).network(header, path.name)
    load_strictly(network, read_tensors(path), path.name)
    return network


def _builder(header: Mapping[str, Any], name: str) -> Builder:
    method = header.get("method")
    if not isinstance(method, str) or method not in METHODS:
        raise ModelError(f"{name} was made for the method {shown(method)}, which this version has not.")
    return METHODS[method]


def _identity(found: Found, header: Mapping[str, Any]) -> Identity:
    about = header.get("about")
    about = about if isinstance(about, Mapping) else {}
    scope = about.get("scope")
    scope = dict(scope) if isinstance(scope, Mapping) else {}
    entry = found.entry
    measured = measured_in(header, found.path.name) if entry is None else entry.measured
    scope.pop("measured", None)  # what was checked counts
    if measured:
        scope["measured"] = [asdict(each) for each in measured]
    if entry is not None and entry.scope.skull_stripped != "either":
        scope["skull_stripped"] = entry.scope.skull_stripped
    if entry is not None:  # what was checked and shown before counts, not what the file says of itself
        return Identity(
            entry.id, entry.version, entry.sha256, entry.title, entry.licence.weights, entry.citation,
            entry.trained_on, found.origin, entry.licence.non_commercial or about.get("non_commercial") is True, scope,
        )  # fmt: skip
    texts = {key: visible(about.get(key, "")) for key in ("version", "title", "licence", "citation", "trained_on")}
    return Identity(
        id=visible(about.get("id") or found.path.name),
        sha256=sha256_of(found.path),
        scope=scope,
        origin=found.origin,
        non_commercial=about.get("non_commercial") is True or forbids_commerce(texts["licence"]),
        **texts,
    )
