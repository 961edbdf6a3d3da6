"""Predictions find their references by name: results of this program, BIDS, subject folders, equal names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imputer.errors import InputError, UsageError
from imputer.io.pairs import find_pairs


def make(root: Path, *names: str) -> Path:
    """Empty files of these names: names alone decide."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    root.mkdir(exist_ok=True)
    return root


def matched(predictions: Path, references: Path, **more: Path) -> dict[str, str]:
    found = find_pairs(predictions, references, **more)
    return {
        pair.prediction.relative_to(predictions).as_posix(): pair.reference.relative_to(references).as_posix()
        for pair in found.pairs
    }


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("p1_t1_synth-t2.nii.gz", "p1_t2.nii.gz"),
        ("p1_t1_synth-t2.nii.gz", "p1-T2w.nii.gz"),
        ("p1/t1_synth-t2.nii.gz", "p1/t2.nii.gz"),
        ("t1_synth-t2.nii.gz", "t2.nii.gz"),
        ("BraTS-001/BraTS-001_t1_synth-t2.nii.gz", "BraTS-001/BraTS-001_t2.nii.gz"),
        ("BraTS-GLI-00000-000-t1n_synth-t2.nii.gz", "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2w.nii.gz"),
        ("IXI-T1/IXI002-Guys-0828-T1_synth-t2.nii.gz", "IXI-T2/IXI002-Guys-0828-T2.nii.gz"),
        ("p1/scan_t1_synth-t2.nii.gz", "p1/t2.nii.gz"),
        ("sub-01/anat/sub-01_desc-synth_T2w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz"),
        ("derivatives/imputer/sub-01/anat/sub-01_desc-synth_T2w.nii.gz", "sub-01/anat/sub-01_acq-tse_T2w.nii.gz"),
        ("sub-01/ses-2/anat/sub-01_ses-2_desc-synth_T2w.nii.gz", "sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz"),
        ("sub-01/anat/sub-01_ce-gd_desc-synth_T1w.nii.gz", "sub-01/anat/sub-01_ce-gd_T1w.nii.gz"),
        ("case7.nii.gz", "case7.nii.gz"),
        ("case7_t1_synth-t2.nii.gz", "case7.nii.gz"),
    ],
)
def test_a_prediction_finds_its_reference(tmp_path: Path, prediction: str, reference: str) -> None:
    others = [reference.replace("p1", "p2").replace("01", "02").replace("case7", "case8")]
    others += [reference.replace("T2w", "T1w").replace("t2", "t1").replace("T2", "T1")]
    references = make(tmp_path / "ref", reference, *(name for name in others if name != reference))
    assert matched(make(tmp_path / "pred", prediction), references) == {prediction: reference}


def test_what_has_no_partner_is_listed(tmp_path: Path) -> None:
    predictions = make(tmp_path / "pred", "p1_t1_synth-t2.nii.gz", "p9_t1_synth-t2.nii.gz")
    references = make(tmp_path / "ref", "p1_t2.nii.gz", "p1_t1.nii.gz", "p2_t2.nii.gz")
    found = find_pairs(predictions, references)
    assert [pair.case for pair in found.pairs] == ["p1_t1_synth-t2"]
    assert found.predictions == ("p9_t1_synth-t2.nii.gz",)
    assert found.references == ("p2_t2.nii.gz",)  # the T1 is no reference of a T2


def test_nothing_that_matches_is_refused(tmp_path: Path) -> None:
    predictions = make(tmp_path / "pred", "p1_t1_synth-t2.nii.gz")
    with pytest.raises(InputError, match="No volume of pred has a reference in ref"):
        find_pairs(predictions, make(tmp_path / "ref", "p2_t2.nii.gz"))


def test_neighbours_in_one_folder_are_not_taken_for_each_other(tmp_path: Path) -> None:
    predictions = make(tmp_path / "pred", "site/p1_t1_synth-t2.nii.gz", "site/p2_t1_synth-t2.nii.gz")
    references = make(tmp_path / "ref", "site/p1_t2.nii.gz", "site/p3_t2.nii.gz")
    assert matched(predictions, references) == {"site/p1_t1_synth-t2.nii.gz": "site/p1_t2.nii.gz"}


def test_two_predictions_of_one_reference_are_refused(tmp_path: Path) -> None:
    names = ("p1_t1_synth-t2.nii.gz", "p1_flair_synth-t2.nii.gz", "p2_t1_synth-t2.nii.gz")
    references = make(tmp_path / "ref", "p1_t2.nii.gz", "p2_t2.nii.gz")
    found = find_pairs(make(tmp_path / "pred", *names), references)
    assert [pair.case for pair in found.pairs] == ["p2_t1_synth-t2"]
    assert "p1_t2.nii.gz" in found.problems[0] and "none is taken" in found.problems[0]


def test_results_may_lie_beside_the_scans(tmp_path: Path) -> None:
    results = ("p1/t1_synth-t2.nii.gz", "p1/t1_synth-t2_std.nii.gz")
    folder = make(tmp_path / "data", "p1/t1.nii.gz", "p1/t2.nii.gz", *results)
    assert matched(folder, folder) == {"p1/t1_synth-t2.nii.gz": "p1/t2.nii.gz"}


def test_results_with_names_as_in_brats_are_told_by_their_sidecar(tmp_path: Path) -> None:
    predictions = make(tmp_path / "pred", "p1/p1_t2.nii.gz", "p1/p1_t1.nii.gz")
    (predictions / "p1/p1_t2.json").write_text(json.dumps({"synthetic": True}))
    references = make(tmp_path / "ref", "p1/p1_t2.nii.gz", "p1/p1_t1.nii.gz")
    assert matched(predictions, references) == {"p1/p1_t2.nii.gz": "p1/p1_t2.nii.gz"}


def test_the_deviation_is_found_by_its_name(tmp_path: Path) -> None:
    predictions = make(tmp_path / "pred", "p1_t1_synth-t2.nii.gz", "p1_t1_synth-t2_std.nii.gz", "p2_t1_synth-t2.nii.gz")
    found = find_pairs(predictions, make(tmp_path / "ref", "p1_t2.nii.gz", "p2_t2.nii.gz"))
    assert [pair.deviation for pair in found.pairs] == [predictions / "p1_t1_synth-t2_std.nii.gz", None]


def test_regions_belong_to_cases_or_to_all(tmp_path: Path) -> None:
    predictions = make(tmp_path / "pred", "p1/t1_synth-t2.nii.gz", "p2/t1_synth-t2.nii.gz")
    references = make(tmp_path / "ref", "p1/t2.nii.gz", "p2/t2.nii.gz", "p1/seg.nii.gz")
    masks = make(tmp_path / "masks", "p1_mask.nii.gz", "p2_mask.nii.gz", "p3_mask.nii.gz")
    one = make(tmp_path, "all_mask.nii.gz") / "all_mask.nii.gz"
    found = find_pairs(predictions, references, mask=masks, roi=references)
    assert [pair.mask for pair in found.pairs] == [masks / "p1_mask.nii.gz", masks / "p2_mask.nii.gz"]
    assert [pair.roi for pair in found.pairs] == [references / "p1/seg.nii.gz", None]
    assert {pair.mask for pair in find_pairs(predictions, references, mask=one).pairs} == {one}


def test_another_method_is_matched_by_the_reference(tmp_path: Path) -> None:
    predictions = make(tmp_path / "pred", "p1_t1_synth-t2.nii.gz", "p2_t1_synth-t2.nii.gz")
    other = make(tmp_path / "other", "p1_t2.nii.gz")
    found = find_pairs(predictions, make(tmp_path / "ref", "p1_t2.nii.gz", "p2_t2.nii.gz"), against=other)
    assert [pair.against for pair in found.pairs] == [other / "p1_t2.nii.gz", None]


def test_files_and_folders_do_not_mix(tmp_path: Path) -> None:
    folder = make(tmp_path / "ref", "p1_t2.nii.gz")
    file = make(tmp_path, "t2.nii.gz") / "t2.nii.gz"
    for arguments in ((file, folder), (folder, file)):
        with pytest.raises(UsageError, match="cannot be matched"):
            find_pairs(*arguments)
    with pytest.raises(UsageError, match="folder"):
        find_pairs(file, file, mask=folder)
    with pytest.raises(InputError, match=r"nothing\.nii does not exist"):
        find_pairs(file, tmp_path / "nothing.nii")
