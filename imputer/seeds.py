"""Seeds derived from what is computed (run, case, slice), so that order, engine and batch size never change noise."""

from __future__ import annotations

import hashlib
import json
import unicodedata


def derive_seed(seed: int, *parts: str | int) -> int:
    """Seed of a part of a run: the same on every platform, and another for each tuple of parts.

    Parameters
    ----------
    seed : int
        Seed of the run.
    parts : str or int
        What the seed is for, for example a case and the index of a slice. 1 and "1" differ.

    Returns
    -------
    int
        In [0, 2^63), as torch.Generator and numpy take it.
    """
    # NFC: one file name must give one seed, and macOS spells accents in two characters.
    plain = [int(seed), *(unicodedata.normalize("NFC", part) if isinstance(part, str) else int(part) for part in parts)]
    digest = hashlib.sha256(json.dumps(plain, separators=(",", ":")).encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
