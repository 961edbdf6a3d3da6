"""What can go wrong, as a small tree of exceptions: each kind has its exit code, each message its remedy."""

from __future__ import annotations

from typing import ClassVar


class ImputerError(Exception):
    """An error that the user can understand.

    Parameters
    ----------
    message : str
        One sentence: what is wrong. Files are named by their name only, and nothing of a header is quoted.
    remedy : str
        One sentence: what to do about it. May be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = _one_line(message)
        self.remedy = _one_line(remedy)
        super().__init__(f"{self.message} {self.remedy}".strip())


class UsageError(ImputerError):
    """The command line, or an argument of a function, makes no sense."""

    exit_code = 2


class InputError(ImputerError):
    """The input cannot be read, or is no volume that this program can work on."""

    exit_code = 3


class ModelError(ImputerError):
    """A model is missing, damaged, or does not fit."""

    exit_code = 4


class DeviceError(ImputerError):
    """The device is missing, or out of memory."""

    exit_code = 5


class OutputError(ImputerError):
    """The output exists already, or cannot be written."""

    exit_code = 6


def installing(*extras: str) -> str:
    """Return the remedy where an optional package is missing: what installs one of the extras that have it."""
    return "Install it with: pip install " + " or ".join(f"'imputer[{extra}]'" for extra in extras) + "."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is lack of memory, on the host or (known by name: torch is not imported here) on a device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error) if isinstance(error, RuntimeError) else ""
    return "can't allocate memory" in said or "out of memory" in said  # torch's allocators of the CPU and of MPS


def _one_line(text: str) -> str:
    return " ".join(text.split())
