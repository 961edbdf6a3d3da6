"""A DICOM series as a volume: chosen, put in order, decoded, rescaled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.io.dicom import contrast, pixels, planes
from imputer.io.dicom.choice import Fits, choose
from imputer.io.dicom.content import safe_name
from imputer.io.dicom.frames import DicomSeries, Frame
from imputer.io.dicom.geometry import Grid
from imputer.io.dicom.headers import first, integer, items, stripped
from imputer.io.dicom.members import members
from imputer.io.dicom.parse import read_whole
from imputer.io.dicom.series import Content, Image, Series, body_part_of, find, nothing_in
from imputer.io.dicom.volumes import MAGNITUDE, component, conditions_of
from imputer.volume import Origin, Volume

__all__ = ["read_dicom"]

FORMAT = "dicom"


def read_dicom(
    path: Path, *, series: str | None = None, select: Sequence[str] = (), fits: Fits | None = None
) -> Volume:
    """Volume of a series in a folder, a zip or a file: array[i, j, k] is column i, row j of the k-th slice.

    Slices are sorted along the normal of the image plane; values are rescaled as the header says (HU in CT).

    Parameters
    ----------
    path : Path
        Folder, zip or file.
    series : str or None
        UID, number or description of the series; None: see `imputer.io.dicom.choice.choose`.
    select : sequence of str
        Which of several volumes in the series, as "EchoTime=5.19", "ImageType=M" or "AcquisitionNumber=2".
    fits : callable
        Tells of a modality (None: unknown) whether a series of it may be taken without being named.

    Returns
    -------
    Volume
        With its modality as the sequence parameters tell; ``origin.header`` is a `DicomSeries`.

    Raises
    ------
    InputError
        Where there is no such series, or it is no volume of intensities on a regular grid, or is damaged.
    UsageError
        Where `select` is none.
    """
    path = Path(path)
    name = safe_name(path.name)
    conditions = conditions_of(select)
    with members(path) as found:
        content = find(found, conditions)
        summaries = content.summaries()
        if not summaries:
            raise nothing_in(name, content)
        summary = choose(summaries, series=series, fits=fits, name=name)
        chosen = next(one for one in content.series if one.summary is summary)
        assert chosen.grid is not None  # it has no problem
        try:
            return _Reading(chosen, chosen.grid, content).volume(path)
        except MemoryError:
            raise InputError(f"{name} does not fit into memory.") from None


class _Reading:
    """The files of a series read one after the other, each once, into one array."""

    def __init__(self, series: Series, grid: Grid, content: Content) -> None:
        self.grid = grid
        self.series = series
        self.planes = np.empty((len(grid.frames), grid.frames[0].rows, grid.frames[0].columns), dtype=np.float32)
        self.frames: list[Frame] = list(grid.frames)
        self.hashes: dict[int, str] = {}
        self.lossy = False
        self.padded = 0
        self.notes = [*_content_notes(content), *grid.notes, *_count_notes(series, grid)]

    def volume(self, path: Path) -> Volume:
        """Read all that the grid needs."""
        slots: dict[int, dict[int, int]] = {}  # image, frame of it (from 0): slice
        place = {id(image.header): index for index, image in enumerate(self.series.images)}
        for k, frame in enumerate(self.grid.frames):
            slots.setdefault(place[id(frame.dataset)], {})[(frame.number or 1) - 1] = k
        for index in sorted(slots):
            self._read(self.series.images[index], slots[index], index)
        self._compare_copies(slots)
        self._fill_padding()
        if self.planes.min() == self.planes.max():
            raise InputError("The series shows nothing: all its voxels are equal.")
        if not np.isfinite(self.planes.max()) or not np.isfinite(self.planes.min()):
            raise InputError("The series has values beyond all bounds.")
        middle = self.frames[len(self.frames) // 2]
        modality = contrast.detect(middle.dataset, middle).modality
        array = self.planes.transpose(2, 1, 0)  # a view: columns stay next to each other in memory
        origin = Origin(path, FORMAT, self._header(middle), array.shape, tuple(dict.fromkeys(self.notes)))
        return Volume(array, self.grid.affine, modality, origin)

    def _header(self, middle: Frame) -> DicomSeries:
        kind = planes.SOP_CLASSES[planes.sop_class(middle.dataset)]
        digest = hashlib.sha256("\n".join(sorted(self.hashes.values())).encode("ascii")).hexdigest()
        return DicomSeries(
            frames=tuple(self.frames),
            modality=kind.modality,
            multi_frame=kind.multi_frame,
            lossy=self.lossy,
            sha256=digest,
            files=len(self.hashes),
            body_part=body_part_of(middle.dataset),
        )

    def _read(self, image: Image, slots: dict[int, int], index: int) -> None:
        file = image.member.name
        dataset, self.hashes[index] = read_whole(image.member)
        frames = planes.frames_of(dataset, file)
        layout = pixels.layout_of(dataset, file)
        is_mr = planes.SOP_CLASSES[planes.sop_class(dataset)].modality == "MR"
        self._check_same(frames, slots, file)
        padding = pixels.padding_of(dataset, layout)
        for frame, stored in pixels.decode(dataset, layout, slots, file):
            k = slots[frame]
            self.frames[k] = frames[frame]
            values = _inverted(stored, layout) if layout.inverted and is_mr else stored
            _rescale(values, frames[frame], self.planes[k])
            if padding is not None:
                self._mark_padding(stored, padding, k)
        if layout.inverted and is_mr:
            self.notes.append("bright and dark exchanged (MONOCHROME1)")
        self.lossy = self.lossy or pixels.is_lossy(dataset)
        stripped(dataset)

    def _check_same(self, frames: Sequence[Frame], slots: dict[int, int], file: str) -> None:
        """Hold the whole header against that of the first look, and against what only a whole header tells."""
        for frame, k in slots.items():
            before = self.grid.frames[k]
            after = frames[frame] if frame < len(frames) else None
            if after is None or _geometry(after) != _geometry(before):
                raise InputError(f"{file} has changed while it was read.", remedy="Try again.")
            if component(after) != MAGNITUDE:
                raise InputError(f"{file} is a {component(after).lower()} image.", remedy="Give the magnitude images.")

    def _mark_padding(self, stored: NDArray[np.integer], padding: tuple[int, int], k: int) -> None:
        low, high = padding
        if not low <= int(stored.max()) or not int(stored.min()) <= high:
            return
        mask = (stored >= low) & (stored <= high)
        count = int(np.count_nonzero(mask))
        if count:
            self.planes[k][mask] = np.nan
            self.padded += count

    def _fill_padding(self) -> None:
        """Give pixels that stand for nothing the lowest value of the others: air, or background."""
        if not self.padded:
            return
        mask = np.isnan(self.planes)
        if mask.all():
            raise InputError("The series shows nothing: all its voxels are padding.")
        self.planes[mask] = self.planes[~mask].min()
        self.notes.append(f"{self.padded} padding voxels set to the lowest value of the others")

    def _compare_copies(self, slots: Iterable[int]) -> None:
        """Hold files that seem to be copies of others against them; leave them out, or refuse all."""
        place = {id(image): index for index, image in enumerate(self.series.images)}
        dropped = 0
        for copy, original in self.series.copies:
            index = place[id(original)]
            if index not in set(slots):
                continue
            if read_whole(copy.member)[1] != self.hashes[index] and not _same_pixels(copy, original):
                raise InputError(
                    f"{copy.member.name} and {original.member.name} claim to be the same image, but differ.",
                    remedy="Remove the wrong one.",
                )
            dropped += 1
        if dropped:
            self.notes.append(f"{dropped} exact cop{'ies' if dropped > 1 else 'y'} of images left out")


def _geometry(frame: Frame) -> tuple[object, ...]:
    return frame.position, frame.orientation, frame.pixel_spacing, frame.rows, frame.columns


def _same_pixels(copy: Image, original: Image) -> bool:
    """Whether two files hold the same values, perhaps in another transfer syntax."""
    found = []
    for image in (copy, original):
        dataset, _ = read_whole(image.member)
        layout = pixels.layout_of(dataset, image.member.name)
        decoded = pixels.decode(dataset, layout, range(layout.frames), image.member.name)
        found.append([frame for _, frame in decoded])
    scales = [[(frame.slope, frame.intercept) for frame in image.frames] for image in (copy, original)]
    return scales[0] == scales[1] and all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def _inverted(stored: NDArray[np.integer], layout: pixels.Layout) -> NDArray[np.integer]:
    """Exchange the ends of the range of stored values."""
    top = (1 << layout.stored) - 1
    inverted = np.invert(stored)
    return np.asarray(inverted if layout.signed else inverted & stored.dtype.type(top))


def _rescale(stored: NDArray[np.integer], frame: Frame, out: NDArray[np.float32]) -> None:
    if frame.slope == 1 and frame.intercept == 0:
        out[...] = stored
        return
    with np.errstate(over="ignore"):  # beyond float32: infinite, and refused
        out[...] = stored * np.float64(frame.slope) + frame.intercept


def _content_notes(content: Content) -> list[str]:
    notes = []
    if content.others:
        kinds = ", ".join(sorted(content.others)[:3])
        notes.append(f"{content.others.total()} DICOM objects that are no images left out ({kinds})")
    if content.junk:
        notes.append(f"{content.junk} entr{'ies that are' if content.junk > 1 else 'y that is'} no DICOM file left out")
    if content.damaged:
        notes.append(f"{len(content.damaged)} damaged DICOM files left out")
    return notes


def _count_notes(series: Series, grid: Grid) -> list[str]:
    notes = []
    if series.summary.synthetic:
        notes.append("the series is itself synthetic (SyntheticData)")
    frames = sum(len(image.frames) for image in series.images)
    if len(grid.frames) < frames:
        notes.append(f"{len(grid.frames)} of the {frames} images of the series selected")
    claimed = integer(grid.frames[0].dataset, "ImagesInAcquisition")
    if claimed is not None and frames < claimed:
        notes.append(f"the header tells of {claimed} images, but there are {frames}: some at an end may be missing")
    last = max(map(_place_in_stack, grid.frames))
    if last > len(grid.frames):
        notes.append(f"a slice says that it is number {last} of {len(grid.frames)}: some at an end may be missing")
    return notes


def _place_in_stack(frame: Frame) -> int:
    """InStackPositionNumber of a frame (PS3.3 C.7.6.16.2.2), or 0."""
    if frame.number is None:
        return 0
    group = items(frame.dataset, "PerFrameFunctionalGroupsSequence")[frame.number - 1]
    content = first(group, "FrameContentSequence")
    return (integer(content, "InStackPositionNumber") or 0) if content is not None else 0
