"""One prediction, or two of different methods, against its reference: read, checked, scored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError
from imputer.io.dispatch import load
from imputer.io.header import ConstantImage
from imputer.io.names import modality_of
from imputer.io.pairs import Pair
from imputer.modality import Modality
from imputer.ms_ssim import ms_ssim
from imputer.preprocess.orient import Orient
from imputer.preprocess.regrid import regrid, same_grid
from imputer.report.calibration import Calibration, calibrate
from imputer.report.masks import foreground
from imputer.report.metrics import Mask
from imputer.report.protocols import Prepared, Protocol, chosen, measure, prepare
from imputer.trained_on import seen_in_training
from imputer.volume import Volume, farthest_apart

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Settings:
    """How pairs are scored.

    Attributes
    ----------
    protocol : name of a preset; None: our own way.
    domain : "mr" or "ct"; None: told by the reference's contrast, MR where it tells none.
    normalise : "none", or "mean": both volumes over their own means, where the protocol leaves it free.
    data_range : instead of the reference's; None: as the protocol has it.
    resample : put what lies on another grid onto the reference's.
    skip_empty_roi : a case without a region, or with an empty one, is scored without it.
    """

    protocol: str | None = None
    domain: str | None = None
    normalise: Literal["none", "mean"] = "none"
    data_range: float | None = None
    resample: bool = False
    skip_empty_roi: bool = False


@dataclass(frozen=True)
class Score:
    """What came of one prediction.

    Attributes
    ----------
    prediction : name of its file.
    figures : by name; None where one could not be taken, which a note says.
    roi : the same within the region, or None.
    calibration : of its deviation file, or None.
    data_range : for PSNR and SSIM, in the unit that the figures are taken in.
    voxels, slices : how many of them were scored, `slices` axial ones.
    about : mask, crop, normalisation and data range in words.
    """

    prediction: str
    figures: Figures
    roi: Figures | None
    calibration: Calibration | None
    data_range: float
    voxels: int
    slices: int
    about: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scored:
    """A case: the prediction's score, and that of the other method where there is one."""

    case: str
    modality: Modality | None
    reference: str
    protocol: Protocol
    own: Score
    against: Score | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class _Grid:
    """The reference, and how other volumes come onto its grid."""

    reference: Volume
    resample: bool
    notes: list[str] = field(default_factory=list)

    def placed(self, volume: Volume, name: str, *, smooth: bool = True) -> Volume:
        """Give the volume on the grid of the reference; InputError where it is another one and may not be resampled."""
        if same_grid(volume, self.reference):
            return volume
        if not self.resample:
            raise InputError(
                f"{name} and the reference lie on different grids: {self._difference(volume)}.",
                remedy="Add --resample to put it onto the reference's grid.",
            )
        self.notes.append(f"{name} was resampled onto the reference's grid ({self._difference(volume)}).")
        return regrid(volume, self.reference, smooth=smooth)

    def covered(self, volume: Volume) -> Mask | None:
        """Voxels of the reference that lie in the field of view of a volume; None: all."""
        if same_grid(volume, self.reference):
            return None
        everywhere = regrid(volume.with_array(np.ones(volume.shape, np.float32)), self.reference, smooth=False)
        return everywhere.array > 0.5

    def _difference(self, volume: Volume) -> str:
        if volume.shape != self.reference.shape:
            shapes = (" x ".join(map(str, each.shape)) for each in (volume, self.reference))
            return "shapes " + " and ".join(shapes)
        apart = farthest_apart(volume.affine, self.reference.affine, volume.shape)
        return f"the affines put their corners up to {apart:.3g} mm apart"


def score_pair(pair: Pair, settings: Settings) -> Scored:
    """Score a prediction, and that of the other method where there is one.

    Raises
    ------
    InputError
        Where a file cannot be read, holds NaN, is constant or empty, grids differ, or a region is missing.
    UsageError
        Where a library is not installed, or the protocol is unknown.
    """
    reference = _read(pair.reference)
    is_ct = Modality.CT in (reference.modality, None if reference.modality else modality_of(pair.prediction.name))
    protocol = chosen(settings.protocol, settings.domain or ("ct" if is_ct else "mr"))
    grid = _Grid(reference, settings.resample)
    mask = None if pair.mask is None else _region(pair.mask, grid)
    roi, notes = _roi(pair, grid, settings)
    scores = [
        _score(path, deviation, grid, protocol, settings, mask, roi)
        for path, deviation in ((pair.prediction, pair.deviation), (pair.against, None))
        if path is not None
    ]
    return Scored(
        case=pair.case,
        modality=reference.modality or modality_of(pair.prediction.name),
        reference=pair.reference.name,
        protocol=protocol,
        own=scores[0],
        against=scores[1] if len(scores) > 1 else None,
        warnings=(*dict.fromkeys(grid.notes), *notes, *_seen(pair, reference)),
    )


def _score(
    path: Path,
    deviation: Path | None,
    grid: _Grid,
    protocol: Protocol,
    settings: Settings,
    mask: Mask | None,
    roi: Mask | None,
) -> Score:
    found = _read(path)
    placed = grid.placed(found, path.name)
    inside = grid.covered(found)
    told, more = _deviation(deviation, grid)
    ready = prepare(
        protocol,
        _axial(grid.reference),
        _axial(placed),
        mask=mask,
        inside=None if inside is None else _axial(grid.reference.with_array(inside)) > 0.5,
        roi=roi,
        deviation=told,
        normalise=settings.normalise,
        data_range=settings.data_range,
    )
    figures, found_notes = measure(protocol, ready, ready.mask)
    notes = [*more, *found_notes]
    if "ms_ssim" in protocol.metrics:
        figures["ms_ssim"], note = _ms_ssim(ready, protocol)
        notes += note
    if protocol.normalise == "free" and settings.normalise == "none":
        notes += _scale_apart(ready)
    within = None
    if roi is not None and ready.roi is not None:
        within, more = measure(protocol, ready, ready.roi)
        notes += [f"In the region: {note}" for note in more]
    if any(value == math.inf for value in (*figures.values(), *(within or {}).values())):
        notes.append("PSNR is infinite where the prediction equals the reference; it does not count in means.")
    calibration, more = _calibration(ready)
    return Score(
        prediction=path.name,
        figures=figures,
        roi=within,
        calibration=calibration,
        data_range=ready.data_range,
        voxels=int(np.count_nonzero(ready.mask)),
        slices=int(np.count_nonzero(ready.mask.any(axis=(0, 1)))),
        about=ready.about,
        notes=(*notes, *more),
    )


def _deviation(path: Path | None, grid: _Grid) -> tuple[NDArray[np.float32] | None, list[str]]:
    """Standard deviation on the axes of the figures; where it cannot be used, the reason."""
    if path is None:
        return None, []
    try:
        return _axial(grid.placed(_read(path), path.name)), []
    except InputError as error:
        return None, [f"Calibration left out: {error.message}"]


def _seen(pair: Pair, reference: Volume) -> list[str]:
    both = (pair.prediction, pair.against)
    found = (seen_in_training(path, reference) for path in both if path is not None)
    return list(dict.fromkeys(warning for warning in found if warning is not None))


def _ms_ssim(ready: Prepared, protocol: Protocol) -> tuple[float | None, list[str]]:
    images = ready.reference, ready.estimate
    reference, estimate = images if protocol.limits is None else (np.clip(image, *protocol.limits) for image in images)
    # torchmetrics takes the values as intensities, so that those of the range must not be negative
    shifted = reference - ready.floor, estimate - ready.floor
    try:
        return ms_ssim(*shifted, ready.mask, data_range=ready.data_range, floor=0.0), []
    except InputError as error:
        return None, [f"Left out: {error}"]


def _calibration(ready: Prepared) -> tuple[Calibration | None, list[str]]:
    """Compare deviation and error within the mask; without one in what is no air, for there both are small."""
    if ready.deviation is None:
        return None, []
    region = ready.mask & foreground(ready.reference) if ready.has_air else ready.mask
    error = np.abs(ready.reference - ready.estimate)[region]
    try:
        found = calibrate(error, ready.deviation[region])
    except InputError as problem:
        return None, [f"Calibration left out: {problem}"]
    notes = [] if found.spearman is not None else ["The deviation, or the error, is the same everywhere: no ranking."]
    return found, notes


def _scale_apart(ready: Prepared) -> list[str]:
    """A note where the two volumes plainly have different units."""
    means = [float(image[ready.mask].mean()) for image in (ready.reference, ready.estimate)]
    if min(means) <= 0 or 0.5 < means[1] / means[0] < 2:
        return []
    apart = f"{means[1] / means[0]:.3g}"
    return [f"The prediction's mean is {apart} times the reference's: other units? See --normalise mean."]


def _roi(pair: Pair, grid: _Grid, settings: Settings) -> tuple[Mask | None, list[str]]:
    if pair.roi is None:
        return None, []
    region = _region(pair.roi, grid, may_be_empty=settings.skip_empty_roi)
    if not region.any():
        return None, [f"{pair.roi.name} is empty: no figures of the region."]
    return region, []


def _region(path: Path, grid: _Grid, *, may_be_empty: bool = False) -> Mask:
    """Voxels of a mask file that are not 0, on the axes of the figures."""
    try:
        volume = load(path)
    except ConstantImage as constant:  # all ones is a mask
        volume = constant.volume
    _refuse_nan(volume)
    if not may_be_empty and not volume.array.any():
        raise InputError(f"The mask {path.name} is empty.", remedy="Give one that marks what is to be scored.")
    binary = volume.with_array((volume.array != 0).astype(np.float32))
    return _axial(grid.placed(binary, path.name, smooth=False)) > 0.5


def _read(path: Path) -> Volume:
    volume = load(path)
    _refuse_nan(volume)
    return volume


def _refuse_nan(volume: Volume) -> None:
    origin = volume.origin
    if origin is not None and origin.not_finite:
        raise InputError(
            f"{origin.path.name} holds {origin.not_finite} NaN or infinite voxels and is not scored.",
            remedy="Find out where they come from, and write it again without them.",
        )


def _axial(volume: Volume) -> NDArray[np.float32]:
    return Orient().forward(volume)[0].array
