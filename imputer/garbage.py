"""Python's collector of cyclic garbage, for processes that are imputer's own."""

from __future__ import annotations

import atexit
import gc

_BETWEEN_COLLECTIONS = 50_000  # containers more than before; Python's own 700 collects hundreds of times in one import


def collect_seldom() -> None:
    """Collect less often, and at the end of the process not at all what is there by then.

    torch and its company are some 10^5 objects that live to the end: going through them again and again takes a tenth
    of the imports, and taking their cycles apart before the process ends a third of a second. The system frees them
    anyhow. A program that imports imputer decides for itself.
    """
    gc.set_threshold(_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
