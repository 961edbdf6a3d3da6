"""DisDiff on a stack: content of the source, attribute of the target or of a reference scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import make_method as make_syndiff
from tiny_aldm import make_method as make_aldm
from tiny_disdiff import CONFIG, JOINT, WITHOUT_ATTRIBUTES, make_header, make_method, make_network

from imputer.errors import ModelError, UsageError
from imputer.methods.base import Identity, Method, RunOptions
from imputer.methods.disdiff import DisDiff, build, network_from_header
from imputer.modality import Modality

Stack = NDArray[np.float32]
OPTIONS = RunOptions(case="case", seed=5, source=Modality.T1, target=Modality.T2)


@pytest.fixture(scope="module")
def method() -> DisDiff:
    return make_method()


@pytest.fixture(scope="module")
def stack() -> Stack:
    """Four slices, the third of them empty."""
    slices = np.random.default_rng(0).uniform(-1, 1, (4, 1, 16, 24)).astype(np.float32)
    slices[2] = -1
    return slices


@pytest.fixture(scope="module")
def result(method: DisDiff, stack: Stack) -> Stack:
    return method.run(stack, OPTIONS)


def test_the_result_has_the_sources_shape_and_range(stack: Stack, result: Stack) -> None:
    assert (result.shape, result.dtype) == (stack.shape, np.float32)
    assert np.abs(result).max() <= 1
    assert (result[2] == -1).all()
    assert result[[0, 1, 3]].std() > 0.01


@pytest.mark.parametrize("batch_size", [2, 5])
def test_batch_size_changes_no_bit(method: DisDiff, stack: Stack, result: Stack, batch_size: int) -> None:
    np.testing.assert_array_equal(method.run(stack, replace(OPTIONS, batch_size=batch_size)), result)


def test_source_and_target_choose_their_networks(method: DisDiff, stack: Stack, result: Stack) -> None:
    for other in (
        replace(OPTIONS, source=Modality.T2),
        replace(OPTIONS, target=Modality.T1),
        replace(OPTIONS, seed=6),
        replace(OPTIONS, steps=1),
    ):
        assert not np.array_equal(method.run(stack, other)[0], result[0])


def test_a_reference_takes_the_place_of_the_mean_attribute(method: DisDiff, stack: Stack, result: Stack) -> None:
    reference = np.random.default_rng(1).uniform(-0.5, 1, (3, 1, 16, 16)).astype(np.float32)
    styled = method.run(stack, replace(OPTIONS, style=reference))
    assert not np.array_equal(styled[0], result[0])
    twin = make_method()  # the same attribute as the model's own mean gives the same
    with torch.no_grad():
        twin.network.mean_attribute["t2"].copy_(method.attribute_of(reference, Modality.T2))
    np.testing.assert_array_equal(twin.run(stack, OPTIONS), styled)
    own = replace(OPTIONS, target=Modality.T1, style=reference)  # a T1 in the look of another T1
    assert method.run(stack, own).std() > 0.01


def test_the_attribute_of_a_scan_is_the_mean_over_its_slices(method: DisDiff) -> None:
    slices = np.random.default_rng(2).uniform(-1, 1, (5, 1, 16, 16)).astype(np.float32)
    slices[[0, 3]] = -1  # empty ones do not count
    each = [method.network.attribute_of(torch.from_numpy(slices[k : k + 1]), "t1")[0] for k in (1, 2, 4)]
    expected = torch.stack(each).mean(dim=0)
    for at_once in (1, 2, 16):
        assert torch.allclose(method.attribute_of(slices, Modality.T1, at_once), expected, atol=1e-6)
    with pytest.raises(ValueError, match="no slice"):
        method.attribute_of(np.full_like(slices, -1), Modality.T1)


@pytest.mark.parametrize("make", [make_syndiff, make_aldm, lambda: make_method(WITHOUT_ATTRIBUTES)])
def test_a_model_without_attributes_refuses_a_style(make: object, stack: Stack) -> None:
    assert callable(make)
    method: Method = make()
    assert not method.takes_style
    with pytest.raises(UsageError, match=r"no attributes.*--style-from"):
        method.sampling(RunOptions(case="case", style=stack))


def test_a_model_without_attributes_works(stack: Stack) -> None:
    assert make_method(WITHOUT_ATTRIBUTES).run(stack, OPTIONS)[0].std() > 0.01


@pytest.mark.parametrize("wrong", [{"source": None}, {"target": None}, {"source": Modality.CT}])
def test_a_pair_that_is_not_there_is_refused(method: DisDiff, stack: Stack, wrong: dict[str, Modality | None]) -> None:
    with pytest.raises(UsageError, match="one of t1, t2"):
        method.run(stack, replace(OPTIONS, **wrong))  # type: ignore[arg-type]


def test_a_header_rebuilds_the_method(stack: Stack, result: Stack) -> None:
    header = make_header()
    network = network_from_header(header, "file")
    assert network.config == CONFIG
    network.load_state_dict(make_network().state_dict())
    rebuilt = build(header, network, Identity("again"))
    assert (rebuilt.sources, rebuilt.targets, rebuilt.steps) == (("t1", "t2"), ("t1", "t2"), 4)
    np.testing.assert_array_equal(rebuilt.run(stack, OPTIONS), result)


@pytest.mark.parametrize("key", ["schedule", "recipe", "output_scale"])
def test_a_header_that_lacks_something_is_refused(key: str) -> None:
    header = make_header()
    del header[key]
    with pytest.raises(ModelError, match=key):
        build(header, make_network(), Identity("file"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": None},
        {"network": {}},
        {"network": {"generator": {"width": "wide"}}},
        {"sources": ["keys"]},
        {"sources": 3},
        {"targets": []},
    ],
    ids=str,
)
def test_a_header_without_a_network_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="file"):
        network_from_header({**make_header(), **wrong}, "file")


def test_the_air_of_a_reference_does_not_count(method: DisDiff) -> None:
    head = np.random.default_rng(2).uniform(-0.5, 1, (3, 1, 16, 16)).astype(np.float32)
    air = np.random.default_rng(3).uniform(-1, -0.95, (5, 1, 16, 16)).astype(np.float32)
    alone, with_air = (method.attribute_of(slices, Modality.T2) for slices in (head, np.concatenate([air, head])))
    torch.testing.assert_close(alone, with_air)


def two_sources(stack: Stack) -> Stack:
    return np.concatenate([stack, np.flip(stack, axis=2)], axis=1)


def test_contents_of_several_sources_enter_together(stack: Stack) -> None:
    joint, both = make_method(JOINT, joint=True), two_sources(stack)
    options = replace(OPTIONS, target=Modality.FLAIR)
    result = joint.run(both, options)
    assert (joint.joint, joint.required, result.shape) == (True, (), stack.shape)
    one_by_one = make_method(JOINT)
    for channel, source in enumerate((Modality.T1, Modality.T2)):
        alone = np.full_like(both, -1)
        alone[:, channel] = both[:, channel]
        from_it = joint.run(alone, options)
        assert not np.array_equal(from_it, result)
        of_it = one_by_one.run(both[:, channel : channel + 1], replace(options, source=source))
        np.testing.assert_allclose(from_it, of_it, atol=1e-6)


def test_a_joint_header_that_requires_sources_is_refused() -> None:
    header = make_header(JOINT, joint=True)
    assert build(header, make_network(JOINT), Identity("joint")).joint
    with pytest.raises(ModelError, match="content comes of any"):
        build({**header, "required": ["t1"]}, make_network(JOINT), Identity("joint"))
