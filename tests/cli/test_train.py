"""imputer train: settings arrive, wrong ones are refused, a dry run plans and a real run ends with models."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import pytest
from nibabel.nifti1 import Nifti1Image
from tiny import make_header, write_head

from imputer.cli.train_settings import setting_of
from imputer.modality import Modality
from imputer.nets.checkpoint import write_package
from imputer.phantom import make_head

from .conftest import Run, assert_refused

TINY = [
    *("--crop", "64x64", "--batch-size", "1", "--steps", "2", "--device", "cpu", "--set", "width=8"),
    *("--set", "channel_multipliers=1,1,1", "--set", "attention_levels=", "--set", "blocks_per_level=1"),
    *("--set", "latent_size=4", "--set", "latent_width=8", "--set", "discriminator_width=4", "--set", "resnet_width=4"),
    *("--set", "pixel_mm=2.5", "--set", "validation_slices=1", "--set", "log_every=1"),
]


TINY_ALDM = [
    *(
        "--modalities",
        "t1,t2",
        "--device",
        "cpu",
        "--set",
        "voxel_mm=10",
        "--set",
        "patch=16",
        "--set",
        "latent_crop=8",
    ),
    *("--set", "variants=1", "--set", "width=4", "--set", "channel_multipliers=1,2", "--set", "groups=2"),
    *("--set", "codebook_size=16", "--set", "spade_widths=4", "--set", "spade_hidden=4", "--set", "unet_width=8"),
    *("--set", "unet_multipliers=1,2", "--set", "attention_factors=2", "--set", "head_channels=8"),
    *("--set", "unet_groups=4", "--set", "discriminator_width=4", "--set", "log_every=1"),
    *(f"--set={stage}_steps=2" for stage in ("autoencoder", "spade", "diffusion", "projector")),
]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders t1 and t2 with the same three heads."""
    folder = tmp_path_factory.mktemp("scans")
    for name in ("t1", "t2"):
        (folder / name).mkdir()
    for head in range(3):
        made = make_head([Modality.T1, Modality.T2], shape=(64, 72, 3), spacing=(2.5, 2.5, 25.0), seed=head)
        for modality, volume in made.items():
            path = folder / modality.value / f"head{head}_{modality.value}.nii.gz"
            nibabel.save(Nifti1Image(volume.array, volume.affine), path)
    return folder


def arguments(scans: Path, run_folder: Path, *more: object) -> list[object]:
    return ["train", "syndiff", "--source", scans / "t1", "--target", scans / "t2", "-o", run_folder, *TINY, *more]


def test_a_dry_run_says_the_plan_and_writes_nothing(run: Run, scans: Path, tmp_path: Path) -> None:
    result = run(*arguments(scans, tmp_path / "run", "--paired", "--holdout", "head2", "--seed", "7", "--dry-run"))
    assert result.exit_code == 0, result.output
    said = {line.split("  ")[0]: line.split()[-1] for line in result.stdout.splitlines()}
    assert (said["cases to train on"], said["cases held out"]) == ("2", "1")
    assert (said["seed"], said["width"], said["paired"], said["steps"]) == ("7", "8", "True", "2")
    assert not (tmp_path / "run").exists()


def test_a_run_from_a_model_has_its_network_and_what_is_set_beside(run: Run, scans: Path, tmp_path: Path) -> None:
    folders = ("--source", scans / "t1", "--target", scans / "t2", "-o", tmp_path / "run")
    result = run(
        "train", "syndiff", *folders, "--paired", "--init", "syndiff-t1-t2", "--set", "pixel_mm=2", "--dry-run"
    )
    assert result.exit_code == 0, result.output
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in result.stdout.splitlines()}
    assert (said["width"], said["channel_multipliers"], said["direction"]) == ("16", "(1, 2, 4, 4, 4)", "forward")
    assert (said["pixel_mm"], Path(said["initial"]).name) == ("2.0", "syndiff-t1-t2.safetensors")


def test_numbers_stay_numbers_where_the_model_has_none(run: Run, scans: Path, tmp_path: Path) -> None:
    """A network without attention has an empty list of its levels."""
    network = {"width": 8, "channel_multipliers": [1, 1], "attention_levels": []}
    header = {**make_header(Modality.T1, Modality.T2), "network": network}
    write_package(tmp_path / "model.safetensors", {}, header)
    more = ("--paired", "--init", tmp_path / "model.safetensors", "--set", "attention_levels=1,2", "--dry-run")
    result = run(*arguments(scans, tmp_path / "run", *more))
    assert result.exit_code == 0, result.output
    assert "(1, 2)" in result.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [("syndiff-t7", ["syndiff-t7"]), ("disdiff-t1-t2", ["train syndiff"]), ("gone.safetensors", ["gone"])],
)
def test_a_model_that_a_run_cannot_start_from_is_refused(
    run: Run, scans: Path, tmp_path: Path, name: str, words: list[str]
) -> None:
    assert_refused(run(*arguments(scans, tmp_path / "run", "--paired", "--init", name)), 4, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folders", [1, 2])
def test_several_sources_are_one_direction(run: Run, scans: Path, tmp_path: Path, folders: int) -> None:
    """Where one folder holds all sources, names tell them; else there is one for each."""
    write_head(tmp_path / "flair" / "head0_flair.nii.gz", Modality.FLAIR)
    for name in ("t1", "t2"):
        for path in (scans / name).iterdir():
            target = tmp_path / ("all" if folders == 1 else name) / path.name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    places = ["all"] if folders == 1 else ["t1", "t2"]
    sources = [word for place in places for word in ("--source", tmp_path / place)]
    words = ["--from", "t1w", "--from", "t2", "--target", tmp_path / "flair", "--to", "flair", "--paired", "--dry-run"]
    result = run("train", "syndiff", *sources, *words, "-o", tmp_path / "run", *TINY, "--set", "source_dropout=0.4")
    assert result.exit_code == 0, result.output
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in result.stdout.splitlines()}
    assert (said["cases to train on"], said["direction"], said["source"]) == ("1", "forward", "t1")
    assert ("t2" in said["other_sources"], said["source_dropout"], said["width"]) == (True, "0.4", "8")
    assert (str(tmp_path / "t2") in said["other_source_dirs"]) is (folders == 2)


@pytest.mark.slow
def test_a_run_ends_with_models_and_can_be_resumed(run: Run, scans: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    pytest.importorskip("skimage", reason="scores need the extra train")
    folder = tmp_path / "run"
    result = run(*arguments(scans, folder, "--paired", "--holdout", "head2"))
    assert result.exit_code == 0, result.output
    models = [Path(line) for line in result.stdout.splitlines()]
    assert len(models) == 2
    assert all(model.suffix == ".safetensors" and model.is_file() for model in models)
    assert "step 2/2" in result.stderr
    assert_refused(run(*arguments(scans, folder, "--paired")), 6, "run", "--resume")
    longer = ("--paired", "--steps", "3", "--resume", "--log-json")
    assert run(*arguments(scans, folder, *longer)).exit_code == 2  # head2 would be trained on
    again = run(*arguments(scans, folder, *longer, "--holdout", "head2"))
    assert again.exit_code == 0, again.output
    events = [json.loads(line) for line in again.stderr.splitlines()]
    assert [event["done"] for event in events if event["event"] == "progress"] == [3]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--to", "t1"], ["same"]),
        (["--to", "t7"], ["t7"]),
        (["--set", "nonsense=3"], ["nonsense", "latent_size"]),
        (["--set", "width"], ["width"]),
        (["--set", "width=wide"], ["wide", "width"]),
        (["--set", "augment=maybe"], ["maybe"]),
        (["--crop", "64"], ["64"]),
        (["--direction", "sideways"], ["sideways"]),
        (["--direction", "forward"], ["--paired"]),
        (["--holdout", "head"], ["train on"]),
        (["--from", "t1", "--from", "pd"], ["--paired"]),
        (["--from", "t1", "--from", "pd", "--paired", "--direction", "both"], ["--direction forward"]),
        (["--source", "more"], ["2 --source for 1 --from"]),
    ],
    ids=" ".join,
)
def test_wrong_settings_are_two(run: Run, scans: Path, tmp_path: Path, more: list[str], words: list[str]) -> None:
    assert_refused(run(*arguments(scans, tmp_path / "run", *more)), 2, *words)
    assert not (tmp_path / "run").exists()


def test_missing_folders_are_two(run: Run) -> None:
    assert run("train", "syndiff", "--source", "a").exit_code == 2


@pytest.mark.parametrize(
    ("text", "like", "value"),
    [
        ("3", 1, 3),
        ("3", 1.5, 3.0),
        ("true", False, True),
        ("False", True, False),
        ("1,2", (4,), (1, 2)),
        ("a,b", (), ("a", "b")),
        ("", (4,), ()),
        ("x", "y", "x"),
    ],
)
def test_a_setting_is_read_as_what_is_there(text: str, like: object, value: object) -> None:
    assert setting_of(text, like) == value
    assert type(setting_of(text, like)) is type(value)


def aldm_arguments(scans: Path, run_folder: Path, *more: object) -> list[object]:
    return ["train", "aldm", "--data", scans, "-o", run_folder, *TINY_ALDM, *more]


@pytest.fixture(scope="module")
def subjects(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same heads in one folder, where names tell subject and contrast."""
    folder = tmp_path_factory.mktemp("subjects")
    for path in scans.rglob("*.nii.gz"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_dry_run_of_aldm_says_the_plan(run: Run, subjects: Path, tmp_path: Path) -> None:
    result = run(*aldm_arguments(subjects, tmp_path / "run", "--holdout", "head2", "--dry-run"))
    assert result.exit_code == 0, result.output
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in result.stdout.splitlines()}
    assert (said["cases to train on"], said["cases held out"], said["unet_width"]) == ("2", "1", "8")
    assert not (tmp_path / "run").exists()


def test_aldm_trains_all_its_stages_and_the_model_works(run: Run, subjects: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    folder = tmp_path / "run"
    result = run(*aldm_arguments(subjects, folder, "--no-progress"))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(folder / "models" / "aldm.safetensors")]
    assert "projector: step 2/2" in result.stderr
    again = run(*aldm_arguments(subjects, folder))
    assert_refused(again, 6, "--resume")
    source = next(subjects.glob("head0_t1*"))
    model = folder / "models" / "aldm.safetensors"
    thin = run("synth", source, "--to", "t2", "-m", model, "-o", tmp_path / "t2.nii.gz")
    assert_refused(thin, 3, "75 mm", "--force")  # of voxels of 10 mm 16 are asked for
    made = run("synth", source, "--to", "t2", "-m", model, "-o", tmp_path / "t2.nii.gz", "--force")
    assert made.exit_code == 0, made.output


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--stages", "spade"], ["--init"]),
        (["--stages", "autoencoder,projector"], ["without gaps"]),
        (["--modalities", "t1"], ["two different"]),
        (["--modalities", "t1,xray"], ["xray"]),
        (["--set", "dreams=1"], ["dreams"]),
        (["--set", "patch=20"], ["multiple of 8"]),
    ],
)
def test_wrong_settings_of_aldm_are_two(
    run: Run, subjects: Path, tmp_path: Path, more: list[str], words: list[str]
) -> None:
    assert_refused(run(*aldm_arguments(subjects, tmp_path / "run", *more)), 2, *words)
    assert not (tmp_path / "run").exists()


def disdiff_arguments(scans: Path, run_folder: Path, *more: object) -> list[object]:
    shared = [word for pair in zip(TINY[::2], TINY[1::2], strict=True) if "resnet" not in pair[1] for word in pair]
    own = [f"--set={name}" for name in ("content_width=4", "content_blocks=1", "content_maps=2", "attribute_size=3")]
    folders = ("--source", scans / "t1", "--target", scans / "t2", "-o", run_folder)
    return ["train", "disdiff", *folders, *shared, *own, *more]


def test_a_dry_run_of_disdiff_says_the_plan(run: Run, scans: Path, tmp_path: Path) -> None:
    result = run(*disdiff_arguments(scans, tmp_path / "run", "--holdout", "head2", "--dry-run"))
    assert result.exit_code == 0, result.output
    said = {line.split("  ")[0]: line.split()[-1] for line in result.stdout.splitlines()}
    assert (said["cases to train on"], said["cases held out"]) == ("2", "1")
    assert (said["content_width"], said["disentangle"], said["steps"]) == ("4", "True", "2")
    assert not (tmp_path / "run").exists()


def test_disdiff_trains_one_model_that_makes_both_and_takes_a_style(run: Run, scans: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    folder = tmp_path / "run"
    result = run(*disdiff_arguments(scans, folder, "--no-progress"))
    assert result.exit_code == 0, result.output
    model = folder / "models" / "disdiff-t1-t2.safetensors"
    assert result.stdout.splitlines() == [str(model)]
    assert "step 2/2" in result.stderr and "reconstruction" in result.stderr
    assert_refused(run(*disdiff_arguments(scans, folder)), 6, "--resume")
    for source, target in (("t1", "t2"), ("t2", "t1"), ("t1", "t1")):
        start = ("synth", scans / source / f"head0_{source}.nii.gz", "--to", target, "-m", model)
        style = ("--style-from", scans / target / f"head1_{target}.nii.gz")
        made = run(*start, "-o", tmp_path / f"{source}-{target}.nii.gz", *style)
        assert made.exit_code == 0, made.output


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--to", "t1"], ["same"]),
        (["--set", "direction=forward"], ["direction"]),
        (["--set", "attribute_size=0"], ["attribute_size"]),
        (["--set", "own_content=2"], ["own_content"]),
        (["--crop", "66x64"], ["multiples"]),
    ],
    ids=" ".join,
)
def test_wrong_settings_of_disdiff_are_two(
    run: Run, scans: Path, tmp_path: Path, more: list[str], words: list[str]
) -> None:
    assert_refused(run(*disdiff_arguments(scans, tmp_path / "run", *more)), 2, *words)
    assert not (tmp_path / "run").exists()
