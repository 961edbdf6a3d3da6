"""From an id or a path to a model, and the sentence for what cannot be one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, make_generator, make_header
from tiny_entry import make_entry

from imputer.errors import DeviceError, ModelError
from imputer.files import sha256_of
from imputer.nets.checkpoint import write_package
from imputer.pretrained.load import load_generator, load_model
from imputer.weights import store
from imputer.weights.manifest import Imported

Register = Callable[[Path], None]


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Register:
    """Register a file, as it is now and where it is, under the id ``mine``."""
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("IMPUTER_WEIGHTS_PATH", raising=False)

    def write(file: Path) -> None:
        store.register(make_entry(file.read_bytes(), "mine", home=Imported(file)), overwrite=False)

    return write


def test_a_package_is_loaded_with_its_identity(tiny_model: Path) -> None:
    model = load_model(tiny_model, device="cpu")
    assert (model.sources, model.targets, model.steps, model.output_scale) == (("t1",), ("t2",), 4, 1000.0)
    assert (model.identity.id, model.identity.version, model.identity.licence) == ("tiny", "7", "CC0-1.0")
    assert model.identity.sha256 == sha256_of(tiny_model)
    assert model.identity.scope == {"body_part": "head"}
    assert model.device == torch.device("cpu")


def test_the_bare_generator_is_the_network(tiny_model: Path) -> None:
    generator = load_generator(str(tiny_model))
    x, t, z = torch.randn(2, 2, 16, 16), torch.tensor([1, 2]), torch.randn(2, CONFIG.latent_size)
    assert not generator.training
    assert torch.equal(generator(x, t, z), make_generator()(x, t, z))
    assert not generator(x, t, z).requires_grad


def test_an_id_is_found_in_the_manifest(register: Register, tiny_model: Path) -> None:
    register(tiny_model)
    assert load_model("mine", device="cpu").identity.sha256 == sha256_of(tiny_model)
    assert load_generator("mine").config == CONFIG


def test_a_file_that_is_not_the_manifests_is_refused(register: Register, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "copy.safetensors"
    content = bytearray(tiny_model.read_bytes())
    file.write_bytes(content)
    register(file)
    content[-1] ^= 1
    file.write_bytes(content)
    for load in (load_model, load_generator):
        with pytest.raises(ModelError, match=r"mine.*SHA-256"):
            load("mine")
    file.write_bytes(content[:-4])
    with pytest.raises(ModelError, match=r"mine.*bytes"):
        load_model("mine")
    file.unlink()
    with pytest.raises(ModelError, match=r"mine.*not on this machine"):
        load_model("mine")


def test_an_unknown_id_lists_those_that_exist(register: Register, tiny_model: Path) -> None:
    register(tiny_model)
    with pytest.raises(ModelError, match=r"'mein'.*Did you mean mine.*syndiff-t1-t2"):
        load_model("mein")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("hf://owner/repo", "not on this machine.*imputer models pull hf://owner/repo"),
        ("gen_diffusive_2_50.pth", "imputer models import"),
        ("gone.safetensors", "gone.safetensors does not exist"),
    ],
)
def test_what_is_no_package_says_what_to_do(
    model: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPUTER_HOME", str(tmp_path))
    monkeypatch.setenv("IMPUTER_OFFLINE", "1")
    with pytest.raises(ModelError, match=words):
        load_model(model)


def test_a_device_that_is_not_there_comes_before_the_weights(tiny_model: Path) -> None:
    with pytest.raises(DeviceError):
        load_model(tiny_model, device="cuda:99")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "magic"}, "magic"),
        ({"network": {"width": 12}}, "missing|wrong shape"),
        ({"recipe": [{"step": "dance"}, {"step": "slices"}]}, "dance"),
        ({"source": None}, "source|None"),
        ({"schedule": {"beats": 3}}, "beats"),
        ({"about": []}, None),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], words: str | None) -> None:
    path = tmp_path / "model.safetensors"
    write_package(path, make_generator().state_dict(), {**make_header(), **change})
    if words is None:  # without a word about itself a model goes by its file's name
        assert load_model(path, device="cpu").identity.id == "model.safetensors"
        return
    with pytest.raises(ModelError, match=words):
        load_model(path, device="cpu")
