"""Luma of frames made in numpy, which the fingerprint is made of: as decoded, whatever the layout and the tags."""

import numpy as np
import pytest

from tests.pictures import frame_of, gray_frame, with_fields
from worker.media.fingerprint import dhash
from worker.media.scaler import luma


def noise():
    random = np.random.default_rng(1)
    return [random.integers(0, 256, shape, dtype=np.uint8) for shape in ((48, 64), (24, 32), (24, 32))]


@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("tagged", [0, 1, 2])
def test_luma_is_the_plane_as_decoded(matrix, tagged):
    planes = noise()
    view, depth = luma(frame_of("yuv420p", *planes, colorspace=matrix, color_range=tagged))
    assert depth == 8
    assert (view == planes[0]).all()


@pytest.mark.parametrize("tagged", [0, 1, 2])
@pytest.mark.parametrize(
    "name", ["yuv420p10le", "yuv420p10be", "p010le", "gray10le", "yuv444p16le", "gray16be", "y210le"]
)
def test_deep_luma_keeps_its_values(name, tagged):
    depth = 16 if "16" in name else 10
    samples = np.random.default_rng(6).integers(0, 1 << depth, (32, 48))
    stored = (samples << 6 if name in {"p010le", "y210le"} else samples).astype(">u2" if name.endswith("be") else "<u2")
    middle = np.full((32, 48), (512 << 6 if name in {"p010le", "y210le"} else 1 << (depth - 1)), stored.dtype)
    planes = {
        "p010le": [stored, middle[:16]],
        "y210le": [np.dstack([stored, middle])],
        "yuv444p16le": [stored, middle, middle],
    }.get(name, [stored] if name.startswith("gray") else [stored, middle[:16, :24], middle[:16, :24]])
    view, found = luma(frame_of(name, *planes, color_range=tagged))
    assert found == depth
    assert (view == samples).all()


@pytest.mark.parametrize("tagged", [0, 1, 2])
@pytest.mark.parametrize("name", ["nv12", "gray", "yuyv422", "uyvy422", "ya8"])
def test_other_layouts_keep_their_luma(name, tagged):
    samples = np.random.default_rng(7).integers(0, 256, (32, 48), dtype=np.uint8)
    middle = np.full_like(samples, 128)
    planes = {
        "nv12": [samples, middle[:16]],
        "gray": [samples],
        "yuyv422": [np.dstack([samples, middle])],
        "uyvy422": [np.dstack([middle, samples])],
        "ya8": [np.dstack([samples, middle])],
    }[name]
    view, depth = luma(frame_of(name, *planes, color_range=tagged))
    assert depth == 8
    assert (view == samples).all()


@pytest.mark.parametrize("name", ["rgb24", "bgra", "gbrp"])
def test_rgb_gets_601_luma(name):
    pixels = np.random.default_rng(8).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    r, g, b = (pixels[..., i] for i in range(3))
    planes = {"rgb24": [pixels], "bgra": [np.dstack([b, g, r, r])], "gbrp": [g, b, r]}[name]
    view, depth = luma(frame_of(name, *planes))
    assert depth == 8
    assert np.abs(view - (pixels @ [0.299, 0.587, 0.114])).max() < 1


def test_luma_outlives_its_frame():
    planes = noise()
    views = [luma(frame_of("yuv420p", *planes))[0] for _ in range(50)]
    assert all((view == planes[0]).all() for view in views)


def test_interlacing_does_not_touch_the_fingerprint():
    comb = np.zeros((64, 64))
    comb[1::2] = np.arange(64) * 4
    frame = gray_frame(comb)
    assert dhash(*luma(with_fields(frame, "tff"))) == dhash(*luma(frame)) == 2**64 - 1
