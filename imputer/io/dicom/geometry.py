"""Planes in patient space brought into order, and whether they make one volume on a regular grid.

Never by instance number, slice location or file name: planes are sorted along the normal of their orientation, by
ImagePositionPatient (PS3.3 section C.7.6.2.1.1). What is not one regular grid is refused, and the refusal says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.io.dicom.frames import Frame
from imputer.io.header import VOXEL_LIMIT
from imputer.volume import LPS_TO_RAS

FEWEST_SLICES = 3
SAME_ORIENTATION = 1e-3  # largest difference of a component of the direction vectors
SAME_SPACING = 1e-4  # of the larger, between pixels
SAME_PLACE_MM = 0.03  # planes that are no further apart lie at one place
EVEN_MM = 0.01  # deviation from even steps that is rounding of what scanners write, and not worth a word
UNEVEN_MM, UNEVEN = 0.05, 0.01  # from here on, or from this part of the spacing, it is refused
THIN = 0.25  # but never more than this part of the spacing of very thin slices
STEEPEST_TILT = 0.5  # degrees between the step from slice to slice and the normal
WHOLE_GAP = 0.1  # how near to a whole number of steps a gap is, to say that slices are missing
LISTED = 3  # gaps that are told one by one


@dataclass(frozen=True, eq=False)
class Grid:
    """Planes that make one volume.

    Attributes
    ----------
    frames : tuple of Frame
        Sorted along the normal, the cross product of the directions of row and column.
    affine : NDArray
        (4, 4) float64, (column, row, slice, 1) to RAS mm.
    spacing : tuple of float
        From column to column, row to row, slice to slice, mm.
    notes : tuple of str
        What was not quite regular.
    """

    frames: tuple[Frame, ...] = field(repr=False)
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        return self.frames[0].columns, self.frames[0].rows, len(self.frames)


class Crowded(InputError):
    """Planes of several volumes: other sizes, other orientations, or several at one place."""


class Ragged(InputError):
    """Planes of one orientation, each at its own place, that do not follow each other in even steps."""


def arrange(frames: Sequence[Frame]) -> Grid:
    """Grid of the planes of one volume, given in any order.

    Raises
    ------
    InputError
        Where they are none: `Crowded` where they may be several, `Ragged` where the steps are not even.
    """
    directions = np.array([frame.orientation for frame in frames])
    _check_orientations(directions)
    _check_sizes(frames)
    row, column = (_unit(part) for part in directions.mean(axis=0).reshape(2, 3))
    normal = _unit(np.cross(row, column))
    positions = np.array([frame.position for frame in frames])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(frames[index] for index in order)
    positions = positions[order]
    along = positions @ normal
    _check_places(ordered, along)
    if len(ordered) < FEWEST_SLICES:
        raise InputError(
            f"The series has {_count(len(ordered), 'slice')}, and a volume needs at least {FEWEST_SLICES}.",
            remedy="Give the folder with all its files.",
        )
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    _check_tilt(step, normal, len(ordered))
    notes = _check_steps(ordered, positions, along, step)
    affine = np.eye(4)
    affine[:3, 0] = row * frames[0].pixel_spacing[1]  # PixelSpacing is the distance of rows, then of columns
    affine[:3, 1] = column * frames[0].pixel_spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    spacing = (frames[0].pixel_spacing[1], frames[0].pixel_spacing[0], float(np.linalg.norm(step)))
    return Grid(ordered, LPS_TO_RAS @ affine, spacing, notes)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_sizes(frames: Sequence[Frame]) -> None:
    sizes = {(frame.columns, frame.rows) for frame in frames}
    if len(sizes) > 1:
        shown = ", ".join(f"{columns} x {rows}" for columns, rows in sorted(sizes)[:LISTED])
        raise Crowded(f"The series mixes images of {len(sizes)} sizes ({shown} pixels).", remedy=_ONE_ONLY)
    spacings = np.array([frame.pixel_spacing for frame in frames])
    if np.any(np.ptp(spacings, axis=0) > SAME_SPACING * spacings.max(axis=0)):
        low, high = spacings.min(), spacings.max()
        raise Crowded(f"The series mixes images of several pixel spacings ({low:g} to {high:g} mm).", remedy=_ONE_ONLY)
    columns, rows = sizes.pop()
    if columns * rows * len(frames) > VOXEL_LIMIT:
        raise InputError(
            f"The series claims {columns * rows * len(frames)} voxels, more than this program takes ({VOXEL_LIMIT})."
        )


_ONE_ONLY = "Give the files of one volume only."


def _check_orientations(directions: NDArray[np.float64]) -> None:
    found: list[NDArray[np.float64]] = []
    for direction in np.unique(directions, axis=0):
        if not any(np.abs(direction - known).max() <= SAME_ORIENTATION for known in found):
            found.append(direction)
    if len(found) > 1:
        raise Crowded(
            f"The series has images of {len(found)} orientations, as a localizer has, and is no volume.",
            remedy=_ONE_ONLY,
        )


def _check_places(ordered: Sequence[Frame], along: NDArray[np.float64]) -> None:
    together = np.flatnonzero(np.diff(along) <= SAME_PLACE_MM)
    if together.size == 0:
        return
    count = len(ordered) - together.size
    if count == 1:
        raise Crowded(f"The {len(ordered)} images of the series lie all at one place, and are no volume.")
    one, other = (_name(ordered[index]) for index in (together[0], together[0] + 1))
    raise Crowded(
        f"The series has {len(ordered)} images at {count} places; {one} and {other} lie at the same one "
        f"({along[together[0]]:.2f} mm along the slice axis)."
    )


def _check_tilt(step: NDArray[np.float64], normal: NDArray[np.float64], count: int) -> None:
    """Refuse a shear; what rounded positions of a few thin slices make look like one is none."""
    tilt = float(np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1))))
    aside = float(np.linalg.norm(step - (step @ normal) * normal)) * (count - 1)
    if tilt > STEEPEST_TILT and aside > UNEVEN_MM:
        raise InputError(
            f"The slices are sheared by {tilt:.1f} degrees against each other (a tilted gantry).",
            remedy="Resample the series to a grid with right angles first, for example with dcm2niix.",
        )


def _check_steps(
    ordered: Sequence[Frame], positions: NDArray[np.float64], along: NDArray[np.float64], step: NDArray[np.float64]
) -> tuple[str, ...]:
    """Refuse uneven steps; notes where they are only somewhat uneven."""
    spacing = float(np.linalg.norm(step))
    tolerance = min(max(UNEVEN_MM, UNEVEN * spacing), THIN * spacing)
    steps = np.diff(along)
    usual = float(np.quantile(steps, 0.5, method="lower"))  # of two steps the smaller: slices are lost, not gained
    odd = np.flatnonzero(np.abs(steps - usual) > 2 * tolerance)  # both of its ends may be off
    if odd.size:
        raise _uneven(ordered, along, steps, usual, odd)
    expected = positions[0] + np.arange(len(ordered))[:, None] * step
    off = np.linalg.norm(positions - expected, axis=1)
    worst = int(off.argmax())
    if off[worst] > tolerance:
        raise Ragged(
            f"The slices do not lie on one line in even steps: {_name(ordered[worst])} is {off[worst]:.2f} mm off "
            f"its place at a spacing of {spacing:.3f} mm."
        )
    if off[worst] > EVEN_MM:
        return (f"slices are up to {off[worst]:.3f} mm off an even spacing of {spacing:.3f} mm",)
    return ()


def _uneven(
    ordered: Sequence[Frame],
    along: NDArray[np.float64],
    steps: NDArray[np.float64],
    usual: float,
    odd: NDArray[np.intp],
) -> Ragged:
    whole = steps[odd] / usual
    if np.all((whole > 1.5) & (np.abs(whole - np.round(whole)) <= WHOLE_GAP)):
        missing = int(np.sum(np.round(whole) - 1))
        what = f"{_count(missing, 'slice')} {'is' if missing == 1 else 'are'} missing from the series"
        remedy = "Copy the series again."
    else:
        what = f"The spacing of the slices is not uniform (from {steps.min():.3f} to {steps.max():.3f} mm)"
        remedy = "Resample the series to an even spacing first."
    gaps = [
        f"a step of {steps[index]:.2f} mm where {usual:.2f} mm are usual lies between {_name(ordered[index])} and "
        f"{_name(ordered[index + 1])} (at {along[index]:.2f} and {along[index + 1]:.2f} mm along the slice axis)"
        for index in odd[:LISTED]
    ]
    more = f", and {odd.size - LISTED} more" if odd.size > LISTED else ""
    return Ragged(f"{what}: {', '.join(gaps)}{more}.", remedy=remedy)


def _name(frame: Frame) -> str:
    return frame.file if frame.number is None else f"frame {frame.number}"
