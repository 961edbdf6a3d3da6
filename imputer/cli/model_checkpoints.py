"""``imputer models import`` of the authors' checkpoints: which options belong to which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imputer.errors import UsageError
from imputer.modality import Modality, parse_modality

_SYNDIFF = ("--from", "--to", "--image-size", "--steps")
_ALDM = ("--targets", "--sources")
_EXAMPLES = "--from t1 --to t2 for SynDiff, or --targets t1,t1ce,t2,flair for ALDM"


def import_checkpoint(file: Path, given: Mapping[str, Any], *, overwrite: bool) -> Path:
    """Turn a checkpoint into a model file and return it; `given` are the values of the options by their names.

    Raises UsageError where they do not go together, and what the import raises.
    """
    of_syndiff, of_aldm = ([name for name in names if given[name]] for names in (_SYNDIFF, _ALDM))
    if given.get("--id"):
        raise UsageError(
            "--id is for model files.", remedy="Import the checkpoint first, then the file that it becomes."
        )
    if of_syndiff and of_aldm:
        raise UsageError(f"{of_syndiff[0]} and {of_aldm[0]} do not go together.", remedy=f"Give {_EXAMPLES}.")
    is_said = given["--targets"] if of_aldm else given["--from"] and given["--to"]
    if not is_said:
        raise UsageError("A checkpoint does not say what it makes.", remedy=f"Add for instance {_EXAMPLES}.")
    output: Path | None = given["--output"]
    if output is not None and output.suffix != ".safetensors":
        raise UsageError(f"{output.name} does not end in .safetensors.", remedy="Model files do.")
    out = output or file.with_suffix(".safetensors")
    if of_aldm:
        from imputer.pretrained import official_aldm

        targets, sources = (_modalities(name, given[name]) for name in ("--targets", "--sources"))
        return official_aldm.import_checkpoint(file, targets, out, sources=sources or None, overwrite=overwrite)
    pair = parse_modality(given["--from"]), parse_modality(given["--to"])
    if pair[0] == pair[1]:
        raise UsageError(f"--from and --to are both {pair[0].value}.", remedy="Give two different modalities.")
    from imputer.pretrained import official_syndiff

    size, steps = given["--image-size"] or 256, given["--steps"] or 4
    return official_syndiff.import_checkpoint(file, *pair, out, image_size=size, steps=steps, overwrite=overwrite)


def _modalities(option: str, text: str | None) -> list[Modality]:
    """Parse what an option lists; none where it was left out. UsageError for one that is listed twice or unknown."""
    found = [] if text is None else [parse_modality(each) for each in text.split(",")]
    if len(set(found)) < len(found):
        raise UsageError(f"{option} names a modality twice.", remedy="Name each once.")
    return found
