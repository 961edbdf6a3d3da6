"""Import of the authors' checkpoints: what comes in works, what must not come in does not."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import GRID
from torch import Tensor

from imputer.errors import ModelError, OutputError
from imputer.modality import Modality
from imputer.nets.checkpoint import read_header
from imputer.nets.discriminators import TimeConditionalDiscriminator
from imputer.nets.resnet import ResNetGenerator
from imputer.phantom import make_head
from imputer.pretrained.load import load_generator, load_model
from imputer.pretrained.official_syndiff import import_checkpoint
from imputer.synth import synthesise

RELEASED = Path(__file__).parents[1] / "data" / "syndiff_tiny.pth"
Change = Callable[[dict[str, Tensor]], object]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("import") / "mine.safetensors"
    return import_checkpoint(RELEASED, Modality.T1, Modality.T2, out, image_size=64)


def changed(folder: Path, change: Change) -> Path:
    """Write the released checkpoint after a change, which may return another content."""
    state = torch.load(RELEASED, weights_only=True)
    content = change(state)
    path = folder / "changed.pth"
    torch.save(state if content is None else content, path)
    return path


def refusal(path: Path) -> str:
    """Import a file that must be refused; nothing may lie in its folder afterwards but the file."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ModelError) as caught:
        import_checkpoint(path, Modality.T1, Modality.T2, path.with_name("out.safetensors"))
    assert sorted(path.parent.iterdir()) == before
    with pytest.raises(ModelError):
        load_generator(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_the_package_is_the_same_function_as_the_checkpoint(package: Path) -> None:
    theirs, ours = load_generator(RELEASED), load_generator(package)
    x = torch.randn((2, 2, 32, 32), generator=torch.Generator().manual_seed(0))
    t, z = torch.tensor([0, 3]), torch.randn((2, ours.config.latent_size), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(ours(x, t, z), theirs(x, t, z))


def test_the_package_says_where_it_comes_from(package: Path) -> None:
    header = read_header(package)
    assert (header["source"], header["target"], header["about"]["id"]) == ("t1", "t2", "mine")
    assert len(header["about"]["imported_sha256"]) == 64
    assert header["schedule"]["steps"] == 4
    assert next(step for step in header["recipe"] if step["step"] == "box")["size"] == [64, 64]
    json.dumps(header)


def test_the_package_makes_a_volume(package: Path) -> None:
    head = make_head([Modality.T1], **GRID)[Modality.T1]
    outcome = synthesise(head, to="t2", model=package, device="cpu", force=True)
    assert outcome.volume.shape == head.shape
    np.testing.assert_array_equal(outcome.volume.affine, head.affine)
    assert outcome.volume.array.std() > 0
    assert "percentile" in json.dumps(outcome.record["recipe"])


def test_names_without_the_prefix_come_in_too(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda state: {name.removeprefix("module."): value for name, value in state.items()})
    ours, theirs = load_generator(path).state_dict(), load_generator(RELEASED).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("options", [{"pickle_protocol": 3}, {"_use_new_zipfile_serialization": False}])
def test_other_ways_of_saving_come_in_without_a_word(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "other.pth"
    torch.save(torch.load(RELEASED, weights_only=True), path, **options)
    assert load_generator(path).config == load_generator(RELEASED).config  # a warning would be an error here


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("writer", ["torch", "torch-legacy", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, writer: str) -> None:
    marker = tmp_path / "marker"
    content = {**torch.load(RELEASED, weights_only=True), "module.extra": Harmful(marker)}
    path = tmp_path / "harmful.pth"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    refusal(path)
    assert not marker.exists()


def test_missing_and_extra_names_are_listed(tmp_path: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        for name in ("module.all_modules.2.bias", "module.z_transform.3.bias"):
            del state[name]
        state["module.surplus"] = state["module.another"] = torch.zeros(1)

    said = refusal(changed(tmp_path, change))
    assert "missing all_modules.2.bias, z_transform.3.bias" in said
    assert "extra another, surplus" in said


@pytest.mark.parametrize(
    "name", ["all_modules.0.weight", "z_transform.1.weight", "all_modules.2.weight", "all_modules.3.Conv_0.weight"]
)
def test_a_missing_name_that_the_shape_follows_from_is_named(tmp_path: Path, name: str) -> None:
    def change(state: dict[str, Tensor]) -> None:
        del state["module." + name]

    assert name in refusal(changed(tmp_path, change))


def test_wrong_shapes_are_listed(tmp_path: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        state["module.all_modules.3.Conv_1.bias"] = torch.zeros(3)

    assert "wrong shape all_modules.3.Conv_1.bias (3,)" in refusal(changed(tmp_path, change))


@pytest.mark.parametrize(
    "content",
    [
        lambda state: ResNetGenerator(width=4, blocks=1).state_dict(),
        lambda state: TimeConditionalDiscriminator(width=2).state_dict(),
        lambda state: {"generator": state, "epoch": 3},
        lambda state: list(state.values()),
        lambda state: torch.zeros(3),
        lambda state: {},
        lambda state: {name: torch.zeros(()) for name in state},
    ],
    ids=["resnet", "discriminator", "nested", "list", "tensor", "empty", "scalars"],
)
def test_something_else_than_a_generator_is_refused(tmp_path: Path, content: Change) -> None:
    refusal(changed(tmp_path, content))


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x02.", b"nonsense" * 100, b"PK\x03\x04" + bytes(99)])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk.pth"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    content = RELEASED.read_bytes()
    path = tmp_path / "short.pth"
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "gone.pth")


def test_an_image_size_that_does_not_fit_the_levels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="multiple"):
        import_checkpoint(RELEASED, Modality.T1, Modality.T2, tmp_path / "out.safetensors", image_size=65)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_package_is_kept_unless_told(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(OutputError):
        import_checkpoint(RELEASED, Modality.T1, Modality.T2, out)
    assert out.read_text() == "mine"
    import_checkpoint(RELEASED, Modality.T1, Modality.T2, out, overwrite=True)
    assert load_model(out, device="cpu").targets == ("t2",)
