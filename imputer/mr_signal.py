"""Tissue parameters and the signal equations of magnetic resonance imaging.

Tissue values: BrainWeb at 1.5 T (Collins et al., IEEE TMI 1998; Kwan et al., IEEE TMI 1999) for CSF, grey and white
matter, fat, muscle and lesions. BrainWeb has none for the others, or none that fits: those are ours, between or beside
BrainWeb's, with the reason at the entry. Times in ms, proton density relative to water. Everything here is arithmetic
on numbers or arrays, so the phantom and simulations from label maps share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imputer.modality import Modality

Numeric = float | NDArray[np.floating]

# Longitudinal relaxivity of common gadolinium chelates at 1.5 T and 37 degrees, per (mmol/l) and second.
RELAXIVITY = 4.5


@dataclass(frozen=True)
class Tissue:
    """Relaxation times `t1`, `t2`, `t2_star` in ms (> 0) and relative proton density `pd` in [0, 1]."""

    t1: float
    t2: float
    t2_star: float
    pd: float

    def with_agent(self, concentration: float) -> Tissue:
        """The tissue with that much gadolinium (mmol/l): 1/T1 grows by relaxivity times concentration."""
        return replace(self, t1=1 / (1 / self.t1 + RELAXIVITY * concentration / 1000))


TISSUES: Mapping[str, Tissue] = {
    "air": Tissue(1000.0, 1.0, 1.0, 0.0),
    # BrainWeb gives skin the values of CSF, which paints the scalp white on T2; these are about the dermis as measured
    # in vivo (Richard et al., J Invest Dermatol 1991).
    "skin": Tissue(870.0, 24.0, 20.0, 0.70),
    "fat": Tissue(350.0, 70.0, 58.0, 1.00),
    "muscle": Tissue(900.0, 47.0, 30.0, 1.00),
    # Cortical bone: its T2 is below 1 ms, so no sequence here sees it.
    "bone": Tissue(300.0, 1.0, 1.0, 0.0),
    # Diploe of the skull: half of it yellow marrow.
    "marrow": Tissue(400.0, 60.0, 20.0, 0.55),
    "csf": Tissue(2569.0, 329.0, 58.0, 1.00),
    "grey": Tissue(833.0, 83.0, 69.0, 0.86),
    "white": Tissue(500.0, 70.0, 61.0, 0.77),
    # Between grey and white: striatum and thalamus hold more myelin and iron than cortex.
    "deep_grey": Tissue(740.0, 78.0, 62.0, 0.85),
    # The pallidum's iron shortens T2.
    "pallidum": Tissue(600.0, 64.0, 42.0, 0.79),
    "lesion": Tissue(752.0, 237.0, 204.0, 0.76),
    # Flowing venous blood: most of its protons leave the slice between the pulses, so the density is an apparent one.
    "blood": Tissue(1400.0, 120.0, 60.0, 0.35),
    # The vitreous body is water.
    "vitreous": Tissue(2569.0, 329.0, 58.0, 1.00),
}

# Gadolinium after a standard dose in mmol/l: the blood-brain barrier keeps it out of healthy brain.
AGENT: Mapping[str, float] = {
    "blood": 2.0,
    "muscle": 0.1,
    "skin": 0.2,
    "marrow": 0.05,
    "grey": 0.02,
    "white": 0.01,
    "deep_grey": 0.02,
    "pallidum": 0.02,
    "lesion": 0.3,
}


def spin_echo(t1: Numeric, t2: Numeric, pd: Numeric, *, tr: float, te: float) -> Numeric:
    """PD (1 - exp(-TR/T1)) exp(-TE/T2)."""
    signal: Numeric = pd * (1 - np.exp(-tr / t1)) * np.exp(-te / t2)
    return signal


def spoiled_gradient_echo(
    t1: Numeric, t2_star: Numeric, pd: Numeric, *, tr: float, te: float, flip_degrees: float
) -> Numeric:
    """PD sin a (1 - E1) / (1 - E1 cos a) exp(-TE/T2*), E1 = exp(-TR/T1): the steady state of FLASH, SPGR, T1-FFE."""
    flip = math.radians(flip_degrees)
    e1 = np.exp(-tr / t1)
    signal: Numeric = pd * math.sin(flip) * (1 - e1) / (1 - e1 * math.cos(flip)) * np.exp(-te / t2_star)
    return signal


def inversion_recovery(t1: Numeric, t2: Numeric, pd: Numeric, *, tr: float, te: float, ti: float) -> Numeric:
    """PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2): magnitude image of an inversion recovery spin echo."""
    signal: Numeric = pd * np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * np.exp(-te / t2)
    return signal


def null_time(t1: float, tr: float) -> float:
    """The inversion time in ms at which a tissue of that T1 gives no signal: T1 ln(2 / (1 + exp(-TR/T1)))."""
    return t1 * math.log(2 / (1 + math.exp(-tr / t1)))


@dataclass(frozen=True)
class SpinEcho:
    """Repetition and echo time in ms."""

    tr: float
    te: float

    def signal(self, tissue: Tissue) -> float:
        """Signal of a tissue as a fraction of the signal of fully relaxed water."""
        return float(spin_echo(tissue.t1, tissue.t2, tissue.pd, tr=self.tr, te=self.te))


@dataclass(frozen=True)
class SpoiledGradientEcho:
    """Repetition and echo time in ms, flip angle in degrees."""

    tr: float
    te: float
    flip_degrees: float

    def signal(self, tissue: Tissue) -> float:
        """Signal of a tissue as a fraction of the signal of fully relaxed water."""
        return float(
            spoiled_gradient_echo(
                tissue.t1, tissue.t2_star, tissue.pd, tr=self.tr, te=self.te, flip_degrees=self.flip_degrees
            )
        )


@dataclass(frozen=True)
class InversionRecovery:
    """Repetition, echo and inversion time in ms."""

    tr: float
    te: float
    ti: float

    def signal(self, tissue: Tissue) -> float:
        """Signal of a tissue as a fraction of the signal of fully relaxed water."""
        return float(inversion_recovery(tissue.t1, tissue.t2, tissue.pd, tr=self.tr, te=self.te, ti=self.ti))


Protocol = SpinEcho | SpoiledGradientEcho | InversionRecovery

_FLAIR_TR = 9000.0

# Typical clinical protocols at 1.5 T; T2 and PD are the dual echo of the IXI data set. FLAIR's inversion time is
# computed: scanners use about 2500 ms, which nulls the 4300 ms of real CSF but not the 2569 ms of BrainWeb's.
PROTOCOLS: Mapping[Modality, Protocol] = {
    Modality.T1: SpoiledGradientEcho(tr=10.0, te=4.6, flip_degrees=20.0),
    Modality.T1CE: SpoiledGradientEcho(tr=10.0, te=4.6, flip_degrees=20.0),
    Modality.T2: SpinEcho(tr=8178.0, te=100.0),
    Modality.PD: SpinEcho(tr=8178.0, te=8.0),
    Modality.FLAIR: InversionRecovery(tr=_FLAIR_TR, te=120.0, ti=null_time(TISSUES["csf"].t1, _FLAIR_TR)),
}


def tissue_signals(
    modality: Modality, tissues: Mapping[str, Tissue] = TISSUES, protocol: Protocol | None = None
) -> dict[str, float]:
    """Signal of every tissue in a modality, as a fraction of that of fully relaxed water.

    `protocol` replaces the typical one. T1CE means the tissues with `AGENT` in them. KeyError for a modality that is
    not magnetic resonance (CT).
    """
    chosen = PROTOCOLS[modality] if protocol is None else protocol
    if modality is Modality.T1CE:
        tissues = {name: tissue.with_agent(AGENT.get(name, 0.0)) for name, tissue in tissues.items()}
    return {name: chosen.signal(tissue) for name, tissue in tissues.items()}
