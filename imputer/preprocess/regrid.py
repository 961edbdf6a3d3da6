"""One volume on the grid of another by their affines, with SimpleITK, and how far the two show the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imputer.preprocess.resample import FWHM_OF_SIGMA
from imputer.volume import LPS_TO_RAS, Volume, farthest_apart

SAME_GRID = 1e-3  # voxels; grids whose corners lie nearer than this are one
LEAST_WIDENING = 0.01  # variance in voxels, below which smoothing changes nothing that is seen
FOREGROUND_SHARE = 1 / 8  # of the mean, as in SPM's global mean: what is brighter is no air
BLOCK_MM = 10.0  # a head is compared in blocks of this size: contrasts differ in what of it is dark


@dataclass(frozen=True)
class Overlap:
    """How far another volume shows what a first one shows; shares from 0 to 1.

    Attributes
    ----------
    covered : float
        Share of the first one's foreground that lies in the field of view of the other.
    dice : float
        Dice coefficient of the two foregrounds within that field of view, in blocks of about a centimetre.
    """

    covered: float
    dice: float


def regrid(moving: Volume, fixed: Volume, transform: sitk.Transform | None = None, *, smooth: bool = True) -> Volume:
    """Resample `moving` linearly onto the grid of `fixed`; 0 outside its field of view.

    Parameters
    ----------
    transform : from places of `fixed` to places of `moving`, LPS mm; None: both are in the same place already.
    smooth : widen the voxels of `moving` to those of `fixed` where these are larger, against aliasing.

    Returns
    -------
    Volume with the affine and shape of `fixed` and the modality of `moving`.
    """
    if transform is None and same_grid(moving, fixed):
        return fixed.with_array(moving.array, modality=moving.modality)
    image = widened(moving, fixed) if smooth else to_image(moving)
    way = transform if transform is not None else sitk.Transform(3, sitk.sitkIdentity)
    resampled = sitk.Resample(image, to_image(fixed), way, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    return fixed.with_array(sitk.GetArrayFromImage(resampled).T, modality=moving.modality)


def widened(moving: Volume, fixed: Volume) -> sitk.Image:
    """Return a volume as an image whose voxels are as wide as those of `fixed` where these are larger."""
    image = to_image(moving)
    variances = _widening(moving, fixed)
    if max(variances) <= LEAST_WIDENING:
        return image
    width = 2 * int(np.ceil(4 * np.sqrt(max(variances)))) + 3
    return sitk.DiscreteGaussian(image, variances, width, 0.001, False)


def same_grid(one: Volume, other: Volume) -> bool:
    """Whether two volumes have the same voxels at the same places."""
    near = SAME_GRID * min(one.spacing)
    return one.shape == other.shape and farthest_apart(one.affine, other.affine, one.shape) < near


def to_image(volume: Volume) -> sitk.Image:
    """Return the volume as an ITK image in LPS millimetres."""
    to_lps = LPS_TO_RAS[:3, :3]  # its own inverse
    image = sitk.GetImageFromArray(volume.array.T)
    spacing = np.array(volume.spacing)
    direction = to_lps @ (volume.affine[:3, :3] / spacing)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((to_lps @ volume.affine[:3, 3]).tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def overlap(first: Volume, other: Volume, placed: Volume) -> Overlap:
    """Compare a volume with another one, which `placed` holds on the grid of the first."""
    seen = _inside(first, other)
    head = _foreground(first.array)
    covered = float(np.count_nonzero(head & seen)) / max(int(np.count_nonzero(head)), 1)
    ours, theirs = (_blocks(mask & seen, first.spacing) for mask in (head, _foreground(placed.array)))
    both = int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs))
    return Overlap(covered, 2 * float(np.count_nonzero(ours & theirs)) / max(both, 1))


def _widening(moving: Volume, fixed: Volume) -> list[float]:
    """Variances, in voxels of `moving` along its axes, that make a voxel of it as wide as one of `fixed`.

    A voxel is taken as a Gaussian as wide as itself, as in `resample`; along an axis the variances of the edges of the
    fixed voxel, which may lie askew, add up.
    """
    edges = np.linalg.solve(moving.affine[:3, :3], fixed.affine[:3, :3])
    wanted = np.square(edges).sum(axis=1) - 1
    return [float(max(each, 0)) / FWHM_OF_SIGMA**2 for each in wanted]


def _inside(first: Volume, other: Volume) -> NDArray[np.bool_]:
    """Which voxels of the first volume lie in the field of view of the other, to half a voxel of that."""
    matrix = np.linalg.solve(other.affine, first.affine)
    i, j = np.ogrid[: first.shape[0], : first.shape[1]]
    inside = np.ones(first.shape, dtype=bool, order="F")
    for (a, b, c, offset), size in zip(matrix[:3], other.shape, strict=True):
        plane = a * i + b * j + offset
        for k in range(first.shape[2]):  # plane by plane, for all places at once would fill the memory
            place = plane + c * k
            inside[:, :, k] &= (place > -0.5 - SAME_GRID) & (place < size - 0.5 + SAME_GRID)
    return inside


def _foreground(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What is brighter than an eighth of the mean, and above 0."""
    threshold = max(float(np.mean(array, dtype=np.float64)), 0.0) * FOREGROUND_SHARE
    return np.asarray(array > threshold)


def _blocks(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Blocks of about `BLOCK_MM` of which at least half is in the mask."""
    sizes = [max(1, round(BLOCK_MM / step)) for step in spacing]
    counts = np.pad(mask, [(0, -length % size) for length, size in zip(mask.shape, sizes, strict=True)])
    for axis, size in enumerate(sizes):
        shape = [*counts.shape[:axis], counts.shape[axis] // size, size, *counts.shape[axis + 1 :]]
        counts = counts.reshape(shape).sum(axis=axis + 1)
    return np.asarray(counts >= np.prod(sizes) / 2)
