"""Whose checkpoint a file is: told by the names of its tensors, before any reader takes offence at them."""

from __future__ import annotations

import re
from collections.abc import Iterable

SYNDIFF, ALDM = "syndiff", "aldm"
# Of the first stage, alone or within a latent diffusion model; of the UNet and of its running average.
_ALDM = re.compile(
    r"(first_stage_model\.)?(encoder|decoder|quantize|quant_conv|post_quant_conv|spade)\.|model\.diffusion_model\.|model_ema\."
)
_SYNDIFF = re.compile(r"(module\.)?(all_modules|z_transform)\.")


def kind_of(names: Iterable[str]) -> str | None:
    """Return the method whose authors name tensors like this; None for names of neither, or of both."""
    names = tuple(names)
    found = [
        kind for kind, pattern in ((SYNDIFF, _SYNDIFF), (ALDM, _ALDM)) if any(pattern.match(name) for name in names)
    ]
    return found[0] if len(found) == 1 else None
