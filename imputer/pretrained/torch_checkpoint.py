"""Tensors out of a checkpoint of torch, a foreign pickle: nothing of it is ever executed.

Two guards, either of which would do. The pickle's instructions are listed without being carried out, and a checkpoint
that names anything but what a dictionary of tensors needs is refused by that name. Then torch reads it with
`weights_only`, by an unpickler that knows no other callables either. What the file claims (sizes, shapes, compression)
is held against its own size before memory is spent on it.
"""

from __future__ import annotations

import mmap
import pickletools
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

import torch
from torch import Tensor

from imputer.errors import ModelError
from imputer.plain_zip import NotPlainError, PlainZip
from imputer.safetensors_header import shown

_LARGEST_LIST = 4_000_000  # bytes of a zip's list of its members: 40,000 tensors
_LARGEST_PICKLE = 50_000_000  # bytes; the names, shapes and types of 200,000 tensors
_MOST_STEPS = 1_000_000  # instructions of a pickle, about 40 a tensor
_LEGACY_PICKLES = 5  # magic number, protocol, system, the content, the keys of the storages; then the storages' bytes
_ZIP, _TAR = b"PK\x03\x04", b"ustar"
_TAR_PLACE = 257  # bytes from the start of a tar file
_STORAGES = ("Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double")
# What the pickle of a dictionary of tensors names; all else is refused, though most of it would be harmless.
_NEEDED = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in _STORAGES),
}
# Other ways for a pickle to name code (by what lies on its stack, by a number), or to ask its reader for something.
_NAMING = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER"}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint that is one flat dictionary of tensors, as float32 on the CPU.

    The zip and the legacy format of torch are read, the one of tar files (before 2018) is not.

    Raises
    ------
    ModelError
        Where the file is missing, damaged or no checkpoint, holds anything but tensors, or claims more than it has.
    """
    name = path.name
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            _refuse(name, "it is no ordinary file")
        _check_pickles(path, about.st_size, name)
        content = _loaded(path, name)
    except FileNotFoundError as error:
        raise ModelError(f"Checkpoint {name} does not exist.", remedy="Check the path.") from error
    except NotPlainError as error:
        _refuse(name, str(error), error)
    except OSError as error:
        _refuse(name, error.strerror or type(error).__name__, error)
    if not isinstance(content, Mapping) or not content or not all(_is_plain(value) for value in content.values()):
        raise ModelError(f"{name} is not a flat dictionary of tensors, as the authors' generators are.")
    # Strides of 0 and shared storages make terabytes out of a few bytes as soon as they are copied.
    if sum(tensor.numel() * tensor.element_size() for tensor in content.values()) > 2 * about.st_size:
        _refuse(name, "its tensors claim to be larger than the file")
    return {str(key): tensor.detach().float() for key, tensor in content.items()}


def _loaded(path: Path, name: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the file's pickle protocol is nothing that the user could change
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a file of another kind makes the unpickler raise is open-ended
        _refuse(name, "it is damaged, or of another kind", error)


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor with values of its own: not sparse, quantised, complex, or only a shape."""
    if not isinstance(value, Tensor) or value.is_complex() or value.is_quantized:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def _check_pickles(path: Path, size: int, name: str) -> None:
    """Refuse a checkpoint by the instructions of its pickles, which are read and not carried out."""
    with path.open("rb") as file:
        start = file.read(_TAR_PLACE + len(_TAR))
        if start.startswith(_ZIP):
            with PlainZip(path, largest_list=_LARGEST_LIST) as archive:
                _check_zip(archive, name)
        elif start.endswith(_TAR):
            _refuse(name, "it is a tar file, as torch wrote them until 2018")
        elif size == 0:
            _refuse(name, "it is empty")
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for _ in range(_LEGACY_PICKLES):
                    _check_pickle(content, name)
                    if content.tell() == size:
                        break  # a pickle of something else; torch says so


def _check_zip(archive: PlainZip, name: str) -> None:
    pickles = [member for member in archive.sizes if member.lower().endswith(".pkl")]  # torch ignores the case
    if [member.lower().rpartition("/")[2] for member in pickles] != ["data.pkl"]:
        _refuse(name, "it does not hold one pickle, data.pkl")
    if archive.sizes[pickles[0]] > _LARGEST_PICKLE:
        _refuse(name, f"its pickle has more than {_LARGEST_PICKLE // 10**6} MB")
    _check_pickle(archive.read(pickles[0]), name)


def _check_pickle(content: bytes | IO[bytes] | mmap.mmap, name: str) -> None:
    """Check the names in one pickle, up to its end."""
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):  # type: ignore[arg-type]
            if instruction.name in _NAMING or (instruction.name == "GLOBAL" and argument not in _NEEDED):
                what = shown(str(argument)) if instruction.name == "GLOBAL" else instruction.name
                raise ModelError(
                    f"{name} was refused: it holds more than tensors ({what}), and reading it could run code.",
                    remedy="Ask for a file that holds a state dictionary only.",
                )
            if number > _MOST_STEPS:
                _refuse(name, "its pickle is too long")
    except ValueError as error:  # the end of the file, or an unknown instruction
        _refuse(name, "it is damaged, or of another kind", error)


def _refuse(name: str, reason: str, error: BaseException | None = None) -> NoReturn:
    raise ModelError(
        f"{name} is not a readable torch checkpoint: {reason}.", remedy="Get the file again, from its authors."
    ) from error
