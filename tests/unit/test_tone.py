"""Tone and gamut mapping against the standards in double precision (`tests/standards.py`)."""

import numpy as np
import pytest

from tests import standards
from worker.media.colour import Primaries, Transfer
from worker.media.tone import eetf, hlg_to_scene, nit_to_pq, pq_to_nit, to_sdr

NAMES = {Primaries.BT709: "BT.709", Primaries.BT2020: "BT.2020", Primaries.P3: "P3"}
PEAKS = {Transfer.PQ: 10_000, Transfer.HLG: 1_000}


def mapped(signal, hdr, primaries=Primaries.BT2020):
    """Map signals 0..1 (n, 3) to levels (n, 3)."""
    codes = np.round(np.asarray(signal) * 65535).astype(np.uint16)
    return to_sdr(*(codes[None, :, channel] for channel in range(3)), hdr, primaries)[0].astype(int)


def grays(signal):
    return np.repeat(np.asarray(signal, float)[:, None], 3, axis=1)


def test_curves_have_the_values_of_the_standards():
    # ITU-R BT.2408 table 1: 203 nit is 58 % of PQ, 100 nit 51 %, 1,000 nit 75 %; HLG's diffuse white is 75 %.
    assert np.round(nit_to_pq(np.array([0.0, 100, 203, 1000, 10000])), 2).tolist() == [0, 0.51, 0.58, 0.75, 1]
    assert pq_to_nit(nit_to_pq(np.array([0.01, 203, 4000]))) == pytest.approx([0.01, 203, 4000])
    scene = hlg_to_scene(np.array([0.5, 0.75, 1.0]))
    assert scene == pytest.approx([1 / 12, 0.265, 1], abs=5e-4)
    assert 1000 * scene[1] ** 1.2 == pytest.approx(203, abs=1)
    nit = np.geomspace(0.01, 10_000, 200)
    assert eetf(nit, 10_000, 203) == pytest.approx(standards.bt2390(nit, 10_000, 203), rel=1e-9)


@pytest.mark.parametrize("primaries", Primaries)
@pytest.mark.parametrize("hdr", Transfer)
def test_hdr_is_within_a_level_of_the_reference(hdr, primaries):
    signal = np.random.default_rng(3).integers(0, 65_536, (20_000, 3)) / 65_535
    nit = standards.pq_eotf(signal) if hdr is Transfer.PQ else standards.hlg_eotf(signal)
    wanted = 255 * standards.tone_mapped(nit, NAMES[primaries], PEAKS[hdr])
    assert np.abs(mapped(signal, hdr, primaries) - wanted).max() < 1.5


@pytest.mark.parametrize("primaries", [Primaries.BT2020, Primaries.P3])
def test_a_wide_gamut_of_standard_range_is_within_a_level_of_the_reference(primaries):
    signal = np.random.default_rng(4).integers(0, 65_536, (20_000, 3)) / 65_535
    light = signal**2.4 @ standards.between(NAMES[primaries], "BT.709").T
    wanted = 255 * np.clip(light, 0, 1) ** (1 / 2.4)
    assert np.abs(mapped(signal, None, primaries) - wanted).max() < 1.5
    ramp = np.linspace(0, 1, 256)
    assert np.abs(mapped(grays(ramp), None, primaries) - 255 * grays(ramp)).max() <= 1  # grays stay


def test_highlights_roll_off_without_a_flat_end():
    nit = np.array([0, 1, 10, 50, 100, 203, 400, 700, 1000, 1500, 2000, 3000, 4000])
    levels = mapped(grays(nit_to_pq(nit.astype(float))), Transfer.PQ)[:, 0]
    assert levels[0] == 0
    assert (np.diff(levels) > 0).all()
    hlg = mapped(grays(np.linspace(0, 1, 17)), Transfer.HLG)[:, 0]
    assert (np.diff(hlg[:-1]) > 0).all()
    assert (hlg[0], hlg[-1]) == (0, 255)


# Patches as SDR shows them (sRGB levels of X-Rite's ColorChecker, and ITU-R BT.2408's gray card of 18 %).
PATCHES = {
    "dark skin": (115, 82, 68),
    "light skin": (194, 150, 130),
    "blue sky": (98, 122, 157),
    "foliage": (87, 108, 67),
    "white 80 %": (230, 230, 230),
    "gray card": (117, 117, 117),
}


@pytest.mark.parametrize("hdr", Transfer)
@pytest.mark.parametrize("name", PATCHES)
def test_skin_and_sky_look_as_their_sdr_original(name, hdr):
    """A scene graded for SDR and put into HDR at 203 nit of white, as BT.2408 does, comes back nearly as it was."""
    sdr = np.array(PATCHES[name], float)
    nit = 203 * ((sdr / 255) ** 2.4) @ standards.between("BT.709", "BT.2020").T
    signal = standards.pq_inverse_eotf(nit) if hdr is Transfer.PQ else standards.hlg_inverse_eotf(nit)
    levels = mapped(signal[None], hdr)[0]
    lightness, own_lightness = standards.lab(levels)[0], standards.lab(sdr)[0]
    if np.ptp(sdr):
        assert abs(standards.lab_hue(levels) - standards.lab_hue(sdr)) < 3
    else:
        assert np.ptp(levels) <= 1
    # PQ's curve leaves room up to 10,000 nit, so near white it is darker than HLG's up to 1,000.
    down = (16 if own_lightness > 60 else 4) if hdr is Transfer.PQ else 5
    assert own_lightness - down < lightness < own_lightness + 1


@pytest.mark.parametrize(("hdr", "white"), [(Transfer.PQ, nit_to_pq(np.array([203.0]))[0]), (Transfer.HLG, 0.75)])
def test_diffuse_white_lands_where_the_specification_wants_it(hdr, white):
    levels = mapped(grays([white]), hdr)[0]
    assert 0.75 * 255 <= levels.min() <= levels.max() <= 0.92 * 255
    assert np.ptp(levels) <= 1  # and stays white


def test_a_picture_tall_enough_for_several_strips_is_seamless():
    column = np.repeat(np.linspace(0, 65535, 100).astype(np.uint16)[:, None], 3, axis=1)
    tall = to_sdr(column, column, column, Transfer.HLG, Primaries.BT2020)
    rows = [to_sdr(row[None], row[None], row[None], Transfer.HLG, Primaries.BT2020) for row in column]
    assert (tall == np.concatenate(rows)).all()


def test_bt709_primaries_keep_their_colours():
    assert mapped([[0.6, 0, 0]], Transfer.PQ, Primaries.BT709)[0, 1:].tolist() == [0, 0]
