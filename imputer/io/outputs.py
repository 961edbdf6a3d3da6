"""Where the results of a case go: the tree of the input again, BIDS derivatives, or names as BraTS has them."""

from __future__ import annotations

import re
from pathlib import Path

from imputer.errors import UsageError
from imputer.files import strip_suffixes, synthetic_stem
from imputer.io.bids import bids_output
from imputer.io.cohort import Case
from imputer.io.names import without_modality
from imputer.modality import Modality

_SUFFIX = ".nii.gz"
# Names of the contrasts since BraTS 2023 (BraTS-GLI-00000-000-t1n); before, they were those of `Modality`.
_BRATS_2023 = {Modality.T1: "t1n", Modality.T1CE: "t1c", Modality.T2: "t2w", Modality.FLAIR: "t2f"}
_ENDS_2023 = re.compile(rf"-({'|'.join(_BRATS_2023.values())})$")


def output_of(
    case: Case,
    target: Modality,
    root: Path,
    out: Path,
    *,
    source: Path,
    kinds: tuple[str, ...] = (),
    brats: bool = False,
) -> Path:
    """File, or folder of a DICOM series, for one synthetic volume.

    The tree of the input again, with ``<stem>_synth-<target>.nii.gz``; of DICOM the folder ``<case>_synth-<target>``, a
    file of that name where NIfTI alone is asked for; of BIDS a file in ``derivatives/imputer``.

    Parameters
    ----------
    root : of the cohort.
    out : folder of the results.
    source : file or folder of the case that the volume is made from.
    kinds : output types asked for, "nifti" and "dicom"; empty: as the input is.
    brats : name as the dataset does, ``<subject>_t2.nii.gz`` or ``<subject>-t2w.nii.gz``; not for BIDS or DICOM.

    Raises
    ------
    UsageError
        For BraTS names of another layout.
    """
    if brats and case.layout in ("bids", "dicom"):
        raise UsageError("BraTS names are for folders of NIfTI files.", remedy="Leave the BraTS names out.")
    if case.layout == "bids":
        return bids_output(case, target, out)
    if case.layout == "dicom":
        stem = strip_suffixes(Path(case.id)) if source.suffix.lower() == ".zip" else case.id
        return out / f"{synthetic_stem(stem, target)}{_SUFFIX if kinds == ('nifti',) else ''}"
    place = source.relative_to(root).parent
    name = _brats_name(case, target, source) if brats else synthetic_stem(strip_suffixes(source), target)
    return out / place / f"{name}{_SUFFIX}"


def _brats_name(case: Case, target: Modality, source: Path) -> str:
    subject = without_modality(source.name) or case.id.rpartition("/")[2]
    if target in _BRATS_2023 and _ENDS_2023.search(strip_suffixes(source)):
        return f"{subject}-{_BRATS_2023[target]}"
    return f"{subject}_{target}"
