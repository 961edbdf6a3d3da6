"""imputer synth with several inputs: roles, the choice of a model, every way to refuse; what models and inspect say."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_phantom import make_series
from nibabel.nifti1 import Nifti1Image
from tiny_joint import FLAIR, OTHER_GRID, T1, T2, write_joint, write_scans

from imputer.batch.request import Batch
from imputer.batch.run import plan_batch
from imputer.case import Settings

from .conftest import Run, assert_refused


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """One head's T1 and, on another grid, its T2."""
    return write_scans(tmp_path / "scans", t1={}, t2=OTHER_GRID)


@pytest.fixture
def joint(tmp_path: Path) -> list[object]:
    """Options that take a model which makes FLAIR of T1 and T2 together."""
    return ["--to", "flair", "--fast", "-m", write_joint(tmp_path / "joint.safetensors")]


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_inputs_make_one_volume_beside_the_first(run: Run, scans: Path, joint: list[object]) -> None:
    result = run("synth", scans / "t1.nii.gz", scans / "t2.nii.gz", *joint)
    assert result.exit_code == 0, result.output
    made = scans / "t1_synth-flair.nii.gz"
    assert result.stdout == f"{made}\n"
    assert names(scans) == ["t1.nii.gz", "t1_synth-flair.json", "t1_synth-flair.nii.gz", "t2.nii.gz"]
    assert nibabel.load(made).shape == nibabel.load(scans / "t1.nii.gz").shape
    assert "synthetic flair from t1+t2" in str(nibabel.load(made).header["descrip"])
    record = json.loads((scans / "t1_synth-flair.json").read_text(encoding="utf-8"))
    assert [source["modality"] for source in record["sources"]] == ["t1", "t2"]


def test_roles_may_be_said_in_any_way(run: Run, scans: Path, joint: list[object]) -> None:
    assert run("synth", scans / "t1.nii.gz", scans / "t2.nii.gz", *joint).exit_code == 0
    wanted = voxels(scans / "t1_synth-flair.nii.gz")
    for number in "12":
        (scans / f"t{number}.nii.gz").rename(scans / f"scan{number}.nii.gz")
    for inputs in (
        [f"t1={scans / 'scan1.nii.gz'}", f"T2w={scans / 'scan2.nii.gz'}"],
        [f"mprage={scans / 'scan1.nii.gz'}", "-i", f"t2={scans / 'scan2.nii.gz'}"],
    ):
        result = run("synth", *inputs, *joint, "--overwrite")
        assert result.stdout == f"{scans / 'scan1_synth-flair.nii.gz'}\n", result.output
        np.testing.assert_array_equal(voxels(scans / "scan1_synth-flair.nii.gz"), wanted)


def test_a_dry_run_of_several_writes_nothing(run: Run, scans: Path, joint: list[object]) -> None:
    result = run("synth", scans / "t2.nii.gz", scans / "t1.nii.gz", *joint, "--dry-run")
    assert result.stdout == f"{scans / 't2_synth-flair.nii.gz'}\n"
    assert names(scans) == ["t1.nii.gz", "t2.nii.gz"]


@pytest.mark.parametrize(
    ("inputs", "code", "words"),
    [
        (["t1=t1", "t1=t2"], 2, ["Two inputs are t1"]),
        (["t1", "t1w=t2"], 2, ["Two inputs are t1", "t1=PATH"]),
        (["t1", "flair=t2"], 2, ["Source and target are both flair"]),
        (["t1", "t9=t2"], 2, ["t9", "flair"]),
        (["t1", "t2", "--from=t1"], 2, ["--from", "t1=PATH"]),
        (["t1", "pd=t2"], 4, ["takes t1 + t2, not pd", "Leave pd out"]),
        (["pd=t2"], 4, ["takes t1 + t2, not pd"]),
        (["t1", "t2=gone"], 3, ["gone.nii.gz does not exist"]),
    ],
)
def test_inputs_that_do_not_fit(
    run: Run, scans: Path, joint: list[object], inputs: list[str], code: int, words: list[str]
) -> None:
    def placed(text: str) -> str:
        if text.startswith("-"):
            return text
        role, _, name = text.rpartition("=")
        return f"{role}={scans / name}.nii.gz" if role else f"{scans / name}.nii.gz"

    assert_refused(run("synth", *map(placed, inputs), *joint), code, *words)
    assert names(scans) == ["t1.nii.gz", "t2.nii.gz"]


def test_a_second_role_that_is_unknown_says_how_to_say_it(run: Run, scans: Path, joint: list[object]) -> None:
    scan = (scans / "t2.nii.gz").rename(scans / "scan.nii.gz")
    assert_refused(run("synth", scans / "t1.nii.gz", scan, *joint), 3, "scan.nii.gz", "t1=PATH")


def test_a_required_role_that_is_missing(run: Run, scans: Path, tmp_path: Path) -> None:
    model = write_joint(tmp_path / "strict.safetensors", required=(T2,))
    result = run("synth", scans / "t1.nii.gz", "--to", "flair", "-m", model)
    assert_refused(result, 4, "needs t2 beside t1", "Add t2=PATH")


def test_sources_that_do_not_overlap(run: Run, scans: Path, joint: list[object]) -> None:
    image = nibabel.load(scans / "t2.nii.gz")
    affine = image.affine.copy()
    affine[:3, 3] += 500
    nibabel.save(Nifti1Image(image.get_fdata(dtype=np.float32), affine), scans / "t2.nii.gz")
    result = run("synth", scans / "t1.nii.gz", scans / "t2.nii.gz", *joint)
    assert_refused(result, 3, "do not overlap", "t2 (t2.nii.gz) shows 0% of the head in t1 (t1.nii.gz)")
    assert names(scans) == ["t1.nii.gz", "t2.nii.gz"]


def test_the_output_may_be_none_of_the_inputs(run: Run, scans: Path, joint: list[object]) -> None:
    inputs = [scans / "t1.nii.gz", scans / "t2.nii.gz"]
    result = run("synth", *inputs, *joint, "-o", inputs[1], "--overwrite")
    assert_refused(result, 2, "the input itself")


def test_series_of_one_study_are_told_apart_by_their_roles(run: Run, tmp_path: Path, joint: list[object]) -> None:
    head = {"shape": (44, 48, 6), "spacing": (4.5, 4.0, 26.0)}
    make_series(tmp_path / "study" / "one", **head, series_number=1)
    make_series(tmp_path / "study" / "two", **head, series_number=2, contrast="t2")
    study = tmp_path / "study"
    result = run("synth", f"t1={study}", f"t2={study}", *joint)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'study_synth-flair'}\n"
    record = json.loads((tmp_path / "study_synth-flair.json").read_text(encoding="utf-8"))
    one, two = record["sources"]
    assert one["sha256"] != two["sha256"] and (one["modality"], two["modality"]) == ("t1", "t2")
    header = pydicom.dcmread(next((tmp_path / "study_synth-flair").iterdir()))
    assert header.SeriesDescription == "SYNTHETIC FLAIR from T1w+T2w - NOT FOR DIAGNOSIS"
    assert "computed from T1w+T2w images by software" in header.ImageComments


def test_the_choice_takes_a_joint_model_for_several_inputs_only(run: Run, scans: Path, tmp_path: Path) -> None:
    assert run("models", "import", write_joint(tmp_path / "mine.safetensors", identifier="mine")).exit_code == 0
    both, alone = (
        run("synth", *(scans / f"{name}.nii.gz" for name in given), "--to", "flair", "--dry-run", "--fast")
        for given in (("t1", "t2"), ("t1",))
    )
    assert "Model: mine (T1 + T2 to FLAIR" in both.stderr
    assert "Model: syndiff-t1-flair (T1 to FLAIR" in alone.stderr


def test_without_a_model_for_several_it_says_what_there_is(run: Run, scans: Path) -> None:
    result = run("synth", scans / "t1.nii.gz", scans / "t2.nii.gz", "--to", "pd")
    assert_refused(result, 4, "no model from t1 + t2 to pd", "t1 to flair, t2 to flair")


def test_models_and_inspect_know_of_it(run: Run, scans: Path, tmp_path: Path) -> None:
    assert run("models", "import", write_joint(tmp_path / "mine.safetensors", identifier="mine")).exit_code == 0
    assert "t1 + t2 or fewer" in run("models", "list").stdout
    (record,) = [each for each in json.loads(run("models", "list", "--json").stdout) if each["id"] == "mine"]
    assert (record["joint"], record["required"], record["sources"]) == (True, [], ["t1", "t2"])
    found = json.loads(run("inspect", scans / "t1.nii.gz", "--json").stdout)["models"]
    (flair,) = [each for each in found if each["to"] == "flair"]
    assert flair["id"] == "syndiff-t1-flair"
    assert {"id": "mine", "with": ["t2"]} in flair["together"]
    assert "together with t2: mine" in run("inspect", scans / "t1.nii.gz").stdout


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A folder of three subjects: with T1 and T2, with T1 alone, with T2 alone."""
    for subject, grids in {"a": {"t1": {}, "t2": OTHER_GRID}, "b": {"t1": {}}, "c": {"t2": {}}}.items():
        write_scans(tmp_path / "cohort" / subject, **grids)  # type: ignore[arg-type]
    return tmp_path / "cohort"


def test_a_batch_gives_a_joint_model_what_each_case_has(
    run: Run, cohort: Path, joint: list[object], tmp_path: Path
) -> None:
    result = run("batch", cohort, tmp_path / "out", *joint)
    assert result.exit_code == 0, result.output
    given = {
        path.parent.name: [source["modality"] for source in json.loads(path.read_text())["sources"]]
        for path in (tmp_path / "out").glob("*/*synth-flair.json")
    }
    assert given == {"a": ["t2", "t1"], "b": ["t1"], "c": ["t2"]}
    alone = run("synth", cohort / "a" / "t2.nii.gz", cohort / "a" / "t1.nii.gz", *joint, "-o", tmp_path / "a.nii.gz")
    assert alone.exit_code == 0, alone.output
    (made,) = (tmp_path / "out" / "a").glob("*.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == made.read_bytes()


def test_a_batch_from_one_contrast_takes_that_alone(
    run: Run, cohort: Path, joint: list[object], tmp_path: Path
) -> None:
    result = run("batch", cohort, tmp_path / "out", *joint, "--from", "t1")
    assert result.exit_code == 8 and "c: lacks flair, which cannot be made: there is no t1" in result.stderr
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "a").glob("*.json")]
    assert [source["modality"] for source in record["sources"]] == ["t1"]


def test_a_batch_says_which_cases_lack_a_source_that_is_needed(run: Run, cohort: Path, tmp_path: Path) -> None:
    model = write_joint(tmp_path / "strict.safetensors", required=(T2,))
    result = run("batch", cohort, tmp_path / "out", "--to", "flair", "--fast", "-m", model, "--dry-run")
    assert "b: lacks flair, which cannot be made: the model needs more sources than there are" in result.stderr
    assert "2 volumes to make" in result.stderr


def test_a_failed_case_of_several_sources_tells_a_command_that_repeats_it(
    run: Run, cohort: Path, joint: list[object], tmp_path: Path
) -> None:
    (cohort / "a" / "t2.nii.gz").write_bytes(b"broken")
    result = run("batch", cohort, tmp_path / "out", *joint)
    assert result.exit_code == 8, result.output
    (failure,) = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["failures"]
    words = shlex.split(failure["command"])
    assert words[2:4] == [f"{name}={cohort / 'a' / name}.nii.gz" for name in ("t2", "t1")]
    (tmp_path / "out" / "a").mkdir()
    assert_refused(run(*words[1:]), 3, "t2.nii.gz")


def test_a_batch_without_a_model_stays_with_models_of_one_source(run: Run, cohort: Path, tmp_path: Path) -> None:
    model = write_joint(tmp_path / "mine.safetensors", identifier="mine")
    assert run("models", "import", model).exit_code == 0
    for named, beside in ((None, [(), (), ()]), ("mine", [(T1,), (), ()])):
        batch = Batch(cohort, tmp_path / "out", Settings(FLAIR), targets=(FLAIR,), model=named)
        assert [tuple(role for role, _ in job.beside) for job in plan_batch(batch).jobs] == beside


def test_one_file_for_two_contrasts_is_refused(run: Run, scans: Path, joint: list[object]) -> None:
    given = [f"{role}={scans / 't1.nii.gz'}" for role in ("t1", "t2")]
    assert_refused(run("synth", *given, *joint), 2, "given twice")
