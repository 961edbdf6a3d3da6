"""Fixtures for all tests: a model that needs no trained weights."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model package from T1 to T2 with pseudo-random weights; its recipe takes pixels of 4 mm."""
    from tiny import write_model  # here: tests that reach no torch must not either

    return write_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")
