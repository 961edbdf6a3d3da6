"""The reference scan whose look a synthetic volume shall have: read, held to the target, made into slices.

What becomes of it is the method's: DisDiff takes its attribute, the mean over its slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, UsageError
from imputer.io.dispatch import load
from imputer.methods.base import Method
from imputer.modality import Modality, split_role
from imputer.preprocess.likeness import Finding
from imputer.scope import scope_findings
from imputer.volume import Volume


def read_style(text: str, targets: Sequence[Modality]) -> Volume:
    """Read the reference scan, ``[MOD=]PATH``; its modality must be that of all targets.

    Raises
    ------
    InputError
        Where it cannot be read, or its modality not be told.
    UsageError
        Where it is another modality than a target.
    """
    path, said = split_role(text)
    volume = load(path, fits=lambda modality: modality in ((said,) if said is not None else targets))
    modality = said if said is not None else volume.modality
    if modality is None:
        raise InputError(
            f"The modality of the style reference {path.name} cannot be told from its name.",
            remedy=f"Say it: --style-from {targets[0]}={path.name}.",
        )
    others = [target for target in targets if target != modality]
    if others:
        raise UsageError(
            f"The style reference {path.name} is {modality}, but {others[0]} shall be made.",
            remedy="Give a scan of the modality to make.",
        )
    return replace(volume, modality=modality)


def style_stack(volume: Volume, method: Method, *, force: bool) -> tuple[NDArray[np.float32], list[Finding]]:
    """Return the slices of a reference scan, as the method's sources are made into them, and what is out of its scope.

    Raises
    ------
    InputError
        Where it shows no head and `force` is off, or nothing at all.
    """
    name = "The style reference" if volume.origin is None else f"The style reference {volume.origin.path.name}"
    try:
        findings = scope_findings(volume, method, force=force, sizes_are_told=False)
        stack, _ = method.recipe.forward(volume)
    except InputError as error:
        raise InputError(f"{name}: {error.message}", remedy=error.remedy) from error
    return stack, [replace(each, text=f"{name}: {each.text}") for each in findings]
