"""Model files of a few bytes, and entries for them, made without torch: what the tests of `weights` share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from imputer.modality import Modality
from imputer.weights.manifest import Entry, Imported, Licence, Scope, Score

ABOUT = {"format": 1, "method": "syndiff", "source": "t1", "target": "t2"}


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    """A file with that header (JSON-safe, or its bytes as they are) before its data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def package_bytes(seed: int = 0) -> bytes:
    """A sound package of two tensors of 4 and 6 values; another `seed` is another model of the same size."""
    data = hashlib.sha512(bytes([seed])).digest()[:40]
    header = {
        "__metadata__": {"imputer": json.dumps(ABOUT)},
        "first": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "second": {"dtype": "F32", "shape": [6], "data_offsets": [16, 40]},
    }
    return safetensors_bytes(header, data)


def make_entry(content: bytes, identifier: str = "mine", **changes: Any) -> Entry:
    """An imported model with that file."""
    entry = Entry(
        id=identifier,
        method="syndiff",
        sources=(Modality.T1,),
        targets=(Modality.T2,),
        title="Brain, T1 to T2",
        version="1",
        trained_on="nothing",
        citation="nobody, “nowhere”, 2024",
        scope=Scope("brain", "either", (0.5, 1.5), (1.0, 5.0)),
        home=Imported(Path("mine.safetensors")),
        licence=Licence("Apache-2.0", "CC-BY-4.0", "CC-BY-NC-4.0", True),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        scores=(Score("a phantom", "one", "PSNR (dB)", 20.5, 18.0, "copy"),),
    )
    return replace(entry, **changes)
