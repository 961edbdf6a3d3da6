"""Several sources of one case: how they reach the network, what they are held to, and what is said of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_phantom import make_series
from tiny import GRID, make_method
from tiny_joint import FLAIR, OTHER_GRID, PD, T1, T2, make_joint, write_joint, write_scans

import imputer
from imputer.errors import ImputerError, InputError, ModelError, UsageError
from imputer.files import sha256_of
from imputer.io.dispatch import load
from imputer.methods.base import Method, RunOptions
from imputer.phantom import make_head
from imputer.preprocess.recipe import default_recipe
from imputer.sources import Given, case_of, read_companions, stack_of
from imputer.synth import Outcome
from imputer.volume import Volume

HEAD = make_head([T1, T2, PD], **GRID)
JOINT = make_joint()
DICOM_HEAD = {"shape": (44, 48, 6), "spacing": (4.5, 4.0, 26.0)}


def make(sources: Any, model: str | Path | Method = JOINT, **options: Any) -> Outcome:
    return imputer.synthesise(sources, **{"to": "flair", "model": model, "device": "cpu", "steps": 1, **options})


def moved(volume: Volume, mm: float) -> Volume:
    """The volume with its place in space shifted to the patient's right or left."""
    affine = volume.affine.copy()
    affine[0, 3] += mm
    return replace(volume, affine=affine)


def given(volume: Volume) -> list[Given]:
    return [Given(volume, volume.modality)]


def test_a_source_that_is_missing_is_a_channel_of_background() -> None:
    full, _ = stack_of(JOINT, HEAD[T1], read_companions(HEAD[T1], given(HEAD[T2]), (FLAIR,), force=False))
    alone, _ = stack_of(JOINT, HEAD[T1], ())
    assert full.shape[1] == alone.shape[1] == 2
    assert (alone[:, 1] == -1).all() and (full[:, 1] > -1).any()
    assert (alone[:, 0] > -1).any()
    swapped, _ = stack_of(JOINT, HEAD[T2], ())
    assert (swapped[:, 0] == -1).all() and (swapped[:, 1] > -1).any()


def test_any_one_of_the_sources_is_served_as_a_run_on_that_channel_alone() -> None:
    for role, channel in ((T1, 0), (T2, 1)):
        outcome = make({role: HEAD[role]})
        own, undo = JOINT.recipe.forward(HEAD[role])
        stack = np.full((len(own), 2, *own.shape[2:]), -1, dtype=np.float32)
        stack[:, channel] = own[:, 0]
        made = JOINT.run(stack, RunOptions(case=case_of(HEAD[role], ()), steps=1, target=FLAIR))
        wanted = JOINT.recipe.inverse(made, undo, HEAD[role], scale=JOINT.output_scale)
        np.testing.assert_array_equal(outcome.volume.array, np.rint(wanted.array))


def test_every_source_matters() -> None:
    both = make({"t1": HEAD[T1], "t2": HEAD[T2]}).volume.array
    for one in (make({"t1": HEAD[T1]}), make({"t2": HEAD[T2]})):
        assert not np.array_equal(one.volume.array, both)


def test_on_one_grid_the_order_of_the_sources_does_not_matter() -> None:
    one, two = make({"t1": HEAD[T1], "t2": HEAD[T2]}), make({"t2": HEAD[T2], "t1": HEAD[T1]})
    np.testing.assert_array_equal(one.volume.array, two.volume.array)


def test_the_first_source_gives_the_grid(tmp_path: Path) -> None:
    folder = write_scans(tmp_path, t1={}, t2=OTHER_GRID)
    for names in (("t1", "t2"), ("t2", "t1")):
        made = make({name: folder / f"{name}.nii.gz" for name in names}).volume
        first = load(folder / f"{names[0]}.nii.gz")
        assert made.shape == first.shape
        np.testing.assert_array_equal(made.affine, first.affine)
        assert made.array.std() > 0


def test_a_source_of_another_grid_says_what_it_says_on_the_first_ones() -> None:
    """Resampling loses sharpness, not place: the channel is far nearer to the true one than a shifted head's."""
    other = make_head([T2], **OTHER_GRID)[T2]
    true, there, shifted = (
        stack_of(JOINT, HEAD[T1], read_companions(HEAD[T1], given(volume), (FLAIR,), force=False))[0][:, 1]
        for volume in (HEAD[T2], other, moved(HEAD[T2], 12))
    )
    assert np.abs(true - there).mean() < np.abs(true - shifted).mean() / 2


def test_outside_of_its_field_of_view_a_source_is_background() -> None:
    lower = HEAD[T2].with_grid(HEAD[T2].array[:, :, :4], HEAD[T2].affine)
    companions = read_companions(HEAD[T1], given(lower), (FLAIR,), force=False)
    stack, _ = stack_of(JOINT, HEAD[T1], companions)
    assert (stack[4:, 1] == -1).all() and (stack[:4, 1] > -1).any() and (stack[4:, 0] > -1).any()
    assert "shows" in companions[0].cautions[0] and "% of the head" in companions[0].cautions[0]


def test_each_source_has_its_own_scale() -> None:
    brighter = HEAD[T2].with_array(HEAD[T2].array * 37)
    one, two = (
        stack_of(JOINT, HEAD[T1], read_companions(HEAD[T1], given(volume), (FLAIR,), force=False))[0]
        for volume in (HEAD[T2], brighter)
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_the_box_holds_what_any_source_shows() -> None:
    array = HEAD[T1].array.copy()
    array[:22] = 0
    half = HEAD[T1].with_array(array)
    wide, _ = default_recipe(pixel_mm=4.0, multiple=4).forward(HEAD[T2])
    both, _ = default_recipe(pixel_mm=4.0, multiple=4).forward_together([half, HEAD[T2]])
    alone, _ = default_recipe(pixel_mm=4.0, multiple=4).forward(half)
    assert both[0].shape == both[1].shape == wide.shape
    assert alone.shape[3] < wide.shape[3]
    np.testing.assert_array_equal(both[1], wide)


def test_the_noise_belongs_to_all_sources_and_their_roles() -> None:
    def case(first: Volume, second: Volume) -> str:
        return case_of(first, read_companions(first, given(second), (FLAIR,), force=False))

    swapped = case(replace(HEAD[T1], modality=T2), replace(HEAD[T2], modality=T1))
    cases = [case(HEAD[T1], HEAD[T2]), case_of(HEAD[T1], ()), case_of(HEAD[T2], ()), swapped]
    cases.append(case(HEAD[T1], replace(HEAD[PD], modality=T2)))
    assert len(set(cases)) == len(cases)
    assert case(HEAD[T1], HEAD[T2]) == case(HEAD[T2], HEAD[T1])


def test_sources_that_match_are_not_warned_of(tmp_path: Path) -> None:
    folder = write_scans(tmp_path, t1={}, t2=OTHER_GRID)
    for names in (("t1", "t2"), ("t2", "t1")):
        first, second = (load(folder / f"{name}.nii.gz") for name in names)
        (companion,) = read_companions(first, [Given(second)], (FLAIR,), force=False)
        assert companion.cautions == (), companion.overlap


def test_sources_that_lie_apart_are_warned_of_with_the_figure() -> None:
    outcome = make({"t1": HEAD[T1], "t2": moved(HEAD[T2], 30)})
    (warning,) = [text for text in outcome.warnings if "do not match" in text]
    dice = outcome.record["sources"][1]["dice"]
    assert 0.1 < dice < 0.9 and f"agree by {dice:.0%}" in warning
    assert warning in outcome.record["scope_warnings"]


def test_sources_that_do_not_overlap_are_refused_with_the_figure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not overlap: t2 shows 0% of the head in t1"):
        make({"t1": HEAD[T1], "t2": moved(HEAD[T2], 400)}, output=tmp_path / "made.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_the_sidecar_names_all_sources(tmp_path: Path) -> None:
    folder = write_scans(tmp_path / "scans", t1={}, t2=OTHER_GRID)
    paths = {name: folder / f"{name}.nii.gz" for name in ("t2", "t1")}
    outcome = make(paths, output=tmp_path / "made.nii.gz", preview=True)
    record = json.loads((tmp_path / "made.json").read_text(encoding="utf-8"))
    assert record["source"] == {"file": "t2.nii.gz", "sha256": sha256_of(paths["t2"])}
    assert (record["from"], record["to"]) == ("t2", "flair")
    assert [(each["modality"], each["file"], each["sha256"]) for each in record["sources"]] == [
        (name, path.name, sha256_of(path)) for name, path in paths.items()
    ]
    assert record["sources"][1]["covered"] > 0.9 and outcome.preview is not None


def test_the_sidecar_of_other_models_stays_as_it_was() -> None:
    outcome = make(HEAD[T1], make_method(), to="t2")
    assert "sources" not in outcome.record and "source" in outcome.record


def test_a_package_serves_any_subset(tmp_path: Path) -> None:
    model = write_joint(tmp_path / "joint.safetensors")
    loaded = imputer.load_model(model, device="cpu")
    assert (loaded.joint, loaded.sources, loaded.required) == (True, (T1, T2), ())
    for sources in ({"t1": HEAD[T1], "t2": HEAD[T2]}, {"t2": HEAD[T2]}):
        np.testing.assert_allclose(make(sources, model).volume.array, make(sources).volume.array, atol=1)


@pytest.mark.parametrize(
    ("sources", "model", "error", "words"),
    [
        (("t1", "t2", "pd"), JOINT, ModelError, "takes t1 [+] t2, not pd.*Leave pd out"),
        (("pd",), JOINT, ModelError, "takes t1 [+] t2, not pd"),
        (("t1",), make_joint(required=(T2,)), ModelError, "needs t2 beside t1.*Add t2=PATH"),
        (("t1", "t2"), make_method(), ModelError, "from t1 to t2, not from t1 [+] t2.*one input"),
        (("t1", "t1w"), JOINT, UsageError, "Two inputs are t1"),
        (("t1", "flair"), JOINT, UsageError, "Source and target are both flair"),
        (("t1", "t9"), JOINT, UsageError, "t9"),
        ((), JOINT, UsageError, "none"),
    ],
)
def test_sources_that_do_not_fit_are_refused(
    sources: tuple[str, ...], model: Method, error: type[ImputerError], words: str, tmp_path: Path
) -> None:
    volumes = {name: HEAD.get(name, HEAD[T2]) for name in sources}  # type: ignore[call-overload]
    with pytest.raises(error) as caught:
        make(volumes, model, output=tmp_path / "made.nii.gz")
    assert re.search(words, f"{caught.value} {caught.value.remedy}")
    assert list(tmp_path.iterdir()) == []


def test_a_source_of_another_size_than_a_head_is_refused_unless_forced() -> None:
    tiny = replace(HEAD[T2], affine=HEAD[T2].affine @ np.diag([0.2, 0.2, 0.2, 1.0]))
    with pytest.raises(InputError):
        make({"t1": HEAD[T1], "t2": tiny})
    large = make_head([T2], shape=(60, 70, 32), spacing=(12.0, 12.0, 20.0))[T2]
    with pytest.raises(InputError, match="t2: The volume measures"):
        make({"t1": HEAD[T1], "t2": large})
    outcome = make({"t1": HEAD[T1], "t2": large}, force=True)
    assert any(warning.startswith("t2: The volume measures") for warning in outcome.warnings)


def test_dicom_and_nifti_may_be_mixed(tmp_path: Path) -> None:
    make_series(tmp_path / "scan", **DICOM_HEAD)
    series = load(tmp_path / "scan")
    other = series.with_array(series.array, modality=T2)
    for sources, first in (
        ({"t1": tmp_path / "scan", "t2": other}, series),
        ({"t2": other, "t1": tmp_path / "scan"}, other),
    ):
        made = make(sources).volume
        np.testing.assert_array_equal(made.affine, first.affine)


def test_series_of_two_patients_are_refused_unless_forced(tmp_path: Path) -> None:
    make_series(tmp_path / "one", **DICOM_HEAD)
    make_series(tmp_path / "two", **DICOM_HEAD, patient={"PatientID": "ANOTHER^CANARY"})
    sources = {"t1": tmp_path / "one", "t2": tmp_path / "two"}
    with pytest.raises(InputError, match="different patients") as caught:
        make(sources)
    assert "CANARY" not in f"{caught.value} {caught.value.remedy}"
    assert any("different patients" in text for text in make(sources, force=True).warnings)


def test_names_of_two_subjects_are_warned_of(tmp_path: Path) -> None:
    folder = write_scans(tmp_path, t1={}, t2={})
    named = {}
    for name, subject in (("t1", "01"), ("t2", "02")):
        named[name] = (folder / f"{name}.nii.gz").rename(folder / f"sub-{subject}_{name.upper()}w.nii.gz")
    assert any("different subjects" in warning for warning in make(named).warnings)
    named["t2"] = named["t2"].rename(folder / "sub-01_T2w.nii.gz")
    assert make(named).warnings == []


def test_several_samples_of_several_sources(tmp_path: Path) -> None:
    sources = {"t1": HEAD[T1], "t2": HEAD[T2]}
    outcome = make(sources, samples=2, output=tmp_path / "made.nii.gz")
    assert outcome.std is not None and outcome.record["samples"] == 2
    assert not np.array_equal(outcome.volume.array, make(sources).volume.array)
