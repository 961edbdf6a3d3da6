"""The head phantom: contrasts, determinism, and anatomy that stands still in space whatever the grid."""

import numpy as np
import pytest

from imputer.anatomy import CLASSES, Head
from imputer.errors import UsageError
from imputer.modality import Modality
from imputer.phantom import make_head, make_labels

MR = [Modality.T1, Modality.T1CE, Modality.T2, Modality.PD, Modality.FLAIR]
SMALL = {"shape": (40, 48, 12), "spacing": (4.0, 4.0, 12.0)}
TINY = {"shape": (24, 32, 8), "spacing": (7.0, 6.5, 18.0)}


@pytest.fixture(scope="module")
def head():
    """A head at 2 mm in the plane, without noise and bias, and its labels."""
    grid = {"shape": (80, 96, 36), "spacing": (2.0, 2.0, 4.0), "seed": 5}
    return make_head(MR, noise=0, bias=0, **grid), make_labels(**grid)


def mean_of(head, modality, tissue):
    volumes, labels = head
    return volumes[modality].array[labels.array == CLASSES.index(tissue)].mean()


def test_volumes_are_what_was_asked_for():
    volumes = make_head([Modality.T2, Modality.T1], **TINY)
    assert list(volumes) == [Modality.T2, Modality.T1]
    for modality, volume in volumes.items():
        assert volume.modality is modality
        assert volume.shape == TINY["shape"]
        assert volume.array.dtype == np.float32
        assert volume.spacing == pytest.approx(TINY["spacing"])
        assert np.isfinite(volume.array).all()
        assert volume.array.min() >= 0


def test_contrasts_of_the_sequences(head):
    def order(modality, *tissues):
        values = [mean_of(head, modality, tissue) for tissue in tissues]
        return values == sorted(values, reverse=True)

    assert order(Modality.T1, "fat", "white", "grey", "csf", "bone", "air")
    assert order(Modality.T2, "csf", "grey", "white", "bone", "air")
    assert mean_of(head, Modality.T2, "csf") > 2 * mean_of(head, Modality.T2, "white")
    assert mean_of(head, Modality.FLAIR, "csf") < 0.5 * mean_of(head, Modality.FLAIR, "white")
    assert mean_of(head, Modality.FLAIR, "lesion") > 1.2 * mean_of(head, Modality.FLAIR, "white")
    assert mean_of(head, Modality.T1CE, "blood") > 1.5 * mean_of(head, Modality.T1, "blood")


def test_amounts_of_brain_tissue_are_those_of_an_adult(head):
    _, labels = head
    litres = {name: (labels.array == CLASSES.index(name)).sum() * 2 * 2 * 4 / 1e6 for name in CLASSES}
    assert 0.35 < litres["grey"] < 0.9
    assert 0.3 < litres["white"] < 0.8
    assert 0.1 < litres["csf"] < 0.5
    assert all(litres[name] > 0 for name in CLASSES)


def test_shares_of_a_point_sum_to_one():
    points = np.random.default_rng(0).uniform(-110, 110, size=(3, 5000)).astype(np.float32)
    shares = Head(2).fractions(points)
    assert shares.shape == (len(CLASSES), 5000)
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)


def test_far_away_is_air():
    points = np.array([[200.0, 0, 0], [0, 200, 0], [0, 0, 150]], np.float32).T
    np.testing.assert_array_equal(Head(0).fractions(points)[CLASSES.index("air")], 1)


def test_same_seed_same_bits_other_seed_another_head():
    first, again, other = (make_head(MR, seed=seed, **TINY) for seed in (3, 3, 4))
    for modality in MR:
        np.testing.assert_array_equal(first[modality].array, again[modality].array)
        assert not np.array_equal(first[modality].array, other[modality].array)
    assert not np.array_equal(make_labels(seed=3, **SMALL).array, make_labels(seed=4, **SMALL).array)


def test_an_image_does_not_depend_on_the_others_that_are_made():
    alone = make_head([Modality.FLAIR], **TINY)[Modality.FLAIR]
    np.testing.assert_array_equal(alone.array, make_head(MR, **TINY)[Modality.FLAIR].array)


@pytest.mark.parametrize("axes", ["LPI", "PSR", "SAL", "lps"])
def test_axis_order_turns_the_array_and_not_the_head(axes):
    letters = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    order = [letters[letter] for letter in axes.upper()]
    plain = make_labels(shape=(40, 48, 20), spacing=(4.0, 4.0, 6.0), seed=1)
    turned = make_labels(
        shape=tuple(plain.shape[n] for n in order), spacing=tuple(plain.spacing[n] for n in order), axes=axes, seed=1
    )
    assert not np.allclose(plain.affine, turned.affine)
    index = np.argwhere(plain.array >= 0)
    world = index @ plain.affine[:3, :3].T + plain.affine[:3, 3]
    inverse = np.linalg.inv(turned.affine)
    there = np.round(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    same = plain.array[tuple(index.T)] == turned.array[tuple(there.T)]
    assert same.mean() > 0.999  # voxels on a border may fall to either side by rounding


@pytest.mark.parametrize(
    ("shape", "spacing", "oblique"), [((160, 192, 24), (1, 1, 6), 0.0), ((60, 70, 50), (3, 3, 3), 17.0)]
)
def test_other_grids_sample_the_same_head(shape, spacing, oblique):
    fine = make_head([Modality.T1], shape=(80, 96, 72), spacing=(2, 2, 2), noise=0, bias=0, seed=6)[Modality.T1]
    other = make_head([Modality.T1], shape=shape, spacing=spacing, oblique_degrees=oblique, noise=0, bias=0, seed=6)[
        Modality.T1
    ]
    index = np.argwhere(np.ones(other.shape, bool))
    world = index @ other.affine[:3, :3].T + other.affine[:3, 3]
    inverse = np.linalg.inv(fine.affine)
    there = np.round(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    inside = np.all((there >= 0) & (there < fine.shape), axis=1)
    assert inside.sum() > 50_000
    ours, theirs = other.array.reshape(-1)[inside], fine.array[tuple(there[inside].T)]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9
    mirrored = fine.array[::-1][tuple(there[inside].T)]  # the test would notice a swap of left and right
    assert np.corrcoef(ours, mirrored)[0, 1] < np.corrcoef(ours, theirs)[0, 1] - 0.02


def test_oblique_grid_has_the_angle_and_the_spacing():
    volume = make_head([Modality.T1], oblique_degrees=12, **TINY)[Modality.T1]
    directions = volume.affine[:3, :3] / volume.spacing
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-12)
    assert np.degrees(np.arccos((np.trace(directions) - 1) / 2)) == pytest.approx(12)
    assert volume.spacing == pytest.approx(TINY["spacing"])


def test_thick_slices_average_thin_ones():
    thin = make_head([Modality.T2], shape=(48, 56, 20), spacing=(3, 3, 1.5), noise=0, bias=0)[Modality.T2]
    thick = make_head([Modality.T2], shape=(48, 56, 10), spacing=(3, 3, 3), noise=0, bias=0)[Modality.T2]
    averaged = thin.array.reshape(48, 56, 10, 2).mean(axis=-1)
    np.testing.assert_allclose(thick.array, averaged, atol=1e-2)


def test_air_is_nearly_dark_and_noise_is_rician():
    noisy = make_head([Modality.T1], noise=0.02, bias=0, **SMALL)[Modality.T1]
    air = make_labels(**SMALL).array == 0
    clean = make_head([Modality.T1], noise=0, bias=0, **SMALL)[Modality.T1]
    empty = air & (clean.array == 0)
    # Rayleigh: mean sigma sqrt(pi / 2), with sigma 2 % of the 400 of cortex.
    assert noisy.array[empty].mean() == pytest.approx(8 * np.sqrt(np.pi / 2), rel=0.05)


def test_bias_is_smooth_and_leaves_the_contrast_alone():
    flat = make_head([Modality.T1, Modality.T2], noise=0, bias=0, **SMALL)
    biased = make_head([Modality.T1, Modality.T2], noise=0, bias=0.3, **SMALL)
    head = flat[Modality.T1].array > 50
    gain = {m: biased[m].array / np.where(head, flat[m].array, 1) for m in flat}
    assert gain[Modality.T1][head].std() > 0.02
    np.testing.assert_allclose(gain[Modality.T1][head], gain[Modality.T2][head], rtol=1e-3)
    steps = np.abs(np.diff(gain[Modality.T1], axis=0))[head[1:] & head[:-1]]
    assert steps.max() < 0.1


def test_no_modality_no_image():
    assert make_head([], **TINY) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"modalities": [Modality.CT]},
        {"axes": "RAR"},
        {"axes": "RA"},
        {"axes": "RASS"},
        {"axes": "XYZ"},
        {"shape": (0, 4, 4)},
        {"spacing": (1.0, -1.0, 1.0)},
        {"spacing": (1.0, float("nan"), 1.0)},
    ],
)
def test_what_cannot_be_made_is_refused(wrong):
    arguments = {"modalities": [Modality.T1], **TINY, **wrong}
    with pytest.raises(UsageError):
        make_head(arguments.pop("modalities"), **arguments)
