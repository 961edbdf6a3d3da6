"""imputer: a missing MRI contrast from the one you have.

The names below are resolved on first use, so that ``import imputer`` loads neither torch nor an image library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imputer.io.dispatch import load
    from imputer.pretrained.load import load_generator, load_model
    from imputer.synth import synthesise
    from imputer.volume import Volume

__version__ = "0.1.0"

__all__ = ["Volume", "__version__", "load", "load_generator", "load_model", "synthesise"]

_HOMES = {
    "Volume": "imputer.volume",
    "load": "imputer.io.dispatch",
    "load_generator": "imputer.pretrained.load",
    "load_model": "imputer.pretrained.load",
    "synthesise": "imputer.synth",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the file that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
