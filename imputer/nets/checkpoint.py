"""Model packages: one safetensors file whose header rebuilds the model alone; strict and shape-checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from imputer.errors import ModelError
from imputer.files import replacing
from imputer.safetensors_header import HEADER_KEY, PACKAGE_FORMAT, check, read_layout, visible

_LISTED, _LONGEST = 40, 200  # names in a message, and characters of each


def write_package(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write tensors and header (JSON-safe; architecture, configuration, recipe, scope) as one file, atomically.

    Raises OutputError where the file exists or cannot be written.
    """
    document = json.dumps({"format": PACKAGE_FORMAT, **header}, sort_keys=True, allow_nan=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, overwrite=overwrite) as temporary:
        # Not save_file: its files are readable by their owner alone, whatever the umask.
        temporary.write_bytes(save(plain, metadata={HEADER_KEY: document}))


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a model package without reading its tensors.

    Raises ModelError where the file is missing, not safetensors, at odds with its header, or has no imputer header.
    """
    return check(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a package as float32 on the CPU; ModelError where the file is not readable."""
    read_layout(path)  # before the library allocates anything by what the header claims
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} is not a readable safetensors file.", remedy="Check the path.") from error


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Fill `module` with `tensors`; every name and shape must match, every value be finite.

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
    if endless := [key for key in sorted(tensors) if not torch.isfinite(tensors[key]).all()]:
        raise ModelError(
            f"{name} holds values that are no numbers (NaN or infinite) in {_complaint('', endless).strip()}.",
            remedy="Its training went wrong, or the file is damaged; take another one.",
        )
    module.load_state_dict(dict(tensors), strict=True, assign=True)  # assigned: the module may be on the meta device


def _complaint(kind: str, names: list[str]) -> str:
    """List the names of one kind of misfit, or nothing; of a foreign file there may be very many."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{kind} {', '.join(visible(each, longest=_LONGEST) for each in names[:_LISTED])}{more}" if names else ""
