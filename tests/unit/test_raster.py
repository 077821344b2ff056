"""Pictures from frames made in numpy: what depends on pixel formats, transparency and sizes alone.

Colours, places and orientations are proven through files: `test_colour_files`, `test_geometry_files`,
`test_orientation_files`.
"""

import gc
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image

from tests.pictures import frame_of, gray_frame
from worker.media.encode import Planes, encode
from worker.media.plan import Format, Rendition, ScaleType
from worker.media.raster import Renderer
from worker.media.upright import frame_orientation

SQUARE = Fraction(1)


def render(frame, aspect=SQUARE, **rendition):
    pixels = Renderer(Rendition(**{"format": Format.PNG} | rendition)).render(frame, aspect)
    assert pixels.flags.c_contiguous
    assert pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize("tagged", [0, 2])
def test_gray_is_itself(tagged):
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(16, axis=0)
    pixels = render(frame_of("gray", ramp, color_range=tagged))
    assert (pixels == ramp[..., None]).all()


def test_limited_gray_is_expanded():
    ramp = np.arange(16, 236, dtype=np.uint8)[None].repeat(16, axis=0)
    pixels = render(frame_of("gray", ramp, color_range=1)).astype(int)
    assert np.abs(pixels - ((ramp.astype(int) - 16) * 255 / 219)[..., None]).max() < 2


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "gbrp"])
def test_rgb_passes_unchanged(name):
    wanted = np.random.default_rng(2).integers(0, 256, (33, 17, 3), dtype=np.uint8)
    r, g, b = (wanted[..., i] for i in range(3))
    planes = {"rgb24": [wanted], "bgr24": [wanted[..., ::-1]], "gbrp": [g, b, r]}[name]
    assert (render(frame_of(name, *planes)) == wanted).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (321, 241), (17, 4)])
def test_odd_sizes_work(size):
    frame = gray_frame(np.full(size[::-1], 77))
    assert render(frame).shape == (size[1], size[0], 3)
    assert (render(frame) == 77).all()
    assert (render(frame, width=5, height=3, scale_type=ScaleType.CROP) == 77).all()


@pytest.mark.parametrize("target", [(1, 1), (9, 8), (4096, 1)])
def test_extreme_reductions_of_large_frames_work(target):
    pixels = render(gray_frame(np.full((2160, 3840), 99)), width=target[0], height=target[1])
    assert pixels.shape == (target[1], target[0], 3)
    assert np.abs(pixels.astype(int) - 99).max() <= 1


def test_scale_types_place_the_picture():
    """A picture of three upright stripes, black-white-black, twice as wide as high."""
    stripes = np.zeros((64, 128), np.uint8)
    stripes[:, 32:96] = 255
    frame = gray_frame(stripes)

    def middle(scale):
        pixels = render(frame, width=64, height=64, scale_type=scale)
        return pixels[..., 0]

    assert (middle(ScaleType.CROP) > 200).all()
    fill = middle(ScaleType.FILL)
    assert fill.shape == (64, 64)
    assert not fill[:16].any()
    assert not fill[48:].any()
    assert (fill[16:48, 20:44] > 250).all()
    assert (middle(ScaleType.FIT) == fill[16:48]).all()
    assert (middle(ScaleType.STRETCH)[:, 20:44] > 250).all()


def test_a_distorting_size_is_reported():
    renderer = Renderer(Rendition(width=32))
    renderer.render(gray_frame(np.zeros((64, 64))), SQUARE)
    assert renderer.aspect_changed


def test_one_renderer_follows_changes_of_size_and_format():
    renderer = Renderer(Rendition(Format.PNG, width=8, height=8))
    for size, level in (((64, 48), 30), ((33, 65), 200), ((64, 48), 90)):
        assert (renderer.render(gray_frame(np.full(size, level)), SQUARE) == level).all()
    assert (renderer.render(frame_of("rgb24", np.full((5, 5, 3), 7, np.uint8)), SQUARE) == 7).all()


# Orientation


def decoded_jpeg(pixels, orientation):
    """A frame as FFmpeg decodes it from JPEG with EXIF, which is also side data that PyAV knows no name of."""
    exif = Image.Exif()
    exif[0x112] = orientation
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=exif, quality=100, subsampling=0)
    context = av.CodecContext.create("mjpeg", "r")
    return [*context.decode(av.Packet(file.getvalue())), *context.decode(None)][0]


EXIF_TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: np.rot90(p, 2),
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
    8: lambda p: np.rot90(p, 1),
}


@pytest.mark.parametrize("orientation", EXIF_TURNS)
def test_scaling_before_turning_gives_the_picture_of_turning_before_scaling(orientation):
    y, x = np.mgrid[0:96, 0:160]
    waves = 127 + 100 * np.sin(x / 3 + y / 7)
    frame = decoded_jpeg(np.stack([waves, waves[::-1], waves[:, ::-1]], -1).astype(np.uint8), orientation)
    turn = EXIF_TURNS[orientation]
    upright = np.ascontiguousarray(turn(frame.to_ndarray(format="rgb24")))
    for width, height in ((50, 50), (300, 70)):
        reference = render(frame_of("rgb24", upright), width=width, height=height)
        assert np.abs(render(frame, width=width, height=height).astype(int) - reference).max() <= 4


def test_side_data_without_a_name_does_not_hide_the_others():
    frame = decoded_jpeg(np.zeros((8, 16, 3), np.uint8), 6)
    with pytest.raises(ValueError, match="not a valid Type"):
        assert frame.side_data
    assert frame_orientation(frame).transposed


# Transparency


def test_alpha_is_kept_for_formats_that_can_and_black_for_jpg():
    pixels = np.full((8, 8, 4), (200, 100, 50, 128), np.uint8)
    frame = frame_of("rgba", pixels)
    assert (render(frame, format=Format.PNG) == pixels).all()
    for image_format in (Format.PNG, Format.WEBP, Format.AVIF):
        shown = render(frame, format=image_format, width=4, height=4).astype(int)
        assert np.abs(shown - (200, 100, 50, 128)).max() <= 1
    for size in ({}, {"width": 4, "height": 4}):
        assert np.abs(render(frame, format=Format.JPG, **size).astype(int) - (100, 50, 25)).max() <= 1


def test_invisible_colours_do_not_bleed():
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:] = (0, 255, 0, 0)
    pixels[:, 8:] = (255, 0, 0, 255)
    shown = render(frame_of("rgba", pixels), format=Format.PNG, width=5, height=5)
    assert shown[..., 1][shown[..., 3] > 0].max() == 0


def test_other_formats_with_alpha():
    half = np.full((16, 16), 128, np.uint8)
    quarter = np.full((8, 8), 128, np.uint8)
    frame = frame_of("yuva420p", half, quarter, quarter, np.full((16, 16), 77, np.uint8), color_range=2)
    assert np.abs(render(frame, format=Format.PNG).astype(int) - (128, 128, 128, 77)).max() <= 1
    assert render(frame, format=Format.JPG).shape == (16, 16, 3)
    gray = frame_of("ya8", np.dstack([half, half // 2]), color_range=2)
    assert np.abs(render(gray, format=Format.WEBP).astype(int) - (128, 128, 128, 64)).max() <= 1


def test_borders_of_a_transparent_picture_are_opaque_black():
    frame = frame_of("rgba", np.full((8, 16, 4), 200, np.uint8))
    shown = render(frame, format=Format.PNG, width=16, height=16, scale_type=ScaleType.FILL)
    assert (shown[0, 0] == (0, 0, 0, 255)).all()


# High dynamic range


def test_pq_white_and_black_and_colour():
    """203 nit white is PQ code 573 of 10 bit limited; red of the same light must stay red."""
    y = np.full((32, 48), 64, np.uint16)
    y[:, 16:] = 573
    u = np.full((16, 24), 512, np.uint16)
    frame = frame_of("yuv420p10le", y, u, u, colorspace=9, color_range=1, color_trc=16, color_primaries=9)
    pixels = render(frame)
    assert not pixels[8, 4].any()
    assert ((pixels[8, 40] >= 0.75 * 255) & (pixels[8, 40] <= 0.92 * 255)).all()
    small = render(frame, width=12, height=8)
    assert np.abs(small[4, 10].astype(int) - pixels[8, 40]).max() <= 1


# Memory, and planes for JPEG


def test_a_drawn_frame_is_freed_at_once_without_the_garbage_collector():
    """A cycle through its side data would keep each frame's pixels until the collector comes by."""
    renderer = Renderer(Rendition())
    gc.collect()
    gc.disable()
    try:
        renderer.render(av.VideoFrame(64, 64, "yuv420p"), Fraction(1))
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("colorspace", [1, 2, 4, 5, 6, 7, 9])
def test_planes_for_jpeg_are_the_same_colours(colorspace, color_range):
    """Against the way through RGB, which other tests hold against the standards; a JPEG of quality 100 between."""
    y, x = np.mgrid[0:64, 0:96]
    planes = (60 + x + y // 2, 100 + x[:32, :48], 160 - y[:32, :48])
    tags = {"colorspace": colorspace, "color_range": color_range}
    frame = frame_of("yuv420p", *(each.astype(np.uint8) for each in planes), **tags)
    picture = Renderer(Rendition(quality=100)).render(frame, SQUARE)
    assert isinstance(picture, Planes)
    found = np.asarray(Image.open(BytesIO(encode(picture, Format.JPG, 100)))).astype(int)
    assert np.abs(found - render(frame)).max() <= 4  # at the right edge, where chroma ends half a pixel early


@pytest.mark.parametrize("quality", [1, 90, 91, 95, 96, 100])
@pytest.mark.parametrize(
    "rendition",
    [{}, {"width": 48, "height": 32}, {"width": 31}, {"width": 64, "height": 64, "scale_type": ScaleType.FILL}],
)
def test_jpegs_of_planes_are_as_good_as_those_of_pixels(rendition, quality):
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:64, 0:96]
    planes = (60 + x + y // 2 + rng.integers(0, 6, (64, 96)), 100 + x[:32, :48], 160 - y[:32, :48])
    frame = frame_of("yuv420p", *(each.astype(np.uint8) for each in planes))
    wanted = render(frame, **rendition).astype(float)
    ways = (Renderer(Rendition(quality=quality, **rendition)).render(frame, SQUARE), render(frame, **rendition))
    errors = [
        np.square(np.asarray(Image.open(BytesIO(encode(way, Format.JPG, quality)))).astype(float) - wanted).mean()
        for way in ways
    ]
    assert errors[0] <= 1.3 * errors[1] + 1  # of 65,025: samples are rounded once more on the way
