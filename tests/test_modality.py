"""Names of modalities, and what file names tell."""

from pathlib import Path

import pytest

from imputer.errors import UsageError
from imputer.modality import Modality, guess_modality, parse_modality


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        *[(name, Modality.T1) for name in ("t1", "T1w", "t1n", "MPRAGE")],
        *[(name, Modality.T1CE) for name in ("t1ce", "T1C", "t1Gd", "T1POST")],
        *[(name, Modality.T2) for name in ("T2", "t2w")],
        *[(name, Modality.FLAIR) for name in ("FLAIR", "t2f")],
        *[(name, Modality.PD) for name in ("pd", "PDw")],
        *[(name, Modality.CT) for name in ("CT", "sct", " ct ")],
    ],
)
def test_aliases_in_any_case(text: str, modality: Modality) -> None:
    assert parse_modality(text) is modality


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'t3'") as caught:
        parse_modality("t3")
    assert all(modality.value in str(caught.value) for modality in Modality)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("t1.nii.gz", Modality.T1),
        ("sub-1_T1w.nii.gz", Modality.T1),
        ("sub-ct01_ses-t2_space-T1w_FLAIR.nii.gz", Modality.FLAIR),
        ("sub-1_ce-gadolinium_T1w.nii.gz", Modality.T1CE),
        ("sub-1_desc-synth_T2w.nii.gz", Modality.T2),
        ("study1_FLAIR.nii.gz", Modality.FLAIR),
        ("study1_T1W.nii", Modality.T1),
        ("BraTS_001_t1ce.nii.gz", Modality.T1CE),
        ("BraTS-GLI-00000-000-t2f.nii.gz", Modality.FLAIR),
        ("T1POST.mha", Modality.T1CE),
        ("patient_T1_post.nrrd", Modality.T1CE),
        ("T1w-Gd.nii.gz", Modality.T1CE),
        ("AX_T2_FLAIR.nii.gz", Modality.FLAIR),
        ("T1_MPRAGE.mgz", Modality.T1),
        ("brain.t2.v1.nii.gz", Modality.T2),
        ("IXI002-Guys-0828-PD.nii.gz", Modality.PD),
        ("t1_3d.nii.gz", Modality.T1),
        ("3DT1.nii.gz", Modality.T1),
        ("t1_synth-t2.nii.gz", Modality.T2),
        ("t1_synth-t2_synth-flair.nii.gz", Modality.FLAIR),
        ("t1_to_t2.nii.gz", None),
        ("flair_t2.nii.gz", None),
        ("T1_FLAIR.nii.gz", None),
        ("t2_star.nii.gz", None),
        ("sub-1_task-t1_bold.nii.gz", None),
        ("brain.nii.gz", None),
        ("atlas_t12.nii.gz", None),
    ],
)
def test_what_a_file_name_tells(name: str, modality: Modality | None) -> None:
    assert guess_modality(Path("t2") / name) is modality


@pytest.mark.parametrize("name", ["患者.nii.gz", "sub-01.nii.gz", ".nii.gz", "_.nii"])
def test_a_name_without_a_word_tells_nothing(name: str) -> None:
    assert guess_modality(Path(name)) is None
