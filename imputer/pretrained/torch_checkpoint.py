"""Tensors out of a checkpoint of torch, a foreign pickle: nothing of it is ever executed.

Two guards, either of which would do. The pickle's instructions are listed without being carried out, and a checkpoint
that names anything but what a dictionary of tensors needs is refused by that name. Then torch reads it with
`weights_only`, by an unpickler that knows no other callables either. What the file claims (sizes, shapes, compression)
is held against its own size before memory is spent on it.

Checkpoints of Lightning hold their tensors under `state_dict`, beside the state of the training. Their `callbacks` have
classes as keys: for such a name an empty class stands in, which nothing can call; Lightning itself is never imported.
A number of numpy among that state becomes an empty object: it is not looked at.
"""

from __future__ import annotations

import mmap
import pickletools
import re
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NoReturn

import torch
from torch import Tensor
from torch.serialization import safe_globals

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
# Classes of Lightning that its checkpoints name without using them.
_BESIDE = re.compile(r"(pytorch_lightning|lightning\.pytorch)\.callbacks(\.\w+)* \w+", re.ASCII)
_MOST_BESIDE = 100  # of them; a training has a handful of callbacks
# What a number of numpy's is made of, such as the best score of a callback; _codecs encode is torch's own safe one.
_NUMBERS = {"numpy.core.multiarray scalar", "numpy._core.multiarray scalar", "numpy dtype", "_codecs encode"}
# Other ways for a pickle to name code (by what lies on its stack, by a number), or to ask its reader for something.
_NAMING = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER"}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint that is one flat dictionary of tensors, or has it as its `state_dict`, as float32 on the CPU.

    What else a checkpoint of Lightning holds (epoch, callbacks, state of the optimisers) is left out. The zip and the
    legacy format of torch are read, the one of tar files (before 2018) is not.

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
        beside = _check_pickles(path, about.st_size, name)
        content = _loaded(path, beside, name)
    except FileNotFoundError as error:
        raise ModelError(f"Checkpoint {name} does not exist.", remedy="Check the path.") from error
    except NotPlainError as error:
        _refuse(name, str(error), error)
    except OSError as error:
        _refuse(name, error.strerror or type(error).__name__, error)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state or not all(map(_is_plain, state, state.values())):
        raise ModelError(
            f"{name} is not a flat dictionary of tensors, nor does it have one as its state_dict, "
            "as the authors' checkpoints do."
        )
    # Strides of 0 and shared storages make terabytes out of a few bytes as soon as they are copied.
    for tensors in (state.values(), _tensors_in(content)):
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > 2 * about.st_size:
            _refuse(name, "its tensors claim to be larger than the file")
    return {key: tensor.detach().float() for key, tensor in state.items()}


class _Number:
    """Stands for a number of numpy's, and for its type; takes what makes one and forgets it."""

    def __new__(cls, *_: object) -> _Number:
        """Make one from anything."""
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Take any state."""


class _NeverCalledError(Exception):
    """A file calls what it may only name."""


def _stand_in(name: str) -> tuple[type, str]:
    """Make an empty class for a name of a pickle ("module name"), and give both as torch takes them."""
    if name in _NUMBERS:
        return type("Number", (_Number,), {}), name.replace(" ", ".")

    def refuse(*_: object, **__: object) -> NoReturn:
        raise _NeverCalledError(name)

    return type("Inert", (), {"__new__": refuse}), name.replace(" ", ".")


def _loaded(path: Path, beside: Iterable[str], name: str) -> object:
    try:
        with warnings.catch_warnings(), safe_globals([_stand_in(each) for each in beside]):
            warnings.simplefilter("ignore")  # the file's pickle protocol is nothing that the user could change
            return torch.load(path, map_location="cpu", weights_only=True)
    except _NeverCalledError as error:
        _refuse_code(name, shown(error.args[0]))
    except Exception as error:  # what a file of another kind makes the unpickler raise is open-ended
        _refuse(name, "it is damaged, or of another kind", error)


def _tensors_in(content: object) -> Iterator[Tensor]:
    """Yield the tensors of containers in containers, each once: a container may hold itself."""
    seen: set[int] = set()
    left = [content]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            left += value


def _is_plain(key: object, value: object) -> bool:
    """Whether a text names a tensor with values of its own: not sparse, quantised, complex, or only a shape."""
    if not isinstance(key, str) or not isinstance(value, Tensor) or value.is_complex() or value.is_quantized:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def _check_pickles(path: Path, size: int, name: str) -> set[str]:
    """Refuse a checkpoint by the instructions of its pickles, which are read and not carried out.

    Returns the names in it for which something inert has to stand in.
    """
    with path.open("rb") as file:
        start = file.read(_TAR_PLACE + len(_TAR))
        if start.startswith(_ZIP):
            with PlainZip(path, largest_list=_LARGEST_LIST) as archive:
                return _check_zip(archive, name)
        if start.endswith(_TAR):
            _refuse(name, "it is a tar file, as torch wrote them until 2018")
        if size == 0:
            _refuse(name, "it is empty")
        beside: set[str] = set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for _ in range(_LEGACY_PICKLES):
                beside |= _check_pickle(content, name)
                if content.tell() == size:
                    break  # a pickle of something else; torch says so
        return beside


def _check_zip(archive: PlainZip, name: str) -> set[str]:
    pickles = [member for member in archive.sizes if member.lower().endswith(".pkl")]  # torch ignores the case
    if [member.lower().rpartition("/")[2] for member in pickles] != ["data.pkl"]:
        _refuse(name, "it does not hold one pickle, data.pkl")
    if archive.sizes[pickles[0]] > _LARGEST_PICKLE:
        _refuse(name, f"its pickle has more than {_LARGEST_PICKLE // 10**6} MB")
    return _check_pickle(archive.read(pickles[0]), name)


def _check_pickle(content: bytes | IO[bytes] | mmap.mmap, name: str) -> set[str]:
    """Check the names in one pickle, up to its end; returns those for which something stands in."""
    beside: set[str] = set()
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):  # type: ignore[arg-type]
            if instruction.name in _NAMING:
                _refuse_code(name, instruction.name)
            if instruction.name == "GLOBAL" and argument not in _NEEDED:
                known = argument in _NUMBERS or _BESIDE.fullmatch(str(argument))
                if not known or len(beside) == _MOST_BESIDE:
                    _refuse_code(name, shown(str(argument)))
                if argument != "_codecs encode":
                    beside.add(str(argument))
            if number > _MOST_STEPS:
                _refuse(name, "its pickle is too long")
    except ValueError as error:  # the end of the file, or an unknown instruction
        _refuse(name, "it is damaged, or of another kind", error)
    return beside


def _refuse_code(name: str, what: str) -> NoReturn:
    raise ModelError(
        f"{name} was refused: it holds more than tensors ({what}), and reading it could run code.",
        remedy="Ask for a file that holds a state dictionary only.",
    )


def _refuse(name: str, reason: str, error: BaseException | None = None) -> NoReturn:
    raise ModelError(
        f"{name} is not a readable torch checkpoint: {reason}.", remedy="Get the file again, from its authors."
    ) from error
