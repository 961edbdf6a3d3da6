"""A head phantom of our own: tissue classes times signal equations, on any grid.

The anatomy stands still in RAS mm, its middle at the origin; a grid only samples it. `imputer demo` and the tests take
their data from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imputer.anatomy import CLASSES, Array, Head
from imputer.errors import UsageError
from imputer.modality import Modality
from imputer.mr_signal import PROTOCOLS, TISSUES, Tissue, tissue_signals
from imputer.seeds import derive_seed
from imputer.volume import Volume

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

_GREY_LEVEL = 400.0  # cortex of every modality lies here before bias: scanners store a few hundred for it
_FINE = 1.6  # mm; voxels longer than this are averages of several points
_MOST = 3  # points along one edge of a voxel
_CHUNK = 1 << 15  # points at a time: few enough for the processor's cache
_OBLIQUE_AXIS = np.array([1.0, 0.5, 0.25])  # an oblique grid is tilted in all three planes, and mostly nods
# What each letter of an axis code means in RAS mm: (world axis, direction).
_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class _Grid:
    shape: Shape
    affine: NDArray[np.float64]
    points_per_edge: Shape

    @property
    def edge(self) -> float:
        """Half the distance of neighbouring points along the longest step, in mm; at least 0.5."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0) / self.points_per_edge
        return float(max(0.5, lengths.max() / 2))


def make_head(
    modalities: Iterable[Modality],
    *,
    shape: Shape = (160, 192, 48),
    spacing: Spacing = (1.0, 1.0, 3.0),
    axes: str = "RAS",
    oblique_degrees: float = 0.0,
    seed: int = 0,
    noise: float = 0.02,
    bias: float = 0.15,
) -> dict[Modality, Volume]:
    """Simulate magnetic resonance images of one head.

    Parameters
    ----------
    modalities : any of T1, T1CE, T2, PD, FLAIR.
    shape, spacing : voxels and mm along the array's axes, whatever their orientation.
    axes : the direction in which each index grows, e.g. "RAS" or "LPI"; the field of view is centred on the head.
    oblique_degrees : tilt of the grid about an axis that is no axis of the body.
    seed : another seed is another head with another bias and noise; the same seed gives the same bits.
    noise : standard deviation of the Rician noise, relative to cortex.
    bias : standard deviation of the polynomial's weights in the logarithm of the receive bias, per 100 mm; 0 is a
        perfect coil.

    Returns
    -------
    Volumes (I, J, K) float32 >= 0, cortex at about 400, air near 0.

    Raises
    ------
    UsageError for a modality that has no signal equation (CT) and for a grid that cannot be.
    """
    wanted = list(modalities)
    for modality in wanted:
        if modality not in PROTOCOLS:
            known = ", ".join(known.value for known in PROTOCOLS)
            raise UsageError(f"The phantom has no {modality.value} image.", remedy=f"It has: {known}.")
    grid = _grid(shape, spacing, axes, oblique_degrees)
    tissues = _individual_tissues(seed)
    levels = {modality: _grey_levels(modality, tissues) for modality in wanted}
    images = {modality: np.empty(int(np.prod(shape)), np.float32) for modality in wanted}
    for part, fractions in _fractions(grid, seed):
        for modality, image in images.items():
            # Not one matrix product for all: BLAS rounds differently with the number of rows.
            image[part] = np.einsum("c,cn->n", levels[modality], fractions)
    gain = _receive_bias(grid, seed, bias).reshape(-1)
    result = {}
    for modality, image in images.items():
        random = np.random.default_rng(derive_seed(seed, "phantom noise", modality.value))
        noisy = _rician(image * gain, noise * _GREY_LEVEL, random)
        result[modality] = Volume(noisy.reshape(shape), grid.affine, modality)
    return result


def make_labels(
    *,
    shape: Shape = (160, 192, 48),
    spacing: Spacing = (1.0, 1.0, 3.0),
    axes: str = "RAS",
    oblique_degrees: float = 0.0,
    seed: int = 0,
) -> Volume:
    """The tissue that fills most of each voxel of `make_head` with the same arguments.

    Voxels hold the place of the tissue in `imputer.anatomy.CLASSES` (0 is air), as float32.
    """
    grid = _grid(shape, spacing, axes, oblique_degrees)
    labels = np.empty(int(np.prod(shape)), np.float32)
    for part, fractions in _fractions(grid, seed):
        labels[part] = fractions.argmax(axis=0)
    return Volume(labels.reshape(shape), grid.affine)


def _grid(shape: Shape, spacing: Spacing, axes: str, oblique_degrees: float) -> _Grid:
    letters = [_DIRECTIONS[letter] for letter in axes.upper() if letter in _DIRECTIONS]
    if len(axes) != 3 or sorted(axis for axis, _ in letters) != [0, 1, 2]:
        raise UsageError(f"{axes!r} is not an axis order.", remedy="Give one letter each of R/L, A/P and S/I.")
    if min(shape) < 1 or not all(0 < step < np.inf for step in spacing):
        raise UsageError("The phantom needs at least one voxel and a positive spacing along each axis.")
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, direction) in enumerate(letters):
        affine[axis, column] = direction * spacing[column]
    affine[:3, :3] = _rotation(oblique_degrees) @ affine[:3, :3]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    counts = [int(np.clip(np.ceil(step / _FINE), 1, _MOST)) for step in spacing]
    return _Grid(shape, affine, (counts[0], counts[1], counts[2]))


def _rotation(degrees: float) -> NDArray[np.float64]:
    """Rodrigues' formula about the oblique axis."""
    if degrees == 0:
        return np.eye(3)
    x, y, z = _OBLIQUE_AXIS / np.linalg.norm(_OBLIQUE_AXIS)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def _fractions(grid: _Grid, seed: int) -> Iterator[tuple[slice, Array]]:
    """Tissue fractions (classes, voxels) of runs of voxels in C order, each the mean over the points of its voxels."""
    head = Head(seed)
    offsets = _offsets(grid.points_per_edge)
    voxels = int(np.prod(grid.shape))
    run = max(1, _CHUNK // len(offsets))
    matrix, origin = grid.affine[:3, :3], grid.affine[:3, 3]
    for start in range(0, voxels, run):
        part = slice(start, min(start + run, voxels))
        index = np.stack(np.unravel_index(np.arange(part.start, part.stop), grid.shape)).astype(np.float64)
        points = index[:, None, :] + offsets.T[:, :, None]
        world = (matrix @ points.reshape(3, -1) + origin[:, None]).astype(np.float32)
        fractions = head.fractions(world, grid.edge).reshape(len(CLASSES), len(offsets), -1)
        yield part, fractions.mean(axis=1)


def _offsets(counts: Sequence[int]) -> NDArray[np.float64]:
    """Points (P, 3) spread evenly over a voxel, in voxels from its centre."""
    steps = [(np.arange(count) + 0.5) / count - 0.5 for count in counts]
    return np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)


def _individual_tissues(seed: int) -> dict[str, Tissue]:
    """The parameters of one person: each within a few per cent of the textbook; water stays water."""
    random = np.random.default_rng(derive_seed(seed, "phantom tissues"))
    result = {}
    for name, tissue in TISSUES.items():
        t1, t2, density = np.clip(random.normal(1, 0.02, size=3), 0.95, 1.05)
        if name not in ("csf", "vitreous"):
            tissue = replace(
                tissue,
                t1=tissue.t1 * t1,
                t2=tissue.t2 * t2,
                t2_star=tissue.t2_star * t2,
                pd=min(1, tissue.pd * density),
            )
        result[name] = tissue
    return result


def _grey_levels(modality: Modality, tissues: dict[str, Tissue]) -> NDArray[np.float64]:
    """What a voxel full of each class holds, in the order of the classes."""
    signals = tissue_signals(modality, tissues)
    return np.array([signals[name] for name in CLASSES]) * (_GREY_LEVEL / signals["grey"])


def _receive_bias(grid: _Grid, seed: int, size: float) -> Array:
    """exp of a polynomial of second order in RAS mm, about 1 at the middle of the head; (I, J, K)."""
    weights = np.random.default_rng(derive_seed(seed, "phantom bias")).normal(0, size, size=9)
    i, j, k = np.ogrid[tuple(slice(0, count) for count in grid.shape)]
    x, y, z = (((row[0] * i + row[1] * j + row[2] * k + row[3]) / 100).astype(np.float32) for row in grid.affine[:3])
    terms = (x, y, z, x * x, y * y, z * z, x * y, y * z, x * z)
    exponent = sum((float(weight) * term for weight, term in zip(weights, terms, strict=True)), np.zeros_like(x))
    # Far outside the head the polynomial would run away.
    gain: Array = np.exp(np.clip(exponent, -1, 1)).astype(np.float32)
    return gain


def _rician(image: Array, deviation: float, random: np.random.Generator) -> Array:
    """Magnitude of the image with Gaussian noise in its real and imaginary parts."""
    if deviation <= 0:
        return image
    real = image + deviation * random.standard_normal(image.shape, np.float32)
    imaginary = deviation * random.standard_normal(image.shape, np.float32)
    magnitude: Array = np.hypot(real, imaginary)
    return magnitude
