"""Model packages: one safetensors file whose header rebuilds the model alone; strict and shape-checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from imputer.errors import ModelError
from imputer.files import replacing

HEADER_KEY = "imputer"
FORMAT = 1


def write_package(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write tensors and header (JSON-safe; architecture, configuration, recipe, scope) as one file, atomically.

    Raises OutputError where the file exists or cannot be written.
    """
    document = json.dumps({"format": FORMAT, **header}, sort_keys=True, allow_nan=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, overwrite=overwrite) as temporary:
        # Not save_file: its files are readable by their owner alone, whatever the umask.
        temporary.write_bytes(save(plain, metadata={HEADER_KEY: document}))


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a model package without reading its tensors.

    Raises ModelError where the file is missing, not safetensors, or has no imputer header.
    """
    if not path.is_file():
        raise ModelError(f"Model file {path.name} does not exist.", remedy="Check the path given with -m.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path.name} is not a readable safetensors file.",
            remedy="Authors' .pth checkpoints come in through 'imputer models import'.",
        ) from error
    try:
        header = json.loads(metadata[HEADER_KEY])
        if header["format"] != FORMAT:
            raise ModelError(f"{path.name} has package format {header['format']}; this version reads {FORMAT}.")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path.name} carries no imputer header, so its model cannot be rebuilt.",
            remedy="Make a package with 'imputer models import' or 'imputer train'.",
        ) from error
    return dict(header)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a package as float32 on the CPU; ModelError where the file is not readable."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} is not a readable safetensors file.", remedy="Check the path.") from error


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Fill `module` with `tensors`; every name and shape must match.

    Raises ModelError that lists the missing, extra and misshapen names of the file called `name`.
    """
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    complaints = [
        _complaint("missing", sorted(wanted.keys() - found.keys())),
        _complaint("extra", sorted(found.keys() - wanted.keys())),
        _complaint(
            "wrong shape",
            [
                f"{key} {found[key]} for {wanted[key]}"
                for key in sorted(wanted)
                if found.get(key, wanted[key]) != wanted[key]
            ],
        ),
    ]
    if any(complaints):
        raise ModelError(f"The tensors of {name} do not fit its architecture: {'; '.join(filter(None, complaints))}.")
    module.load_state_dict(dict(tensors), strict=True, assign=True)  # assigned: the module may be on the meta device


def _complaint(kind: str, names: list[str]) -> str:
    """List all names of one kind of misfit, or nothing."""
    return f"{kind} {', '.join(names)}" if names else ""
