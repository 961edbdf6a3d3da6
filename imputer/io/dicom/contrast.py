"""The contrast of a DICOM image: by its sequence parameters, with its description as a second opinion."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset

from imputer.io.dicom.frames import Frame
from imputer.io.dicom.headers import text, values
from imputer.io.dicom.parameters import TAGS as PARAMETER_TAGS
from imputer.io.dicom.parameters import Parameters, parameters_of
from imputer.io.dicom.weighting import ANY, Weighting, weigh
from imputer.io.dicom.words import Opinion, read_words
from imputer.modality import Modality

_CT_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.5.1.4.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.2.2",
    }
)
_MR_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4",
        "1.2.840.10008.5.1.4.1.1.4.1",
        "1.2.840.10008.5.1.4.1.1.4.4",
    }
)
_REMEDY = "say which it is with --from"
_TEXTS = ("SeriesDescription", "ProtocolName", "PulseSequenceName", "SequenceName")
_COMPONENT = "ComplexImageComponent"
# Attributes that are looked at, for a header that is read in part.
TAGS = tuple(dict.fromkeys((*PARAMETER_TAGS, *_TEXTS, "SOPClassUID", "Modality", "Manufacturer")))


@dataclass(frozen=True)
class Contrast:
    """What a DICOM image shows.

    Attributes
    ----------
    modality : Modality or None
        None where it is none of the known contrasts, or nothing decides.
    reason : str
        Why: a clause without a full stop. Of the header it quotes nothing but numbers of timing.
    """

    modality: Modality | None
    reason: str


def detect(dataset: Dataset, frame: Frame | None = None) -> Contrast:
    """Contrast of an instance, or of one frame of a multi-frame instance.

    Sequence parameters decide. Words of the description decide where parameters leave several contrasts open, and may
    add a contrast agent; where the two contradict each other, nothing is decided. Pixel data is not looked at, and no
    value, however broken, makes it raise.
    """
    sop_class = "".join(str(value) for value in values(dataset, "SOPClassUID")[:1])
    said = text(dataset, "Modality").upper()
    found = parameters_of(dataset, frame.number if frame is not None else None)
    if said == "CT" or (not said and sop_class in _CT_CLASSES):
        derived = found.refusal if "map" in found.refusal or "projection" in found.refusal else ""
        return Contrast(None, derived) if derived else Contrast(Modality.CT, "it is a CT image")
    if said != "MR" and not (not said and sop_class in _MR_CLASSES):
        return Contrast(None, "it is neither an MR nor a CT image")
    if found.refusal:
        return Contrast(None, found.refusal)
    if frame is not None and frame.traits.get(_COMPONENT, "MAGNITUDE") != "MAGNITUDE":  # GE tells it in private
        return Contrast(None, "it is no magnitude image")
    # At GE the protocol is the whole examination ("brain with contrast"), not the series.
    whole = text(dataset, "Manufacturer").upper().startswith("GE")
    words = read_words(text(dataset, name) for name in _TEXTS if not (whole and name == "ProtocolName"))
    return _agreed(found, weigh(found), words)


def _agreed(found: Parameters, weighting: Weighting, words: Opinion) -> Contrast:
    """One contrast out of what timing, AcquisitionContrast and words allow; or why there is none."""
    if not weighting.fits:
        return Contrast(None, weighting.why)
    if words.other:
        seen = f"parameters fit {_names(weighting.fits)}" if weighting.fits != ANY else "parameters are missing"
        return Contrast(None, f"{seen}, the description says {words.other}; {_REMEDY}")
    fits = weighting.fits
    sure, why = weighting.sure, weighting.why
    stated = frozenset({found.stated}) if found.stated is not None else frozenset()
    for source, claim in (("AcquisitionContrast", stated), ("the description", words.fits)):
        if not claim:
            continue
        common = _common(fits, claim)
        if not common:
            return Contrast(None, f"parameters say {_names(fits)}, {source} says {_names(claim)}; {_REMEDY}")
        if not sure and len(common) == 1:
            sure, why = True, f"{source} says so, and {why}"
        fits = common
    if not sure:
        return Contrast(None, f"{why}; {_REMEDY}")
    return _with_agent(next(iter(fits)), found.agent, words.agent, why)


def _common(fits: frozenset[Modality], claim: frozenset[Modality]) -> frozenset[Modality]:
    """Contrasts that both allow. FLAIR is T2-weighted, and is often called so."""
    if fits == {Modality.FLAIR} and Modality.T2 in claim:
        return fits
    return fits & claim


def _with_agent(modality: Modality, given: bool | None, said: bool | None, why: str) -> Contrast:
    """T1 after a contrast agent is a contrast of its own; the others keep theirs."""
    if modality is not Modality.T1:
        return Contrast(modality, why)
    if given is not None and said is not None and given != said:
        with_or_without = "a contrast agent" if given else "no contrast agent"
        return Contrast(None, f"parameters say {with_or_without}, the description says the opposite; {_REMEDY}")
    if given or said:
        return Contrast(Modality.T1CE, f"{why}, with a contrast agent")
    return Contrast(modality, why)


def _names(fits: frozenset[Modality]) -> str:
    return " or ".join(sorted(modality.value for modality in fits))
