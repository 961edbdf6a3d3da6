"""Pictures of a case for the page of a cohort: reduced slices in one strip, a thumbnail, a histogram.

Volumes come as arrays with the axes in the order of LPS (left, back, head), so that a slice is displayed as
radiologists look at it: the patient's right on the left of the picture, front or head at the top.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stack = NDArray[np.float32]
Spacing = tuple[float, float, float]

PLANES = ("sagittal", "coronal", "axial")  # by the axis that is cut
LETTERS = {"axial": "RL", "coronal": "RL", "sagittal": "AP"}
THICK = 1.5  # slices this much further apart than the others are the plane of acquisition, and shown
CONTENT_SHARE = 0.05  # of a slice's pixels that must show something for the slice to be worth a picture
BINS = 64
_WINDOW = (0.5, 99.5)  # percentiles
_SAMPLE = 1_000_000  # voxels that percentiles are taken from, at most
_QUALITIES = (84, 70, 55, 40, 25)  # of JPEG, until the strips of a case are small enough
_THUMBNAIL_QUALITY = 72


@dataclass(frozen=True)
class Detail:
    """How much is shown of each case: `slices` at most, `pixels` of their longer edge, `bytes` of all of a case."""

    slices: int
    pixels: int
    bytes: int


# By the number of cases, so that the page of a large cohort still opens: cases up to which a detail is given.
_DETAILS = (
    (120, Detail(12, 160, 200_000)),
    (300, Detail(8, 144, 80_000)),
    (700, Detail(6, 128, 45_000)),
    (1500, Detail(4, 96, 18_000)),
)
_LEAST = Detail(1, 96, 6_000)
THUMBNAIL = 72  # pixels of the longer edge


def detail_for(cases: int) -> Detail:
    """How much of each case the page of a cohort of this size shows."""
    return next((detail for most, detail in _DETAILS if cases <= most), _LEAST)


@dataclass(frozen=True)
class Histogram:
    """Share of the voxels in each of `BINS` equal bins from `low` to `high`, in the unit of the volume."""

    low: float
    high: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """One volume of a case.

    Parameters
    ----------
    name : which: "source", "synthetic" or "deviation".
    strip : slices below each other, JPEG, base64.
    thumbnail : the middle one of them, JPEG, base64.
    histogram : of all its voxels.
    """

    name: str
    strip: str
    thumbnail: str
    histogram: Histogram


@dataclass(frozen=True)
class Pictures:
    """The volumes of a case, cut alike.

    Parameters
    ----------
    plane : "axial", "coronal" or "sagittal".
    slices : which ones, counted from 1 (from the feet, the back or the right); `of` how many there are.
    width, height : pixels of a slice in a strip.
    pictures : in the order of display.
    """

    plane: str
    slices: tuple[int, ...]
    of: int
    width: int
    height: int
    pictures: tuple[Picture, ...]

    @property
    def letters(self) -> str:
        """What is at the left and right border."""
        return LETTERS[self.plane]


def pictures_of(volumes: Sequence[tuple[str, Stack]], spacing: Spacing, detail: Detail) -> Pictures:
    """Reduce the volumes of a case, all on one grid, the first of them telling which slices show something.

    Parameters
    ----------
    volumes : (name, (I, J, K) float32 in LPS order, any unit); not empty.
    spacing : mm along I, J, K.
    detail : see `detail_for`.
    """
    axis = plane_of(spacing)
    stacks = [(name, displayed(array, axis)) for name, array in volumes]
    numbers = worthwhile(stacks[0][1], detail.slices)
    size = _size(stacks[0][1].shape[1:], in_plane(spacing, axis), detail.pixels)
    strips = [_grey(stack[numbers], *window(stack)) for _, stack in stacks]
    resized = [_resized(strip, size) for strip in strips]
    middle = len(numbers) // 2
    thumbnails = [_thumbnail(each[middle]) for each in resized]
    room = detail.bytes - sum(map(len, thumbnails))
    kept, encoded = _encoded(resized, room)
    return Pictures(
        plane=PLANES[axis],
        slices=tuple(int(numbers[place]) + 1 for place in kept),
        of=int(stacks[0][1].shape[0]),
        width=size[0],
        height=size[1],
        pictures=tuple(
            Picture(name, strip, thumbnail, histogram(stack))
            for (name, stack), strip, thumbnail in zip(stacks, encoded, thumbnails, strict=True)
        ),
    )


def plane_of(spacing: Spacing) -> int:
    """Axis across the slices: the one with slices clearly further apart than pixels, else the one to the head."""
    order = sorted(range(3), key=lambda axis: spacing[axis])
    return order[2] if spacing[order[2]] >= THICK * spacing[order[1]] else 2


def displayed(array: Stack, axis: int) -> Stack:
    """Slices (S, H, W) across an axis of an array in LPS order, as they are looked at."""
    if axis == 2:
        return array.transpose(2, 1, 0)
    return array.transpose((1, 2, 0) if axis == 1 else (0, 2, 1))[:, ::-1]  # the head at the top


def in_plane(spacing: Spacing, axis: int) -> tuple[float, float]:
    """Height and width in mm of a pixel of `displayed`."""
    row, column = ((2, 1), (2, 0), (1, 0))[axis]
    return spacing[row], spacing[column]


def worthwhile(stack: Stack, count: int) -> NDArray[np.intp]:
    """Places of at most `count` slices of (S, H, W), evenly spread over those that show something."""
    low, high = window(stack)
    shown = np.flatnonzero(np.mean(stack > low + 0.1 * (high - low), axis=(1, 2)) > CONTENT_SHARE)
    first, last = (int(shown[0]), int(shown[-1])) if shown.size else (0, len(stack) - 1)
    return np.unique(np.round(np.linspace(first, last, min(count, last - first + 1))).astype(np.intp))


def window(stack: Stack) -> tuple[float, float]:
    """Values that are black and white: the 99.5th percentile above, 0 or the 0.5th percentile, if negative, below."""
    few = _some(stack)
    if few.size == 0:
        return 0.0, 1.0
    low, high = (float(each) for each in np.percentile(few, _WINDOW))
    low = min(low, 0.0)
    if high <= low:  # next to nothing is there, say a lesion
        high = float(few.max())
    return (low, high) if high > low else (low, low + 1.0)


def histogram(stack: Stack) -> Histogram:
    """Histogram over the window; the few voxels that are brighter or darker are in no bin."""
    low, high = window(stack)
    values = _some(stack)
    counts, _ = np.histogram(values, bins=BINS, range=(low, high))
    return Histogram(low, high, tuple(round(float(each), 5) for each in counts / max(1, values.size)))


def _some(stack: Stack) -> NDArray[np.float32]:
    """The finite ones of about `_SAMPLE` voxels, evenly spread."""
    step = max(1, round((stack.size / _SAMPLE) ** (1 / 3)))
    few = stack[::step, ::step, ::step]
    return few[np.isfinite(few)]


def _size(shape: tuple[int, ...], pixel: tuple[float, float], longest: int) -> tuple[int, int]:
    """Width and height of a reduced slice in which a mm is equally long both ways; never finer than the voxels."""
    height, width = (count * mm for count, mm in zip(shape, pixel, strict=True))
    step = max(max(height, width) / longest, min(pixel))
    return max(1, round(width / step)), max(1, round(height / step))


def _grey(stack: Stack, low: float, high: float) -> NDArray[np.uint8]:
    shown = np.clip((np.nan_to_num(stack, nan=low, posinf=high, neginf=low) - low) / (high - low), 0, 1)
    grey: NDArray[np.uint8] = np.round(shown * 255).astype(np.uint8)
    return grey


def _resized(slices: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    resample = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(each).resize(size, resample)) for each in slices])


def _thumbnail(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return _jpeg(np.asarray(picture), _THUMBNAIL_QUALITY)


def _encoded(stacks: Sequence[NDArray[np.uint8]], room: int) -> tuple[list[int], list[str]]:
    """Strips of all volumes of a case within `room` bytes: first less quality, then every other slice less."""
    kept = list(range(len(stacks[0])))
    while True:
        for quality in _QUALITIES:
            strips = [_jpeg(np.concatenate(list(stack[kept])), quality) for stack in stacks]
            if sum(map(len, strips)) <= room:
                return kept, strips
        if len(kept) == 1:
            return kept, strips
        kept = kept[1::2]


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> str:
    """Base64 of a grey JPEG."""
    from PIL import Image

    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, format="JPEG", quality=quality, optimize=True)
    return base64.b64encode(memory.getvalue()).decode("ascii")
