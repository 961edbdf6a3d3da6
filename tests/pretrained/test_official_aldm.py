"""Import of the ALDM authors' checkpoints: each stage computes what theirs does, and what is amiss is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_files import CASE, first_stage, latent_diffusion, trained_first_stage, write_checkpoint
from torch import Tensor
from typer.testing import CliRunner

from imputer.cli.app import app
from imputer.errors import ModelError, OutputError, UsageError
from imputer.modality import Modality
from imputer.nets.aldm import make_aldm
from imputer.nets.checkpoint import read_header
from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig
from imputer.pretrained import official_syndiff
from imputer.pretrained.load import load_generator, load_model
from imputer.pretrained.official_aldm import import_checkpoint, infer_config, split
from imputer.pretrained.torch_checkpoint import read_state_dict
from imputer.weights.manifest import Imported
from imputer.weights.package import entry_of

DATA = Path(__file__).parents[1] / "data"
SYNDIFF = DATA / "syndiff_tiny.pth"
CLASSES = [Modality(each) for each in CASE["modalities"]]
TARGET = CASE["target_class"]
TOLERANCE = 1e-5  # of the largest value
STATES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "stage1": lambda: trained_first_stage(spade=False),
    "stage2": trained_first_stage,
    "diffusion": latent_diffusion,
    "diffusion without average": lambda: latent_diffusion(average=False),
}
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The authors' files, by what they are."""
    folder = tmp_path_factory.mktemp("theirs")
    return {name: write_checkpoint(folder / f"{name.replace(' ', '-')}.ckpt", make()) for name, make in STATES.items()}


@pytest.fixture(scope="module")
def packages(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the command makes of them."""
    folder = tmp_path_factory.mktemp("ours")
    made = {}
    for name, checkpoint in checkpoints.items():
        made[name] = folder / checkpoint.with_suffix(".safetensors").name
        words = ["models", "import", str(checkpoint), "--targets", "t1,t1ce,t2,flair", "-o", str(made[name])]
        result = CliRunner().invoke(app, words)
        assert (result.exit_code, result.stdout.strip()) == (0, str(made[name])), result.output
    return made


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    with np.load(DATA / "aldm_tiny.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < TOLERANCE


# ----------------------------------------------------------------------------------------------------------------------
# What comes in


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("whose", ["theirs", "ours"])
@torch.inference_mode()
def test_each_stage_computes_what_the_authors_code_does(
    checkpoints: dict[str, Path], packages: dict[str, Path], recorded: dict[str, Tensor], name: str, whose: str
) -> None:
    network = load_generator(checkpoints[name] if whose == "theirs" else packages[name])
    assert not network.training and not any(each.requires_grad for each in network.parameters())
    assert_close(network.encode(recorded["source"]), recorded["z_source"])
    assert_close(network.decode(recorded["z_source"]), recorded["decoded_source"])
    if name == "stage1":
        with pytest.raises(ValueError, match="MS-SPADE"):
            network.to_target(recorded["z_source"], TARGET)
        return
    assert_close(network.to_target(recorded["z_source"], TARGET), recorded["z_target_like"])
    assert_close(network.decode(recorded["z_target_like"]), recorded["decoded_target_like"])
    assert hasattr(network, "denoise") == name.startswith("diffusion")
    if name.startswith("diffusion"):
        latents = [recorded[each] for each in ("x_T", "z_source", "z_target_like")]
        assert_close(network.denoise(*latents, 777, TARGET), recorded["eps_t777"])


def test_the_package_says_what_it_is_and_where_it_comes_from(packages: dict[str, Path]) -> None:
    header = read_header(packages["diffusion"])
    assert header["sources"] == header["targets"] == ["t1", "t1ce", "t2", "flair"]
    assert header["sampler"] == {"name": "ddim", "steps": 200, "eta": 1.0}
    assert read_header(packages["stage2"])["sampler"]["name"] == "none"
    assert [step["step"] for step in header["recipe"]] == ["orient", "isotropic", "box3d", "percentiles", "whole"]
    assert (header["method"], header["output_scale"]) == ("aldm", 1000.0)
    assert (header["about"]["licence"], header["about"]["non_commercial"]) == ("not stated", True)
    assert len(header["about"]["imported_sha256"]) == 64
    json.dumps(header)


def test_a_package_is_a_model(packages: dict[str, Path]) -> None:
    for name, steps in (("diffusion", 200), ("stage2", 0)):
        model = load_model(packages[name], device="cpu")
        assert model.sources == model.targets == tuple(CLASSES)
        assert (model.steps, model.identity.id) == (steps, packages[name].stem)


def test_sources_may_be_fewer_than_the_targets(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    import_checkpoint(checkpoints["stage2"], CLASSES, out, sources=[Modality.T1])
    assert (read_header(out)["sources"], len(read_header(out)["targets"])) == (["t1"], 4)


def test_stage_1_alone_makes_nothing_and_says_what_it_lacks(packages: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="without MS-SPADE"):
        load_model(packages["stage1"], device="cpu")
    with pytest.raises(ModelError, match="without MS-SPADE"):
        entry_of(packages["stage1"], Imported(packages["stage1"]))


def test_a_bare_state_dictionary_and_the_old_format_come_in_too(tmp_path: Path) -> None:
    torch.save(first_stage(), tmp_path / "bare.pt")
    write_checkpoint(tmp_path / "old.ckpt", first_stage(), legacy=True)
    for name in ("bare.pt", "old.ckpt"):
        assert load_generator(tmp_path / name).first_stage.config.classes == 4


@pytest.mark.parametrize("legacy", [False, True])
def test_numbers_of_numpy_beside_the_weights_are_passed_over(tmp_path: Path, legacy: bool) -> None:
    more = {"loops": {"best": np.float64(0.25), "count": np.int64(7), "score": np.float32(1.5)}}
    path = write_checkpoint(tmp_path / "stage2.ckpt", first_stage(), legacy=legacy, **more)
    assert b"multiarray" in path.read_bytes()
    assert read_state_dict(path).keys() == first_stage().keys()


def test_lightning_is_named_and_never_imported(checkpoints: dict[str, Path]) -> None:
    assert b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n" in checkpoints["stage1"].read_bytes()
    before = set(torch.serialization.get_safe_globals())
    load_generator(checkpoints["stage1"])
    assert not any(name.split(".")[0] == "pytorch_lightning" for name in sys.modules)
    assert set(torch.serialization.get_safe_globals()) == before


# ----------------------------------------------------------------------------------------------------------------------
# Shapes


def whole_state(first: FirstStageConfig, unet: LatentUNetConfig) -> State:
    """The names and shapes of a latent diffusion checkpoint."""
    with torch.device("meta"):
        network = make_aldm(first, unet)
    parts = {"first_stage.": "first_stage_model.", "unet.": "model.diffusion_model."}
    state = network.state_dict()
    return {
        theirs + key.removeprefix(ours): state[key]
        for ours, theirs in parts.items()
        for key in state
        if key.startswith(ours)
    }


def test_the_released_size_is_inferred() -> None:
    state = whole_state(FirstStageConfig(), LatentUNetConfig())
    counts = [
        sum(value.numel() for key, value in state.items() if key.startswith(prefix))
        for prefix in ("first_stage_model.", "model.")
    ]
    assert [round(count / 1e6) for count in counts] == [25, 33]
    assert infer_config(split(state, "x.ckpt"), "x.ckpt") == (FirstStageConfig(), LatentUNetConfig())


LEVELS = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)
FIRST_STAGES = st.builds(
    FirstStageConfig, width=st.sampled_from([32, 64]), channel_multipliers=LEVELS, blocks_per_level=st.integers(1, 3),
    latent_channels=st.integers(1, 4), codebook_size=st.integers(1, 9), classes=st.integers(1, 5),
    spade_widths=st.lists(st.integers(1, 9), max_size=4).map(tuple), spade_hidden=st.integers(1, 8),
)  # fmt: skip
UNETS = st.builds(
    LatentUNetConfig, width=st.sampled_from([32, 64]), channel_multipliers=LEVELS, blocks_per_level=st.integers(1, 3),
    attention_factors=st.sets(st.sampled_from([1, 2, 4, 8])).map(sorted).map(tuple),
)  # fmt: skip


@given(first=FIRST_STAGES, unet=UNETS)
@settings(max_examples=25, deadline=None)
def test_any_shape_is_inferred(first: FirstStageConfig, unet: LatentUNetConfig) -> None:
    latent = first.latent_channels
    factors = tuple(each for each in unet.attention_factors if each <= unet.factor)
    unet = replace(unet, attention_factors=factors, inputs=3 * latent, outputs=latent, classes=first.classes)
    assert infer_config(split(whole_state(first, unet), "x.ckpt"), "x.ckpt") == (first, unet)


@given(first=FIRST_STAGES)
@settings(max_examples=10, deadline=None)
def test_a_first_stage_without_classes_is_inferred(first: FirstStageConfig) -> None:
    first = replace(first, classes=0, spade_widths=FirstStageConfig.spade_widths, spade_hidden=64)
    with torch.device("meta"):
        state = make_aldm(first).state_dict()
    state = {key.removeprefix("first_stage."): value for key, value in state.items()}
    assert infer_config(split(state, "x.ckpt"), "x.ckpt") == (first, None)


# ----------------------------------------------------------------------------------------------------------------------
# What does not fit


def refusal(folder: Path, state: Mapping[str, object], targets: list[Modality] = CLASSES) -> str:
    """Import a checkpoint that must be refused; nothing may lie in the folder afterwards but the file."""
    path = write_checkpoint(folder / "theirs.ckpt", state)
    with pytest.raises(ModelError) as caught:
        import_checkpoint(path, targets, folder / "out.safetensors")
    assert list(folder.iterdir()) == [path]
    assert "theirs.ckpt" in caught.value.message
    return str(caught.value)


def test_unknown_names_are_listed(tmp_path: Path) -> None:
    extra = {"surplus.weight": torch.zeros(1), "cond_stage_model.weight": torch.zeros(1)}
    said = refusal(tmp_path, latent_diffusion() | extra)
    assert "unknown cond_stage_model.weight, surplus.weight" in said
    one = torch.zeros(1)
    assert "unknown encoder.conv_in.bias" in refusal(tmp_path, latent_diffusion() | {"encoder.conv_in.bias": one})
    assert "extra encoder.surplus" in refusal(tmp_path, first_stage() | {"encoder.surplus": one})
    assert "extra model_ema.more" in refusal(tmp_path, latent_diffusion() | {"model_ema.more": one})


def test_a_scale_of_the_latents_is_not_dropped_in_silence(tmp_path: Path) -> None:
    assert "unknown scale_factor" in refusal(tmp_path, latent_diffusion() | {"scale_factor": torch.tensor(0.18)})
    path = write_checkpoint(tmp_path / "one.ckpt", latent_diffusion() | {"scale_factor": torch.tensor(1.0)})
    assert load_generator(path).unet.config.classes == 4


@pytest.mark.parametrize(
    "name",
    [
        "first_stage_model.decoder.conv_out.bias",
        "first_stage_model.encoder.conv_in.weight",
        "first_stage_model.quantize.embedding.weight",
        "first_stage_model.spade.block.2.norm_1.spades.3.mlp_beta.bias",
        "model.diffusion_model.out.2.weight",
        "model.diffusion_model.label_emb.weight",
        "model.diffusion_model.middle_block.1.norm.bias",
        "model_ema.diffusion_modelmiddle_block1normbias",
    ],
)
def test_a_missing_name_is_listed(tmp_path: Path, name: str) -> None:
    state = latent_diffusion()
    del state[name]
    wanted = name.removeprefix("first_stage_model.").removeprefix("model.diffusion_model.")
    said = refusal(tmp_path, state)
    if name.startswith("model_ema"):
        assert "of the running average" in said
        wanted = "middle_block.1.norm.bias"
    assert wanted in said and "missing" in said


def test_wrong_shapes_are_listed(tmp_path: Path) -> None:
    assert "wrong shape decoder.conv_out.bias (3,) for (1,)" in refusal(
        tmp_path, first_stage() | {"decoder.conv_out.bias": torch.zeros(3)}
    )
    assert "encoder.conv_in.weight has the shape ()" in refusal(
        tmp_path, first_stage() | {"encoder.conv_in.weight": torch.zeros(())}
    )


def without(state: State, prefix: str) -> State:
    return {key: value for key, value in state.items() if not key.startswith(prefix)}


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("first_stage_model.spade.", "lacks MS-SPADE (first_stage_model.spade.*, of stage 2)."),
        ("first_stage_model.", "lacks the autoencoder (first_stage_model.*)."),
        ("model.diffusion_model.", "lacks the UNet (model.diffusion_model.*)."),
    ],
)
def test_a_diffusion_model_without_a_stage_names_it(tmp_path: Path, prefix: str, words: str) -> None:
    assert words in refusal(tmp_path, without(latent_diffusion(), prefix))


def test_as_many_targets_as_classes_are_needed(tmp_path: Path) -> None:
    for state in (first_stage(), latent_diffusion()):
        assert "has 4 classes, and 2 targets are named: t1, t2." in refusal(tmp_path, state, [Modality.T1, Modality.T2])


def test_a_codebook_of_another_model_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, first_stage() | {"quantize.embedding.weight": torch.zeros(64, 3)})
    assert "codebook has entries of 3 values, and its latents have 4 channels" in said


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    classes = {"model.diffusion_model.label_emb.weight": torch.zeros(3, 128)}
    assert "UNet knows 3 classes, and its MS-SPADE 4" in refusal(tmp_path, latent_diffusion(average=False) | classes)
    inputs = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3, 3)}
    assert "UNet takes 8 and gives 4 channels instead of 12 and 4" in refusal(
        tmp_path, latent_diffusion(average=False) | inputs
    )


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = latent_diffusion()
    state["model_ema.diffusion_modellabel_embweight"] = torch.full((4, 128), float("nan"))
    said = refusal(tmp_path, state)
    assert "running average" in said and "NaN or infinite) in label_emb.weight" in said


def test_a_width_that_no_group_norm_divides_is_refused(tmp_path: Path) -> None:
    state = first_stage()
    for name in ("conv_in.weight", "conv_in.bias"):
        state[f"encoder.{name}"] = state[f"encoder.{name}"][:24]
    assert "width 24" in refusal(tmp_path, state) or "multiples" in refusal(tmp_path, state)


def test_the_checkpoints_of_the_other_authors_are_told_apart(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(UsageError, match=r"syndiff_tiny\.pth is a SynDiff generator.*--from and --to"):
        import_checkpoint(SYNDIFF, CLASSES, out)
    for name in STATES:
        with pytest.raises(UsageError, match=r"\.ckpt is a checkpoint of ALDM.*--targets"):
            official_syndiff.import_checkpoint(checkpoints[name], Modality.T1, Modality.T2, out)
    torch.save({"conv.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="neither a SynDiff generator nor a checkpoint of ALDM"):
        load_generator(tmp_path / "other.pt")
    assert not out.exists()


def test_modalities_that_make_no_pair_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    for targets, sources in (([Modality.T1] * 4, None), (CLASSES, [Modality.T1, Modality.T1]), ([], None)):
        with pytest.raises(UsageError):
            import_checkpoint(checkpoints["stage2"], targets, tmp_path / "out.safetensors", sources=sources)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_package_is_kept_unless_told(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(OutputError):
        import_checkpoint(checkpoints["stage1"], CLASSES, out)
    assert out.read_text() == "mine"
    import_checkpoint(checkpoints["stage1"], CLASSES, out, overwrite=True)
    assert read_header(out)["targets"] == CLASSES
