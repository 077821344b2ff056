"""Every kind of pixel that real files have, through encoder, container and the whole capture, against the standards.

The chart is drawn in each format by numpy alone; what comes out is read back with Pillow.
"""

import re

import av
import numpy as np
import pytest

from tests import standards
from tests.formats import within
from tests.pictures import frame_of, picture, video
from tests.streams import at_its_priority, quiet

PATCH = 32
LOSSLESS = {
    "libx264": {"qp": "0", "preset": "ultrafast"},
    "libx264rgb": {"qp": "0", "preset": "ultrafast"},
    "libx265": {"x265-params": "lossless=1:log-level=none:bframes=0", "preset": "ultrafast"},
    "libvpx-vp9": {"lossless": "1"},
    "ffv1": {"strict": "experimental", "level": "3"},
    "mjpeg": {"qscale": "1", "qmin": "1", "global_quality": "118"},
    "jpeg2000": {"pred": "1"},
    "prores_ks": {"profile": "4444", "qscale": "1"},
    "libsvtav1": {"crf": "1", "preset": "12", "svtav1-params": "lp=1"},
}
TAGS = {"BT.601": 6, "BT.709": 1}
YUV = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "440": (1, 2), "411": (4, 1), "410": (4, 4)}


def chart():
    """Bars of 100 and 75 %, grays, and random colours: 4 rows of 8, R'G'B' 0..1."""
    bars = np.array([[r, g, b] for r in (1, 0) for g in (1, 0) for b in (1, 0)], float)
    grays = np.linspace(0, 1, 8)[:, None] * np.ones(3)
    return np.stack([bars, bars * 0.75, grays, np.random.default_rng(12).uniform(0.05, 0.95, (8, 3))])


def patches(values, across=PATCH, down=PATCH, dtype=np.uint8):
    return np.kron(values, np.ones((down, across), int)).astype(dtype)


def centres(pixels):
    return pixels[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].astype(float)


def sample_type(name, depth):
    return np.uint8 if depth == 8 else (">u2" if name.endswith("be") else "<u2")


def yuv(name, *, full=False, matrix="BT.601"):
    """A planar or half-planar frame, and the levels that it stands for."""
    kind = av.VideoFormat(name)
    depth = kind.components[0].bits
    sampling = {"nv12": "420", "nv21": "420", "nv16": "422"}.get(name) or name.lstrip("yuvaj")[:3]
    across, down = YUV[sampling]
    codes = standards.rgb_to_yuv(chart(), matrix, depth=depth, full=full)
    dtype = sample_type(name, depth)
    luma = patches(codes[..., 0], dtype=dtype)
    chroma = [patches(codes[..., index], PATCH // across, PATCH // down, dtype) for index in (1, 2)]
    if name.startswith("nv"):
        planes = [luma, np.dstack(chroma[::-1] if name == "nv21" else chroma)]
    else:
        planes = [luma, *chroma, *([np.full_like(luma, (1 << depth) - 1)] if name.startswith("yuva") else [])]
    frame = frame_of(name, *planes, color_range=2 if full else 1, colorspace=TAGS[matrix])
    return frame, 255 * np.clip(standards.yuv_to_rgb(codes, matrix, depth=depth, full=full), 0, 1)


def packed_yuv(name):
    """Two pixels in four bytes."""
    codes = standards.rgb_to_yuv(chart(), "BT.601")
    luma = patches(codes[..., 0])
    chroma = np.zeros_like(luma)
    chroma[:, ::2], chroma[:, 1::2] = (patches(codes[..., index], PATCH // 2) for index in (1, 2))
    pairs = [luma, chroma] if name == "yuyv422" else [chroma, luma]
    frame = frame_of(name, np.dstack(pairs), color_range=1, colorspace=6)
    return frame, 255 * np.clip(standards.yuv_to_rgb(codes, "BT.601"), 0, 1)


def gray(name, *, full=True):
    """Grays; `ya8` with full opacity."""
    depth = av.VideoFormat(name).components[0].bits
    top, bottom = ((1 << depth) - 1, 0) if full else (235 << (depth - 8), 16 << (depth - 8))
    codes = np.round(bottom + chart().mean(-1) * (top - bottom)).astype(int)
    samples = patches(codes, dtype=sample_type(name, depth))
    frame = frame_of(name, np.dstack([samples, np.full_like(samples, top)]) if name == "ya8" else samples)
    frame.color_range = 2 if full else 1
    return frame, np.repeat(255 * ((codes - bottom) / (top - bottom))[..., None], 3, -1)


def planar_rgb(name):
    depth = av.VideoFormat(name).components[0].bits
    codes = np.round(chart() * ((1 << depth) - 1)).astype(int)
    planes = [patches(codes[..., index], dtype=sample_type(name, depth)) for index in (1, 2, 0)]
    if name.startswith("gbra"):
        planes.append(np.full_like(planes[0], (1 << depth) - 1))
    return frame_of(name, *planes), 255 * codes / ((1 << depth) - 1)


def packed_rgb(name):
    """Whole bytes or words for each channel, in the order of the name's letters."""
    letters = re.match("[rgba]+0?", name)[0].removesuffix("be")
    depth = 16 if any(bits in name for bits in ("48", "64")) else 8
    codes = np.round(chart() * ((1 << depth) - 1)).astype(int)
    dtype = sample_type(name, depth)
    channels = [
        patches(
            codes[..., "rgb".index(letter)] if letter in "rgb" else np.full(codes.shape[:2], codes.max()), dtype=dtype
        )
        for letter in letters
    ]
    return frame_of(name, np.dstack(channels).astype(dtype)), 255 * codes / ((1 << depth) - 1)


def short_rgb(name):
    """Five bits a channel, six of green in 565."""
    bits = np.array([5, 6 if "565" in name else 5, 5])
    tops = (1 << bits) - 1
    codes = np.round(chart() * tops).astype(int)
    words = (codes[..., 0] << (bits[1] + bits[2])) | (codes[..., 1] << bits[2]) | codes[..., 2]
    return frame_of(name, patches(words, dtype=sample_type(name, 16))), 255 * codes / tops


def palette(name):
    colours = np.round(chart().reshape(-1, 3) * 255).astype(np.uint8)
    table = np.zeros((256, 4), np.uint8)
    table[:, 0] = 255
    table[: len(colours), 1:] = colours
    indices = patches(np.arange(len(colours)).reshape(chart().shape[:2]))
    frame = av.VideoFrame.from_ndarray((indices, table), format=name)
    return frame, colours.reshape(chart().shape).astype(float)


def one_bit(name):
    lit = chart().mean(-1) > 0.5
    bits = np.packbits(patches(lit if name == "monob" else ~lit), axis=1)
    frame = av.VideoFrame(lit.shape[1] * PATCH, lit.shape[0] * PATCH, name)
    rows = np.zeros((frame.height, frame.planes[0].line_size), np.uint8)
    rows[:, : bits.shape[1]] = bits
    frame.planes[0].update(rows.tobytes())
    return frame, np.repeat(255.0 * lit[..., None], 3, -1)


def drawn(name, *, full, matrix):
    """The chart in a pixel format, and the levels (rows, columns, 3) that it stands for."""
    makers = [
        (("yuyv", "uyvy"), packed_yuv),
        (("gbr",), planar_rgb),
        (("pal8",), palette),
        (("mono",), one_bit),
        (("rgb5", "bgr5"), short_rgb),
        (("rgb", "bgr", "argb", "abgr"), packed_rgb),
    ]
    for starts, maker in makers:
        if name.startswith(starts):
            return maker(name)
    return gray(name, full=full) if name.startswith(("gray", "ya8")) else yuv(name, full=full, matrix=matrix)


def cases():
    deep = [f"yuv{sampling}p{bits}le" for sampling in ("420", "422", "444") for bits in (9, 10, 12, 14, 16)]
    yield from [
        ("mkv", "ffv1", name) for name in [*deep, "yuv440p", "yuv440p10le", "yuv440p12le", "yuv411p", "yuv410p"]
    ]
    yield from [("mkv", "ffv1", f"gbrp{bits}le") for bits in (9, 10, 12, 14, 16)]
    yield from [("mkv", "ffv1", name) for name in ("bgr0", "bgra", "rgb48le", "rgba64le", "gbrap12le", "yuva444p12le")]
    yield from [("mkv", "ffv1", f"gray{bits}") for bits in ("", "10le", "12le", "14le", "16le")]
    yield from [("mkv", "ffv1", "ya8")]
    yield from [("mp4", "libx265", f"yuv{sampling}p12le") for sampling in ("420", "422", "444")]
    yield from [("mp4", "libx265", name) for name in ("gbrp", "gbrp10le", "gbrp12le", "gray", "gray10le", "gray12le")]
    yield from [("mp4", "libx264", name) for name in ("nv12", "nv16", "nv21", "gray", "gray10le", "yuvj444p")]
    yield from [(container, "libx264rgb", name) for container in ("mp4", "mkv") for name in ("rgb24", "bgr24")]
    yield from [("webm", "libvpx-vp9", name) for name in ("yuv440p", "yuv444p", "gbrp", "yuva420p")]
    yield from [("mp4", "libsvtav1", name) for name in ("yuv420p", "yuv420p10le")]
    yield from [(container, "mjpeg", f"yuvj{s}p") for container in ("avi", "mov") for s in ("420", "422", "444")]
    yield from [
        ("mov", "rawvideo", name) for name in ("rgb24", "argb", "abgr", "rgb48be", "uyvy422", "yuyv422", "rgb555be")
    ]
    yield from [("avi", "rawvideo", name) for name in ("yuv420p", "nv12", "bgr24", "bgra", "rgb555le", "gray", "pal8")]
    yield from [("mov", "qtrle", name) for name in ("rgb24", "argb", "rgb555be", "gray")]
    yield from [
        ("mov", "png", name) for name in ("rgb24", "rgba", "rgb48be", "rgba64be", "pal8", "gray", "ya8", "monob")
    ]
    yield from [("mov", "prores_ks", name) for name in ("yuv422p10le", "yuv444p10le", "yuva444p10le")]
    yield from [("mov", "v210", "yuv422p10le"), ("mov", "r210", "gbrp10le"), ("mov", "v410", "yuv444p10le")]
    yield from [("mov", "dpx", "gbrp10le"), ("mov", "dpx", "rgb48be"), ("mov", "tiff", "rgb24")]
    yield from [("avi", "huffyuv", name) for name in ("yuv422p", "rgb24", "bgra")]
    yield from [("avi", "utvideo", name) for name in ("yuv420p", "yuv444p", "gbrp", "gbrap")]
    yield from [("avi", "magicyuv", name) for name in ("yuv422p", "gbrp")]
    yield from [("avi", "msrle", "pal8"), ("avi", "zmbv", "pal8"), ("avi", "zmbv", "bgr0"), ("mov", "smc", "pal8")]
    yield from [("mkv", "jpeg2000", name) for name in ("rgb24", "gbrp12le", "yuv444p12le", "gray16le")]
    yield from [("flv", "flashsv", "bgr24"), ("gif", "gif", "pal8"), ("apng", "apng", "rgba")]
    yield from [("mov", "dnxhd", name) for name in ("yuv422p", "yuv444p10le", "gbrp10le")]


FULL = {"mjpeg"}
"""Codecs of full range by themselves."""


def made(container, codec, name):
    """A film of the chart, and the levels that it stands for."""
    full = codec in FULL or name.startswith(("yuvj", "gray", "ya8"))
    matrix = "BT.709" if codec == "dnxhd" else "BT.601"  # which DNxHD always is, and what is untagged and small
    frame, wanted = drawn(name, full=full, matrix=matrix)
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    tags = {} if is_rgb else {"colorspace": TAGS[matrix], "color_range": 2 if full else 1}
    options = LOSSLESS.get(codec, {})
    if codec == "dnxhd":
        options = {"profile": "dnxhr_hq" if name == "yuv422p" else "dnxhr_444"}
    with quiet(), at_its_priority():
        return video(codec, [frame] * 2, container=container, options=options, **tags), wanted


@pytest.mark.parametrize(("container", "codec", "name"), list(cases()))
def test_pixels_of_every_kind_are_within_two_levels(container, codec, name):
    source, wanted = made(container, codec, name)
    levels = centres(picture(source))
    within(container, codec, "colours, pixel formats", np.abs(levels[..., :3] - wanted).max(), 2)
    assert (levels[..., 3:] == 255).all()
    # Scaling takes other ways through FFmpeg than converting alone.
    half = picture(source, width=4 * PATCH, height=2 * PATCH)[PATCH // 4 :: PATCH // 2, PATCH // 4 :: PATCH // 2]
    assert np.abs(half[..., :3] - wanted).max() <= 2
