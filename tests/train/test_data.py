"""Training data: which files belong together, and what a batch is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import write_head
from torch import Generator

from imputer.errors import InputError, UsageError
from imputer.modality import Modality
from imputer.preprocess.recipe import Recipe
from imputer.train.config import TrainConfig
from imputer.train.data import (
    Case,
    SliceSampler,
    Stack,
    find_cases,
    load_pair,
    paired_stack,
    swapped,
    unpaired_stack,
)
from imputer.train.ship import data_recipe

T1, T2 = Modality.T1, Modality.T2


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def found(source: Path, target: Path, **options: object) -> dict[str, tuple[str | None, str | None]]:
    cases = find_cases(source, target, T1, T2, **options)  # type: ignore[arg-type]
    return {case.name: tuple(path and path.name for path in (case.source, case.target)) for case in cases}


def test_two_folders_are_matched_by_name(tmp_path: Path) -> None:
    a = touch(tmp_path / "a", "p2_t1.nii.gz", "p1_T1w.nii", "lone_t1.nii.gz", "notes.txt")
    b = touch(tmp_path / "b", "p1_t2.mha", "p2-T2.nii.gz", "other_t2.nii.gz")
    assert found(a, b) == {
        "lone": ("lone_t1.nii.gz", None),
        "other": (None, "other_t2.nii.gz"),
        "p1": ("p1_T1w.nii", "p1_t2.mha"),
        "p2": ("p2_t1.nii.gz", "p2-T2.nii.gz"),
    }


def test_one_mixed_folder_with_a_folder_a_patient(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p{n}/study_{kind}.nii.gz" for n in (1, 2) for kind in ("t1", "t2", "flair", "t1ce", "seg")))
    pairs = ("study_t1.nii.gz", "study_t2.nii.gz")
    assert found(tmp_path, tmp_path) == {"p1/study": pairs, "p2/study": pairs}


def test_names_that_tell_no_modality_count_where_the_folder_tells_it(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a", "x/p1.nii.gz", "p2.nii"), touch(tmp_path / "b", "x/p1.nii.gz", "p3.nii")
    assert found(a, b) == {
        "p2": ("p2.nii", None),
        "p3": (None, "p3.nii"),
        "x/p1": ("p1.nii.gz", "p1.nii.gz"),
    }


def test_one_folder_whose_names_tell_no_modality_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "scans", "p1.nii.gz", "p2.nii.gz")
    with pytest.raises(InputError, match="scans"):
        find_cases(tmp_path / "scans", tmp_path / "scans", T1, T2)


def test_two_files_of_one_case_and_modality_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "p1_t1.nii", "p1_t1.nii.gz", "p1_t2.nii.gz")
    with pytest.raises(InputError, match=r"p1_t1\.nii and p1_t1\.nii\.gz"):
        find_cases(tmp_path, tmp_path, T1, T2)


def test_excluded_cases_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p{n}/{kind}.nii.gz" for n in (1, 2, 13) for kind in ("t1", "t2")))
    assert [name.split("/")[0] for name in found(tmp_path, tmp_path, exclude=["p1"])] == ["p2"]


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    full = touch(tmp_path / "full", "p_t1.nii.gz")
    with pytest.raises(InputError, match="gone"):
        find_cases(full, tmp_path / "gone", T1, T2)
    with pytest.raises(InputError, match="full holds no t2"):
        find_cases(full, full, T1, T2)


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="p1"):
        load_pair(Case("p1", tmp_path / "p1.nii", None), "source", register=False)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return data_recipe(TrainConfig(source_dir="", target_dir="", output="", pixel_mm=3.0), 4.0)


@pytest.mark.parametrize("grid", ["source", "target"])
def test_a_pair_is_brought_onto_one_grid(tmp_path: Path, recipe: Recipe, grid: str) -> None:
    source = write_head(tmp_path / "p_t1.nii.gz", T1, shape=(52, 60, 4), spacing=(3.0, 3.0, 25.0), noise=0)
    target = write_head(tmp_path / "p_t2.nii.gz", T2, shape=(60, 72, 6), spacing=(2.5, 2.5, 18.0), noise=0, axes="LPS")
    stack = paired_stack(Case("p", source, target), grid, (recipe, recipe), register=False)
    assert stack.partner is not None
    assert stack.slices.shape == stack.partner.shape
    head = (stack.slices > -0.8) | (stack.partner > -0.8)
    overlap = ((stack.slices > -0.8) & (stack.partner > -0.8)).sum() / head.sum()
    assert overlap > 0.75
    assert swapped(stack).slices is stack.partner and swapped(stack).partner is stack.slices


def test_slices_without_content_are_left_out(tmp_path: Path, recipe: Recipe) -> None:
    path = write_head(tmp_path / "p_t1.nii.gz", T1, shape=(52, 60, 20), spacing=(3.0, 3.0, 25.0), noise=0)
    stack = unpaired_stack("p", path, recipe)
    assert 3 < len(stack.slices) < 14  # a head is no 500 mm high
    assert (stack.slices > -0.9).mean(axis=(1, 2, 3)).min() > 0.02


def stacks(*, paired: bool) -> list[Stack]:
    """Two volumes of differing size; the value of a slice tells which it is, its partner's is a quarter higher."""
    made = []
    for number, (slices, height, width) in enumerate(((3, 20, 31), (2, 40, 24))):
        values = np.linspace(-0.5, 0.25, 5)[[number * 3 + k for k in range(slices)], None, None, None]
        array = np.broadcast_to(values, (slices, 1, height, width)).astype(np.float16)
        made.append(Stack(str(number), array, array + np.float16(0.25) if paired else None))
    return made


@pytest.mark.parametrize(("balanced", "share"), [(False, 30 / 32), (True, 0.5)])
def test_thin_slices_outnumber_thick_ones_unless_volumes_are_balanced(balanced: bool, share: float) -> None:
    thin, thick = (np.full((count, 1, 8, 8), value, np.float16) for count, value in ((30, 0.5), (2, -0.5)))
    empty = np.zeros((0, 1, 8, 8), np.float16)
    made = [Stack("empty", empty), Stack("thin", thin), Stack("thick", thick)]
    sampler = SliceSampler(made, (8, 8), augmented=False, balanced=balanced)
    images, _ = sampler.batch(2000, Generator().manual_seed(0))
    assert float((images[:, 0, 0, 0] > 0).float().mean()) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("augmented", [False, True])
def test_volumes_of_other_sizes_mix_in_a_batch_and_pairs_stay_together(augmented: bool) -> None:
    sampler = SliceSampler(stacks(paired=True), (32, 32), augmented=augmented)
    assert len(sampler) == 5
    source, target = sampler.batch(40, Generator().manual_seed(0))
    assert target is not None
    assert source.shape == target.shape == (40, 1, 32, 32)
    assert source.dtype == target.dtype == torch.float32
    assert min(source.min(), target.min()) >= -1 and max(source.max(), target.max()) <= 1
    if not augmented:
        assert len({float(image[0, 16, 16]) for image in source}) == 5
        inside = source > -1
        assert torch.allclose(target[inside], source[inside] + 0.25, atol=1e-3)
        assert (target[~inside] == -1).all()


def test_unpaired_batches_have_no_partner() -> None:
    images, partner = SliceSampler(stacks(paired=False), (32, 32), augmented=True).batch(2, Generator().manual_seed(0))
    assert images.shape == (2, 1, 32, 32)
    assert partner is None


def test_a_batch_is_a_function_of_the_generator() -> None:
    sampler = SliceSampler(stacks(paired=True), (32, 32), augmented=True)
    first = sampler.batch(3, Generator().manual_seed(1))
    other = sampler.batch(3, Generator().manual_seed(2))
    again = sampler.batch(3, Generator().manual_seed(1))
    for one, two, three in zip(first, again, other, strict=True):
        assert one is not None and two is not None and three is not None
        assert torch.equal(one, two)
        assert not torch.equal(one, three)


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(InputError, match="No slice"):
        SliceSampler([Stack("empty", np.zeros((0, 1, 8, 8), np.float16))], (32, 32), augmented=False)
