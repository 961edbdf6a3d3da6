"""BIDS: which image of a subject or session is taken, what lies around it, and what is written of the results."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from imputer import __version__
from imputer.errors import InputError, OutputError
from imputer.io.bids import derivatives_of, write_dataset_description
from imputer.io.cases import Cohort, find_cohort, output_of
from imputer.modality import Modality, guess_modality

T1, T1CE, T2, FLAIR, PD, CT = Modality


def dataset(root: Path, *names: str, described: bool = True) -> Path:
    """Empty files; of a name without a slash the folder is told by its entities."""
    if described:
        root.mkdir(exist_ok=True)
        (root / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.8.0"}')
    for name in names:
        folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        path = root / name if "/" in name else root.joinpath(*folders, "anat", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def taken(cohort: Cohort) -> dict[str, dict[str, str]]:
    return {case.id: {str(key): path.name for key, path in case.scans.items()} for case in cohort.cases}


def told(cohort: Cohort, name: str) -> str:
    return " ".join(text for of, text in (*cohort.problems, *cohort.notes) if of == name)


def test_subjects_and_sessions_are_cases(tmp_path: Path) -> None:
    root = dataset(
        tmp_path,
        "sub-01_T1w.nii.gz",
        "sub-01_T2w.nii",
        "sub-02_ses-pre_T1w.nii.gz",
        "sub-02_ses-post_FLAIR.nii.gz",
        "sub-02_ses-post_PDw.nii.gz",
        "sub-03_T2w.nii.gz",
    )
    cohort = find_cohort(root)
    assert cohort.layout == "bids" and cohort.problems == () and cohort.notes == ()
    assert taken(cohort) == {
        "sub-01": {"t1": "sub-01_T1w.nii.gz", "t2": "sub-01_T2w.nii"},
        "sub-02/ses-post": {"flair": "sub-02_ses-post_FLAIR.nii.gz", "pd": "sub-02_ses-post_PDw.nii.gz"},
        "sub-02/ses-pre": {"t1": "sub-02_ses-pre_T1w.nii.gz"},
        "sub-03": {"t2": "sub-03_T2w.nii.gz"},
    }
    assert cohort.cases[1].folder == Path("sub-02/ses-post")
    assert all(case.layout == "bids" for case in cohort.cases)
    assert cohort.cases[0].scans[T1] == root / "sub-01" / "anat" / "sub-01_T1w.nii.gz"


def test_a_dataset_needs_no_description_if_it_has_subjects(tmp_path: Path) -> None:
    assert find_cohort(dataset(tmp_path, "sub-01_T1w.nii.gz", described=False)).layout == "bids"


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (("run-02_T1w", "run-01_T1w", "run-10_T1w"), "run-01_T1w"),
        (("run-10_T1w", "run-9_T1w"), "run-9_T1w"),
        (("acq-mprage_T1w", "T1w", "acq-spgr_T1w"), "T1w"),
        (("acq-spgr_run-1_T1w", "run-2_T1w"), "run-2_T1w"),
        (("acq-spgr_T1w", "acq-mprage_rec-norm_T1w", "acq-mprage_T1w"), "acq-mprage_T1w"),
        (("space-MNI152NLin6Asym_desc-preproc_T1w", "desc-preproc_T1w"), "desc-preproc_T1w"),
        (("part-phase_T1w", "part-mag_T1w", "acq-a_T1w"), "part-mag_T1w"),
    ],
)
def test_of_several_images_the_plainest_and_first_is_taken_and_noted(
    tmp_path: Path, names: tuple[str, ...], first: str
) -> None:
    cohort = find_cohort(dataset(tmp_path, *(f"sub-01_{name}.nii.gz" for name in names)))
    assert taken(cohort) == {"sub-01": {"t1": f"sub-01_{first}.nii.gz"}}
    assert f"sub-01_{first}.nii.gz is taken" in told(cohort, "sub-01")
    assert cohort.problems == ()


def test_the_contrast_agent_makes_another_modality_of_t1_alone(tmp_path: Path) -> None:
    root = dataset(tmp_path, "sub-01_T1w.nii.gz", "sub-01_ce-gadolinium_T1w.nii.gz", "sub-01_ce-gd_FLAIR.nii.gz")
    assert taken(find_cohort(root))["sub-01"] == {
        "flair": "sub-01_ce-gd_FLAIR.nii.gz",
        "t1": "sub-01_T1w.nii.gz",
        "t1ce": "sub-01_ce-gadolinium_T1w.nii.gz",
    }


def test_what_is_no_known_contrast_is_left_out(tmp_path: Path) -> None:
    root = dataset(
        tmp_path,
        "sub-01_T1w.nii.gz",
        "sub-01_T1w.json",
        "sub-01_T2star.nii.gz",
        "sub-01_inplaneT2.nii.gz",
        "sub-01_mod-T1w_defacemask.nii.gz",
        "sub-01_space-T1w_label-GM_mask.nii.gz",
        "sub-01_part-phase_T2w.nii.gz",
        "sub-01/func/sub-01_task-t1_bold.nii.gz",
        "sub-01/dwi/sub-01_dwi.nii.gz",
        "sub-01/anat/._sub-01_T2w.nii.gz",
    )
    cohort = find_cohort(root)
    assert taken(cohort) == {"sub-01": {"t1": "sub-01_T1w.nii.gz"}}
    assert cohort.problems == () and cohort.skipped == 6


def test_two_files_of_one_name_are_a_problem(tmp_path: Path) -> None:
    cohort = find_cohort(dataset(tmp_path, "sub-01_T1w.nii.gz", "sub-01_T1w.nii", "sub-01_T2w.nii"))
    assert taken(cohort) == {"sub-01": {"t2": "sub-01_T2w.nii"}}
    assert cohort.cases[0].ambiguous == {T1}
    assert "two files that are its t1" in told(cohort, "sub-01")


def test_a_file_that_is_named_for_somebody_else_is_a_problem(tmp_path: Path) -> None:
    root = dataset(
        tmp_path,
        "sub-1_T1w.nii.gz",
        "sub-1/anat/sub-10_T2w.nii.gz",
        "sub-1/anat/sub-1_ses-2_FLAIR.nii.gz",
        "sub-1/ses-3/anat/sub-1_T1w.nii.gz",
    )
    cohort = find_cohort(root)
    assert taken(cohort) == {"sub-1": {"t1": "sub-1_T1w.nii.gz"}, "sub-1/ses-3": {}}
    for name in ("sub-1/anat/sub-10_T2w.nii.gz", "sub-1/anat/sub-1_ses-2_FLAIR.nii.gz"):
        assert told(cohort, name) == "does not have the name of a scan of sub-1."
    assert "sub-1/ses-3" in told(cohort, "sub-1/ses-3/anat/sub-1_T1w.nii.gz")


def test_what_lies_beside_the_subjects_is_not_looked_at(tmp_path: Path) -> None:
    root = dataset(
        tmp_path,
        "sub-01_T1w.nii.gz",
        "derivatives/fmriprep/sub-01/anat/sub-01_T2w.nii.gz",
        "derivatives/imputer/sub-02/anat/sub-02_T2w.nii.gz",
        "sourcedata/sub-03/anat/sub-03_T1w.nii.gz",
        "code/sub-04_T1w.nii.gz",
        "stray_t1.nii.gz",
    )
    assert list(taken(find_cohort(root))) == ["sub-01"]


def test_results_in_the_dataset_are_no_scans(tmp_path: Path) -> None:
    root = dataset(tmp_path, "sub-01_T1w.nii.gz", "sub-01_desc-synth_T2w.nii.gz", "sub-01_FLAIR.nii.gz")
    (root / "sub-01" / "anat" / "sub-01_FLAIR.json").write_text('{"synthetic": true}')
    (root / "sub-01" / "anat" / "sub-01_T1w.json").write_text('{"EchoTime": 0.003}')
    assert taken(find_cohort(root)) == {"sub-01": {"t1": "sub-01_T1w.nii.gz"}}


def test_subjects_without_an_anatomical_image_are_noted_or_a_problem_if_asked_for(tmp_path: Path) -> None:
    root = dataset(tmp_path, "sub-01_T1w.nii.gz", "sub-02/func/sub-02_task-rest_bold.nii.gz", "sub-03/anat/readme.txt")
    cohort = find_cohort(root)
    assert list(taken(cohort)) == ["sub-01"] and cohort.problems == ()
    assert "2 subjects without" in told(cohort, root.name)
    assert "no anatomical image" in told(find_cohort(root, participants=["01", "02"]), "sub-02")


def test_participants_are_found_with_and_without_sub_and_no_other_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset(tmp_path, *(f"sub-{number:02}_T1w.nii.gz" for number in range(1, 5)))
    read: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: read.append(str(path)) or real(path))
    assert list(taken(find_cohort(root, participants=["sub-02", "04"]))) == ["sub-02", "sub-04"]
    assert not any("sub-01" in path or "sub-03" in path for path in read)
    with pytest.raises(InputError, match=r"no case of sub-9, \.\."):
        find_cohort(root, participants=["01", "sub-9", ".."])


def test_a_dataset_without_images_is_refused_and_not_searched_otherwise(tmp_path: Path) -> None:
    root = dataset(tmp_path / "ds", "sub-01/func/sub-01_task-rest_bold.nii.gz", "stimuli/t1.nii.gz")
    with pytest.raises(InputError, match="ds holds no"):
        find_cohort(root)


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_links_to_subjects_count_once(tmp_path: Path) -> None:
    root = dataset(tmp_path / "ds", "sub-02_T1w.nii.gz")
    dataset(tmp_path / "archive", "sub-03_T1w.nii.gz", described=False)
    (root / "sub-01").symlink_to(root / "sub-02")
    (root / "sub-03").symlink_to(tmp_path / "archive" / "sub-03")
    (root / "sub-04").symlink_to(root)
    cohort = find_cohort(root)
    assert list(taken(cohort)) == ["sub-02", "sub-03"]
    assert "searched already" in told(cohort, "sub-01") and "circle" in told(cohort, "sub-04")


# --- results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (T1, "desc-synth_T1w"),
        (T1CE, "ce-gd_desc-synth_T1w"),
        (T2, "desc-synth_T2w"),
        (FLAIR, "desc-synth_FLAIR"),
        (PD, "desc-synth_PDw"),
        (CT, "desc-synth_ct"),
    ],
)
def test_results_are_derivatives_whose_names_tell_their_modality(tmp_path: Path, target: Modality, name: str) -> None:
    root = dataset(tmp_path, "sub-01_acq-x_run-2_T1w.nii.gz", "sub-02_ses-a_T1w.nii.gz")
    first, second = find_cohort(root).cases
    out = Path("results")
    path = output_of(first, target, root, out, source=first.scans[T1])
    assert path == out / "derivatives/imputer/sub-01/anat" / f"sub-01_{name}.nii.gz"
    path = output_of(second, target, root, out, source=second.scans[T1])
    assert path == out / "derivatives/imputer/sub-02/ses-a/anat" / f"sub-02_ses-a_{name}.nii.gz"
    assert guess_modality(path) is target


@pytest.mark.parametrize("out", ["ds", "ds/derivatives", "ds/derivatives/imputer"])
def test_the_folder_of_the_derivatives_is_never_doubled(out: str) -> None:
    assert derivatives_of(Path(out)) == Path("ds/derivatives/imputer")


def test_the_description_says_what_made_the_results_from_what(tmp_path: Path) -> None:
    source = dataset(tmp_path / "ds")
    (source / "dataset_description.json").write_text('{"Name": "x", "DatasetDOI": "doi:10.18112/openneuro.ds1"}')
    path = write_dataset_description(source, source=source)
    assert path == source / "derivatives" / "imputer" / "dataset_description.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    assert description["DatasetType"] == "derivative" and {"Name", "BIDSVersion"} <= set(description)
    assert description["GeneratedBy"][0]["Name"] == "imputer"
    assert description["GeneratedBy"][0]["Version"] == __version__
    assert description["SourceDatasets"] == [{"URL": "../..", "DOI": "doi:10.18112/openneuro.ds1"}]
    assert list(path.parent.iterdir()) == [path]  # no temporary file
    path.write_text("{}")
    assert write_dataset_description(source / "derivatives", source=source) == path
    assert path.read_text() == "{}"


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"DatasetDOI": 3}', "\udcff"])
def test_a_damaged_description_of_the_source_does_no_harm(tmp_path: Path, content: str) -> None:
    source = dataset(tmp_path / "ds")
    (source / "dataset_description.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    description = json.loads(write_dataset_description(tmp_path / "out", source=source).read_text(encoding="utf-8"))
    assert description["SourceDatasets"] == [{"URL": "../../../ds"}]


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "derivatives").write_text("a file")
    with pytest.raises(OutputError, match="imputer cannot be made"):
        write_dataset_description(tmp_path)
