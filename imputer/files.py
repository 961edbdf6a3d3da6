"""Files: their hashes, their names, and how to write one wholly or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from imputer.errors import OutputError

CHUNK_BYTES = 1 << 20
SYNTHETIC_ENDING = re.compile(r"_synth-([a-z0-9]+)$", re.IGNORECASE)  # of what `synthetic_stem` makes
STD_ENDING = "_std"
NIFTI = (".nii.gz", ".nii")
# Longest first: .nii.gz before .gz.
SUFFIXES = (
    ".safetensors",
    ".nii.gz",
    ".mgh.gz",
    ".nhdr",
    ".nrrd",
    ".json",
    ".nii",
    ".mha",
    ".mhd",
    ".mgz",
    ".mgh",
    ".pth",
    ".png",
    ".dcm",
    ".ima",
    ".zip",
)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 lower-case hexadecimal digits, read piece by piece; OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def strip_suffixes(path: Path) -> str:
    """Name of a file without its folder and its known suffix: ``a/t1.5_x.nii.gz`` gives ``t1.5_x``."""
    return path.name[: len(path.name) - len(_known_suffix(path.name))]


def _known_suffix(name: str) -> str:
    lowered = name.lower()
    for suffix in SUFFIXES:
        if lowered.endswith(suffix) and len(name) > len(suffix):
            return name[-len(suffix) :]
    return ""


# Part of the names of this process's temporary files, so that a run can clear away what it left when it was killed.
temporary_tag = ""
TEMPORARY = ".imputer-"


def temporary_beside(target: Path) -> Path:
    """A new hidden name in the folder of a target, which ends like the target's: writers choose the format by it."""
    suffix = _known_suffix(target.name) or target.suffix
    return target.parent / f"{TEMPORARY}{temporary_tag}{secrets.token_hex(6)}{suffix}"


def remove_temporaries(folder: Path, tag: str) -> None:
    """Delete what runs with this tag (not empty) left in a folder when they were killed."""
    for path in folder.glob(f"{TEMPORARY}{tag}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_nifti_name(path: Path) -> bool:
    """Whether a file that is to be written is called like a NIfTI file."""
    return path.name.lower().endswith(NIFTI)


def synthetic_name(source: Path, target: str) -> str:
    """Name, without suffix, of what is made from a file or folder: ``a/t1.nii.gz`` and t2 give ``t1_synth-t2``."""
    return synthetic_stem(source.name if source.is_dir() else strip_suffixes(source), target)


def synthetic_stem(stem: str, target: str) -> str:
    """The same of a name whose suffix is off already: no file is looked at."""
    return f"{stem}_synth-{target}"


def std_beside(sidecar: Path) -> Path:
    """Where the deviation of several samples lies, by the sidecar of their mean: ``x.json``, ``x_std.nii.gz``."""
    return sidecar.with_name(f"{sidecar.stem}{STD_ENDING}.nii.gz")


def json_object(path: Path) -> dict[str, Any]:
    """What a JSON file says; nothing where there is none, none that can be read, or something else than an object."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing; OutputError where the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(f"The folder {folder.name} cannot be made ({reason}).") from error


@contextmanager
def replacing(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside the target; rename it to the target at the end, delete it on any failure.

    Whatever happens, the target is either as it was or complete.

    Raises
    ------
    OutputError
        Where the target exists and `overwrite` is false, or the system refuses to write (OSError inside the block).
    """
    _check(target, overwrite)
    temporary = temporary_beside(target)
    try:
        yield temporary
        _check(target, overwrite)  # somebody else may have been faster
        temporary.replace(target)
    except OSError as error:
        raise _refusal(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _check(target: Path, overwrite: bool) -> None:
    try:
        if target.is_dir():
            raise OutputError(f"{target.name} is a folder, not a file.", remedy="Choose another output.")
        if not overwrite and target.exists():
            raise OutputError(
                f"{target.name} exists already.",
                remedy="Choose another output, or allow to overwrite it with --overwrite.",
            )
        if not target.parent.is_dir():
            raise OutputError(f"The folder for {target.name} does not exist.", remedy="Create it first.")
    except OSError as error:
        raise _refusal(target, error) from error


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that there is no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _refusal(target: Path, error: OSError) -> OutputError:
    if is_full(error):
        return OutputError(f"No space is left to write {target.name}.", remedy="Free some, or choose another folder.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"The folder for {target.name} is read-only.", remedy="Choose another output.")
    reason = error.strerror or type(error).__name__
    return OutputError(f"{target.name} could not be written ({reason}).", remedy="Choose another output.")
