"""How two volumes are made comparable and which figures are taken: our own ways, and those of three papers.

What a protocol does to the values is applied to both volumes with the numbers of the reference; a prediction is never
scaled by its own maximum. Axial slices lie along the last axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imputer.errors import InputError, UsageError
from imputer.report.masks import body_mask, box_around, take
from imputer.report.metrics import SSIM_WINDOW, Mask, mae, nmse, psnr, slice_pairs, slices_with_content, ssim

Values = NDArray[np.float64]

HU_LIMITS = (-1024.0, 3000.0)
_INNER = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))  # where a whole window of SSIM lies within the image
ALDM_BOX = (192, 192, 144)
ALDM_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Protocol:
    """Mask, crop, normalisation, range and figures of an evaluation.

    Attributes
    ----------
    name : of the preset, or "mr" or "ct" for our own way.
    domain : "mr" or "ct".
    metrics : figures in the order that they are shown.
    source : where it is defined, and what was open there.
    mask : "any": the whole volume, or a mask that is given; "body": a mask that is given, or the body in the reference;
        "none": the whole volume, always.
    limits : lowest and highest value for PSNR and SSIM, to which both volumes are clipped; None: the reference's own.
    by_slice : figures are means over the axial slices with content, each over the reference slice's maximum.
    box : size that both are cropped or padded to, around the reference's voxels above 0; None: not at all.
    percentiles : those of the reference that become 0 and 1, for both; None: not at all.
    normalise : "mean": each volume over its own mean, always; "free": as the user asks.
    """

    name: str
    domain: Literal["mr", "ct"]
    metrics: tuple[str, ...]
    source: str
    mask: Literal["any", "body", "none"] = "any"
    limits: tuple[float, float] | None = None
    by_slice: bool = False
    box: tuple[int, int, int] | None = None
    percentiles: tuple[float, float] | None = None
    normalise: Literal["free", "mean", "none"] = "free"

    @property
    def is_preset(self) -> bool:
        """Whether it is that of a paper, whose settings nobody may change."""
        return self.name in PRESETS


OWN = {
    "mr": Protocol(
        "mr",
        "mr",
        ("psnr", "ssim", "mae", "nmse", "ms_ssim"),
        "imputer's own",
    ),
    "ct": Protocol(
        "ct",
        "ct",
        ("psnr", "ssim", "mae_hu", "nmse", "ms_ssim"),
        "imputer's own: as synthrad, and NMSE of HU + 1024, MS-SSIM",
        mask="body",
        limits=HU_LIMITS,
        normalise="none",
    ),
}
PRESETS = {
    # "Prior to assessment, all images were normalized by their mean, and all examined images in a given cross-section
    # were then normalized by the maximum intensity in the reference image" (section IV-C). The paper gives no mask, no
    # crop, no SSIM window: the whole slice and scikit-image's default. Slices beyond the head do not count.
    "syndiff": Protocol(
        "syndiff",
        "mr",
        ("psnr", "ssim"),
        "Ozbey et al., IEEE TMI 2023, section IV-C; SSIM there in percent, here from -1 to 1",
        mask="none",
        by_slice=True,
        normalise="mean",
    ),
    # Section 4.3: PSNR, NMSE and SSIM "on 3D volumes"; supplement: BraTS "cropped to 192 x 192 x 144 after background
    # removal". It states no range and no normalisation: those of the authors' preprocessing are taken, the 0.5 and 99.5
    # percentiles of the volume that was cropped, of the reference for both.
    "aldm": Protocol(
        "aldm",
        "mr",
        ("psnr", "nmse", "ssim"),
        "Kim and Park, WACV 2024, section 4.3 and supplement (BraTS); range and scale, which it leaves open, from the "
        "authors' preprocessing",
        mask="none",
        box=ALDM_BOX,
        percentiles=ALDM_PERCENTILES,
        limits=(0.0, 1.0),
    ),
    # MAE of the HU as they are; PSNR and SSIM of both clipped to -1024..3000, with the range 4024; SSIM with -1024
    # outside the mask, its map averaged inside.
    "synthrad": Protocol(
        "synthrad",
        "ct",
        ("mae_hu", "psnr", "ssim"),
        "Huijben et al., Medical Image Analysis 2024 (SynthRAD2023 report), with the challenge's published evaluation; "
        "give the challenge's masks with --mask",
        mask="body",
        limits=HU_LIMITS,
        normalise="none",
    ),
}


@dataclass(frozen=True)
class Prepared:
    """Two volumes ready to be scored.

    Attributes
    ----------
    reference, estimate : (I, J, K) float64, axial slices along K.
    mask : voxels that are scored.
    has_air : whether nobody drew a mask, so that of MR most of it may be air.
    data_range : span of values for PSNR and SSIM.
    floor : value that stands outside the mask where SSIM looks there, the lowest of the range.
    scale : what the values of reference and estimate were divided by.
    roi, deviation : a region, and the standard deviation of the estimate, in the same box and scale; or None.
    about : mask, crop, normalisation and range in words.
    """

    reference: Values
    estimate: Values
    mask: Mask
    has_air: bool
    data_range: float
    floor: float
    scale: tuple[float, float]
    roi: Mask | None
    deviation: Values | None
    about: dict[str, str]


def chosen(name: str | None, domain: str) -> Protocol:
    """The preset of a name, or our own way for a domain; UsageError for a name or a domain that is none."""
    known = OWN if name is None else PRESETS
    asked = domain if name is None else name
    if asked not in known:
        kind = "domain" if name is None else "protocol"
        raise UsageError(f"There is no {kind} {asked!r}.", remedy=f"There are: {', '.join(known)}.")
    return known[asked]


def prepare(
    protocol: Protocol,
    reference: NDArray[np.floating],
    estimate: NDArray[np.floating],
    *,
    mask: Mask | None = None,
    inside: Mask | None = None,
    roi: Mask | None = None,
    deviation: NDArray[np.floating] | None = None,
    normalise: Literal["none", "mean"] = "none",
    data_range: float | None = None,
) -> Prepared:
    """Bring two volumes (I, J, K) on one grid into the mask, box and scale of a protocol.

    Parameters
    ----------
    mask : voxels to score; None: as the protocol has it.
    inside : voxels that the estimate covers, where that is not all.
    normalise : for protocols that leave it free: "mean" divides each volume by its own mean within the mask.
    data_range : instead of the reference's, where the protocol has no range of its own.

    Raises
    ------
    InputError
        Where the mask is empty, an image is constant within it, or a mean is not above 0.
    """
    region, words = _region(protocol, reference, mask)
    if inside is not None and not inside.all():
        region, words = region & inside, words + ", where the prediction covers it"
    if protocol.by_slice:
        region, words = region & slices_with_content(reference), f"{words}, of slices with content"
        if not region.any():
            raise InputError("The reference shows nothing: all its voxels are equal, or next to all.")
    if not region.any():
        raise InputError("The mask is empty.", remedy="Give one that marks voxels of the reference's field of view.")
    for name, image in (("reference", reference), ("prediction", estimate)):
        if np.ptp(image[region]) == 0:
            raise InputError(f"The {name} shows nothing within the mask: all its voxels there are equal.")
    way = normalise if protocol.normalise == "free" else protocol.normalise
    over, where = (slice(None), "") if protocol.by_slice else (region, " within the mask")
    scale = (_mean(reference[over]), _mean(estimate[over])) if way == "mean" else (1.0, 1.0)
    ready = Prepared(
        reference=np.asarray(reference, np.float64) / scale[0],
        estimate=np.asarray(estimate, np.float64) / scale[1],
        mask=region,
        has_air=mask is None and protocol.mask != "body",
        data_range=1.0,
        floor=0.0,
        scale=scale,
        roi=None if roi is None else roi & region,
        deviation=None if deviation is None else np.asarray(deviation, np.float64) / scale[1],
        about={
            "mask": words,
            "crop": "none",
            "normalisation": f"each volume divided by its own mean{where}" if way == "mean" else "none",
        },
    )
    if protocol.box is not None:
        ready = _cropped(ready, protocol.box)
    if protocol.percentiles is not None:
        ready = _mapped(ready, protocol.percentiles)
    return _ranged(protocol, ready, data_range)


def measure(protocol: Protocol, ready: Prepared, region: Mask) -> tuple[dict[str, float | None], list[str]]:
    """PSNR, SSIM, MAE and NMSE of the voxels of a region, as far as the protocol has them; None where one cannot be.

    MS-SSIM is not among them. The second part of the result says why a figure is None.

    Raises
    ------
    InputError
        Where the region is empty.
    UsageError
        Where scikit-image is not installed.
    """
    if not region.any():
        raise InputError("The region is empty.", remedy="Give one that marks voxels within the mask.")
    found, notes = _by_slice(ready, region) if protocol.by_slice else _whole(protocol, ready, region)
    return {name: found[name] for name in protocol.metrics if name in found}, notes


def _region(protocol: Protocol, reference: NDArray[np.floating], mask: Mask | None) -> tuple[Mask, str]:
    if mask is not None:
        return mask, "given"
    if protocol.mask == "body":
        return body_mask(reference), "body in the reference, above -500 HU"
    return np.ones(reference.shape, bool), "none, the whole volume"


def _mean(values: NDArray[np.floating]) -> float:
    mean = float(np.mean(values, dtype=np.float64))
    if mean <= 0:
        raise InputError("A volume whose mean is not above 0 cannot be divided by it.", remedy="Use --normalise none.")
    return mean


def _cropped(ready: Prepared, size: tuple[int, int, int]) -> Prepared:
    box = box_around(ready.reference > 0, size)
    words = " x ".join(map(str, size)) + " around the reference's voxels above 0, 0 beyond the field of view"
    return replace(
        ready,
        reference=take(ready.reference, box, 0.0),
        estimate=take(ready.estimate, box, 0.0),
        mask=np.ones(size, bool),
        roi=None if ready.roi is None else take(ready.roi, box, False),
        deviation=None if ready.deviation is None else take(ready.deviation, box, 0.0),
        about=ready.about | {"crop": words},
    )


def _mapped(ready: Prepared, percentiles: tuple[float, float]) -> Prepared:
    low, high = (float(value) for value in np.percentile(ready.reference, percentiles))
    if high <= low:
        raise InputError("The reference shows next to nothing: its percentiles are equal.")
    words = f"percentiles {percentiles[0]:g} and {percentiles[1]:g} of the reference to 0 and 1 for both, clipped"
    before = ready.about["normalisation"]
    return replace(
        ready,
        reference=np.clip((ready.reference - low) / (high - low), 0, 1),
        estimate=np.clip((ready.estimate - low) / (high - low), 0, 1),
        deviation=None if ready.deviation is None else ready.deviation / (high - low),
        about=ready.about | {"normalisation": words if before == "none" else f"{before}; {words}"},
    )


def _ranged(protocol: Protocol, ready: Prepared, data_range: float | None) -> Prepared:
    if protocol.by_slice:
        words = "1: each slice of both over the maximum of the reference's slice"
        return replace(ready, about=ready.about | {"data_range": words})
    if protocol.limits is not None:
        low, high = protocol.limits
        words = f"{high - low:g}: {low:g} to {high:g}, both clipped for PSNR and SSIM"
        return replace(ready, data_range=high - low, floor=low, about=ready.about | {"data_range": words})
    low, high = float(ready.reference.min()), float(ready.reference.max())
    span = high - low if data_range is None else data_range
    words = f"{span:.6g}: " + ("maximum less minimum of the reference" if data_range is None else "given")
    return replace(ready, data_range=span, floor=low, about=ready.about | {"data_range": words})


def _whole(protocol: Protocol, ready: Prepared, region: Mask) -> tuple[dict[str, float | None], list[str]]:
    reference, estimate = ready.reference, ready.estimate
    is_ct = protocol.domain == "ct"
    offset = HU_LIMITS[0] if is_ct else 0.0  # water, the most of a body, would else count as nothing
    found: dict[str, float | None] = {
        "mae_hu" if is_ct else "mae": mae(reference[region], estimate[region]),
        "nmse": nmse(reference[region] - offset, estimate[region] - offset),
    }
    floor = ready.floor
    if protocol.limits is not None:  # SSIM compares means too, so that its values have to begin at 0
        reference, estimate = (np.clip(image, *protocol.limits) - floor for image in (reference, estimate))
        floor = 0.0
    found["psnr"] = psnr(reference[region], estimate[region], data_range=ready.data_range)
    if not ready.mask.all():
        reference, estimate = (np.where(ready.mask, image, floor) for image in (reference, estimate))
    try:
        found["ssim"] = _ssim(reference, estimate, ready.data_range, None if region.all() else region)
    except InputError as error:
        return found | {"ssim": None}, [f"SSIM left out: {error.message}"]
    flat = min(reference.shape) < SSIM_WINDOW
    return found, ["SSIM is that of axial slices: fewer than 7 of them, too few for a cube."] if flat else []


def _ssim(reference: Values, estimate: Values, data_range: float, region: Mask | None) -> float:
    """SSIM of a volume; of fewer than seven slices that of each of them, weighted by its share of the region."""
    if reference.shape[2] >= SSIM_WINDOW:
        return ssim(reference, estimate, data_range=data_range, inside=region)
    inside = np.ones(reference.shape, bool) if region is None else region
    values, weights = [], []
    for k in np.flatnonzero(inside[_INNER, _INNER].any(axis=(0, 1))):
        score = ssim(reference[..., k], estimate[..., k], data_range=data_range, inside=inside[..., k])
        values.append(score)
        weights.append(np.count_nonzero(inside[_INNER, _INNER, k]))
    if not values:
        raise InputError("SSIM needs a region that reaches 4 pixels or more from the border of the image.")
    return float(np.average(values, weights=weights))


def _by_slice(ready: Prepared, region: Mask) -> tuple[dict[str, float | None], list[str]]:
    psnrs: list[float] = []
    ssims: list[float] = []
    for k, truth, guess in slice_pairs(ready.reference, ready.estimate):
        inside = region[..., k]
        if not inside.any():
            continue
        psnrs.append(psnr(truth[inside], guess[inside], data_range=1.0))
        if inside[_INNER, _INNER].any():
            ssims.append(ssim(truth, guess, data_range=1.0, inside=inside))
    if not psnrs:
        raise InputError("No slice with content holds a part of the region.")
    found: dict[str, float | None] = {"psnr": _average(psnrs), "ssim": _average(ssims) if ssims else None}
    return found, [] if ssims else ["SSIM left out: the region lies at the border of its slices."]


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values))
