"""SynDiff on a stack: every slice for itself, whatever surrounds it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import make_generator, make_header, make_method
from tiny_joint import joint_header, make_joint

from imputer.errors import DeviceError, ModelError, UsageError
from imputer.methods import batches
from imputer.methods.base import Identity, RunOptions
from imputer.methods.syndiff import MEAN, SynDiff, build, network_from_header, one_by_one
from imputer.modality import Modality
from imputer.nets.ncsnpp import NCSNpp

Stack = NDArray[np.float32]
OPTIONS = RunOptions(case="case", seed=5)


@pytest.fixture(scope="module")
def method() -> SynDiff:
    return make_method()


@pytest.fixture(scope="module")
def stack() -> Stack:
    """Seven slices, the fourth of them empty."""
    slices = np.random.default_rng(0).uniform(-1, 1, (7, 1, 16, 24)).astype(np.float32)
    slices[3] = -1
    return slices


@pytest.fixture(scope="module")
def result(method: SynDiff, stack: Stack) -> Stack:
    return method.run(stack, OPTIONS)


def test_the_result_has_the_sources_shape_and_range(stack: Stack, result: Stack) -> None:
    assert result.shape == stack.shape
    assert result.dtype == np.float32
    assert np.abs(result).max() <= 1
    assert result[[0, 1, 2, 4, 5, 6]].std() > 0.01  # the weights do something


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batch_size_changes_no_bit(method: SynDiff, stack: Stack, result: Stack, batch_size: int) -> None:
    np.testing.assert_array_equal(method.run(stack, replace(OPTIONS, batch_size=batch_size)), result)


@pytest.mark.parametrize("kept", [[0], [6], [1, 5], [0, 2, 4, 6]])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_slices_do_not_depend_on_which_others_are_empty(
    method: SynDiff, stack: Stack, result: Stack, kept: list[int], batch_size: int
) -> None:
    fewer = np.full_like(stack, -1)
    fewer[kept] = stack[kept]
    expected = np.full_like(stack, -1)
    expected[kept] = result[kept]
    np.testing.assert_array_equal(method.run(fewer, replace(OPTIONS, batch_size=batch_size)), expected)


def test_the_same_slice_elsewhere_in_the_volume_gets_other_noise(method: SynDiff, stack: Stack) -> None:
    twins = stack[[0, 0]]
    first, second = method.run(twins, OPTIONS)
    assert not np.array_equal(first, second)
    first, second = method.run(twins, replace(OPTIONS, shared_noise=True))
    np.testing.assert_array_equal(first, second)


def test_the_models_own_default_of_shared_noise_holds_unless_told(stack: Stack) -> None:
    shared = make_method(shared_noise=True)
    first, second = shared.run(stack[[0, 0]], OPTIONS)
    np.testing.assert_array_equal(first, second)
    first, second = shared.run(stack[[0, 0]], replace(OPTIONS, shared_noise=False))
    assert not np.array_equal(first, second)


def test_seed_and_case_change_the_result(method: SynDiff, stack: Stack, result: Stack) -> None:
    for other in (replace(OPTIONS, seed=6), replace(OPTIONS, case="other")):
        assert not np.array_equal(method.run(stack, other)[0], result[0])


def test_empty_slices_stay_background_and_a_volume_of_them_too(method: SynDiff, stack: Stack, result: Stack) -> None:
    assert (result[3] == -1).all()
    empty = np.full_like(stack, -1)
    np.testing.assert_array_equal(method.run(empty, OPTIONS), empty)


def test_the_source_is_left_alone_and_matters(method: SynDiff, stack: Stack, result: Stack) -> None:
    before = stack.copy()
    other = stack.copy()
    other[0] = -other[0]
    changed = method.run(other, OPTIONS)
    np.testing.assert_array_equal(stack, before)
    assert not np.array_equal(changed[0], result[0])
    np.testing.assert_array_equal(changed[1:], result[1:])


def test_fewer_steps_are_another_result(method: SynDiff, stack: Stack, result: Stack) -> None:
    one = method.run(stack, replace(OPTIONS, steps=1))
    assert not np.array_equal(one, result)
    np.testing.assert_array_equal(method.run(stack, replace(OPTIONS, steps=4)), result)


@pytest.mark.parametrize("steps", [-1, 0, 5])
def test_steps_that_the_model_has_not_are_refused(method: SynDiff, stack: Stack, steps: int) -> None:
    with pytest.raises(UsageError, match=f"1 to 4 steps, not {steps}"):
        method.run(stack, replace(OPTIONS, steps=steps))


def test_progress_adds_up_to_the_slices(method: SynDiff, stack: Stack) -> None:
    told: list[int] = []
    method.run(stack, OPTIONS, told.append)
    assert sum(told) == len(stack)
    assert all(count > 0 for count in told)


def test_bfloat16_is_near_float32(method: SynDiff, stack: Stack, result: Stack) -> None:
    rough = method.run(stack, replace(OPTIONS, precision="bf16"))
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - result).mean() < 0.1


def test_a_run_in_bfloat16_leaves_the_model_as_it_was(method: SynDiff, stack: Stack, result: Stack) -> None:
    first = method.run(stack, replace(OPTIONS, precision="bf16"))
    np.testing.assert_array_equal(method.run(stack, OPTIONS), result)
    np.testing.assert_array_equal(method.run(stack, replace(OPTIONS, precision="bf16")), first)


def test_a_slice_that_does_not_fit_into_memory_is_a_device_error(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("no")

    method = make_method()
    monkeypatch.setattr(method.generator, "forward", full)
    with pytest.raises(DeviceError, match="memory"):
        method.run(stack, OPTIONS)


def test_a_lack_of_memory_halves_the_batch(stack: Stack, result: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    method, sizes = make_method(), []
    whole = method.generator.forward

    def small(x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("no")
        return whole(x, *more)

    monkeypatch.setattr(batches, "CPU_SLICES", 4)
    monkeypatch.setattr(method.generator, "forward", small)
    np.testing.assert_array_equal(method.run(stack, OPTIONS), result)
    assert [size for size in sizes if size > 1] == [4, 2]


def test_a_header_rebuilds_the_method(stack: Stack, result: Stack) -> None:
    header = make_header()
    network = network_from_header(header, "file")
    network.load_state_dict(make_generator().state_dict())
    rebuilt = build(header, network, Identity("again"))
    assert (rebuilt.sources, rebuilt.targets, rebuilt.steps) == (("t1",), ("t2",), 4)
    np.testing.assert_array_equal(rebuilt.run(stack, OPTIONS), result)


@pytest.mark.parametrize("key", ["schedule", "recipe", "source", "target", "output_scale"])
def test_a_header_that_lacks_something_is_refused(key: str) -> None:
    header = make_header()
    del header[key]
    with pytest.raises(ModelError, match=key):
        build(header, make_generator(), Identity("file"))


@pytest.mark.parametrize("network", [None, [], {"width": "wide"}, {"nonsense": 1}, {"width": 8, "levels": 3}])
def test_a_header_without_a_network_is_refused(network: object) -> None:
    with pytest.raises(ModelError, match="file"):
        network_from_header({**make_header(), "network": network}, "file")


@pytest.mark.gpu
def test_on_cuda_the_batch_size_changes_next_to_nothing(stack: Stack, result: Stack) -> None:
    method = make_method()
    assert isinstance(method.generator, NCSNpp)
    method.generator.cuda()
    for batch_size in (1, 2, 5):
        made = method.run(stack, replace(OPTIONS, batch_size=batch_size))
        assert np.abs(made - result).max() < 1e-2


def two_sources(stack: Stack) -> Stack:
    return np.concatenate([stack, np.flip(stack, axis=2)], axis=1)


def test_several_sources_give_one_image_and_each_matters(stack: Stack) -> None:
    joint, both = make_joint(), two_sources(stack)
    result = joint.run(both, OPTIONS)
    assert result.shape == stack.shape
    assert (result[3] == -1).all() and (result[0] > -1).any()
    for channel in (0, 1):
        other = both.copy()
        other[:, channel] = -1
        assert not np.array_equal(joint.run(other, OPTIONS)[0], result[0])
    np.testing.assert_array_equal(joint.run(both, replace(OPTIONS, batch_size=3)), result)


def test_a_slice_that_one_source_alone_shows_is_made(stack: Stack) -> None:
    both = two_sources(stack)
    both[3, 1] = both[2, 1]
    assert (make_joint().run(both, OPTIONS)[3] > -1).any()


def test_the_mean_of_several_sources_is_that_of_each_alone(stack: Stack) -> None:
    both = two_sources(stack)
    fused = make_joint(fusion=MEAN)
    alone = [both.copy(), both.copy()]
    alone[0][:, 1], alone[1][:, 0] = -1, -1
    options = replace(OPTIONS, steps=1)  # of one step the mean of the results: the next would begin at the mean
    one, other = (make_joint().run(each, options) for each in alone)
    np.testing.assert_allclose(fused.run(both, options)[:3], ((one + other) / 2)[:3], atol=1e-6)
    for each in alone:
        np.testing.assert_array_equal(fused.run(each, OPTIONS), make_joint().run(each, OPTIONS))


def test_a_mean_over_the_sources_that_a_slice_shows_whatever_the_batch(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = two_sources(stack)
    both[1, 1] = -1  # beyond the field of view of the second one
    fused = make_joint(fusion=MEAN)
    result = fused.run(both, OPTIONS)
    alone = both.copy()
    alone[:, 1] = -1
    np.testing.assert_array_equal(result[1], make_joint().run(alone, OPTIONS)[1])
    assert not np.array_equal(result[0], make_joint().run(alone, OPTIONS)[0])
    shares = [share.flatten().tolist() for _, share in one_by_one(torch.from_numpy(both[:2]))]
    assert shares == [[0.5, 1.0], [0.5, 0.0]]
    monkeypatch.setattr(batches, "CPU_SLICES", 3)
    np.testing.assert_allclose(fused.run(both, OPTIONS), result, atol=1e-5)


def test_a_header_of_several_sources_rebuilds_the_method(stack: Stack) -> None:
    header = joint_header(required=(Modality.T2,))
    network = network_from_header(header, "file")
    network.load_state_dict(make_joint().generator.state_dict())
    rebuilt = build(header, network, Identity("again"))
    assert (rebuilt.sources, rebuilt.joint, rebuilt.required) == ((Modality.T1, Modality.T2), True, (Modality.T2,))
    np.testing.assert_array_equal(
        rebuilt.run(two_sources(stack), OPTIONS), make_joint().run(two_sources(stack), OPTIONS)
    )
    del header["required"]  # who does not say so cannot do without any
    assert build(header, network, Identity("again")).required == rebuilt.sources
    assert (make_method().joint, make_method().required) == (False, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": ["t1"]},
        {"sources": ["t1", "t2", "pd"]},
        {"sources": ["t1", "t1w"]},
        {"sources": ["t1", "t9"]},
        {"sources": "t1"},
        {"sources": 7},
        {"required": 7},
        {"required": ["t9"]},
        {"fusion": "sum"},
    ],
    ids=str,
)
def test_a_header_whose_sources_make_no_sense_is_refused(changes: dict[str, object]) -> None:
    header = {**joint_header(), **changes}
    with pytest.raises(ModelError, match="file is incomplete or malformed"):
        build(header, make_joint().generator, Identity("file"))
