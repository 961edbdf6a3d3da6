"""The plan of a batch: who lacks what, of which scan it is made, and what is refused before any volume is read."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imputer.batch.plan import PREFERRED, Lack, Plan, plan
from imputer.errors import ModelError, UsageError
from imputer.io.cases import Case, Cohort, find_cohort
from imputer.modality import Modality

T1, T1CE, T2, FLAIR, PD, CT = Modality
OUT = Path("results").absolute()
DICOM = bytes(128) + b"DICM"
THREE = (T1, T2, FLAIR)


def cohort_of(root: Path, *names: str, content: bytes = b"") -> Cohort:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return find_cohort(root)


def models(*pairs: tuple[Modality, Modality]) -> Callable[[Modality, Modality], bool]:
    return lambda source, target: (source, target) in pairs


def any_model(source: Modality, target: Modality) -> bool:
    assert source is not target
    return True


def sources(planned: Plan) -> dict[str, str]:
    """For each job what it starts from and where it goes."""
    return {
        job.id: f"{job.role or '?'} {job.source.relative_to(planned.root).as_posix()} > "
        f"{job.output.relative_to(planned.out).as_posix()}"
        for job in planned.jobs
    }


def lack(planned: Plan, case: str) -> Lack:
    return next(lack for lack in planned.lacking if lack.case == case)


# --- what is made of what ------------------------------------------------------------------------------------------


def test_every_case_without_the_target_gets_it_and_the_others_count_as_complete(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p1/t1.nii.gz", "p1/t2.nii.gz", "p2/t1.nii.gz", "p3/t1.nii.gz", "p3/flair.nii.gz")
    planned = plan(cohort, targets=[T2], out=OUT, pairs=any_model)
    assert sources(planned) == {
        "p2:t2": "t1 p2/t1.nii.gz > p2/t1_synth-t2.nii.gz",
        "p3:t2": "t1 p3/t1.nii.gz > p3/t1_synth-t2.nii.gz",
    }
    assert planned.complete == 1 and planned.problems == ()
    assert [(job.case, job.target, job.series) for job in planned.jobs] == [("p2", T2, None), ("p3", T2, None)]


def test_completing_makes_exactly_what_each_subject_lacks(tmp_path: Path) -> None:
    cohort = cohort_of(
        tmp_path,
        *(f"sub-1/anat/sub-1_{suffix}.nii.gz" for suffix in ("T1w", "T2w", "FLAIR")),
        *(f"sub-2/anat/sub-2_{suffix}.nii.gz" for suffix in ("T1w", "T2w")),
        *(f"sub-3/ses-1/anat/sub-3_ses-1_{suffix}.nii.gz" for suffix in ("T1w", "PDw")),
        "sub-4/anat/sub-4_FLAIR.nii.gz",
    )
    planned = plan(cohort, complete=THREE, out=OUT, pairs=any_model)
    results = "derivatives/imputer"
    assert sources(planned) == {
        "sub-2:flair": f"t2 sub-2/anat/sub-2_T2w.nii.gz > {results}/sub-2/anat/sub-2_desc-synth_FLAIR.nii.gz",
        "sub-3/ses-1:t2": f"pd sub-3/ses-1/anat/sub-3_ses-1_PDw.nii.gz > "
        f"{results}/sub-3/ses-1/anat/sub-3_ses-1_desc-synth_T2w.nii.gz",
        "sub-3/ses-1:flair": f"t1 sub-3/ses-1/anat/sub-3_ses-1_T1w.nii.gz > "
        f"{results}/sub-3/ses-1/anat/sub-3_ses-1_desc-synth_FLAIR.nii.gz",
        "sub-4:t1": f"flair sub-4/anat/sub-4_FLAIR.nii.gz > {results}/sub-4/anat/sub-4_desc-synth_T1w.nii.gz",
        "sub-4:t2": f"flair sub-4/anat/sub-4_FLAIR.nii.gz > {results}/sub-4/anat/sub-4_desc-synth_T2w.nii.gz",
    }
    assert planned.complete == 1
    assert lack(planned, "sub-3/ses-1").missing == (T2, FLAIR)


def test_nothing_is_made_from_what_is_itself_to_be_made(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p1/t1.nii.gz", "p2/t1.nii.gz", "p2/t1_synth-t2.nii.gz", "p3/t1.nii.gz", "p3/t2.nii")
    planned = plan(cohort, complete=THREE, out=OUT, pairs=models((T1, T2), (T2, FLAIR)))
    assert list(sources(planned)) == ["p1:t2", "p2:t2", "p3:flair"]
    for case in ("p1", "p2"):
        assert lack(planned, case).cannot == ((FLAIR, "there is no model from t1"),)
        assert (case, "lacks flair, which cannot be made: there is no model from t1.") in planned.problems


@pytest.mark.parametrize(
    ("target", "pairs", "source"),
    [
        (T2, ((T1, T2), (FLAIR, T2), (T1CE, T2)), T1),
        (T2, ((FLAIR, T2), (T1CE, T2)), FLAIR),
        (PD, ((T1, PD), (FLAIR, PD)), T1),
        (CT, ((T1CE, CT), (FLAIR, CT)), T1CE),
    ],
)
def test_the_best_source_is_the_first_preferred_that_has_a_model(
    tmp_path: Path, target: Modality, pairs: tuple[tuple[Modality, Modality], ...], source: Modality
) -> None:
    cohort = cohort_of(tmp_path, *(f"p/{kind}.nii.gz" for kind in ("t1", "t1ce", "flair")))
    (job,) = plan(cohort, targets=[target], out=OUT, pairs=models(*pairs)).jobs
    assert (job.role, job.source) == (source, tmp_path / "p" / f"{source}.nii.gz")


def test_the_order_of_preference_names_every_other_modality_once() -> None:
    for target in Modality:
        assert sorted((*PREFERRED[target], target)) == sorted(Modality)


def test_a_named_source_is_the_only_one(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p1/t1.nii.gz", "p1/pd.nii.gz", "p2/pd.nii.gz", "p3/t1.nii", "p3/t1.mha", "p3/pd.nii")
    planned = plan(cohort, targets=[T2], from_=T1, out=OUT, pairs=any_model)
    assert sources(planned) == {"p1:t2": "t1 p1/t1.nii.gz > p1/t1_synth-t2.nii.gz"}
    assert lack(planned, "p2").cannot == ((T2, "there is no t1"),)
    assert lack(planned, "p3").cannot == ((T2, "there is more than one t1"),)


def test_completing_from_a_named_source_cannot_make_the_source(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p1/t1.nii.gz", "p2/t2.nii.gz")
    planned = plan(cohort, complete=[T1, T2], from_=T1, out=OUT, pairs=any_model)
    assert list(sources(planned)) == ["p1:t2"]
    assert lack(planned, "p2").cannot == ((T1, "t1 is to be the source"),)


def test_images_that_tell_no_modality_need_it_said(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "a.nii.gz", "b.nii.gz", "b.mha", "c_t1.nii.gz")
    planned = plan(cohort, targets=[T2], out=OUT, pairs=any_model)
    assert list(sources(planned)) == ["c:t2"]
    assert "--from t1" in dict(lack(planned, "a").cannot)[T2]
    planned = plan(cohort, targets=[T2], from_=T1, out=OUT, pairs=any_model)
    assert sources(planned)["a:t2"] == "t1 a.nii.gz > a_synth-t2.nii.gz"
    assert "b:t2" not in sources(planned)


def test_what_is_there_twice_is_neither_lacking_nor_a_source(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p1/t2.nii", "p1/t2.nii.gz", "p1/t1.nii.gz", "p2/t1.nii", "p2/t1.mgz")
    planned = plan(cohort, targets=[T2], out=OUT, pairs=any_model)
    assert planned.jobs == () and planned.complete == 1
    assert lack(planned, "p2").cannot == ((T2, "there is more than one file of each scan"),)
    assert {of for of, _ in planned.problems} == {"p1", "p2"}


def test_of_dicom_only_reading_tells_the_source(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p1/se1/IM1", "p2/IM1", content=DICOM)
    planned = plan(cohort, targets=[T2, FLAIR], out=OUT, pairs=any_model)
    assert list(sources(planned).items())[:2] == [
        ("p1:t2", "? p1 > p1_synth-t2"),
        ("p1:flair", "? p1 > p1_synth-flair"),
    ]
    assert lack(planned, "p1").made == ((T2, None), (FLAIR, None))
    (job, _) = plan(cohort, targets=[T2], from_=T1, out=OUT, pairs=any_model, kinds=["nifti"]).jobs
    assert job.role is T1 and job.output == OUT / "p1_synth-t2.nii.gz"
    planned = plan(cohort, complete=[T1, T2], out=OUT, pairs=any_model)
    assert planned.jobs == () and "--to" in dict(lack(planned, "p2").cannot)[T1]


def test_brats_names_on_request(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "B-1/B-1-t1n.nii.gz", "B-2/B-2-t1n.nii.gz", "B-2/B-2-t2w.nii.gz")
    planned = plan(cohort, targets=[T2], out=OUT, pairs=any_model, brats=True)
    assert sources(planned) == {"B-1:t2": "t1 B-1/B-1-t1n.nii.gz > B-1/B-1-t2w.nii.gz"}
    with pytest.raises(UsageError, match="BraTS"):
        plan(cohort_of(tmp_path / "d", "p/IM1", content=DICOM), targets=[T2], out=OUT, pairs=any_model, brats=True)


# --- what is refused -----------------------------------------------------------------------------------------------


def test_two_jobs_never_write_one_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p1.zip", "w") as archive:
        archive.writestr("IM1", DICOM)
    cohort = cohort_of(tmp_path, "p1/IM1", "p2/IM1", content=DICOM)
    planned = plan(cohort, targets=[T2], out=OUT, pairs=any_model)
    assert list(sources(planned)) == ["p2:t2"]
    assert dict(planned.problems) == {
        "p1": "lacks t2, which cannot be made: its file would be that of 'p1.zip' too.",
        "p1.zip": "lacks t2, which cannot be made: its file would be that of 'p1' too.",
    }
    assert lack(planned, "p1").made == ()


@pytest.mark.parametrize("names", [("X_t1.nii", "x_t1.mha"), ("e\u0301_t1.nii", "\u00e9_t1.nii")])
def test_nor_files_that_some_file_systems_take_for_one(names: tuple[str, str]) -> None:
    root = Path("cohort").absolute()
    cases = tuple(
        Case(str(number), {T1: root / name}, (), Path("."), "flat") for number, name in enumerate((*names, "ok_t1.nii"))
    )
    planned = plan(Cohort(root, "flat", cases, (), 0), targets=[T2], out=OUT, pairs=any_model)
    assert list(sources(planned)) == ["2:t2"]
    assert {of for of, _ in planned.problems} == {"0", "1"}


def test_no_job_writes_over_a_scan() -> None:
    root = Path("cohort").absolute()
    cases = (
        Case("a", {T1: root / "p_t1.nii.gz"}, (), Path("."), "flat"),
        Case("b", {T2: root / "p_t2.nii.gz"}, (), Path("."), "flat"),
    )
    planned = plan(Cohort(root, "flat", cases, (), 0), targets=[T2], out=root, pairs=any_model, brats=True)
    assert planned.jobs == ()
    assert lack(planned, "a").cannot == ((T2, "its file p_t2.nii.gz is an input"),)


def test_a_request_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p1/t1.nii.gz")
    with pytest.raises(UsageError, match="--to or with --complete"):
        plan(cohort, out=OUT, pairs=any_model)
    with pytest.raises(UsageError, match="--to or with --complete"):
        plan(cohort, targets=[T2], complete=[T1, T2], out=OUT, pairs=any_model)
    with pytest.raises(UsageError, match="both t2"):
        plan(cohort, targets=[T1, T2], from_=T2, out=OUT, pairs=any_model)


def test_a_target_that_no_model_makes_is_refused_at_once(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p1/t1.nii.gz")
    with pytest.raises(ModelError, match=r"no model that makes ct\."):
        plan(cohort, targets=[T2, CT], out=OUT, pairs=models((T1, T2)))
    with pytest.raises(ModelError, match="makes t2 from flair"):
        plan(cohort, targets=[T2], from_=FLAIR, out=OUT, pairs=models((T1, T2)))
    planned = plan(cohort, complete=[T2, CT], out=OUT, pairs=models((T1, T2)))
    assert lack(planned, "p1").made == ((T2, T1),) and lack(planned, "p1").cannot[0][0] is CT


# --- how it is shown -----------------------------------------------------------------------------------------------


def test_table_and_json_say_who_lacks_what(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, "p 1/t1.nii.gz", "p 2/t1.nii.gz", "p 2/t2.nii.gz", "p 2/flair.nii", "p 3/pd.nii.gz")
    planned = plan(cohort, complete=THREE, out=OUT, pairs=models((T1, T2), (PD, T1)))
    assert planned.table() == [
        ["case", "has", "lacks", "will be made", "cannot be made"],
        ["p 1", "t1", "t2, flair", "t2 from t1", "flair: there is no model from t1"],
        [
            "p 3",
            "pd",
            "t1, t2, flair",
            "t1 from pd",
            "t2: there is no model from pd; flair: there is no model from pd",
        ],
    ]
    data = json.loads(json.dumps(planned.to_json()))
    assert (data["cases"], data["complete"], data["wanted"]) == (3, 1, ["t1", "t2", "flair"])
    assert data["jobs"][0] == {
        "id": "p 1:t2",
        "case": "p 1",
        "source": "p 1/t1.nii.gz",
        "from": "t1",
        "to": "t2",
        "output": "p 1/t1_synth-t2.nii.gz",
    }
    assert data["lacking"][0] == {
        "case": "p 1",
        "has": ["t1"],
        "missing": ["t2", "flair"],
        "made": {"t2": {"from": "t1"}},
        "cannot": {"flair": "there is no model from t1"},
    }
    assert {problem["of"] for problem in data["problems"]} == {"p 1", "p 3"}


def test_a_plan_without_anything_to_do_has_a_heading_alone(tmp_path: Path) -> None:
    planned = plan(cohort_of(tmp_path, "p1/t1.nii.gz"), targets=[T1], out=OUT, pairs=any_model)
    assert planned.table() == [["case", "has", "lacks", "will be made", "cannot be made"]]
    assert planned.jobs == () and planned.complete == 1


# --- large cohorts -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fifty_thousand_files_are_planned_with_a_listing_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10_000):
        folder = tmp_path / f"s{number:05}"
        folder.mkdir()
        for kind in ("t1", "t1ce", "t2", "pd", "seg"):
            os.close(os.open(folder / f"{folder.name}_{kind}.nii.gz", os.O_CREAT))
    calls = dict.fromkeys(("scandir", "stat", "lstat", "open", "access", "readlink"), 0)

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            calls[name] += 1
            return real(*arguments, **options)

        return call

    for name in calls:
        monkeypatch.setattr(os, name, counted(name))
    planned = plan(find_cohort(tmp_path), complete=THREE, out=OUT, pairs=any_model)
    assert len(planned.jobs) == 10_000 and planned.problems == ()
    assert calls["scandir"] == 10_001
    assert sum(calls.values()) < 10_100  # the rest is for the root
