"""Where things land in the picture: markers, checkerboards, odd sizes, resolution changes, through real files."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from tests.formats import within
from tests.pictures import capture_all, frame_of, picture, real_files, shown, video
from worker.media.plan import Format, ScaleType

LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def gray_video(samples, codec="libx264", **more):
    height, width = samples.shape
    middle = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    planes = [samples.astype(np.uint8), middle, middle]
    frame = frame_of("gray", planes[0]) if codec == "png" else frame_of("yuv420p", *planes)
    options = {"options": LOSSLESS} if codec == "libx264" else {}
    return video(codec, [frame], colorspace=1, color_range=2, **options, **more)


# --- markers

WIDTH, HEIGHT, BLUR = 640, 360, 12
MARKERS = ((70, 60), (570, 300), (320.5, 180.25))


def marked(marker):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    return np.round(230 * np.exp(-((x - marker[0]) ** 2 + (y - marker[1]) ** 2) / (2 * BLUR**2)))


@pytest.fixture(scope="module")
def videos():
    return {marker: gray_video(marked(marker)) for marker in MARKERS}


def centroid(levels):
    light = np.maximum(levels.astype(float) - 6, 0)
    y, x = np.mgrid[0 : light.shape[0], 0 : light.shape[1]] + 0.5
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


def exact_mapping(scale, width, height):
    """The factors and offsets (x, y) of the specification's section 4, in real numbers."""
    factors = np.array([width / WIDTH, height / HEIGHT])
    if scale is not ScaleType.STRETCH:
        factors[:] = factors.max() if scale is ScaleType.CROP else factors.min()
    source, target = np.array([WIDTH, HEIGHT]), np.array([width, height])
    return factors, (target - source * factors) / 2 if scale is not ScaleType.FIT else np.zeros(2)


@pytest.mark.parametrize("scale", ScaleType)
@pytest.mark.parametrize(
    ("width", "height"),
    [
        (300, 200),
        (512, 512),
        (333, 127),
        (101, 99),
        (901, 700),
        (200, None),
        (None, 100),
        (Fraction(1, 2), Fraction(1, 2)),
        (Fraction(1, 3), Fraction(3, 4)),
        (None, None),
        (1280, Fraction(1)),
    ],
    ids=str,
)
def test_markers_land_within_half_a_pixel_of_the_exact_mapping(videos, scale, width, height):
    def side(wanted, own):
        return own if wanted is None else wanted if isinstance(wanted, int) else int(own * wanted + Fraction(1, 2))

    target = side(width, WIDTH), side(height, HEIGHT)
    factors, offset = exact_mapping(scale, *target)
    measured = 0
    for marker, source in videos.items():
        levels = picture(source, width=width, height=height, scale_type=scale)[..., 1]
        if scale is not ScaleType.FIT:
            assert levels.shape == target[::-1]
        wanted = np.array(marker) * factors + offset
        reach = 3 * BLUR * factors
        if ((wanted > reach) & (wanted < np.array(levels.shape[::-1]) - reach)).all():
            measured += 1
            within("mkv", "libx264", f"places, {scale}", np.abs(centroid(levels) - wanted).max(), 0.5)
    assert measured >= 1


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_colours_sit_on_what_they_colour(codec):
    """Chroma of H.264 and HEVC is sited at the left of its pair: half a pixel when that is ignored."""
    y, x = np.mgrid[0:48, 0:80]
    spot = np.round(128 + 100 * np.exp(-((x - 40) ** 2 + (y - 24) ** 2) / 50)).astype(np.uint8)
    frame = frame_of("yuv420p", np.full((96, 160), 128, np.uint8), np.full_like(spot, 128), spot)
    options = LOSSLESS if codec == "libx264" else {"x265-params": "lossless=1:log-level=none:bframes=0"}
    source = video(codec, [frame], options=options, colorspace=1, color_range=2)
    for factor in (1, 2):
        red = picture(source, width=160 // factor, height=96 // factor)[..., 0].astype(int) - 122
        assert np.abs(centroid(red) * factor - (80.5, 49)).max() < 0.1


@pytest.mark.parametrize(
    ("codec", "options", "offset"),
    [
        ("libx264", LOSSLESS | {"x264-params": "chromaloc=0"}, (0.5, 1)),
        ("libx264", LOSSLESS | {"x264-params": "chromaloc=1"}, (1, 1)),
        ("libx264", LOSSLESS | {"x264-params": "chromaloc=2"}, (0.5, 0.5)),
        ("mjpeg", {"flags": "+qscale", "global_quality": "118"}, (1, 1)),
        ("mpeg1video", {"qscale": "1", "qmin": "1"}, (1, 1)),
    ],
    ids=["left", "centre", "top left", "JPEG", "MPEG-1"],
)
def test_colours_are_sited_where_the_codec_says(codec, options, offset):
    """A spot at (80.5, 48.5), sampled where each chroma sample sits within its two by two pixels."""
    y, x = np.mgrid[0:48, 0:80] * 2
    distance = (x + offset[0] - 80.5) ** 2 + (y + offset[1] - 48.5) ** 2
    spot = np.round(128 + 100 * np.exp(-distance / 200)).astype(np.uint8)
    gray = np.full((96, 160), 128, np.uint8)
    frame = frame_of("yuvj420p" if codec == "mjpeg" else "yuv420p", gray, np.full_like(spot, 128), spot)
    container = "mpeg" if codec == "mpeg1video" else "mkv"
    source = video(codec, [frame], container=container, options=options, colorspace=6, color_range=2)
    for factor, form in product((1, 2), (Format.PNG, Format.JPG)):
        red = picture(source, width=160 // factor, height=96 // factor, format=form, quality=100)[..., 0].astype(int)
        place = centroid(red - red[2, 2]) * factor
        within(container, codec, f"places of colours, {form}", np.abs(place - (80.5, 48.5)).max(), 0.1)


# --- antialiasing


@pytest.mark.parametrize("target", [(320, 180), (300, 170), (213, 77), (160, 90), (100, 100), (64, 36), (7, 5)])
@pytest.mark.parametrize("pattern", ["checkerboard", "columns", "rows"])
def test_single_pixels_become_flat_gray(target, pattern):
    y, x = np.mgrid[0:360, 0:640]
    samples = {"checkerboard": x + y, "columns": x, "rows": y}[pattern] % 2 * 255
    levels = picture(gray_video(samples), width=target[0], height=target[1]).astype(int)
    assert levels.shape[:2] == target[::-1]
    inner = levels[1:-1, 1:-1]
    assert np.abs(inner - 127.5).max() <= (1 if pattern == "checkerboard" else 5)


# --- sizes


@pytest.mark.parametrize("size", [(16384, 2), (2, 16384), (1, 1), (321, 241), (1, 2), (16383, 1)])
def test_odd_and_extreme_sizes(size):
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    samples = np.where((x * 2 < width) if width > height else (y * 2 < height), 40, 200)
    source = gray_video(samples, "png", container="mov")
    assert (picture(source)[..., 0] == samples).all()
    for scale in ScaleType:
        levels = picture(source, width=64, height=32, scale_type=scale)[..., 0]
        assert levels.shape == (32, 64) or scale is ScaleType.FIT
        assert levels[levels > 0].min() >= 25  # bicubic overshoots a little at the edge
        assert levels.max() <= 215


@pytest.mark.parametrize(
    ("coded", "aspect", "wanted"),
    [((720, 576), Fraction(64, 45), (1024, 576)), ((720, 480), Fraction(8, 9), (640, 480))],
)
def test_non_square_pixels_become_square(coded, aspect, wanted):
    """A circle as it is seen is coded as an ellipse; it comes back round."""
    y, x = np.mgrid[0 : coded[1], 0 : coded[0]] + 0.5
    round_x = (x - coded[0] / 2) * float(aspect)
    disc = np.clip(150 - np.hypot(round_x, y - coded[1] / 2), 0, 1) * 200
    levels = picture(gray_video(disc, aspect=aspect))[..., 1] > 100
    assert levels.shape == wanted[::-1]
    across, down = (np.flatnonzero(levels.any(axis)) for axis in (0, 1))
    assert abs(np.ptp(across) - np.ptp(down)) <= 1
    assert abs(np.ptp(down) - 298) <= 1


# --- resolution changes


@real_files
@pytest.mark.parametrize("extension", ["mp4", "webm"])
def test_each_frame_has_its_own_size(extension):
    images, _ = capture_all(f"geometry/reschange_red400_green200.{extension}", number=0)
    sizes = [(image.width, image.height) for image in images]
    assert sorted(set(sizes)) == [(200, 150), (400, 300)]
    change = sizes.index((200, 150))
    assert set(sizes[:change]) == {(400, 300)}
    assert set(sizes[change:]) == {(200, 150)}
    for number, image in enumerate(images):
        level = shown(image)[5, 5, :3].astype(int)  # the WebM says that it has transparency
        if number == change:  # the one black frame of the file
            assert level.max() <= 5
            continue
        assert np.argmax(level) == (0 if number < change else 1)
        assert np.sort(level)[1] <= 20


@real_files
def test_a_raw_stream_changes_size_where_ffprobe_sees_it():
    """VALI's table says frame 47, counting as its decoder does; ffprobe 5.1 has the first small one 50th as shown."""
    images, _ = capture_all("geometry/reschange_annexb.h264", number=0)
    assert [(image.width, image.height) for image in images] == [(848, 464)] * 49 + [(424, 232)] * 47


@real_files
def test_after_a_change_pictures_keep_the_wanted_size():
    images, _ = capture_all(
        "geometry/reschange_red400_green200.mp4", number=0, width=96, height=96, scale_type=ScaleType.FILL
    )
    for image in images:
        levels = shown(image)
        assert levels.shape == (96, 96, 3)
        assert not levels[:12].any()
        assert not levels[84:].any()
    middles = [shown(image)[13:83].max(-1).min() for image in images]
    assert sorted(middles)[1] > 100  # all but the one black frame of the file
