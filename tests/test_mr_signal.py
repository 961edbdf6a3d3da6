"""Signal equations against values worked out by hand, and the contrasts that radiologists know."""

import math

import numpy as np
import pytest

from imputer.modality import Modality
from imputer.mr_signal import (
    PROTOCOLS,
    TISSUES,
    InversionRecovery,
    SpinEcho,
    SpoiledGradientEcho,
    Tissue,
    inversion_recovery,
    null_time,
    spin_echo,
    tissue_signals,
)


def test_spin_echo_by_hand():
    tissue = Tissue(t1=1000.0, t2=100.0, t2_star=50.0, pd=0.8)
    expected = 0.8 * (1 - math.exp(-0.5)) * math.exp(-0.2)
    assert SpinEcho(tr=500, te=20).signal(tissue) == pytest.approx(expected)


def test_gradient_echo_at_90_degrees_is_saturation_recovery_with_t2_star():
    tissue = Tissue(t1=1000.0, t2=100.0, t2_star=50.0, pd=0.8)
    expected = 0.8 * (1 - math.exp(-0.5)) * math.exp(-0.1)
    assert SpoiledGradientEcho(tr=500, te=5, flip_degrees=90).signal(tissue) == pytest.approx(expected)


def test_gradient_echo_is_brightest_at_the_ernst_angle():
    tissue = Tissue(t1=1000.0, t2=100.0, t2_star=50.0, pd=1.0)
    ernst = math.degrees(math.acos(math.exp(-20 / 1000)))
    signals = [SpoiledGradientEcho(20, 4, angle).signal(tissue) for angle in (ernst - 2, ernst, ernst + 2)]
    assert signals[1] == max(signals)


def test_inversion_recovery_by_hand_and_never_negative():
    tissue = Tissue(t1=1000.0, t2=100.0, t2_star=50.0, pd=0.5)
    early = InversionRecovery(tr=5000, te=10, ti=100).signal(tissue)
    assert early == pytest.approx(0.5 * abs(1 - 2 * math.exp(-0.1) + math.exp(-5)) * math.exp(-0.1))
    assert early > 0


@pytest.mark.parametrize("t1", [250.0, 833.0, 4300.0])
def test_null_time_leaves_nothing(t1):
    assert inversion_recovery(t1, 100.0, 1.0, tr=9000, te=10, ti=null_time(t1, 9000)) == pytest.approx(0, abs=1e-9)


def test_real_csf_is_nulled_near_the_inversion_time_of_scanners():
    assert null_time(4300, 9000) == pytest.approx(2500, rel=0.05)


def test_equations_take_maps():
    t1, t2 = np.array([[500.0, 833.0]]), np.array([[70.0, 83.0]])
    image = spin_echo(t1, t2, np.array([[0.77, 0.86]]), tr=500, te=12)
    assert image.shape == (1, 2)
    assert image[0, 0] == pytest.approx(SpinEcho(500, 12).signal(TISSUES["white"]))


def test_contrast_agent_shortens_t1_by_its_relaxivity():
    tissue = Tissue(t1=1000.0, t2=100.0, t2_star=50.0, pd=1.0)
    # 1/T1 = 1/s + 4.5 / (mmol/l s) * 2 mmol/l = 10/s
    assert tissue.with_agent(2.0).t1 == pytest.approx(100.0)
    assert tissue.with_agent(0.0) == tissue


@pytest.mark.parametrize(
    ("modality", "order"),
    [
        (Modality.T1, ["fat", "white", "grey", "csf", "bone"]),
        (Modality.T2, ["csf", "lesion", "grey", "white", "bone"]),
        (Modality.PD, ["csf", "grey", "white", "bone"]),
        (Modality.FLAIR, ["lesion", "grey", "white", "csf"]),
    ],
)
def test_tissues_from_bright_to_dark(modality, order):
    signals = tissue_signals(modality)
    values = [signals[name] for name in order]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)


def test_flair_suppresses_csf():
    signals = tissue_signals(Modality.FLAIR)
    assert signals["csf"] < 0.02 * signals["white"]


def test_contrast_agent_lights_up_vessels_and_lesions_but_not_brain():
    before, after = tissue_signals(Modality.T1), tissue_signals(Modality.T1CE)
    assert after["blood"] > 3 * before["blood"]
    assert after["lesion"] > 1.3 * before["lesion"]
    assert after["white"] == pytest.approx(before["white"], rel=0.05)


def test_another_protocol_may_be_given():
    assert tissue_signals(Modality.T1, protocol=SpinEcho(500, 12)) == {
        name: SpinEcho(500, 12).signal(tissue) for name, tissue in TISSUES.items()
    }


def test_only_computed_tomography_has_no_signal_equation():
    assert set(Modality) - set(PROTOCOLS) == {Modality.CT}
    with pytest.raises(KeyError):
        tissue_signals(Modality.CT)
