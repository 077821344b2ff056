"""The meaning of tags, and tone mapping against the standards' numbers."""

import numpy as np
import pytest

from worker.media.colour import (
    Matrix,
    Tags,
    Transfer,
    eetf,
    hlg_to_scene,
    meaning,
    nit_to_pq,
    pq_to_nit,
    tone_map,
)


@pytest.mark.parametrize(
    ("tags", "size", "matrix"),
    [
        (Tags(), (1280, 720), Matrix.BT709),
        (Tags(), (1280, 534), Matrix.BT709),
        (Tags(), (720, 1280), Matrix.BT709),
        (Tags(), (1279, 719), Matrix.BT601),
        (Tags(), (720, 576), Matrix.BT601),
        (Tags(matrix=1), (320, 180), Matrix.BT709),
        (Tags(matrix=5), (1920, 1080), Matrix.BT601),
        (Tags(matrix=6), (1920, 1080), Matrix.BT601),
        (Tags(matrix=7), (1920, 1080), Matrix.SMPTE240M),
        (Tags(matrix=9), (320, 180), Matrix.BT2020),
        (Tags(matrix=14), (1920, 1080), Matrix.BT709),
        (Tags(transfer=16), (320, 180), Matrix.BT2020),
        (Tags(primaries=9), (320, 180), Matrix.BT2020),
    ],
)
def test_matrix_by_tag_else_by_size(tags, size, matrix):
    assert meaning(tags, "yuv420p", rgb=False, width=size[0], height=size[1]).matrix is matrix


@pytest.mark.parametrize(
    ("tagged", "name", "rgb", "full"),
    [
        (0, "yuv420p", False, False),
        (1, "yuv420p", False, False),
        (2, "yuv420p10le", False, True),
        (0, "yuvj422p", False, True),
        (0, "gray", False, True),
        (1, "gray", False, False),
        (0, "gbrp", True, True),
        (1, "pal8", True, True),
    ],
)
def test_range_by_tag_else_by_format(tagged, name, rgb, full):
    assert meaning(Tags(range=tagged), name, rgb=rgb, width=64, height=64).full_range is full


def test_only_pq_and_hlg_are_hdr():
    found = {t: meaning(Tags(transfer=t), "yuv420p10le", rgb=False, width=64, height=64).hdr for t in range(19)}
    assert {t: hdr for t, hdr in found.items() if hdr} == {16: Transfer.PQ, 18: Transfer.HLG}


def test_curves_have_the_values_of_the_standards():
    # ITU-R BT.2408 table 1: 203 nit is 58 % of PQ, 100 nit 51 %, 1,000 nit 75 %; HLG's diffuse white is 75 %.
    assert np.round(nit_to_pq(np.array([0.0, 100, 203, 1000, 10000])), 2).tolist() == [0, 0.51, 0.58, 0.75, 1]
    assert pq_to_nit(nit_to_pq(np.array([0.01, 203, 4000]))) == pytest.approx([0.01, 203, 4000])
    scene = hlg_to_scene(np.array([0.5, 0.75, 1.0]))
    assert scene == pytest.approx([1 / 12, 0.265, 1], abs=5e-4)
    assert 1000 * scene[1] ** 1.2 == pytest.approx(203, abs=1)


def gray(signal):
    return np.repeat(np.round(np.asarray(signal) * 65535).astype(np.uint16)[None, :, None], 3, axis=2)


@pytest.mark.parametrize(("hdr", "white"), [(Transfer.PQ, nit_to_pq(np.array([203.0]))), (Transfer.HLG, [0.75])])
def test_diffuse_white_lands_where_the_specification_wants_it(hdr, white):
    level = tone_map(gray(white), hdr, 9)[0, 0] / 255
    assert (level >= 0.75).all()
    assert (level <= 0.92).all()
    assert np.ptp(level) < 0.008  # and stays white


def test_highlights_roll_off_without_a_flat_end():
    nit = np.array([0, 1, 10, 50, 100, 203, 400, 700, 1000, 1500, 2000, 3000, 4000])
    levels = tone_map(gray(nit_to_pq(nit.astype(float))), Transfer.PQ, 9)[0, :, 0].astype(int)
    assert levels[0] == 0
    assert (np.diff(levels) > 0).all()
    assert levels[-1] <= 255
    hlg = tone_map(gray(np.linspace(0, 1, 17)), Transfer.HLG, 9)[0, :, 0].astype(int)
    assert (np.diff(hlg[:-1]) > 0).all()
    assert (hlg[0], hlg[-1]) == (0, 255)


def test_the_tables_are_within_a_level_of_the_formulas():
    """An independent path in double precision, colour by colour: light, gamut, curve, gamma."""
    signal = np.random.default_rng(3).integers(0, 50_000, (40, 50, 3)).astype(np.uint16)
    light = pq_to_nit(signal / 65535)
    to_xyz_2020 = np.array([[0.636958, 0.144617, 0.168881], [0.262700, 0.677998, 0.059302], [0, 0.028073, 1.060985]])
    to_xyz_709 = np.array(
        [[0.412391, 0.357584, 0.180481], [0.212639, 0.715169, 0.072192], [0.019331, 0.119195, 0.950532]]
    )
    light = np.maximum(light @ (np.linalg.inv(to_xyz_709) @ to_xyz_2020).T, 0)
    peak = np.maximum(light.max(-1, keepdims=True), 1e-9)
    wanted = 255 * (light * eetf(peak, 10_000, 203) / peak / 203) ** (1 / 2.4)
    assert np.abs(tone_map(signal, Transfer.PQ, 9) - wanted).max() < 1.5


def test_a_picture_tall_enough_for_several_strips_is_seamless():
    column = gray(np.linspace(0, 1, 100)).swapaxes(0, 1)
    tall = np.repeat(column, 3, axis=1)
    one_by_one = np.concatenate([tone_map(row[None], Transfer.HLG, 9) for row in tall])
    assert (tone_map(tall, Transfer.HLG, 9) == one_by_one).all()


def test_bt709_primaries_keep_their_colours():
    red = np.zeros((1, 1, 3), np.uint16)
    red[..., 0] = 40_000
    assert tone_map(red, Transfer.PQ, 1)[0, 0, 1:].tolist() == [0, 0]
    inside = np.array([[[40_000, 30_000, 30_000]]], np.uint16)
    kept, converted = tone_map(inside, Transfer.PQ, 1)[0, 0], tone_map(inside, Transfer.PQ, 9)[0, 0]
    assert int(converted[0]) - int(converted[1]) > int(kept[0]) - int(kept[1])  # the same numbers, wider primaries
