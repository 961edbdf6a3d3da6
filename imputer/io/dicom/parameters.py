"""Sequence parameters of an MR image, from a classic header or from functional groups, and what rules it out at once.

PS3.3 sections C.8.3.1 (MR Image), C.8.13.1 to C.8.13.5 (Enhanced MR: attributes and macros).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset

from imputer.io.dicom.headers import first, items, values
from imputer.modality import Modality

# Attributes that are looked at, for a header that is read in part.
TAGS: Final = (
    "AcquisitionContrast",
    "AngioFlag",
    "ArterialSpinLabelingContrast",
    "BloodSignalNulling",
    "ComplexImageComponent",
    "ContrastBolusAgent",
    "ContrastBolusAgentAdministered",
    "ContrastBolusAgentSequence",
    "ContrastBolusIngredient",
    "DiffusionBValue",
    "DiffusionDirectionality",
    "EchoPlanarPulseSequence",
    "EchoPulseSequence",
    "EchoTime",
    "EchoTrainLength",
    "EffectiveEchoTime",
    "FlipAngle",
    "FrameType",
    "ImageType",
    "ImagedNucleus",
    "InversionRecovery",
    "InversionTime",
    "InversionTimes",
    "MRAcquisitionType",
    "MagneticFieldStrength",
    "MagnetizationTransfer",
    "PerFrameFunctionalGroupsSequence",
    "PhaseContrast",
    "PulseSequenceName",
    "RepetitionTime",
    "ResonantNucleus",
    "ScanOptions",
    "ScanningSequence",
    "SequenceName",
    "SequenceVariant",
    "SharedFunctionalGroupsSequence",
    "SteadyStatePulseSequence",
    "T2Preparation",
    "TimeOfFlightContrast",
)
_GAUSS = 100.0  # a field "strength" above this is in gauss, as old scanners write it
_GROUPS = (
    "MRTimingAndRelatedParametersSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "MRImagingModifierSequence",
    "MRImageFrameTypeSequence",
    "MRDiffusionSequence",
    "ContrastBolusUsageSequence",
    # Where converters put what had no group of its own: Legacy Converted Enhanced MR, PS3.3 A.70.
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
)
# AcquisitionContrast, PS3.3 C.8.13.3.1.1: what it states, and what is none of the contrasts here.
_STATED: Final = {
    "T1": Modality.T1,
    "T2": Modality.T2,
    "PROTON_DENSITY": Modality.PD,
    "FLUID_ATTENUATED": Modality.FLAIR,
}
_OTHER_CONTRASTS: Final = {
    "DIFFUSION": "it is a diffusion image",
    "FLOW_ENCODED": "it is a flow image",
    "PERFUSION": "it is a perfusion image",
    "STIR": "it is a STIR image",
    "T2_STAR": "it is a T2* image",
    "TAGGING": "it is a tagged image",
    "TOF": "it is a time-of-flight angiogram",
    "MIXED": "it mixes several contrasts",
    "TEMPERATURE": "it is a temperature map",
    "ELASTOGRAPHY": "it is an elastogram",
}
_TYPES: Final = (
    ({"P", "PHASE", "PHASE MAP", "PHASE_MAP", "P_FFE", "P_SE", "P_IR"}, "it is a phase image"),
    ({"R", "REAL", "R_FFE", "R_SE", "R_IR"}, "it is the real part of an image"),
    ({"I", "IMAGINARY", "I_FFE", "I_SE", "I_IR"}, "it is the imaginary part of an image"),
    ({"ADC", "EADC", "EXP", "FA", "TRACEW", "DIFFUSION", "DWI", "TENSOR", "COLFA"}, "it is a diffusion image"),
    ({"SWI", "MNIP", "SWAN", "QSM"}, "it is a susceptibility image"),
    ({"MIP", "MINIP", "PROJECTION IMAGE", "MAX_IP", "MIN_IP"}, "it is a projection"),
    ({"SUBTRACTION", "SUBTRACT", "SUB"}, "it is a difference of images"),
    ({"ASL", "PERFUSION", "CBF", "RELCBF", "CBV", "RELCBV", "RCBV", "MTT", "RELMTT", "TTP", "TMAX", "PBP"},
     "it is a perfusion map"),
    ({"T1 MAP", "T2 MAP", "T2_STAR MAP", "R2 MAP", "T1_MAP", "T2_MAP", "T2STAR MAP", "MAP", "B0 MAP", "B1 MAP", "UNI",
      "QUANTITY", "DIVISION", "STD_DEVIATION"}, "it is a computed map"),
    ({"FAT", "F", "FF", "FAT_FRACTION", "OUT_PHASE", "OPP_PHASE", "OP"}, "it is the fat or opposed-phase part"),
    ({"FLOW", "VELOCITY", "PHASE CONTRAST M", "PCA", "M_PCA"}, "it is a flow image"),
)  # fmt: skip
# What the names that vendors give their sequences rule out; anything else in them is left to the other parameters.
_SEQUENCE_NAMES: Final = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"\bep(_b|[23]d|fid|se|i\b|i_)|\bresolve", "it is an echo-planar image"),
        (r"swi|swan", "it is a susceptibility image"),
        (r"tof|angio|\bpc[23]d", "it is an angiogram"),
        (r"\bfl[23]d\d+r", "it is a flow-compensated gradient echo, as of angiograms and susceptibility images"),
        (r"\bci3d|\btfi|trufi|truefisp|fiesta|bssfp|\bb-?ffe", "it is a balanced steady-state image"),
        (r"\bde3d|\bps3d|psif|\bdess", "it is a steady-state image that is no T1 or T2 image"),
        (r"\bme[23]d|medic|merge", "it is a T2* image"),
        (r"\bfm2d|fieldmap", "it is a field map"),
        (r"asl", "it is a perfusion image"),
    )
)
_COHERENT: Final = ("FREE_PRECESSION", "TRANSVERSE", "TIME_REVERSED")  # LONGITUDINAL is the spoiled one
_NO_AGENT = re.compile(r"(no|none|n|0|0\.0|nil|non|not|nativ[ae]?|without|w/o|ohne|sans|sin|senza|kein[es]*|false)\b")
_UNKNOWN = re.compile(r"(unknown|unk|n/?a|-+|\?+|null|unspecified|other)$")


@dataclass(frozen=True)
class Parameters:
    """How an MR image was acquired. Times in ms, flip angle in degrees, field in tesla; None where nothing tells.

    Attributes
    ----------
    kind : "spin" (spin echo and its trains), "gradient", or "".
    inverted : whether an inversion pulse goes before, as far as it is said apart from `ti`.
    prepared : whether the magnetisation is prepared, in a way that is not told (SequenceVariant MP).
    coherent : whether a steady state may keep its transverse magnetisation: it is not said to be spoiled.
    transfer : whether magnetisation transfer pulses are on.
    train : echoes per excitation.
    stated : the contrast by AcquisitionContrast.
    agent : whether a contrast agent was given.
    refusal : why it is none of the known contrasts, whatever the timing says; "" otherwise.
    """

    kind: str = ""
    inverted: bool = False
    prepared: bool = False
    coherent: bool = False
    transfer: bool = False
    three_d: bool | None = None
    tr: float | None = None
    te: float | None = None
    ti: float | None = None
    flip: float | None = None
    train: float | None = None
    tesla: float | None = None
    stated: Modality | None = None
    agent: bool | None = None
    refusal: str = ""


def parameters_of(dataset: Dataset, frame_number: int | None = None) -> Parameters:
    """Parameters of an instance, or of one frame (1-based) of a multi-frame instance; of the first if not said."""
    header = _Header(dataset, frame_number)
    scanning, variant = header.words("ScanningSequence"), header.words("SequenceVariant")
    pulse = header.word("EchoPulseSequence")
    times = {time for time in (*header.numbers("InversionTimes"), *header.numbers("InversionTime")) if time > 0}
    tesla = header.positive("MagneticFieldStrength")
    if "SE" in scanning or pulse in ("SPIN", "BOTH"):  # with gradient echoes in between it is a GRASE
        kind = "spin"
    else:
        kind = "gradient" if "GR" in scanning or pulse == "GRADIENT" else ""
    return Parameters(
        kind=kind,
        inverted="IR" in scanning or header.word("InversionRecovery") == "YES",
        prepared="MP" in variant,
        coherent=bool(variant & {"SS", "TRSS"}) and not variant & {"SP", "MP"},
        transfer="MTC" in variant or header.word("MagnetizationTransfer") in ("ON_RESONANCE", "OFF_RESONANCE"),
        three_d={"3D": True, "2D": False}.get(header.word("MRAcquisitionType")),
        tr=header.positive("RepetitionTime"),
        te=header.positive("EffectiveEchoTime") or header.positive("EchoTime"),
        ti=min(times) if times else None,
        flip=header.positive("FlipAngle"),
        train=header.positive("EchoTrainLength"),
        tesla=tesla / 10000 if tesla is not None and tesla > _GAUSS else tesla,
        stated=_STATED.get(header.contrast),
        agent=_agent(header),
        refusal=_refusal(header, scanning) or ("it has two inversions (DIR)" if _several(times) else ""),
    )


class _Header:
    """Attributes of one image: in the functional groups of its frame, in the shared ones, or in the data set."""

    def __init__(self, dataset: Dataset, frame_number: int | None) -> None:
        self._places: list[Dataset] = []
        frames = items(dataset, "PerFrameFunctionalGroupsSequence")
        index = (frame_number or 1) - 1
        groups = [frames[index]] if 0 <= index < len(frames) else []
        for group in (*groups, *items(dataset, "SharedFunctionalGroupsSequence")[:1]):
            found = (first(group, name) for name in _GROUPS)
            self._places.extend(place for place in found if place is not None)
        self._places.append(dataset)
        self.dataset = dataset

    def _of(self, keyword: str) -> list[str | float]:
        """Values where they are first found; what is neither text nor number is as good as absent."""
        for place in self._places:
            found = [value for value in values(place, keyword) if isinstance(value, str | int | float)]
            if found:
                return found
        return []

    def words(self, keyword: str) -> frozenset[str]:
        return frozenset(str(value).strip().upper() for value in self._of(keyword))

    def word(self, keyword: str) -> str:
        found = self._of(keyword)
        return str(found[0]).strip().upper() if found else ""

    def numbers(self, keyword: str) -> list[float]:
        found = (_as_number(value) for value in self._of(keyword))
        return [value for value in found if value is not None]

    def positive(self, keyword: str) -> float | None:
        value = next(iter(self.numbers(keyword)), 0.0)
        return value if value > 0 else None

    @property
    def image_type(self) -> frozenset[str]:
        """Values after the first two of ImageType, or of FrameType; upper case."""
        found = self._of("FrameType") or self._of("ImageType")
        return frozenset(str(value).strip().upper() for value in found[2:])

    @property
    def contrast(self) -> str:
        """AcquisitionContrast, or where it is silent, the value of the frame type that repeats it."""
        said = self.word("AcquisitionContrast")
        repeated = [str(value).strip().upper() for value in self._of("FrameType")[2:3]]
        return said or next(iter(repeated), "")


def _as_number(value: str | float) -> float | None:
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _several(times: set[float]) -> bool:
    return len(times) > 1 and max(times) > 1.1 * min(times)


def _refusal(header: _Header, scanning: frozenset[str]) -> str:
    """Why an image is none of the known contrasts whatever its timing; "" where nothing says so."""
    nucleus = header.word("ResonantNucleus") or header.word("ImagedNucleus")
    b_value = header.positive("DiffusionBValue")
    name = f"{header.word('SequenceName')} {header.word('PulseSequenceName')}".lower()
    tests = (
        (header.contrast in _OTHER_CONTRASTS, _OTHER_CONTRASTS.get(header.contrast, "")),
        (header.word("ComplexImageComponent") in ("PHASE", "REAL", "IMAGINARY", "MIXED"), "it is no magnitude image"),
        *((bool(header.image_type & kinds), reason) for kinds, reason in _TYPES),
        (b_value is not None or bool(header.words("DiffusionDirectionality") - {"NONE"}), "it is a diffusion image"),
        ("EP" in scanning or header.word("EchoPlanarPulseSequence") == "YES", "it is an echo-planar image"),
        (header.word("AngioFlag") == "Y", "it is an angiogram"),
        (header.word("TimeOfFlightContrast") == "YES", "it is a time-of-flight angiogram"),
        (header.word("PhaseContrast") == "YES", "it is a phase-contrast image"),
        (bool(header.words("ScanOptions") & {"RAMP_IS_GEMS", "RAMP_SI_GEMS"}), "it is a time-of-flight angiogram"),
        (header.word("SteadyStatePulseSequence") in _COHERENT, "it is a steady-state image that is no T1 or T2 image"),
        (header.word("T2Preparation") == "YES", "its magnetisation is T2-prepared"),
        (header.word("BloodSignalNulling") == "YES" and "GR" in scanning, "its blood signal is nulled"),
        (header.word("ArterialSpinLabelingContrast") not in ("", "NO"), "it is a perfusion image"),
        (bool(nucleus) and re.fullmatch(r"1?H1?|PROTON", nucleus) is None, "it is no image of hydrogen"),
        *((pattern.search(name) is not None, reason) for pattern, reason in _SEQUENCE_NAMES),
    )
    return next((reason for is_so, reason in tests if is_so), "")


def _agent(header: _Header) -> bool | None:
    """Whether a contrast agent was given; None where nothing says so (PS3.3 C.7.6.4, C.7.6.4b)."""
    if header.word("ContrastBolusAgentAdministered") in ("YES", "NO"):
        return header.word("ContrastBolusAgentAdministered") == "YES"
    said = header.word("ContrastBolusAgent").lower()
    if said and not _UNKNOWN.match(said):
        return _NO_AGENT.match(said) is None
    if items(header.dataset, "ContrastBolusAgentSequence") or header.word("ContrastBolusIngredient") == "GADOLINIUM":
        return True
    return None
