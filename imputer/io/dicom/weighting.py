"""What the timing of an MR sequence says of its contrast.

Every scanner says how it acquired; few say what a picture is of. The limits below are those of the protocols in use at
0.06 to 7 T, with what they rest on beside them; between them nothing is decided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from imputer.io.dicom.parameters import Parameters
from imputer.modality import Modality

ANY: Final = frozenset({Modality.T1, Modality.T2, Modality.FLAIR, Modality.PD})
_T1 = frozenset({Modality.T1})
_T2 = frozenset({Modality.T2})
_PD = frozenset({Modality.PD})
_FLAIR = frozenset({Modality.FLAIR})

CSF_T1 = 4300.0  # ms, of cerebrospinal fluid, hardly dependent on the field
BRAIN_T1 = 1000.0  # ms, of grey and white matter together; the rules that use it are no finer than that

# Spin echoes. T1: TR near the T1 of brain, TE short. PD: TR long enough that T1 counts little. T2: TE near the T2 of
# brain. Intermediate echoes show both density and T2.
T1_LONGEST_TR, PD_SHORTEST_TR, T2_SHORTEST_TR = 1100.0, 1800.0, 1000.0
SHORT_TE, T2_SHORTEST_TE = 40.0, 60.0
FLUID_ONLY_TE = 650.0  # hydrography (MRCP, myelography): no tissue is left
# Inversion before a spin echo, as TI over the TI that nulls fluid at this TR. T1 FLAIR and T2 FLAIR both null fluid, at
# short and at long TE. STIR nulls fat, which takes a tenth to a quarter of that; DIR waits longer.
FAT_NULL, LEAST_T1_INVERSION, FLUID_NULL_FROM, FLUID_NULL_TO = 0.3, 0.4, 0.7, 1.25
INVERTED_SHORT_TE = 50.0
SHORTEST_TI = 80.0  # ms; shorter delays belong to fat suppression (SPECIAL, SPIR)
# Gradient echoes. T2* has lost a good part of the signal by then; T1 sequences end at 11 ms (MNI's: TR 18, TE 10). Low
# fields read out slower and lose less.
T2_STAR_TE, T2_STAR_TE_LOW_FIELD, LOW_FIELD = 12.0, 20.0, 0.6
# Inversion before gradient echoes (MPRAGE, IR-FSPGR, TFE). Longest TI: 1500 ms at 7 T; the second one of MP2RAGE is
# beyond 2000. In cycles longer than LONG_CYCLE, a TI below WHITE_NULL_TI nulls white matter (FGATIR, WMn-MPRAGE); GE
# and Philips give as TR the distance of two echoes, so that their short TIs are something else.
LONGEST_T1_TI, LONG_CYCLE, WHITE_NULL_TI = 1600.0, 1400.0, 550.0
# Without inversion: flip angle over the Ernst angle of brain. Well above it T1 dominates, well below it density.
T1_FLIP, PD_FLIP, FAST_FLIP = 1.3, 0.6, 3.5
FAST_TR = 15.0
# Balanced steady states (FIESTA, CISS, bFFE) flip by 35 to 70 degrees, DESS by 25. SequenceVariant SS alone does not
# tell: Philips gives it to every FFE, GE to every SPGR.
COHERENT_FLIP = 25.0
ANGIO_TR = (15.0, 60.0)  # of three-dimensional time of flight, whose flip angle is 15 to 20 degrees
ANGIO_FLIP = 25.0
FAST_2D_TR = 60.0  # two-dimensional gradient echoes below this: localizers, angiograms, phase contrast
PREPARED_TRAIN = 20.0  # echoes after one preparation; "EchoTrainLength" of a Philips TFE


@dataclass(frozen=True)
class Weighting:
    """Contrasts that fit the parameters.

    Attributes
    ----------
    fits : the contrasts; `ANY` where the parameters are silent, none where it is another contrast.
    sure : whether the parameters alone decide; there is just one then.
    why : what the parameters are, a clause without a full stop. Numbers in it are of timing only.
    """

    fits: frozenset[Modality]
    sure: bool
    why: str


def weigh(found: Parameters) -> Weighting:
    """What the timing says."""
    if found.kind == "spin":
        return _spin(found)
    if found.kind == "gradient":
        return _gradient(found)
    if found.tr is None or found.te is None:
        return Weighting(ANY, False, "the sequence parameters are missing")
    # No spin echo has so short a TR, no gradient echo for a volume so long a one without inversion.
    short = found.tr < 200 or (found.ti is not None and found.te < T2_STAR_TE and (found.flip or 90) < 45)
    guess = _gradient(found) if short else _spin(found)
    return Weighting(guess.fits, False, f"the header does not say what kind of echo it is ({_timing(found)})")


def null_time(t1: float, tr: float) -> float:
    """Inversion time that nulls a tissue, ms: T1 ln(2 / (1 + exp(-TR/T1)))."""
    return t1 * math.log(2 / (1 + math.exp(-tr / t1)))


def ernst_degrees(t1: float, tr: float) -> float:
    """Flip angle of the greatest signal of a spoiled gradient echo."""
    return math.degrees(math.acos(math.exp(-tr / t1)))


def _spin(found: Parameters) -> Weighting:
    timing = _timing(found)
    if found.tr is None or found.te is None:
        return Weighting(ANY, False, "it is a spin echo whose TR or TE is missing")
    if found.inverted or (found.ti is not None and found.ti >= SHORTEST_TI):
        return _inverted_spin(found, found.tr, found.te)
    if found.te <= SHORT_TE:
        if found.tr <= T1_LONGEST_TR:
            return Weighting(_T1, True, f"it is a spin echo of short TR and TE ({timing})")
        if found.tr >= PD_SHORTEST_TR:
            return Weighting(_PD, True, f"it is a spin echo of long TR and short TE ({timing})")
        return Weighting(_T1 | _PD, False, f"it is a spin echo between T1 and PD ({timing})")
    if found.te > FLUID_ONLY_TE:
        return Weighting(frozenset(), False, f"it shows fluid only ({timing})")
    if found.te >= T2_SHORTEST_TE and found.tr >= T2_SHORTEST_TR:
        return Weighting(_T2, True, f"it is a spin echo of long TR and TE ({timing})")
    if found.tr >= PD_SHORTEST_TR:
        return Weighting(_PD | _T2, False, f"it is a spin echo between PD and T2 ({timing})")
    return Weighting(frozenset(), False, f"its TR and TE mix T1 and T2 ({timing})")


def _inverted_spin(found: Parameters, tr: float, te: float) -> Weighting:
    timing = _timing(found)
    short = te < INVERTED_SHORT_TE
    if found.ti is None:
        return Weighting(_T1 if short else _FLAIR, False, f"it is an inversion recovery whose TI is missing ({timing})")
    part = found.ti / null_time(CSF_T1, tr)
    if part < FAT_NULL:
        if found.inverted:
            return Weighting(frozenset(), False, f"it is a STIR image ({timing})")
        return Weighting(_T1 | _T2, False, f"it may be a STIR image or only suppress fat ({timing})")
    if part > FLUID_NULL_TO:
        return Weighting(frozenset(), False, f"its inversion time fits no FLAIR, but double inversion ({timing})")
    if short:
        return Weighting(_T1, part >= LEAST_T1_INVERSION, f"it is an inversion recovery of short TE ({timing})")
    if te < T2_SHORTEST_TE:
        return Weighting(_T1 | _FLAIR, False, f"it is an inversion recovery of intermediate TE ({timing})")
    return Weighting(_FLAIR, part >= FLUID_NULL_FROM, f"it is an inversion recovery of long TE ({timing})")


def _gradient(found: Parameters) -> Weighting:
    timing = _timing(found)
    low = found.tesla is not None and found.tesla < LOW_FIELD
    if found.te is not None and found.te >= (T2_STAR_TE_LOW_FIELD if low else T2_STAR_TE):
        return Weighting(frozenset(), False, f"it is a T2* image ({timing})")
    if found.transfer:
        return Weighting(frozenset(), False, f"it is a gradient echo with magnetisation transfer ({timing})")
    if found.inverted or (found.ti is not None and found.ti >= SHORTEST_TI):
        return _inverted_gradient(found)
    if found.tr is None or found.te is None or found.flip is None:
        return Weighting(_T1 | _PD, False, f"it is a gradient echo whose TR, TE or flip angle is missing ({timing})")
    return _plain_gradient(found, found.tr, found.flip)


def _inverted_gradient(found: Parameters) -> Weighting:
    timing = _timing(found)
    if found.ti is not None and found.ti > LONGEST_T1_TI:
        return Weighting(frozenset(), False, f"its inversion time is too long for T1 ({timing})")
    nulls_white = found.ti is not None and found.ti < WHITE_NULL_TI and found.tr is not None and found.tr >= LONG_CYCLE
    if nulls_white:
        return Weighting(_T1, False, f"its inversion time nulls white matter ({timing})")
    return Weighting(_T1, found.te is not None, f"it is a gradient echo after inversion ({timing})")


def _plain_gradient(found: Parameters, tr: float, flip: float) -> Weighting:
    timing = _timing(found)
    part = flip / ernst_degrees(BRAIN_T1, tr)
    if found.coherent and tr < FAST_TR and flip >= COHERENT_FLIP:
        return Weighting(frozenset(), False, f"it is a steady-state image that is no T1 or T2 image ({timing})")
    if found.three_d is False and tr < FAST_2D_TR:
        return Weighting(_T1, False, f"it is a fast gradient echo, as of localizers and angiograms ({timing})")
    if found.three_d is not False and ANGIO_TR[0] <= tr <= ANGIO_TR[1] and flip < ANGIO_FLIP:
        return Weighting(_T1 | _PD, False, f"it is a gradient echo that may be an angiogram ({timing})")
    if part > FAST_FLIP and tr < FAST_TR:
        return Weighting(_T1, False, f"it is a fast gradient echo of large flip angle, as of angiograms ({timing})")
    if part >= T1_FLIP:
        return Weighting(_T1, True, f"it is a gradient echo of large flip angle ({timing})")
    if tr < FAST_TR and (found.prepared or (found.train or 0) > PREPARED_TRAIN):
        return Weighting(_T1, True, f"it is a gradient echo after preparation ({timing})")
    if part <= PD_FLIP:
        return Weighting(_PD, False, f"it is a gradient echo of small flip angle ({timing})")
    return Weighting(_T1 | _PD, False, f"it is a gradient echo between T1 and PD ({timing})")


def _timing(found: Parameters) -> str:
    shown = [f"{name} {value:g}" for name, value in (("TR", found.tr), ("TE", found.te), ("TI", found.ti)) if value]
    text = ", ".join(shown) + " ms" if shown else "no timing"
    return f"{text}, flip angle {found.flip:g}" if found.flip else text
