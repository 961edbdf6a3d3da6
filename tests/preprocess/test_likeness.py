"""What of a volume is unlike the training volumes: nothing of one of them, each strangeness by a sentence."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from imputer.modality import Modality
from imputer.preprocess.likeness import Finding, risk, spans_of, unlike
from imputer.preprocess.survey import Survey

WHOLE = Survey((0.6, 1.0, 1.2, 2.0), 140.0, 240.0, 0.0, 0.15, -0.4)
OTHER = Survey((0.64, 1.1, 1.3, 1.9), 120.0, 250.0, 5.0, 0.09, -0.5)
STRIPPED = Survey((0.75, 1.1, 1.35, 1.5), 108.0, 155.0, 0.0, 0.02, -0.6)
T2 = replace(WHOLE, balance=0.55)


@pytest.fixture
def measured() -> list[dict[str, Any]]:
    """Of two whole heads and one stripped one of T1, and a whole one of T2."""
    return spans_of([*((Modality.T1, each) for each in (WHOLE, STRIPPED, OTHER)), (Modality.T2, T2)])


def test_the_spans_hold_least_and_greatest(measured: list[dict[str, Any]]) -> None:
    assert [(each["modality"], each["stripped"], each["volumes"]) for each in measured] == [
        ("t1", False, 2),
        ("t1", True, 1),
        ("t2", False, 1),
    ]
    assert measured[0]["quantiles"] == [[0.6, 0.64], [1.0, 1.1], [1.2, 1.3], [1.9, 2.0]]
    assert measured[0]["coverage_mm"] == [120.0, 140.0] and measured[0]["balance"] == [-0.5, -0.4]
    assert measured[1]["area_cm2"] == [155.0, 155.0]


@pytest.mark.parametrize("each", [WHOLE, OTHER, STRIPPED])
def test_training_volumes_are_alike(each: Survey, measured: list[dict[str, Any]]) -> None:
    assert unlike(each, Modality.T1, measured) == []


def test_values_a_little_outside_are_alike_too(measured: list[dict[str, Any]]) -> None:
    near = replace(WHOLE, quantiles=(0.55, 0.95, 1.4, 2.3), coverage_mm=95.0, area_cm2=300.0, balance=0.05)
    assert unlike(near, Modality.T1, measured) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"balance": 0.55}, r"may be no T1.*brighter than the rest \(\+0\.55 .*-0\.50 to -0\.40 in training\)"),
        ({"quantiles": (0.4, 1.0, 1.2, 2.0)}, r"25% of the tissue is below 0\.40 .*below 0\.60 to 0\.64\."),
        ({"quantiles": (0.6, 1.0, 1.2, 3.0)}, r"95% of the tissue is below 3\.00 .*below 1\.90 to 2\.00\."),
        ({"coverage_mm": 60.0}, r"show 60 mm of the head .* 120 mm or more in training\."),
        ({"area_cm2": 700.0}, r"shows 700 cm2 .* 240 to 250 in training"),
        ({"area_cm2": 90.0}, r"shows 90 cm2"),
        ({"cut_cm2": 80.0}, r"cut off .* 80 cm2"),
    ],
)
def test_each_strangeness_is_one_sentence(changes: dict[str, Any], words: str, measured: list[dict[str, Any]]) -> None:
    (finding,) = unlike(replace(WHOLE, **changes), Modality.T1, measured)
    assert re.search(words, finding.text), finding.text
    assert 0 < finding.weight < 1 and finding.text.endswith(".")


def test_the_skull_is_held_against_the_kinds_that_were_trained_on(measured: list[dict[str, Any]]) -> None:
    without, whole = measured[1:2], measured[:1]
    assert "seems to be there (15.0% of" in unlike(WHOLE, Modality.T1, without)[0].text
    assert "seems to be stripped (2.0% of" in unlike(STRIPPED, Modality.T1, whole)[0].text


def test_fluid_around_a_stripped_brain_is_no_skull_in_flair() -> None:
    dark = replace(STRIPPED, dark_shell=0.12)
    tables = spans_of([(Modality.FLAIR, dark), (Modality.T2, dark)])
    assert {each["modality"]: each["stripped"] for each in tables} == {"flair": True, "t2": False}
    assert unlike(dark, Modality.FLAIR, (), "yes") == unlike(dark, Modality.T2, (), "no") == []


def test_without_tables_the_stated_kind_of_skull_counts_alone() -> None:
    assert unlike(WHOLE, Modality.T1, ()) == unlike(STRIPPED, Modality.T1, ()) == []
    assert unlike(WHOLE, Modality.T1, (), "no") == unlike(STRIPPED, Modality.T1, (), "yes") == []
    assert [len(unlike(WHOLE, Modality.T1, (), "yes")), len(unlike(STRIPPED, Modality.T1, (), "no"))] == [1, 1]


def test_the_score_of_risk_grows_with_every_finding_and_stays_below_one() -> None:
    assert risk([]) == {"score": 0.0, "reasons": []}
    findings = [Finding("one.", 0.5), Finding("two.", 0.2), Finding("three.", 0.9)]
    assert risk(findings[:2]) == {"score": 0.6, "reasons": ["one.", "two."]}
    assert risk(findings)["score"] == pytest.approx(0.96)
    assert risk(findings * 20)["score"] <= 1
