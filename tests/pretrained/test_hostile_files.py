"""Files made to do harm: no pickle in them runs, what they claim costs no memory, and each is one error."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_files import write_checkpoint
from tiny import make_generator, make_header
from tiny_entry import safetensors_bytes
from torch import Tensor

from imputer.errors import ModelError
from imputer.methods import aldm
from imputer.modality import Modality
from imputer.nets.aldm import make_aldm
from imputer.nets.checkpoint import read_header, read_tensors, write_package
from imputer.nets.latent_unet3d import LatentUNetConfig
from imputer.nets.vqgan3d import FirstStageConfig
from imputer.preprocess.recipe import aldm_recipe
from imputer.pretrained.load import load_generator, load_model
from imputer.pretrained.official_aldm import import_checkpoint as import_aldm
from imputer.pretrained.official_syndiff import import_checkpoint

CLASSES = (Modality.T1, Modality.T1CE, Modality.T2, Modality.FLAIR)
RELEASED = Path(__file__).parents[1] / "data" / "syndiff_tiny.pth"
FEW_BYTES = 150_000_000  # what a refusal may cost at most; what the files claim is far more
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """No test with this takes much memory at any time, as far as the system (Linux) can say."""
    if not os.access(CLEAR, os.W_OK):
        yield
        return
    before = resident("VmRSS")
    CLEAR.write_text("5")  # the peak begins anew
    yield
    assert resident("VmHWM") - before < FEW_BYTES


def resident(kind: str) -> int:
    """Bytes in memory now (VmRSS) or at most (VmHWM)."""
    return 1024 * int(re.findall(rf"{kind}:\s*(\d+) kB", STATUS.read_text())[0])


def refusal(path: Path) -> str:
    """The sentence about a file that nothing takes; nothing else may lie in its folder afterwards."""
    before = sorted(path.parent.iterdir())
    said = []
    for read in (import_it, load_generator, load_model, read_header, read_tensors):
        with pytest.raises(ModelError) as caught:
            read(path)
        assert caught.value.exit_code == 4
        assert path.name in caught.value.message
        assert str(caught.value).isprintable() and len(str(caught.value)) < 3000
        said.append(caught.value.message)
    assert sorted(path.parent.iterdir()) == before
    return said[2 if path.suffix == ".safetensors" else 0]


def import_it(path: Path) -> Path:
    return import_checkpoint(path, Modality.T1, Modality.T2, path.with_name("out.safetensors"))


def released() -> dict[str, Tensor]:
    content: dict[str, Tensor] = torch.load(RELEASED, weights_only=True)
    return content


# ----------------------------------------------------------------------------------------------------------------------
# Pickles that run code


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.marker), "w")


def content_with(harm: object) -> dict[object, object]:
    return {**released(), "module.extra": harm}


def zip_format(path: Path, harm: object) -> None:
    torch.save(content_with(harm), path)


def legacy_format(path: Path, harm: object) -> None:
    torch.save(content_with(harm), path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path, harm: object) -> None:
    path.write_bytes(pickle.dumps(content_with(harm)))


def newer_pickle(path: Path, harm: object) -> None:
    path.write_bytes(pickle.dumps(content_with(harm), protocol=5))  # names code by STACK_GLOBAL


def oldest_pickle(path: Path, harm: Harmful) -> None:
    path.write_bytes(b"(V%s\nVw\nibuiltins\nopen\n." % str(harm.marker).encode())  # names code by INST


def in_the_metadata(path: Path, harm: object) -> None:
    content = OrderedDict(released())
    content._metadata = harm  # type: ignore[attr-defined]
    torch.save(content, path)


def as_a_key(path: Path, harm: object) -> None:
    torch.save({harm: torch.zeros(1), **released()}, path)


def in_another_pickle(path: Path, harm: object) -> None:
    """Among the small pickles of the legacy format, before the content."""
    buffer = io.BytesIO()
    torch.save(released(), buffer, _use_new_zipfile_serialization=False)
    system = pickle.dumps({"little_endian": True}, protocol=2)
    buffer.seek(0)
    for _ in range(2):
        pickle.load(buffer)  # noqa: S301 - our own
    head = buffer.getvalue()[: buffer.tell()]
    path.write_bytes(head + pickle.dumps(harm, protocol=2) + system + buffer.getvalue()[buffer.tell() :])


def tar_format(path: Path, harm: object) -> None:
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            text = pickle.dumps(content_with(harm), protocol=2)
            member.size = len(text)
            file.addfile(member, io.BytesIO(text))


def zip_in_a_zip(path: Path, harm: object) -> None:
    zip_format(path, harm)
    inner = path.read_bytes()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", inner)
        file.writestr("archive/version", "3\n")


def two_pickles(path: Path, harm: object) -> None:
    """One that is harmless, and one whose name is the same for who ignores case."""
    torch.save(released(), path)
    with zipfile.ZipFile(path, "a") as file:
        folder = file.namelist()[0].rpartition("/")[0]
        file.writestr(f"{folder}/DATA.PKL", pickle.dumps(content_with(harm), protocol=2))


def checkpoint_in_a_pickle(path: Path, harm: object) -> None:
    """A checkpoint as bytes, which torch itself would load while the outer pickle is read."""
    buffer = io.BytesIO()
    torch.save(content_with(harm), buffer)
    load = torch.storage._load_from_bytes

    class Nested:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes]]:
            return load, (buffer.getvalue(),)

    path.write_bytes(pickle.dumps({"a": Nested()}, protocol=2))


def torchscript(path: Path, harm: object) -> None:
    torch.save(released(), path)
    with zipfile.ZipFile(path, "a") as file:
        folder = file.namelist()[0].rpartition("/")[0]
        file.writestr(f"{folder}/constants.pkl", pickle.dumps((harm,), protocol=2))


HARMFUL = [
    zip_format, legacy_format, plain_pickle, newer_pickle, oldest_pickle, in_the_metadata, as_a_key, in_another_pickle,
    tar_format, zip_in_a_zip, two_pickles, checkpoint_in_a_pickle, torchscript,
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
@pytest.mark.parametrize("write", HARMFUL, ids=lambda write: write.__name__)
@pytest.mark.usefixtures("little_memory")
def test_code_in_a_file_does_not_run(tmp_path: Path, write: Callable[[Path, Harmful], None], suffix: str) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / f"harmful{suffix}"
    write(path, Harmful(marker))
    refusal(path)
    assert not marker.exists()


@pytest.mark.parametrize("write", [zip_format, legacy_format, in_the_metadata, as_a_key, in_another_pickle])
def test_the_files_would_do_harm_to_who_trusts_them(tmp_path: Path, write: Callable[[Path, Harmful], None]) -> None:
    write(tmp_path / "harmful.pth", Harmful(tmp_path / "marker"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.load(tmp_path / "harmful.pth", weights_only=False)
        except Exception as error:  # whatever becomes of the file, its code has run
            print(error)  # noqa: T201
    assert (tmp_path / "marker").exists()


def test_what_would_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "harmful.pth"
    zip_format(path, Harmful(tmp_path / "marker"))
    assert "holds more than tensors ('io open')" in refusal(path).replace("builtins open", "io open")
    path.write_bytes(b"\x80\x02cos\nsystem\n" + b"X\x04\x00\x00\x00true\x85R.")
    assert "holds more than tensors ('os system')" in refusal(path)
    path.write_bytes(b"\x80\x02c" + b"m" * 10**5 + b"\n\x1b[2J\n.")
    assert "holds more than tensors ('mmm" in refusal(path)


# ----------------------------------------------------------------------------------------------------------------------
# Checkpoints that claim more than they have


def rewritten(path: Path, change: Callable[[str, bytes], bytes], content: object = None) -> Path:
    """Write a small checkpoint, and change its zip's members."""
    torch.save(content or {"a": torch.ones(10)}, path)
    with zipfile.ZipFile(path) as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, change(name.rpartition("/")[2], content))
    return path


def claiming(content: bytes, number: int) -> bytes:
    """Let a pickle with a tensor of 10 values say another number, in its storage and in its shape."""
    digits = number.to_bytes(6, "little")
    for after in (b"t", b"N", b"\x85"):
        content = content.replace(b"K\n" + after, b"\x8a\x06" + digits + after)
    return content


def deflated_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in ("data.pkl", "version", "data/0"):
            with file.open(f"archive/{name}", "w") as member:
                for _ in range(300 if name == "data.pkl" else 1):
                    member.write(bytes(10**6))


def shared_bytes(path: Path) -> None:
    """Many members in the zip's list that are the same bytes of the file."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", bytes(10**6))
        (first,) = file.infolist()
        for number in range(1000):
            member = zipfile.ZipInfo(f"archive/data/{number}")
            member.file_size = member.compress_size = first.file_size
            member.CRC, member.header_offset = first.CRC, first.header_offset
            file.filelist.append(member)


def many_members(path: Path) -> None:
    """A list of members as long as the file allows, of one member."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"")
        start = file.start_dir
    content = path.read_bytes()
    members, end = content[start:-22] * 80_000, bytearray(content[-22:])
    struct.pack_into("<2HL", end, 8, 2**16 - 1, 2**16 - 1, len(members))
    path.write_bytes(content[:start] + members + end)


def legacy_claim(number: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.save({"a": torch.ones(10)}, path, _use_new_zipfile_serialization=False)
        path.write_bytes(claiming(path.read_bytes(), number))

    return write


CLAIMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "deflated": (deflated_bomb, "compressed"),
    "shared bytes": (shared_bytes, "larger than the file"),
    "many members": (many_members, "too many members"),
    "stride 0": (lambda path: torch.save({"a": torch.ones(1).expand(10**6, 10**6)}, path), "larger than the file"),
    "stride 0, half": (lambda path: torch.save({"a": torch.ones(1).half().expand(10**5, 10**5)}, path), "larger than"),
    "one storage for all": (
        lambda path: torch.save(dict.fromkeys(map(str, range(1000)), torch.ones(10**5)), path),
        "larger than the file",
    ),
    "zip, 10^7 values": (lambda path: rewritten(path, lambda _, text: claiming(text, 10**7)), "damaged"),
    "zip, 10^12 values": (lambda path: rewritten(path, lambda _, text: claiming(text, 10**12)), "damaged"),
    "legacy, 10^9 values": (legacy_claim(10**9), "damaged"),
    "legacy, 10^12 values": (legacy_claim(10**12), "damaged"),
    "a long text": (lambda path: path.write_bytes(b"\x80\x02X\xff\xff\xff\x7fa"), "damaged"),
    "a longer text": (lambda path: path.write_bytes(b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"a"), "damaged"),
    "a long number": (lambda path: path.write_bytes(b"\x80\x02\x8b\xff\xff\xff\x7f\x01"), "damaged"),
    "a long memo": (lambda path: path.write_bytes(b"\x80\x02}r\xff\xff\xff\xff."), "damaged"),
    "a long pickle": (lambda path: path.write_bytes(b"\x80\x02" + b"N" * 2_000_000 + b"."), "too long"),
    "deep": (lambda path: path.write_bytes(b"\x80\x02" + b")" + b"\x85" * 200_000 + b"."), "damaged"),
    "sparse": (lambda path: torch.save({"a": torch.zeros(9).to_sparse()}, path), "more than tensors"),
    "no values": (lambda path: torch.save({"a": torch.zeros(10**4, 10**5, device="meta")}, path), "more than tensors"),
    "complex": (lambda path: torch.save({"a": torch.zeros(3, dtype=torch.complex64)}, path), "more than tensors"),
    "nested": (lambda path: torch.save({"a": {"b": torch.zeros(3)}}, path), "flat dictionary"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "another zip": (lambda path: zipfile.ZipFile(path, "w").close(), "damaged"),
}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.usefixtures("little_memory")
def test_a_checkpoint_that_claims_too_much_is_refused(tmp_path: Path, name: str) -> None:
    write, words = CLAIMS[name]
    path = tmp_path / "claims.pth"
    write(path)
    assert path.stat().st_size < 10_000_000
    assert words in refusal(path)


# ----------------------------------------------------------------------------------------------------------------------
# Checkpoints of Lightning, which hold more than tensors by their nature


def lightning_refusal(path: Path) -> str:
    """The sentence about a checkpoint with ALDM's names; nothing else may lie in its folder afterwards."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ModelError) as caught:
        import_aldm(path, CLASSES, path.with_name("out.safetensors"))
    with pytest.raises(ModelError):
        load_generator(path)
    assert sorted(path.parent.iterdir()) == before
    assert path.name in caught.value.message and str(caught.value).isprintable()
    return caught.value.message


def small_state() -> dict[str, Tensor]:
    """A state that is too small for a model, and passes for one until its shapes are looked at."""
    return {"encoder.conv_in.weight": torch.zeros(32, 1, 3, 3, 3)}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["callbacks", "optimizer_states", "hyper_parameters", "state_dict"])
@pytest.mark.usefixtures("little_memory")
def test_code_beside_the_tensors_does_not_run(tmp_path: Path, place: str, legacy: bool) -> None:
    marker = tmp_path / "marker"
    harm: Any = {"ModelCheckpoint": {"best": [Harmful(marker)]}}
    if place == "state_dict":
        path = write_checkpoint(tmp_path / "harmful.ckpt", {**small_state(), "encoder.extra": harm}, legacy=legacy)
    else:
        path = write_checkpoint(tmp_path / "harmful.ckpt", small_state(), legacy=legacy, **{place: harm})
    assert "holds more than tensors ('" in lightning_refusal(path)
    assert not marker.exists()


CALLBACK = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (CALLBACK + b")R.", "holds more than tensors ('pytorch_lightning.callbacks"),  # called with nothing
        (CALLBACK + b"q\x00}h\x00)RX\x01\x00\x00\x00as.", "holds more than tensors"),  # called out of the memo
        (CALLBACK + b")\x81.", "holds more than tensors (NEWOBJ)"),
        (CALLBACK + b"}b.", "damaged, or of another kind"),  # given attributes
        (CALLBACK + b".", "flat dictionary"),
        (b"}" + CALLBACK + b"ctorch.storage\n_load_from_bytes\ns.", "holds more than tensors ('torch.storage"),
        (b"cpytorch_lightning.callbacks.os\nsystem.path\n.", "holds more than tensors"),
        (b"cpytorch_lightning.callbacksx\nModelCheckpoint\n.", "holds more than tensors"),
        (b"cpytorch_lightning\nTrainer\n.", "holds more than tensors"),
        (b"}" + b"".join(b"cpytorch_lightning.callbacks\nA%d\nNs" % n for n in range(200)) + b".", "more than tensors"),
    ],
)
def test_what_lightning_only_names_is_never_called(tmp_path: Path, pickled: bytes, words: str) -> None:
    path = tmp_path / "named.ckpt"
    rewritten(path, lambda name, content: b"\x80\x02" + pickled if name == "data.pkl" else content)
    assert words in lightning_refusal(path)


def terabytes() -> Tensor:
    """A tensor of one value, which says that it has 10^12."""
    return torch.ones(1).expand(10**6, 10**6)


def views(tensor: Tensor, count: int) -> list[list[Tensor]]:
    """Lists of tensors that share their storage."""
    return [[tensor.view(10, -1)] for _ in range(count)]


NESTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a terabyte in the optimiser": (
        lambda path: write_checkpoint(path, small_state(), optimizer_states=[{"m": terabytes()}]),
        "larger than the file",
    ),
    "a terabyte as a key": (
        lambda path: write_checkpoint(path, small_state(), more={(terabytes(),): 1}),
        "larger than the file",
    ),
    "a terabyte in the state": (
        lambda path: write_checkpoint(path, {"encoder.conv_in.weight": terabytes()}),
        "larger than the file",
    ),
    "one storage in many lists": (
        lambda path: write_checkpoint(path, small_state(), more=views(torch.ones(10**5), 50)),
        "larger than the file",
    ),
    "a terabyte of storage": (
        lambda path: rewritten(
            path, lambda _, text: claiming(text, 10**12), {"state_dict": small_state(), "more": {"a": torch.ones(10)}}
        ),
        "damaged",
    ),
    "a state that is no dictionary": (lambda path: write_checkpoint(path, [torch.ones(3)]), "as its state_dict"),
    "a state that is a number": (lambda path: write_checkpoint(path, 3), "as its state_dict"),
    "an empty state": (lambda path: write_checkpoint(path, {}), "as its state_dict"),
    "a dictionary in the state": (
        lambda path: write_checkpoint(path, {"encoder.": small_state()}),
        "as its state_dict",
    ),
    "numbers as names": (lambda path: write_checkpoint(path, {3: torch.ones(3)}), "as its state_dict"),
    "a state in a state": (lambda path: write_checkpoint(path, {"state_dict": small_state()}), "as its state_dict"),
    "channels of nothing": (
        lambda path: write_checkpoint(path, {"encoder.conv_in.weight": torch.zeros(10**12, 0)}),
        "not a checkpoint of ALDM",
    ),
}


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.usefixtures("little_memory")
def test_a_lightning_checkpoint_that_claims_too_much_is_refused(tmp_path: Path, name: str) -> None:
    write, words = NESTED[name]
    path = tmp_path / "claims.ckpt"
    write(path)
    assert path.stat().st_size < 10_000_000
    assert words in lightning_refusal(path)


@pytest.mark.usefixtures("little_memory")
def test_a_container_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["again"] = [loop, (loop,)]
    path = write_checkpoint(tmp_path / "loop.ckpt", small_state(), more=loop)
    assert "not a checkpoint of ALDM" in lightning_refusal(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_half_a_lightning_checkpoint_is_refused(tmp_path: Path, share: float, legacy: bool) -> None:
    content = write_checkpoint(tmp_path / "short.ckpt", small_state(), legacy=legacy).read_bytes()
    (tmp_path / "short.ckpt").write_bytes(content[: int(share * len(content))])
    assert "not a readable torch checkpoint" in lightning_refusal(tmp_path / "short.ckpt")


def test_names_that_would_write_on_the_terminal_are_shown_harmless(tmp_path: Path) -> None:
    for name in ("encoder.\x1b[2J\u202e", "\x1b[2J" * 1000):
        said = lightning_refusal(write_checkpoint(tmp_path / "nasty.ckpt", {**small_state(), name: torch.ones(1)}))
        assert len(said) < 3000


@pytest.mark.parametrize("many", ["encoder.down.{}.block.0.conv1.weight", "encoder.down.0.block.{}.conv1.weight"])
@pytest.mark.usefixtures("little_memory")
def test_very_many_layers_are_refused_before_they_are_built(tmp_path: Path, many: str) -> None:
    one = torch.zeros(32)
    state = {many.format(number): one for number in range(20_000)}
    names = ("encoder.conv_out.weight", "quantize.embedding.weight", "encoder.down.0.block.0.conv1.weight")
    state |= {**small_state(), **dict.fromkeys(names, one)}
    path = write_checkpoint(tmp_path / "many.ckpt", state, more=torch.zeros(400_000))
    assert "is not a checkpoint of ALDM" in lightning_refusal(path)


def test_a_prefix_that_hides_another_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.pth"
    torch.save({**released(), "all_modules.2.bias": torch.zeros(1)}, path)
    assert "both with and without" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_with_values_that_are_no_numbers_is_refused(tmp_path: Path, value: float) -> None:
    content = released()
    content["module.all_modules.3.Conv_0.weight"].view(-1)[7] = value
    torch.save(content, tmp_path / "endless.pth")
    assert "NaN or infinite) in all_modules.3.Conv_0.weight." in refusal(tmp_path / "endless.pth")


def test_a_value_beyond_float32_is_refused(tmp_path: Path) -> None:
    content = {name: tensor.double() for name, tensor in released().items()}
    content["module.all_modules.2.bias"][0] = 1e300
    torch.save(content, tmp_path / "endless.pth")
    assert "NaN or infinite) in all_modules.2.bias" in refusal(tmp_path / "endless.pth")


# ----------------------------------------------------------------------------------------------------------------------
# Packages whose header lies


def package(path: Path, change: Callable[[dict[str, Any]], object] = dict, **tensors: Tensor) -> Path:
    """Write the tiny model's package after a change of its imputer header or of tensors."""
    header = json.loads(json.dumps(make_header()))
    change(header)
    write_package(path, {**make_generator().state_dict(), **tensors}, header)
    return path


def model_refusal(path: Path) -> str:
    """The sentence about a package whose safetensors header is sound and whose content is not."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ModelError) as caught:
        load_model(path, device="cpu")
    assert caught.value.exit_code == 4
    assert sorted(path.parent.iterdir()) == before
    return caught.value.message


def test_the_package_that_the_lies_are_told_about_is_sound(tmp_path: Path) -> None:
    assert load_model(package(tmp_path / "sound.safetensors"), device="cpu").targets == ("t2",)


@pytest.mark.parametrize(
    ("shape", "end"),
    [([10**12], 4 * 10**12), ([10**12], 40), ([2**31, 2**31], 40), ([-1], 40), ([10], 44), ([11], 44)],
)
@pytest.mark.usefixtures("little_memory")
def test_tensors_that_are_not_there_are_refused(tmp_path: Path, shape: list[int], end: int) -> None:
    header = {
        "__metadata__": {"imputer": json.dumps({"format": 1, **make_header()})},
        "a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]},
    }
    path = tmp_path / "lie.safetensors"
    path.write_bytes(safetensors_bytes(header, bytes(40)))
    assert "not a readable safetensors file: tensor 'a'" in refusal(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 10**9),
        ("width", 10**30),
        ("width", 0),
        ("width", -8),
        ("width", 8.0),
        ("width", "8"),
        ("width", True),
        ("width", None),
        ("channel_multipliers", [10**9, 1, 1]),
        ("channel_multipliers", [1] * 10**5),
        ("channel_multipliers", []),
        ("channel_multipliers", 3),
        ("channel_multipliers", [[1]]),
        ("blocks_per_level", 10**9),
        ("blocks_per_level", 0),
        ("attention_levels", [-1]),
        ("attention_levels", [7]),
        ("attention_levels", ["a"]),
        ("image_channels", 10**12),
        ("latent_size", 10**12),
        ("latent_width", 10**12),
        ("latent_layers", 10**9),
        ("unknown", 1),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_an_absurd_configuration_is_refused_before_it_is_built(tmp_path: Path, name: str, value: object) -> None:
    path = package(tmp_path / "absurd.safetensors", lambda header: header["network"].update({name: value}))
    assert "does not describe an NCSN++ generator" in model_refusal(path)


@pytest.mark.usefixtures("little_memory")
def test_the_largest_configuration_is_compared_without_memory(tmp_path: Path) -> None:
    largest = {"width": 4096, "latent_size": 65536, "latent_width": 65536, "channel_multipliers": [64, 64, 64]}
    path = package(tmp_path / "large.safetensors", lambda header: header["network"].update(largest))
    said = model_refusal(path)
    assert "wrong shape" in said and "more" in said


def aldm_package(path: Path, part: str, change: dict[str, Any]) -> Path:
    """Write the package of a whole ALDM of a few kilobytes after a change of one part's configuration."""
    first = FirstStageConfig(width=4, groups=4, codebook_size=16, spade_widths=(8,), spade_hidden=4)
    network = make_aldm(first, LatentUNetConfig(width=8, groups=4, head_channels=8))
    header = aldm.header(network, aldm_recipe(), CLASSES, CLASSES, output_scale=1.0, about={})
    header = json.loads(json.dumps(header))
    header["network"][part].update(change)
    write_package(path, network.state_dict(), header)
    return path


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("first_stage", "width", 10**9),
        ("first_stage", "width", 65536),
        ("first_stage", "width", "4"),
        ("first_stage", "channel_multipliers", [1] * 10**5),
        ("first_stage", "channel_multipliers", [65536, 1, 1]),
        ("first_stage", "channel_multipliers", 3),
        ("first_stage", "channel_multipliers", []),
        ("first_stage", "channel_multipliers", [[1]]),
        ("first_stage", "blocks_per_level", 65536),
        ("first_stage", "latent_channels", 10**12),
        ("first_stage", "codebook_size", 10**12),
        ("first_stage", "groups", 0),
        ("first_stage", "groups", 3),
        ("first_stage", "classes", 10**6),
        ("first_stage", "classes", -1),
        ("first_stage", "classes", 3),
        ("first_stage", "spade_widths", [1] * 10**5),
        ("first_stage", "spade_hidden", 10**9),
        ("first_stage", "unknown", 1),
        ("unet", "width", 65536),
        ("unet", "width", True),
        ("unet", "channel_multipliers", [1] * 10**5),
        ("unet", "blocks_per_level", 65536),
        ("unet", "attention_factors", [0]),
        ("unet", "head_channels", 7),
        ("unet", "inputs", 10**12),
        ("unet", "inputs", 5),
        ("unet", "classes", 5),
        ("unet", "condition", ["embedding"]),
        ("unet", "condition", "magic"),
        ("unet", "groups", 10**9),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_an_absurd_configuration_of_aldm_is_refused_before_it_is_built(
    tmp_path: Path, part: str, name: str, value: object
) -> None:
    path = aldm_package(tmp_path / "absurd.safetensors", part, {name: value})
    assert "does not describe an ALDM network" in model_refusal(path)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("first_stage", {"width": 4096, "channel_multipliers": [64] * 8, "spade_widths": [4096] * 31}),
        ("unet", {"width": 4096, "channel_multipliers": [64] * 8, "blocks_per_level": 8}),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_a_very_large_configuration_of_aldm_is_compared_without_memory(
    tmp_path: Path, part: str, change: dict[str, Any]
) -> None:
    said = model_refusal(aldm_package(tmp_path / "large.safetensors", part, change))
    assert "wrong shape" in said and "more" in said


def test_tensors_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_package(path, {name.removeprefix("module."): value for name, value in released().items()}, make_header())
    assert "do not fit its architecture" in model_refusal(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["schedule"].update(steps=10**9),
        lambda header: header["schedule"].update(steps=0),
        lambda header: header["schedule"].update(steps="4"),
        lambda header: header["schedule"].update(beta_max=-1.0),
        lambda header: header["schedule"].update(beta_min="0"),
        lambda header: header["recipe"][3].update(size=[10**6, 10**6]),
        lambda header: header["recipe"][3].update(multiple=10**9),
        lambda header: header["recipe"][3].update(multiple=2.5),
        lambda header: header["recipe"][3].update(margin="8"),
        lambda header: header["recipe"][1].update(spacing_mm=0),
        lambda header: header["recipe"][1].update(spacing_mm="4"),
        lambda header: header["recipe"][1].update(tolerance=-1),
        lambda header: header["recipe"][2].update(white=-4),
        lambda header: header["recipe"][2].update(percentile=101),
        lambda header: header.update(recipe={}),
        lambda header: header.update(schedule=[]),
        lambda header: header.update(output_scale=[]),
        lambda header: header.update(network=[]),
        lambda header: header.update(method=[]),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_an_absurd_recipe_is_refused_before_a_volume_is_touched(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    model_refusal(package(tmp_path / "absurd.safetensors", change))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_package_with_values_that_are_no_numbers_is_refused(tmp_path: Path, value: float) -> None:
    name = "all_modules.2.bias"
    tensor = make_generator().state_dict()[name].clone()
    tensor[-1] = value
    path = package(tmp_path / "endless.safetensors", **{name: tensor})
    assert f"NaN or infinite) in {name}." in model_refusal(path)
    with pytest.raises(ModelError, match="NaN or infinite"):
        load_generator(path)
