"""Random volumes: any order and direction of the axes, oblique, anisotropic, of any small shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

from imputer.volume import Volume


@st.composite
def affines(draw: DrawFn) -> NDArray[np.float64]:
    """Rotation of up to 0.35 rad about each axis, after a permutation with flips, with spacings of 0.3 to 5 mm."""
    matrix = np.eye(3)
    for axis in range(3):
        angle = draw(st.sampled_from([0.0, -0.35, 0.35]) | st.floats(-0.35, 0.35))
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    order = draw(st.permutations(range(3)))
    flips = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    spacing = [draw(st.floats(0.3, 5)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = matrix[:, order] * flips * spacing
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return affine


@st.composite
def volumes(draw: DrawFn) -> Volume:
    """Volume of 1 to 21 voxels along each axis with values in [0, 1000], one of them zero and one not."""
    shape = [draw(st.integers(1, 21)) for _ in range(3)]
    shape[draw(st.integers(0, 2))] += 1  # two voxels at least
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = rng.uniform(0, 1000, shape).astype(np.float32)
    array.flat[0], array.flat[-1] = 0, 1000
    return Volume(array, draw(affines()))


@pytest.fixture(scope="session")
def random_affines() -> SearchStrategy[NDArray[np.float64]]:
    return affines()


@pytest.fixture(scope="session")
def random_volumes() -> SearchStrategy[Volume]:
    return volumes()
