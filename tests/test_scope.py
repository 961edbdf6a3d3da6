"""What of a case is outside of a model's scope: told before the run, in the sidecar, and as a score of risk."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tiny import make_method

from imputer.methods.syndiff import SynDiff
from imputer.modality import Modality
from imputer.phantom import make_head
from imputer.preprocess.likeness import spans_of
from imputer.preprocess.survey import survey
from imputer.scope import scope_findings
from imputer.synth import Outcome, synthesise
from imputer.volume import Volume
from imputer.weights.manifest import entries

GRID = {"shape": (64, 76, 20), "spacing": (3.0, 3.0, 8.0)}


@pytest.fixture(scope="module")
def heads() -> dict[Modality, Volume]:
    return make_head([Modality.T1, Modality.T2], seed=4, **GRID)  # type: ignore[arg-type]


@pytest.fixture
def model(heads: dict[Modality, Volume]) -> SynDiff:
    """A tiny model that was trained on the phantom's T1."""
    method = make_method()
    found = survey(heads[Modality.T1])
    assert found is not None
    scope = {"body_part": "head", "measured": spans_of([(Modality.T1, found)])}
    method.identity = replace(method.identity, scope=scope)
    return method


def made(source: Volume, model: SynDiff, **options: object) -> Outcome:
    return synthesise(source, to="t2", from_="t1", model=model, device="cpu", **options)  # type: ignore[arg-type]


def test_a_volume_like_those_of_training_has_no_risk(heads: dict[Modality, Volume], model: SynDiff) -> None:
    outcome = made(heads[Modality.T1], model, dry_run=True)
    assert outcome.record["risk"] == {"score": 0.0, "reasons": []} and outcome.warnings == []


def test_another_contrast_is_told_before_the_run_and_in_the_sidecar(
    heads: dict[Modality, Volume], model: SynDiff, tmp_path: Path
) -> None:
    told = made(heads[Modality.T2], model, dry_run=True).warnings
    assert any(text.startswith("This may be no T1") for text in told)
    outcome = made(heads[Modality.T2], model, output=tmp_path / "out.nii.gz")
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert record["risk"]["reasons"] == record["scope_warnings"] == outcome.warnings == told
    assert 0.6 <= record["risk"]["score"] < 1


def test_a_source_beside_the_first_one_is_named(heads: dict[Modality, Volume], model: SynDiff) -> None:
    wrong = replace(heads[Modality.T2], modality=Modality.T1)
    findings = scope_findings(heads[Modality.T1], model, [wrong], force=False, sizes_are_told=False)
    assert any(finding.text.startswith("t1: This may be no T1") for finding in findings)
    assert all(finding.text.startswith("t1: ") for finding in findings)


def test_a_model_that_tells_nothing_of_its_training_volumes_is_taken_as_before(heads: dict[Modality, Volume]) -> None:
    assert scope_findings(heads[Modality.T2], make_method(), force=False, sizes_are_told=False) == []


DATA = Path(__file__).resolve().parents[1].parent / "shared/data/open_ms"
HELD_OUT = {
    "native/patient04/study1_T1W": Modality.T1,
    "native/patient04/study1_T2W": Modality.T2,
    "native/patient04/study1_FLAIR": Modality.FLAIR,
    "mni/patient26/T1": Modality.T1,
    "mni/patient26/T1POST": Modality.T1CE,
    "mni/patient26/T2": Modality.T2,
    "mni/patient26/FLAIR": Modality.FLAIR,
}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the developers' ../shared/data/open_ms")
@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_volumes_are_no_cause_for_alarm_and_other_contrasts_are(name: str) -> None:
    from imputer.io.dispatch import load
    from imputer.preprocess.likeness import unlike

    found, modality = survey(load(DATA / f"{name}.nii.gz")), HELD_OUT[name]
    assert found is not None
    for entry in entries():
        measured = [asdict(each) for each in entry.measured]
        if modality in entry.sources and measured:
            assert unlike(found, modality, measured) == []
        for other in {Modality.T1, Modality.T2} & {*entry.sources} if measured else ():
            if (modality is Modality.T2) != (other is Modality.T2):
                assert any(f"This may be no {other.upper()}" in each.text for each in unlike(found, other, measured))
