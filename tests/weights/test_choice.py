"""The choice of a model: by the sizes of the voxels, by the anatomy, by the order of the list; and its reasons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imputer.errors import ModelError
from imputer.modality import Modality
from imputer.weights.choice import choose, makes
from imputer.weights.manifest import Embedded, Entry, ImportOnly, Licence, Scope, entries, parse, read, render, write
from imputer.weights.package import ANY_MM, NOT_STATED

T1, T2, PD, CT, FLAIR = Modality.T1, Modality.T2, Modality.PD, Modality.CT, Modality.FLAIR


def entry(name: str, *, pixel: tuple[float, float] = (0.5, 1.2), between: tuple[float, float] = (1.0, 4.0)) -> Entry:
    """A runnable model from T1 to T2."""
    return Entry(
        id=name,
        method="syndiff",
        sources=(T1,),
        targets=(T2,),
        title=name,
        version="1",
        trained_on="data",
        citation="somebody",
        scope=Scope("brain", "either", pixel, between),
        home=Embedded(f"{name}.safetensors"),
        licence=Licence("MIT", "MIT", "CC0", False),
        bytes=1,
        sha256="0" * 64,
    )


def other_anatomy(model: Entry, anatomy: str) -> Entry:
    return replace(model, scope=replace(model.scope, anatomy=anatomy))


FINE, COARSE = entry("fine"), entry("coarse", pixel=(2.0, 3.0))
BY_HAND = replace(entry("by-hand"), home=ImportOnly("Fetch it by hand.", "https://example.org/weights"))


@pytest.mark.parametrize("models", [(FINE, COARSE), (COARSE, FINE)])
@pytest.mark.parametrize(
    ("spacing", "wanted"),
    [
        ((0.91, 0.91, 3.0), FINE),
        ((2.5, 2.5, 3.0), COARSE),
        ((1.9, 1.9, 3.0), COARSE),  # outside of both: nearer to this one
        ((1.3, 1.3, 3.0), FINE),
        ((1.0, 2.5, 3.0), COARSE),  # the finer edge is half of what COARSE knows, the longer twice what FINE does
        ((9.0, 9.0, 3.0), COARSE),
    ],
)
def test_the_sizes_of_the_voxels_decide(
    models: tuple[Entry, ...], spacing: tuple[float, float, float], wanted: Entry
) -> None:
    assert choose(models, T1, T2, spacing_mm=spacing).entry == wanted


def test_the_distance_of_slices_counts_too() -> None:
    thick = entry("thick", between=(4.5, 6.0))
    assert choose([FINE, thick], T1, T2, spacing_mm=(1.0, 1.0, 5.0)).entry == thick
    assert choose([thick, FINE], T1, T2, spacing_mm=(1.0, 1.0, 1.0)).entry == FINE


def test_the_sizes_come_before_the_anatomy_and_that_before_the_order() -> None:
    brain, knee, coarse_knee = FINE, other_anatomy(entry("knee"), "knee"), other_anatomy(COARSE, "knee")
    spacing = (1.0, 1.0, 2.0)
    assert choose([brain, knee], T1, T2, spacing_mm=spacing, anatomy="Knee").entry == knee
    assert choose([coarse_knee, brain], T1, T2, spacing_mm=spacing, anatomy="knee").entry == brain
    assert choose([knee, brain], T1, T2, spacing_mm=spacing).entry == knee
    assert choose([COARSE, FINE], T1, T2).entry == COARSE


def test_reasons_are_told() -> None:
    choice = choose([FINE], T1, T2, spacing_mm=(0.9102, 0.9098, 3.0), anatomy="brain")
    assert choice.reasons == (
        "T1 to T2",
        "pixels of 0.91 mm are within its 0.5 to 1.2 mm",
        "slices every 3 mm are within its 1 to 4 mm",
        "it was trained on brain",
    )
    assert choice.cautions == ()
    assert choose([FINE], T1, T2).reasons == ("T1 to T2",)


def test_cautions_are_told() -> None:
    choice = choose([FINE], T1, T2, spacing_mm=(0.9, 1.4, 5.0), anatomy="knee")
    assert choice.reasons == ("T1 to T2",)
    assert choice.cautions == (
        "pixels of 0.9 x 1.4 mm are outside its 0.5 to 1.2 mm",
        "slices every 5 mm are outside its 1 to 4 mm",
        "the model was trained on brain, not on knee",
    )


@pytest.mark.parametrize(
    ("size", "caution"),
    [
        (0.9375, ()),  # rounded to 0.94 in the paper
        (0.95, ("pixels of 0.95 mm are outside its 0.94 mm",)),
        (0.93, ("pixels of 0.93 mm are outside its 0.94 mm",)),
    ],
)
def test_rounding_is_no_caution(size: float, caution: tuple[str, ...]) -> None:
    exact = entry("exact", pixel=(0.94, 0.94))
    assert choose([exact], T1, T2, spacing_mm=(size, size, 1.2)).cautions == caution


def test_what_is_not_stated_is_neither_a_reason_nor_a_misfit() -> None:
    silent = other_anatomy(entry("silent", pixel=ANY_MM, between=ANY_MM), NOT_STATED)
    inside, outside = (1.0, 1.0, 2.0), (0.2, 0.2, 2.0)
    assert choose([silent, FINE], T1, T2, spacing_mm=inside).entry == FINE
    assert choose([FINE, silent], T1, T2, spacing_mm=outside).entry == silent
    choice = choose([silent], T1, T2, spacing_mm=inside, anatomy="brain")
    assert choice.reasons == ("T1 to T2",)
    assert choice.cautions == (
        "the model does not state which sizes of pixels it was trained on",
        "the model does not state which sizes of slices it was trained on",
        "the model does not state which anatomy it was trained on",
    )


def test_a_head_shows_a_brain() -> None:
    head = other_anatomy(FINE, "head")
    assert choose([other_anatomy(FINE, "knee"), head], T1, T2, anatomy="brain").entry == head


def test_it_says_how_many_there_were() -> None:
    second = entry("second")
    assert choose([FINE, second], T1, T2).reasons[-1] == "first of 2 that fit equally well"
    spacing = (1.0, 1.0, 2.0)
    assert choose([FINE, COARSE], T1, T2, spacing_mm=spacing).reasons[-1] == "fits best of 2"
    assert choose([COARSE, FINE, second], T1, T2, spacing_mm=spacing).reasons[-1] == "first of 2 that fit equally well"


def test_what_cannot_run_is_never_chosen() -> None:
    assert choose([BY_HAND, COARSE], T1, T2, spacing_mm=(1.0, 1.0, 2.0)).entry == COARSE


def test_import_only_says_how() -> None:
    with pytest.raises(ModelError) as caught:
        choose([FINE, replace(BY_HAND, targets=(PD,))], T1, PD)
    assert caught.value.message.startswith("There is no model from t1 to pd at hand")
    assert "by-hand" in caught.value.message
    assert caught.value.remedy.endswith("Fetch it by hand. https://example.org/weights")
    assert "There are: t1 to t2." in caught.value.remedy


def test_nothing_says_which_pairs_there_are() -> None:
    flair = replace(entry("flair"), targets=(FLAIR,))
    with pytest.raises(ModelError) as caught:
        choose([FINE, COARSE, flair, BY_HAND], T1, CT)
    assert caught.value.message == "There is no model from t1 to ct."
    assert caught.value.remedy == "There are: t1 to t2, t1 to flair."
    with pytest.raises(ModelError, match=r"no model from t2 to t1\. Get one"):
        choose([], T2, T1)


def test_a_model_that_needs_two_sources_is_not_run_on_one() -> None:
    two = replace(FINE, sources=(T1, PD))
    any_one = replace(two, method="aldm", targets=(T1, T2))
    assert not makes(two, T1, T2)
    assert makes(any_one, T1, T2) and makes(any_one, PD, T2) and makes(any_one, PD, T1)
    assert not makes(any_one, T1, T1)
    assert not makes(any_one, T2, T1)
    with pytest.raises(ModelError, match="no model from t1 to t2"):
        choose([two], T1, T2)


def test_a_model_of_this_pair_comes_before_one_of_many_unless_the_scope_speaks_for_that() -> None:
    many = replace(entry("many"), method="aldm", sources=(T1, T2), targets=(T1, T2, FLAIR))
    inside, outside = (1.0, 1.0, 2.0), (2.5, 2.5, 3.0)
    for models in ([many, FINE], [FINE, many]):
        choice = choose(models, T1, T2, spacing_mm=inside)
        assert choice.entry == FINE
        assert choice.reasons[-2:] == ("it makes this pair alone", "fits best of 2")
    second = entry("second")
    reasons = choose([many, FINE, second], T1, T2, spacing_mm=inside).reasons
    assert reasons[-2:] == ("it makes this pair alone", "first of 2 that fit equally well")
    coarse = replace(COARSE, method="aldm", sources=(T1, T2), targets=(T1, T2, FLAIR))
    choice = choose([FINE, coarse], T1, T2, spacing_mm=outside)
    assert (choice.entry, choice.reasons[-1]) == (coarse, "fits best of 2")
    assert "it makes this pair alone" not in choice.reasons
    assert choose([FINE, many], T2, FLAIR).reasons == ("T2 to FLAIR",)


def test_the_pairs_of_a_model_of_many_are_told() -> None:
    many = replace(entry("many"), method="aldm", sources=(T1, T2), targets=(T1, T2))
    with pytest.raises(ModelError) as caught:
        choose([many], T1, CT)
    assert caught.value.remedy == "There are: t1 to t2, t2 to t1."


def test_none_stands_for_any_modality() -> None:
    assert makes(FINE, T1, None) and makes(FINE, None, T2) and makes(FINE, None, None)
    assert not makes(FINE, T2, None)
    assert not makes(FINE, None, T1)


def test_the_models_that_come_with_imputer() -> None:
    choice = choose(entries(), T1, T2, spacing_mm=(0.91, 0.91, 3.0), anatomy="brain")
    assert (choice.entry.id, choice.cautions) == ("syndiff-t1-t2", ())
    with pytest.raises(ModelError, match=r"syndiff-ixi-pd-t1.*imputer models import gen_diffusive_1_50\.pth"):
        choose(entries(), PD, T1)


JOINT = replace(entry("joint"), sources=(T1, T2, PD), targets=(FLAIR,), required=())
STRICT = replace(JOINT, id="strict", required=None)
WITH_T1 = replace(JOINT, id="with-t1", required=(T1,))
SINGLE = replace(entry("single"), targets=(FLAIR,))


def test_a_model_of_several_sources_makes_its_target_of_any_it_can_do_with() -> None:
    assert makes(JOINT, T2, FLAIR) and makes(JOINT, T2, FLAIR, (T1,)) and makes(JOINT, PD, FLAIR, (T1, T2))
    assert not makes(JOINT, CT, FLAIR) and not makes(JOINT, T1, FLAIR, (CT,)) and not makes(JOINT, T1, T2)
    assert makes(STRICT, PD, FLAIR, (T1, T2)) and not makes(STRICT, T1, FLAIR, (T2,))
    assert makes(WITH_T1, T1, FLAIR) and makes(WITH_T1, T2, FLAIR, (T1,)) and not makes(WITH_T1, T2, FLAIR)
    assert not makes(SINGLE, T1, FLAIR, (T2,)) and not makes(replace(JOINT, method="aldm"), T1, FLAIR, (T2,))


def test_one_source_goes_to_a_model_of_one_and_several_to_the_model_that_lacks_least() -> None:
    pair = replace(JOINT, id="pair", sources=(T1, T2))
    models = [JOINT, pair, replace(SINGLE, scope=COARSE.scope)]
    fine = (1.0, 1.0, 2.0)
    assert choose(models, T1, FLAIR, spacing_mm=fine).entry.id == "single"
    assert choose(models, T2, FLAIR, spacing_mm=fine).entry.id == "pair"
    assert choose(models, T2, FLAIR, beside=(T1,), spacing_mm=fine).entry.id == "pair"
    choice = choose(models, PD, FLAIR, beside=(T1,), spacing_mm=fine)
    assert choice.entry.id == "joint" and choice.reasons[0] == "PD + T1 to FLAIR"
    assert "it can do without T2" in choice.reasons


def test_where_no_model_takes_them_together_it_says_what_there_is() -> None:
    with pytest.raises(ModelError, match=r"no model from t1 [+] ct to flair") as caught:
        choose([SINGLE, JOINT, WITH_T1], T1, FLAIR, beside=(CT,))
    assert caught.value.remedy == ("There are: t1 to flair, t1 + t2 + pd or fewer to flair, t1 (+ t2 + pd) to flair.")


def test_the_sources_that_a_model_cannot_do_without_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "models.toml", [JOINT, STRICT, WITH_T1, FINE])
    assert read(tmp_path / "models.toml") == (JOINT, STRICT, WITH_T1, FINE)
    assert "required" not in render([FINE]) and [each.needed for each in (JOINT, STRICT, WITH_T1, FINE)] == [
        (), (T1, T2, PD), (T1,), ()
    ]  # fmt: skip


@pytest.mark.parametrize("changes", [{"required": (FLAIR,)}, {"sources": (T1,)}, {"method": "aldm"}])
def test_required_sources_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="required"):
        parse(render([replace(WITH_T1, **changes)]), "models.toml")
