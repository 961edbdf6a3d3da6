"""ALDM on a volume: the stages in their order, the source encoded once, tiles where memory is small, samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tiny_aldm import (
    ALL,
    FIRST_STAGE,
    FIRST_STAGE_ALONE,
    MODALITIES,
    WITHOUT_PROJECTOR,
    make_header,
    make_method,
    make_network,
)
from torch import Tensor, nn

from imputer.diffusion.adversarial import sample
from imputer.diffusion.ddim import LinearSchedule, sample_ddim
from imputer.diffusion.noise import SliceNoise
from imputer.diffusion.schedule import Schedule
from imputer.errors import DeviceError, ImputerError, ModelError, UsageError
from imputer.methods.aldm import Aldm, build, network_from_header
from imputer.methods.base import Identity, RunOptions
from imputer.methods.memory import free_bytes, peak_bytes
from imputer.methods.registry import METHODS
from imputer.modality import Modality
from imputer.nets.aldm import ALDM
from imputer.nets.vqgan3d import FirstStageConfig
from imputer.preprocess.recipe import default_recipe

Stack = NDArray[np.float32]
T1, T1CE, T2, FLAIR = MODALITIES
OPTIONS = RunOptions(case="case", seed=5, target=T2)
SHAPE = (32, 48, 16)


@pytest.fixture(scope="module")
def method() -> Aldm:
    return make_method()


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack(SHAPE)


@pytest.fixture(scope="module")
def result(method: Aldm, stack: Stack) -> Stack:
    return method.run(stack, OPTIONS)


def make_stack(shape: tuple[int, int, int], seed: int = 0) -> Stack:
    """A smooth volume (1, 1, I, J, K) in [-1, 1]."""
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (1, 1, 6, 6, 6)))
    smooth = F.interpolate(coarse, shape, mode="trilinear", align_corners=True)
    return np.asarray(smooth.numpy(), dtype=np.float32)


@contextmanager
def counted(module: nn.Module) -> Iterator[list[int]]:
    """Count the calls of a module."""
    calls: list[int] = []
    handle = module.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


@pytest.mark.parametrize("sampler", ["projector", "ddim", "none"])
def test_the_result_has_the_sources_shape_and_range(method: Aldm, stack: Stack, sampler: str) -> None:
    made = method.run(stack, replace(OPTIONS, sampler=sampler, steps=None if sampler == "none" else 2))
    assert made.shape == stack.shape and made.dtype == np.float32
    assert np.abs(made).max() <= 1 and made.std() > 0.01


@torch.inference_mode()
def test_the_stages_are_those_of_the_paper_in_their_order(method: Aldm, stack: Stack) -> None:
    network, index = make_network(), 2
    assert isinstance(network, ALDM)
    z_source = network.encode(torch.from_numpy(stack))
    z_like = network.to_target(z_source, index)

    def expected(latent: Tensor) -> Stack:
        return network.decode(latent).clamp(-1, 1).numpy()

    def noise() -> SliceNoise:
        return SliceNoise(OPTIONS.seed, OPTIONS.case, [0])

    without = method.run(stack, replace(OPTIONS, sampler="none"))
    np.testing.assert_allclose(without, expected(z_like), atol=1e-5)
    source = noise()
    z_T = source.normal(*z_source.shape[1:])
    projected = sample(lambda x_t, t: network.project(x_t, z_source, z_like, t, index), z_T, Schedule(), source)
    np.testing.assert_allclose(method.run(stack, OPTIONS), expected(projected), atol=1e-5)
    source = noise()
    z_T = source.normal(*z_source.shape[1:])
    sampled = sample_ddim(
        lambda x, t: network.denoise(x, z_source, z_like, t, index), z_T, LinearSchedule(), source, steps=5, eta=0.5
    )
    found = method.run(stack, replace(OPTIONS, sampler="ddim", steps=5, eta=0.5))
    np.testing.assert_allclose(found, expected(sampled), atol=1e-4)


def test_a_source_is_encoded_once_for_all_targets_and_samples(stack: Stack) -> None:
    method = make_method()
    with counted(method.network.first_stage.encoder) as calls:
        made = [method.run(stack, replace(OPTIONS, target=target, case=case)) for target in MODALITIES for case in "ab"]
        assert len(calls) == 1
        method.run(stack.copy(), replace(OPTIONS, sampler="none"))  # the same voxels elsewhere are the same source
        assert len(calls) == 1
        other = stack.copy()
        other[0, 0, 5, 5, 5] += 0.5
        method.run(other, OPTIONS)
        method.run(stack, OPTIONS)  # one source is kept, not all
        assert len(calls) == 3
        method.run(stack, replace(OPTIONS, precision="bf16"))
        assert len(calls) == 4
    assert len({each.tobytes() for each in made}) == 8


def test_the_latent_that_is_kept_changes_no_bit(method: Aldm, stack: Stack, result: Stack) -> None:
    fresh = make_method()
    fresh.run(stack, replace(OPTIONS, target=FLAIR))
    np.testing.assert_array_equal(fresh.run(stack, OPTIONS), result)
    np.testing.assert_array_equal(make_method().run(stack, OPTIONS), result)


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ({"seed": 6}, {"projector", "ddim"}),
        ({"case": "other"}, {"projector", "ddim"}),
        ({"target": FLAIR}, {"projector", "ddim", "none"}),
    ],
    ids=str,
)
def test_what_changes_the_result(method: Aldm, stack: Stack, change: dict[str, Any], matters: set[str]) -> None:
    for sampler in ("projector", "ddim", "none"):
        options = replace(OPTIONS, sampler=sampler, steps=None if sampler == "none" else 2)
        first, again, other = (method.run(stack, each) for each in (options, options, replace(options, **change)))
        np.testing.assert_array_equal(first, again)
        assert np.array_equal(first, other) is (sampler not in matters)


def test_the_source_is_left_alone(method: Aldm, stack: Stack) -> None:
    before = stack.copy()
    method.run(stack, OPTIONS)
    np.testing.assert_array_equal(stack, before)


def test_a_run_does_not_touch_torchs_own_random_numbers(method: Aldm, stack: Stack) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    method.run(stack, OPTIONS)
    assert torch.equal(torch.rand(3), expected)


def test_bfloat16_is_near_float32(method: Aldm, stack: Stack) -> None:
    options = replace(OPTIONS, sampler="none")
    exact, rough = method.run(stack, options), method.run(stack, replace(options, precision="bf16"))
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).mean() < 0.2  # pseudo-random weights: 2 % of the voxels get another entry


# Samplers and steps.


def test_the_best_sampler_that_a_model_has_is_its_own() -> None:
    for parts, steps in ((ALL, 4), (WITHOUT_PROJECTOR, 200), (FIRST_STAGE_ALONE, 0)):
        method = make_method(parts)
        found = method.sampling(OPTIONS)
        assert (found.name, found.steps, method.steps) == (parts, steps, steps)
        assert found.eta == (1.0 if parts == WITHOUT_PROJECTOR else None)


def test_the_steps_of_another_sampler_are_its_usual_ones(method: Aldm) -> None:
    found = {name: method.sampling(replace(OPTIONS, sampler=name)) for name in ("projector", "ddim", "none")}
    assert {name: (each.steps, each.eta) for name, each in found.items()} == {
        "projector": (4, None),
        "ddim": (200, 1.0),
        "none": (0, None),
    }


def test_all_steps_of_the_projector_are_its_usual_way(method: Aldm, stack: Stack, result: Stack) -> None:
    np.testing.assert_array_equal(method.run(stack, replace(OPTIONS, steps=4)), result)
    assert not np.array_equal(method.run(stack, replace(OPTIONS, steps=1)), result)


@pytest.mark.parametrize(
    ("parts", "change", "words"),
    [
        (ALL, {"steps": 5}, "1 to 4 steps.*not 5"),
        (ALL, {"steps": 0}, "1 to 4 steps.*not 0"),
        (ALL, {"sampler": "ddim", "steps": 3}, "divide 1000.*2, 4,.*not 3"),
        (ALL, {"sampler": "ddim", "steps": 1000}, "divide 1000.*not 1000"),
        (ALL, {"sampler": "ddim", "steps": 1}, "not 1"),
        (ALL, {"sampler": "none", "steps": 1}, "without a sampler.*not 1"),
        (ALL, {"sampler": "euler"}, "no sampler 'euler'.*projector, ddim, none"),
        (ALL, {"eta": 0.5}, "eta"),
        (ALL, {"sampler": "ddim", "eta": 1.5}, "eta"),
        (ALL, {"sampler": "ddim", "eta": float("nan")}, "eta"),
        (WITHOUT_PROJECTOR, {"sampler": "projector"}, "no sampler 'projector'.*ddim, none"),
        (WITHOUT_PROJECTOR, {"steps": 300}, "not 300"),
        (FIRST_STAGE_ALONE, {"sampler": "ddim"}, "no sampler 'ddim'.*It has: none"),
        (FIRST_STAGE_ALONE, {"steps": 4}, "not 4"),
    ],
    ids=str,
)
def test_what_a_model_cannot_do_is_refused_before_any_work(
    stack: Stack, parts: str, change: dict[str, Any], words: str
) -> None:
    method = make_method(parts)
    options = replace(OPTIONS, **change)
    with counted(method.network.first_stage.encoder) as calls:
        for ask in (method.sampling, lambda given: method.units(stack, given), lambda given: method.run(stack, given)):
            with pytest.raises(UsageError, match=words):
                ask(options)
    assert calls == []


def test_a_target_that_the_model_lacks_is_refused(method: Aldm, stack: Stack) -> None:
    for target in (Modality.CT, None):
        with pytest.raises(ModelError, match="t1, t1ce, t2, flair"):
            method.run(stack, replace(OPTIONS, target=target))


def test_a_grid_that_the_network_cannot_take_is_refused(method: Aldm) -> None:
    with pytest.raises(ModelError, match="multiples of 16"):
        method.run(make_stack((32, 24, 16)), OPTIONS)
    with pytest.raises(ValueError, match="whole volume"):
        method.run(make_stack(SHAPE)[0], OPTIONS)


# Progress.


@pytest.mark.parametrize(("sampler", "steps"), [("projector", 4), ("projector", 1), ("ddim", 10), ("none", None)])
@pytest.mark.parametrize("memory", [None, 1])
def test_progress_adds_up_to_the_units(stack: Stack, sampler: str, steps: int | None, memory: int | None) -> None:
    method = make_method()
    method.memory = memory
    options = replace(OPTIONS, sampler=sampler, steps=steps)
    for _ in range(2):  # the second time without the encoder
        told: list[int] = []
        method.run(make_stack((16, 64, 16)), options, told.append)
        assert sum(told) == method.units(stack, options) == 15 + (steps or 0)
        assert all(count > 0 for count in told)


# Tiles and memory.


def tiled(method: Aldm, shape: tuple[int, int, int]) -> Aldm:
    """Give a method so little memory that it works in its smallest tiles."""
    method.memory = 1
    return method


class Local(ALDM):
    """A network whose every voxel depends on its own small neighbourhood alone, that of the latent's grid."""

    def __init__(self) -> None:
        network = make_network()
        assert isinstance(network, ALDM)
        super().__init__(FIRST_STAGE, network.unet.config, network.unet.config)
        self.first_stage.features = lambda x: F.avg_pool3d(x, 4).expand(-1, 4, -1, -1, -1)  # type: ignore[method-assign]
        self.first_stage.quantize = nn.Identity()  # type: ignore[assignment]

    def to_target(self, z: Tensor, class_index: int | Tensor) -> Tensor:
        return 0.5 * z + 0.1 * class_index

    def denoise(self, z_t: Tensor, z_source: Tensor, z_target_like: Tensor, t: Any, class_index: Any) -> Tensor:
        return 0.3 * z_t - z_source + z_target_like

    project = denoise

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z.mean(dim=1, keepdim=True), scale_factor=4)


@pytest.mark.parametrize("sampler", ["projector", "ddim", "none"])
def test_tiles_of_a_local_network_give_what_the_whole_gives(sampler: str) -> None:
    network = Local()
    method = build(make_header(network), network, Identity("local"))
    stack = make_stack((64, 96, 48))
    options = replace(OPTIONS, sampler=sampler, remarks={})
    whole = method.run(stack, options)
    assert options.remarks == {}
    pieces = tiled(method, (64, 96, 48)).run(stack, options)
    assert options.remarks == {"tiles": {"count": 8, "size": [48, 48, 48]}}
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    assert whole.std() > 0.05


def test_tiles_leave_no_seam(stack: Stack) -> None:
    """The step from voxel to voxel across the borders of tiles is no greater than elsewhere."""
    stack = make_stack((16, 16, 112))
    options = replace(OPTIONS, target=T1)
    whole = make_method().run(stack, options)
    pieces = tiled(make_method(), (16, 16, 112)).run(stack, options)
    borders = [place for start in range(0, 80, 16) for place in (start, start + 48) if 0 < place < 112]
    steps = [np.abs(np.diff(each[0, 0], axis=2)).mean(axis=(0, 1)) for each in (whole, pieces)]
    change = np.abs(np.diff(pieces[0, 0] - whole[0, 0], axis=2)).mean(axis=(0, 1))
    assert max(steps[1][place - 1] for place in borders) <= 1.2 * steps[0].max()
    assert np.mean([change[place - 1] for place in borders]) <= 1.5 * change.mean()


def test_tiles_encode_once_too_and_give_the_same_bits_again() -> None:
    stack = make_stack((64, 48, 16))
    method = tiled(make_method(), (64, 48, 16))
    with counted(method.network.first_stage.encoder) as calls:
        options = replace(OPTIONS, remarks={})
        first = method.run(stack, options)
        count = len(calls)
        assert count == options.remarks["tiles"]["count"] > 1
        np.testing.assert_array_equal(method.run(stack, options), first)
        method.run(stack, replace(options, target=FLAIR))
        assert len(calls) == count


def test_as_much_as_fits_is_taken_at_once() -> None:
    method = make_method()
    shape = (64, 96, 48)
    sizes = {}
    tile = (64, 64, 48)
    for budget in (*(peak_bytes(method.network, size, "fp32", method.device) for size in (shape, tile)), 1):
        method.memory = budget
        options = replace(OPTIONS, sampler="none", remarks={})
        method.run(make_stack(shape), options)
        sizes[budget] = options.remarks.get("tiles", {}).get("size")
    assert list(sizes.values()) == [None, [64, 64, 48], [48, 48, 48]]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_where_memory_ends_all_the_same_tiles_take_over(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    method, stack = make_method(), make_stack((64, 48, 48))
    decode = method.network.decode

    def limited(z: Tensor) -> Tensor:
        if z[0, 0].numel() > 12 * 12 * 12:
            raise error
        return decode(z)

    monkeypatch.setattr(method.network, "decode", limited)
    told: list[int] = []
    options = replace(OPTIONS, remarks={})
    made = method.run(stack, options, told.append)
    assert options.remarks["tiles"] == {"count": 2, "size": [48, 48, 48]}
    assert sum(told) == method.units(stack, options)
    np.testing.assert_array_equal(made, tiled(make_method(), (64, 48, 48)).run(stack, OPTIONS))


def test_where_not_even_the_smallest_tile_fits_it_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("no")

    method = make_method()
    monkeypatch.setattr(method.network, "decode", full)
    with pytest.raises(DeviceError, match=r"48 x 48 x 16 voxels.*memory"):
        method.run(make_stack((64, 48, 16)), OPTIONS)


def test_other_errors_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("a fault of ours")

    method = make_method()
    monkeypatch.setattr(method.network, "decode", broken)
    with pytest.raises(RuntimeError, match="ours"):
        method.run(stack, OPTIONS)


def test_numbers_that_overflow_are_told(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> None:
    method = make_method()
    monkeypatch.setattr(method.network, "decode", lambda z: torch.full((1, 1, *SHAPE), torch.nan))
    with pytest.raises(DeviceError, match=r"overflow in bf16.*--precision fp32"):
        method.run(stack, replace(OPTIONS, precision="bf16"))


def test_the_released_size_fits_into_the_memory_of_its_bar() -> None:
    with torch.device("meta"):
        network = network_from_header(make_header(ALDM(FirstStageConfig(), make_unet())), "released")
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert peak_bytes(network, (144, 192, 144), "fp32", cpu) < 8e9  # 10 GB with the interpreter, weights and volumes
    assert peak_bytes(network, (144, 192, 144), "fp16", cuda) < 6e9
    assert peak_bytes(network, (288, 288, 288), "fp32", cpu) > 8e9
    assert 0 < free_bytes(cpu) <= 8e9


def make_unet() -> Any:
    from imputer.nets.latent_unet3d import LatentUNetConfig

    return LatentUNetConfig()


# Headers.


@pytest.mark.parametrize("parts", [ALL, WITHOUT_PROJECTOR, FIRST_STAGE_ALONE])
def test_a_header_rebuilds_the_method(stack: Stack, parts: str) -> None:
    header = make_header(make_network(parts))
    network = METHODS["aldm"].network(header, "file")
    network.load_state_dict(make_network(parts).state_dict())
    rebuilt = METHODS[header["method"]].method(header, network, Identity("again"))
    assert isinstance(rebuilt, Aldm)
    assert (rebuilt.sources, rebuilt.targets, rebuilt.default.name) == (MODALITIES, MODALITIES, parts)
    options = replace(OPTIONS, steps=2 if parts == WITHOUT_PROJECTOR else None)
    np.testing.assert_array_equal(rebuilt.run(stack, options), make_method(parts).run(stack, options))


def refused(change: dict[str, Any], words: str, parts: str = ALL) -> None:
    network = make_network(parts)
    header = {**make_header(network), **change}
    with pytest.raises(ModelError, match=words) as caught:
        build({key: value for key, value in header.items() if value is not None}, network, Identity("file"))
    assert isinstance(caught.value, ImputerError) and "file" in str(caught.value)


@pytest.mark.parametrize(
    "key", ["sources", "targets", "sampler", "schedule", "projector_schedule", "recipe", "output_scale"]
)
def test_a_header_that_lacks_something_is_refused(key: str) -> None:
    refused({key: None}, key)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": ["t1", "t2"]}, "2 targets.*4 classes"),
        ({"targets": ["t1", "t2", "t2", "flair"]}, "twice"),
        ({"sources": []}, "no source"),
        ({"sources": ["t9"]}, "t9"),
        ({"sampler": {"name": "euler", "steps": 4, "eta": 1.0}}, "euler"),
        ({"sampler": {"name": "projector", "steps": 9, "eta": 1.0}}, "not 9"),
        ({"sampler": {"name": "ddim", "steps": 200, "eta": 7}}, "eta"),
        ({"sampler": {"name": "ddim", "steps": 2.5, "eta": 1}}, "steps"),
        ({"sampler": "ddim"}, "malformed"),
        ({"recipe": default_recipe().to_json()}, "whole"),
        ({"schedule": {"times": 1}}, "times"),
    ],
    ids=str,
)
def test_a_header_that_makes_no_sense_is_refused(change: dict[str, Any], words: str) -> None:
    refused(change, words)


def test_a_sampler_without_its_network_is_refused() -> None:
    refused({"sampler": {"name": "projector", "steps": 4, "eta": 1.0}}, "projector", WITHOUT_PROJECTOR)


def test_a_box_that_the_network_cannot_take_is_refused() -> None:
    from imputer.preprocess.recipe import aldm_recipe

    refused({"recipe": aldm_recipe(multiple=8).to_json()}, "multiple")


def test_an_autoencoder_without_ms_spade_makes_no_contrast() -> None:
    network = make_network(FIRST_STAGE_ALONE, replace(FIRST_STAGE, classes=0))
    with pytest.raises(ModelError, match=r"MS-SPADE.*stage 2"):
        build(make_header(network, targets=[]), network, Identity("file"))


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("first_stage", None, "first_stage"),
        ("first_stage", {"width": "wide"}, "width"),
        ("first_stage", {"nonsense": 1}, "nonsense"),
        ("unet", {"inputs": 7}, "7"),
        ("unet", {"outputs": 3}, "3 channels"),
        ("unet", {"classes": 2}, "2 classes"),
        ("projector", {"classes": 2}, "2 classes"),
    ],
    ids=str,
)
def test_a_network_that_does_not_fit_together_is_refused(part: str, change: dict[str, Any] | None, words: str) -> None:
    header = make_header(make_network())
    stored = header["network"]
    if change is None:
        del stored[part]
    else:
        stored[part] = {**stored[part], **change}
    with pytest.raises(ModelError, match=words):
        network_from_header(header, "file")


@pytest.mark.parametrize("network", [None, [], "aldm", {}])
def test_a_header_without_a_network_is_refused(network: object) -> None:
    with pytest.raises(ModelError, match="file"):
        network_from_header({**make_header(make_network()), "network": network}, "file")


@pytest.mark.parametrize("sampler", ["none", "projector", "ddim"])
def test_latents_beyond_the_models_limit_are_cut(monkeypatch: pytest.MonkeyPatch, stack: Stack, sampler: str) -> None:
    seen: list[float] = []
    for limit in (None, 0.5):
        method = build({**make_header(make_network()), "latent_limit": limit}, make_network(), Identity("held"))
        decode = method.network.decode

        def watched(z: Tensor, decode: Callable[[Tensor], Tensor] = decode) -> Tensor:
            seen.append(float(z.abs().max()))
            return decode(z)

        monkeypatch.setattr(method.network, "decode", watched)
        method.run(stack, replace(OPTIONS, sampler=sampler, steps=None))
    assert seen[0] > 0.5 == seen[1]


@pytest.mark.parametrize("limit", [0, -1.0, "nan", "inf", "much"])
def test_a_limit_that_is_none_is_refused(limit: object) -> None:
    with pytest.raises(ModelError, match="incomplete or malformed"):
        build({**make_header(make_network()), "latent_limit": limit}, make_network(), Identity("odd"))
