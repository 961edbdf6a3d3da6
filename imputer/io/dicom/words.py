"""What the free text of a header says of an image's contrast: a second opinion beside the sequence parameters.

Descriptions are typed by people, in several languages, and may name a patient: only the words of the tables below are
looked for, and nothing of the text itself leaves this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from imputer.modality import Modality

LONGEST = 256  # characters that are looked at; the attributes hold 64
_SIDE = r"(?<![a-z0-9])(?:[23]d|ax|axial|sag|cor|tra|fs|s|e|w)?"  # what vendors put before: 3DT1, sT1W_3D_TFE
_CONTRASTS: Final = {
    Modality.T1: re.compile(
        rf"{_SIDE}t1(?![0-9])|mp ?rage|(?<![a-z])(?:bravo|i?r?f?spgr|vibe)(?![a-z])|(?<![a-z])t1 ?(?:tfe|ffe)"
    ),
    Modality.T2: re.compile(rf"{_SIDE}t2(?![0-9*])"),
    Modality.FLAIR: re.compile(r"flair|dark ?fluid|fluid ?att|(?<![a-z0-9])t2f(?![a-z])"),
    Modality.PD: re.compile(rf"{_SIDE}(?:pd|dp)(?:w|fs|t2|tse)?(?![a-z])|proton ?dens"),
}
_T1_FLAIR = re.compile(r"t1.*flair")
_TWO_ECHOES = re.compile(r"dual|double echo|(?<![a-z])de(?![a-z])|two echo|multi ?echo")
# Words for what is none of the known contrasts, and what to call it.
_OTHERS: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(?<![a-z])(?:e?dwi|dti|diff|diffusion|adc|tracew?|dki|noddi|hardi)(?![a-z])", "diffusion"),
        (r"t2 ?(?:\*|star(?![a-z])|s(?![a-z]))|(?<![a-z])(?:hemo|haemo|merge|medic|gre t2)(?![a-z])", "T2*"),
        (r"(?<![a-z])(?:swi|swan|swip|venobold|qsm)(?![a-z])|suscept", "susceptibility"),
        (r"(?<![a-z])(?:tof|mra|mrv|twist|tricks|angio)|venogra|inhance", "angiography"),
        (r"(?<![a-z])(?:stir|tirm fs)(?![a-z])", "STIR"),
        (r"(?<![a-z])(?:ciss|fiesta|trufi|true ?fisp|b ?ffe|bssfp|dess|psif)(?![a-z])", "a steady state"),
        (r"(?<![a-z])(?:dir|psir)(?![a-z])|double (?:ir|inv)", "double or phase-sensitive inversion"),
        (r"(?<![a-z])(?:fgatir|wmn|wm null\w*|flaws)(?![a-z])", "nulled white matter"),
        (r"(?<![a-z])(?:ep2d|ep3d|epi|bold|fmri)(?![a-z])", "echo-planar imaging"),
        (r"(?<![a-z])(?:p?c?asl|dsc|dce|perf|perfusion|cbf|cbv|mtt)(?![a-z])", "perfusion"),
        (r"mp2rage|(?<![a-z])(?:inv ?[12]|uni den)(?![a-z0-9])", "MP2RAGE"),
        (r"(?<![a-z])(?:[tb] ?[012] ?(?:map\w*|rho)|maps?|field ?map\w*|mpm)(?![a-z])", "a map"),
        (r"(?<![a-z])(?:m?mip|mini?p|subtr\w*)(?![a-z])", "a projection or difference"),
        (r"locali[sz]er|(?<![a-z])(?:scout|survey|loc|aahead\w*|smart ?brain)(?![a-z])", "a localizer"),
        (r"(?<![a-z])phase (?:image|map)|(?<![a-z])pha(?![a-z])", "phase"),
    )
)
_AGENT = (
    r"(?:gd|gado\w*|gad|ce|km|con|kontrast\w*|contrast\w*|mdc|dotarem|prohance|magnevist|omniscan|multihance|clariscan)"
    r"(?![a-z])"
)
_MINUS = re.compile(r"(?<![a-z0-9])(?:c ?-|- ?(?:c|gd|km))(?![a-z0-9])")  # C-, while "t1-c" and "t1_c" mean with
_EITHER = re.compile(rf"(?<![a-z])(?:w|with) ?(?:and |\+ ?)?(?:wo|w o|without)(?![a-z])(?: ?(?:iv ?)?{_AGENT})?")
# Before or after an operation, a treatment or a processing says nothing of an agent; nor does the posterior fossa.
_EVENT = r"(?! ?(?:op\w*|surg\w*|rt|chemo\w*|treat\w*|proc\w*|ictal|trauma\w*|partum|radi\w*|fossa)(?![a-z]))"
_WITH = re.compile(
    rf"(?<![a-z]){_AGENT}|\+ ?(?:c|k|gd|km)(?![a-z])|(?<![a-z0-9])c ?\+|(?<![a-z])t1[a-z]*? ?c(?![a-z0-9])|"
    rf"(?<![a-z])(?:t1)?w?post{_EVENT}(?![a-z])|(?<![a-z])(?:enhanced|postcon\w*)(?![a-z])"
)
_WITHOUT = re.compile(
    rf"(?<![a-z])(?:pre|vor|ohne|without|w ?o|w ?out|non?|sans|sin|senza) ?(?:iv ?)?{_AGENT}|"
    rf"(?<![a-z])(?:pre{_EVENT}|nativ[ae]?|plain|unenhanced|w ?o)(?![a-z])"
)


@dataclass(frozen=True)
class Opinion:
    """What words say.

    Attributes
    ----------
    fits : the contrasts they name; empty where they name none.
    other : our name of what they say that is no known contrast, or "".
    agent : whether they speak of a contrast agent as given, as not given, or not at all.
    """

    fits: frozenset[Modality]
    other: str
    agent: bool | None


NO_OPINION: Final = Opinion(frozenset(), "", None)


def read_words(texts: Iterable[str]) -> Opinion:
    """Opinion of the first text of a header that has one."""
    for text in texts:
        plain = re.sub(r"[^a-z0-9*+]+", " ", _MINUS.sub(" ohne km ", text[:LONGEST].lower())).strip()
        other = next((name for pattern, name in _OTHERS if pattern.search(plain)), "")
        opinion = Opinion(_fits(plain), other, _agent(plain))
        if opinion != NO_OPINION:
            return opinion
    return NO_OPINION


def _fits(text: str) -> frozenset[Modality]:
    named = {modality for modality, pattern in _CONTRASTS.items() if pattern.search(text)}
    if Modality.FLAIR in named and Modality.T1 in named and _T1_FLAIR.search(text):
        named -= {Modality.FLAIR}  # T1 FLAIR is a T1 image without fluid
    elif Modality.FLAIR in named:
        named -= {Modality.T2}  # T2 FLAIR is a FLAIR image
    if Modality.T2 in named and _TWO_ECHOES.search(text):
        named |= {Modality.PD}
    return frozenset(named)


def _agent(text: str) -> bool | None:
    text = _EITHER.sub(" ", text)
    without = _WITHOUT.search(text) is not None
    given = _WITH.search(_WITHOUT.sub(" ", text)) is not None
    if without and given:
        return None  # "pre and post": one of the two
    return given or (False if without else None)
