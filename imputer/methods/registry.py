"""The methods that there are, by the name that a model package's header has for its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from imputer.methods import aldm, disdiff, syndiff
from imputer.methods.base import Identity, Method


@dataclass(frozen=True)
class Builder:
    """How a package becomes a method.

    Parameters
    ----------
    network : (header, name of the file) to the bare network with fresh weights; raises ModelError.
    method : (header, filled network, identity) to the method that runs it; raises ModelError.
    """

    network: Callable[[Mapping[str, Any], str], nn.Module]
    method: Callable[[Mapping[str, Any], Any, Identity], Method]


METHODS: dict[str, Builder] = {
    syndiff.NAME: Builder(syndiff.network_from_header, syndiff.build),
    disdiff.NAME: Builder(disdiff.network_from_header, disdiff.build),
    aldm.NAME: Builder(aldm.network_from_header, aldm.build),
}
