"""Finding cases by names alone: folders of subjects, flat folders, trees of DICOM studies, and what is no input."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imputer.errors import InputError, UsageError
from imputer.io import cases, tree
from imputer.io.cases import Case, Cohort, find_cohort, output_of
from imputer.modality import Modality

T1, T1CE, T2, FLAIR, PD, CT = Modality
DICOM = bytes(128) + b"DICM"
BRATS = ("t1", "t1ce", "t2", "flair")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="names and links of POSIX")


def touch(root: Path, *names: str, content: bytes = b"") -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def shape(cohort: Cohort) -> dict[str, dict[str, str]]:
    """Scans of each case, by modality, relative to the root."""
    return {
        case.id: {str(modality): path.relative_to(cohort.root).as_posix() for modality, path in case.scans.items()}
        for case in cohort.cases
    }


def scans(cohort: Cohort) -> dict[str, str]:
    """Modalities of each case as one text."""
    return {case.id: " ".join(case.scans) for case in cohort.cases}


def only(cohort: Cohort) -> Case:
    assert len(cohort.cases) == 1
    return cohort.cases[0]


def told(cohort: Cohort, name: str) -> str:
    """What is said of a case or file: problems and notes."""
    return " ".join(text for of, text in (*cohort.problems, *cohort.notes) if of == name)


# --- folders of subjects -------------------------------------------------------------------------------------------


def test_brats_2020_is_a_folder_a_subject(tmp_path: Path) -> None:
    for number in (1, 2):
        subject = f"BraTS20_Training_{number:03}"
        touch(tmp_path, *(f"{subject}/{subject}_{kind}.nii.gz" for kind in (*BRATS, "seg")))
    touch(tmp_path, "name_mapping.csv")
    cohort = find_cohort(tmp_path)
    assert cohort.layout == "subjects" and cohort.problems == () and cohort.skipped == 2
    first, second = cohort.cases
    assert (first.id, second.id) == ("BraTS20_Training_001", "BraTS20_Training_002")
    assert set(first.scans) == {T1, T1CE, T2, FLAIR} and first.unknown == ()
    assert first.scans[T1CE] == tmp_path / "BraTS20_Training_001/BraTS20_Training_001_t1ce.nii.gz"
    assert first.folder == Path("BraTS20_Training_001")


def test_brats_2023_too(tmp_path: Path) -> None:
    subject = "BraTS-GLI-00000-000"
    touch(tmp_path, *(f"train/{subject}/{subject}-{kind}.nii.gz" for kind in ("t1n", "t1c", "t2w", "t2f", "seg")))
    cohort = find_cohort(tmp_path)
    assert scans(cohort) == {f"train/{subject}": "flair t1 t1ce t2"}


@pytest.mark.parametrize(
    "names",
    [
        ("t1.nii.gz", "t2.nii.gz"),
        ("p1_t1.nii.gz", "p1-T2.nii.gz"),
        ("T1.mgz", "T2.mgz", "aseg.mgz", "brainmask.mgz", "norm.mgz"),
        ("3_T1_MPRAGE_20200101.nii.gz", "7_AX_T2_TSE_20200101.nii.gz", "9_DWI_20200101.nii.gz"),
        ("t1.nii.gz", "t2.nii.gz", "t1_mask.nii.gz", "t2_seg.nii.gz", "mask_of_t1_roi.nii.gz", "label.nii.gz"),
        ("p1_t1.nii.gz", "p1_t2.nii.gz", "p1_t1_registered.nii.gz", "p1_t2_registered.nii.gz"),
    ],
)
def test_a_folder_of_one_subject_is_one_case_however_its_scans_are_named(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    touch(tmp_path, *(f"p1/{name}" for name in names))
    cohort = find_cohort(tmp_path)
    assert scans(cohort) == {"p1": "t1 t2"} and only(cohort).unknown == ()
    assert all("registered" not in path.name for path in only(cohort).scans.values())


def test_a_folder_of_many_subjects_is_grouped_by_name(tmp_path: Path) -> None:
    touch(tmp_path, *(f"site {s}/p{n}_{kind}.nii.gz" for s in (1, 2) for n in (1, 2) for kind in ("t1", "t2", "adc")))
    assert scans(find_cohort(tmp_path)) == {f"site {s}/p{n}": "t1 t2" for s in (1, 2) for n in (1, 2)}


def test_folders_named_by_contrast_are_not_subjects(tmp_path: Path) -> None:
    touch(tmp_path, "IXI-T1/IXI002-Guys-0828-T1.nii.gz", "IXI-T2/IXI002-Guys-0828-T2.nii.gz")
    touch(tmp_path, "IXI-T1/IXI012-HH-1211-T1.nii.gz", "p7/T1w/p7_T1w.nii.gz", "p7/T2w/p7_T2w.nii.gz")
    assert shape(find_cohort(tmp_path)) == {
        "IXI/IXI002-Guys-0828": {
            "t1": "IXI-T1/IXI002-Guys-0828-T1.nii.gz",
            "t2": "IXI-T2/IXI002-Guys-0828-T2.nii.gz",
        },
        "IXI/IXI012-HH-1211": {"t1": "IXI-T1/IXI012-HH-1211-T1.nii.gz"},
        "p7": {"t1": "p7/T1w/p7_T1w.nii.gz", "t2": "p7/T2w/p7_T2w.nii.gz"},
    }


def test_time_points_called_t1_and_t2_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p1/{time}/{kind}.nii.gz" for time in ("T1", "T2") for kind in ("t1", "flair")))
    assert scans(find_cohort(tmp_path)) == {"p1/T1": "flair t1", "p1/T2": "flair t1"}


def test_sub_folders_without_anat_are_no_bids(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/sub-01_t1.nii.gz", "sub-01/sub-01_ce-gd_T1w.nii.gz", "sub-02/t2.nii.gz")
    cohort = find_cohort(tmp_path)
    assert cohort.layout == "subjects"
    assert scans(cohort) == {"sub-01": "t1 t1ce", "sub-02": "t2"}


def test_two_files_of_one_modality_are_a_problem_and_not_a_lack(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1.nii", "p1/t1.nii.gz", "p1/t2.nii.gz")
    cohort = find_cohort(tmp_path)
    assert scans(cohort) == {"p1": "t2"} and only(cohort).ambiguous == {T1}
    assert "2 files that are its t1: p1/t1.nii and p1/t1.nii.gz" in told(cohort, "p1")


def test_a_volume_of_no_told_modality_is_a_case_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a/scan one.nii.gz", "a/scan two.mha", "b/x.nrrd")
    cohort = find_cohort(tmp_path)
    assert {case.id: case.unknown for case in cohort.cases} == {
        "a/scan one": (tmp_path / "a/scan one.nii.gz",),
        "a/scan two": (tmp_path / "a/scan two.mha",),
        "b/x": (tmp_path / "b/x.nrrd",),
    }


# --- flat folders --------------------------------------------------------------------------------------------------


def test_a_flat_folder_is_grouped_by_name_without_the_modality(tmp_path: Path) -> None:
    touch(tmp_path, "IXI002-Guys-0828-T1.nii.gz", "IXI002-Guys-0828-PD.nii.gz", "IXI002-Guys-0828-MRA.nii.gz")
    touch(tmp_path, "B 7_T1_post.nii", "B 7_3DT2.mha", "brain.nii.gz", "IXI002-Guys-0828-T1_mask.nii.gz", "readme.txt")
    cohort = find_cohort(tmp_path)
    assert cohort.layout == "flat"
    assert scans(cohort) == {"B 7": "t1ce t2", "IXI002-Guys-0828": "pd t1", "brain": ""}
    assert {case.folder for case in cohort.cases} == {Path(".")}


def test_scans_named_by_modality_alone_are_a_case_with_the_folder_s_name(tmp_path: Path) -> None:
    touch(tmp_path / "patient", "t1.nii.gz", "t2.nii.gz")
    assert scans(find_cohort(tmp_path / "patient")) == {"patient": "t1 t2"}
    assert scans(find_cohort(tmp_path / "patient" / "." / ".." / "patient")) == {"patient": "t1 t2"}


def test_flat_when_asked_for_looks_into_no_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a_t1.nii", "more/b_t1.nii")
    assert list(scans(find_cohort(tmp_path, layout="flat"))) == ["a"]
    assert list(scans(find_cohort(tmp_path))) == ["a", "more"]


def test_a_volume_of_the_same_name_without_modality_joins_its_case(tmp_path: Path) -> None:
    touch(tmp_path, "p1.nii.gz", "p1_t2.nii.gz")
    case = only(find_cohort(tmp_path))
    assert set(case.scans) == {T2} and case.unknown == (tmp_path / "p1.nii.gz",)


# --- DICOM ---------------------------------------------------------------------------------------------------------


def test_each_folder_of_the_root_with_dicom_is_a_case(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p1/study/se{s}/IM{k}" for s in (1, 2) for k in range(3)), content=DICOM)
    touch(tmp_path, "p2/1.2.840.113/1.2.840.113.7.1", content=DICOM)
    touch(tmp_path, "p2/00_README", "p3/notes.txt", "p3/empty")
    with zipfile.ZipFile(tmp_path / "p4.zip", "w") as archive:
        archive.writestr("a/IM1", DICOM)
    with zipfile.ZipFile(tmp_path / "papers.zip", "w") as archive:
        archive.writestr("a/text", b"no image")
    cohort = find_cohort(tmp_path)
    assert cohort.layout == "dicom"
    assert {case.id: case.unknown for case in cohort.cases} == {
        name: (tmp_path / name,) for name in ("p1", "p2", "p4.zip")
    }
    assert all(case.scans == {} and case.layout == "dicom" for case in cohort.cases)


def test_dicom_in_the_root_makes_the_root_the_only_case(tmp_path: Path) -> None:
    touch(tmp_path / "disc", "IM1.dcm", "more/IM2.dcm", content=DICOM)
    case = only(find_cohort(tmp_path / "disc"))
    assert (case.id, case.unknown, case.folder) == ("disc", (tmp_path / "disc",), Path("."))


def test_a_folder_with_nifti_scans_is_no_dicom_case(tmp_path: Path) -> None:
    touch(tmp_path, "p1/dicom/IM1", "p2/IM1", "p3/IM1", content=DICOM)
    touch(tmp_path, "p1/nifti/t1.nii.gz", "p3/t1_mask.nii.gz", "p3/odd.nii.gz")
    cohort = find_cohort(tmp_path)
    assert {case.id: case.layout for case in cohort.cases} == {"p1/nifti": "subjects", "p2": "dicom", "p3": "dicom"}
    assert "1 folders with DICOM beside NIfTI" in told(cohort, tmp_path.name)
    assert list(scans(find_cohort(tmp_path, layout="dicom"))) == ["p1", "p2", "p3"]
    assert list(scans(find_cohort(tmp_path, layout="subjects"))) == ["p1/nifti", "p3/odd"]


def test_a_file_and_a_folder_of_one_name_are_two_cases_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "p1/IM1", "p2/IM1", "p3/IM1", content=DICOM)
    touch(tmp_path, "p1.nii.gz", "p2_t1.nii.gz")
    cohort = find_cohort(tmp_path)
    assert {case.id: case.layout for case in cohort.cases} == {"p2": "flat", "p3": "dicom"}
    assert "same name as 'p1'" in told(cohort, "p1")


def test_a_dicom_file_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "p1/IM1", "p2/IM1", content=DICOM)
    monkeypatch.setattr(os, "access", lambda path, mode: "p1" not in str(path))
    real = cases.is_dicom
    monkeypatch.setattr(cases, "is_dicom", lambda path: "p1" not in str(path) and real(path))
    cohort = find_cohort(tmp_path)
    assert list(scans(cohort)) == ["p2"]
    assert "cannot be read" in told(cohort, "p1/IM1")


def test_few_files_are_opened_to_find_dicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"p{p}/s{s}/IM{k:03}" for p in range(5) for s in range(4) for k in range(50)), content=DICOM)
    asked: list[Path] = []
    real = cases.is_dicom
    monkeypatch.setattr(cases, "is_dicom", lambda path: asked.append(path) or real(path))
    assert len(find_cohort(tmp_path).cases) == 5
    assert len(asked) == 5


# --- what is no input ----------------------------------------------------------------------------------------------


def test_hidden_and_apple_double_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1.nii.gz", "p1/._t2.nii.gz", "p1/.t2.nii.gz", ".trash/t1.nii.gz", "__MACOSX/p1/t1.nii.gz")
    touch(tmp_path, "..p2/t1.nii.gz", "p3../..t1.nii.gz", "p4..x/a..b_t1.nii.gz")
    cohort = find_cohort(tmp_path)
    assert scans(cohort) == {"p1": "t1", "p4..x": "t1"}
    assert cohort.skipped == 6


def test_own_results_in_the_tree_are_never_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "p1/p1_t1.nii.gz", "p1/p1_t1_synth-t2.nii.gz", "p1/p1_t1_synth-t2_std.nii.gz")
    touch(tmp_path, "p1/sub-1_desc-synth_T2w.nii.gz", "derivatives/imputer/p1/p1_flair.nii.gz", "p1/p1_pd.nii.gz")
    touch(tmp_path, "p1/p1_flair.nii.gz", "p1/p1_pd.json")
    touch(tmp_path, "p1/p1_flair.json", content=b'{\n  "synthetic": true,\n  "notice": "..."\n}\n')
    touch(tmp_path, "p2_synth-t2/IM1", content=DICOM)
    assert scans(find_cohort(tmp_path)) == {"p1": "pd t1"}


def test_the_folder_of_the_results_is_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1.nii.gz", "results/p1/t2.nii.gz", "p1/results/flair.nii.gz")
    assert scans(find_cohort(tmp_path, out=tmp_path / "results")) == {"p1": "t1", "p1/results": "flair"}
    assert len(find_cohort(tmp_path, out=tmp_path).cases) == 3
    assert len(find_cohort(tmp_path, out=tmp_path.parent).cases) == 3


@pytest.mark.parametrize("layout", ["auto", "bids", "subjects", "flat", "dicom"])
def test_an_empty_cohort_is_refused(tmp_path: Path, layout: str) -> None:
    touch(tmp_path / "cohort", "readme.txt", "p1/notes.pdf", "p1/.t1.nii.gz")
    with pytest.raises(InputError, match="cohort holds no"):
        find_cohort(tmp_path / "cohort", layout=layout)


def test_results_alone_are_no_cohort(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1_synth-t2.nii.gz")
    with pytest.raises(InputError, match="results of this program"):
        find_cohort(tmp_path)


def test_a_root_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "t1.nii.gz")
    with pytest.raises(InputError, match="gone does not exist"):
        find_cohort(tmp_path / "gone")
    with pytest.raises(InputError, match=r"t1\.nii\.gz is no folder"):
        find_cohort(tmp_path / "t1.nii.gz")


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'tree'"):
        find_cohort(tmp_path, layout="tree")


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make folders of a name unreadable; the tests may run as root, who may read all."""
    real = os.scandir

    def forbid_name(name: str) -> None:
        def scandir(path: str) -> Iterator[os.DirEntry[str]]:
            if os.path.basename(os.path.normpath(path)) == name:
                raise PermissionError(13, "Permission denied", path)
            return real(path)

        monkeypatch.setattr(tree.os, "scandir", scandir)

    return forbid_name


def test_an_unreadable_folder_is_a_problem_and_the_rest_goes_on(tmp_path: Path, forbid: Callable[[str], None]) -> None:
    touch(tmp_path, "p1/t1.nii.gz", "p2/t1.nii.gz")
    forbid("p2")
    cohort = find_cohort(tmp_path)
    assert scans(cohort) == {"p1": "t1"}
    assert "cannot be read" in told(cohort, "p2")


def test_an_unreadable_root_is_refused(tmp_path: Path, forbid: Callable[[str], None]) -> None:
    touch(tmp_path / "locked", "t1.nii.gz")
    forbid("locked")
    with pytest.raises(InputError, match="locked cannot be read"):
        find_cohort(tmp_path / "locked")


# --- names and links -----------------------------------------------------------------------------------------------


@POSIX
def test_names_with_spaces_and_unicode_are_kept_and_what_cannot_be_shown_is_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "Müller  Änne/T1 scan.nii.gz", "患者 7/t2.nii.gz", "a'b\"c;$(d)/t1.nii.gz", "e\u00a0f/t1.nii.gz")
    touch(tmp_path, "new\nline/t1.nii.gz", "esc/\x1b[2Jt1.nii.gz", "esc/\x1b[2J.txt")
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    cohort = find_cohort(tmp_path)
    assert list(scans(cohort)) == ["Müller  Änne", "a'b\"c;$(d)", "e\u00a0f", "患者 7"]
    assert [of for of, _ in cohort.problems] == [r"caf\udce9", r"esc/\x1b[2Jt1.nii.gz", r"new\nline"]
    assert all("cannot be shown" in text for _, text in cohort.problems)
    assert str(cohort.problems).encode()  # no half characters


@POSIX
@pytest.mark.parametrize("names", [("P1/t1.nii", "p1/t2.nii"), ("e\u0301/t1.nii", "\u00e9/t1.nii")])
def test_subjects_whose_names_differ_by_case_or_composition_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *names, "ok/t1.nii")
    cohort = find_cohort(tmp_path)
    assert list(scans(cohort)) == ["ok"]
    assert len(cohort.problems) == 2 and all("has the same name as" in text for _, text in cohort.problems)


@POSIX
def test_links_are_followed_but_never_in_a_circle_or_twice(tmp_path: Path) -> None:
    archive = touch(tmp_path / "archive", "p2/t1.nii.gz", "p2/more/t2.nii.gz")
    root = touch(tmp_path / "root", "p1/t1.nii.gz", "p1/deep/flair.nii.gz")
    links = {
        "a-again": root / "p1",
        "loop": root,
        "p1/up": "..",
        "p1/deep/self": ".",
        "p1/outside": tmp_path,
        "p2": archive / "p2",
        "p3": archive / "p2",
        "p4": archive,
        "round": "round",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (archive / "p2" / "back").symlink_to(root)
    cohort = find_cohort(root)
    assert shape(cohort) == {
        "p1": {"t1": "p1/t1.nii.gz"},
        "p1/deep": {"flair": "p1/deep/flair.nii.gz"},
        "p2": {"t1": "p2/t1.nii.gz"},
        "p2/more": {"t2": "p2/more/t2.nii.gz"},
    }
    assert cohort.problems == ()
    assert "circle" in told(cohort, "loop") and "searched already" in told(cohort, "p3")


@POSIX
def test_a_cohort_of_links_to_files_as_data_management_makes_it(tmp_path: Path) -> None:
    store = touch(tmp_path, ".git/annex/key1", content=b"x")
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "t1.nii.gz").symlink_to(store / ".git/annex/key1")
    (tmp_path / "p1" / "t2.nii.gz").symlink_to(store / ".git/annex/key2")
    (tmp_path / "p1" / "notes.txt").symlink_to("nowhere")
    cohort = find_cohort(tmp_path)
    assert scans(cohort) == {"p1": "t1"}
    assert cohort.problems == (("p1/t2.nii.gz", "is a link to nothing; its content may have to be fetched first."),)


@POSIX
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1.nii.gz")
    os.mkfifo(tmp_path / "p1" / "t2.nii.gz")
    os.mkfifo(tmp_path / "IM1")
    assert scans(find_cohort(tmp_path)) == {"p1": "t1"}


# --- the cohort as a whole -----------------------------------------------------------------------------------------


def test_participants_are_filtered_with_and_without_sub(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1.nii.gz", "sub-02/t1.nii.gz", "p3/a/x_t1.nii.gz", "p3/b/x_t1.nii.gz")
    assert list(scans(find_cohort(tmp_path, participants=["02", "p3"]))) == ["p3/a", "p3/b", "sub-02"]
    assert list(scans(find_cohort(tmp_path, participants=["p3/b"]))) == ["p3/b"]
    with pytest.raises(InputError, match=r"no case of p9, \.\./p1"):
        find_cohort(tmp_path, participants=["p1", "p9", "../p1"])


def test_ids_are_the_same_whatever_the_order_and_age_of_the_files(tmp_path: Path) -> None:
    names = [f"g{g}/p{p}_{kind}.nii.gz" for g in range(3) for p in range(12) for kind in ("t1", "t2")]
    first = find_cohort(touch(tmp_path / "a" / "root", *names))
    second = find_cohort(touch(tmp_path / "b" / "root", *reversed(names)))
    for number, name in enumerate(names):
        os.utime(tmp_path / "b" / "root" / name, (number, 10_000 - number))
    assert [case.id for case in first.cases] == [case.id for case in second.cases] == sorted(scans(first))
    assert shape(second) == shape(first)
    third = find_cohort(tmp_path / "b" / "root")
    assert third == second


def test_a_cohort_travels_between_processes(tmp_path: Path) -> None:
    cohort = find_cohort(touch(tmp_path, "p1/t1.nii.gz", "p1/t2.nii", "p1/t2.nii.gz"))
    assert pickle.loads(pickle.dumps(cohort)) == cohort  # noqa: S301


# --- names of the results ------------------------------------------------------------------------------------------


def place(root: Path, name: str, target: Modality, **options: object) -> str:
    cohort = find_cohort(root)
    case = next(case for case in cohort.cases if root / name in (*case.scans.values(), *case.unknown))
    path = output_of(case, target, root, Path("out"), source=root / name, **options)  # type: ignore[arg-type]
    return path.relative_to("out").as_posix()


def test_results_keep_the_tree_and_say_what_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "a b/p1/p1_t1.nii", "x.mha", "IXI-T1/i1-T1.nii.gz", "IXI-T1/i2-T1.nii.gz")
    assert place(tmp_path, "a b/p1/p1_t1.nii", T2) == "a b/p1/p1_t1_synth-t2.nii.gz"
    assert place(tmp_path, "x.mha", FLAIR) == "x_synth-flair.nii.gz"
    assert place(tmp_path, "IXI-T1/i1-T1.nii.gz", PD) == "IXI-T1/i1-T1_synth-pd.nii.gz"


def test_a_dicom_result_is_a_folder_unless_nifti_alone_is_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "p1/IM1", content=DICOM)
    with zipfile.ZipFile(tmp_path / "p.2.zip", "w") as archive:
        archive.writestr("IM1", DICOM)
    assert place(tmp_path, "p1", T2) == place(tmp_path, "p1", T2, kinds=("nifti", "dicom")) == "p1_synth-t2"
    assert place(tmp_path, "p1", T2, kinds=("nifti",)) == "p1_synth-t2.nii.gz"
    assert place(tmp_path, "p.2.zip", T2) == "p.2_synth-t2"
    with pytest.raises(UsageError, match="BraTS"):
        place(tmp_path, "p1", T2, brats=True)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("BraTS20_001/BraTS20_001_t1.nii.gz", T2, "BraTS20_001/BraTS20_001_t2.nii.gz"),
        ("BraTS20_001/BraTS20_001_flair.nii.gz", T1CE, "BraTS20_001/BraTS20_001_t1ce.nii.gz"),
        (
            "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz",
            FLAIR,
            "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz",
        ),
        (
            "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2w.nii.gz",
            T1CE,
            "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1c.nii.gz",
        ),
        ("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2w.nii.gz", PD, "BraTS-GLI-00000-000/BraTS-GLI-00000-000_pd.nii.gz"),
        ("p1/t1.nii.gz", T2, "p1/p1_t2.nii.gz"),
        ("p7.nii.gz", T2, "p7_t2.nii.gz"),
    ],
)
def test_brats_names_are_those_of_the_source(tmp_path: Path, source: str, target: Modality, expected: str) -> None:
    touch(tmp_path, source)
    assert place(tmp_path, source, target, brats=True) == expected
