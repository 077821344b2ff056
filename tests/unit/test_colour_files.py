"""Colours through real encoders, the whole capture and Pillow, against the standards (`tests/standards.py`)."""

import shutil
import subprocess

import numpy as np
import pytest

from tests import standards
from tests.formats import within
from tests.pictures import MEDIA, capture_all, frame_of, picture, real_files, video
from worker.errors import Code, TaskError
from worker.media.plan import Format, ScaleType

MATRICES = {"BT.601": 6, "BT.709": 1, "BT.2020": 9}
LOSSLESS = {
    "libx264": {"qp": "0", "preset": "ultrafast"},
    "libx265": {"x265-params": "lossless=1:log-level=none:bframes=0", "preset": "ultrafast"},
    "ffv1": {},
}
SUBSAMPLING = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
PATCH = 16
HDR = {"PQ": 16, "HLG": 18}


def coded(rgb, subsampling, depth, matrix, *, full, **tags):
    """A frame of flat patches of these R'G'B' (rows, columns, 3) 0..1, and the codes of each patch."""
    codes = standards.rgb_to_yuv(rgb, matrix, depth=depth, full=full)
    across, down = SUBSAMPLING[subsampling]
    dtype = np.uint8 if depth == 8 else np.uint16
    planes = [np.kron(codes[..., 0], np.ones((PATCH, PATCH), int)).astype(dtype)]
    for index in (1, 2):
        planes.append(np.kron(codes[..., index], np.ones((PATCH // down, PATCH // across), int)).astype(dtype))
    name = f"yuv{subsampling}p" + ("10le" if depth == 10 else "")
    return frame_of(name, *planes, color_range=2 if full else 1, **tags), codes


def chart():
    """Colour bars of 100 and 75 %, ramps of gray and of each colour, and random colours: 8 rows of 12."""
    bars = np.array([[r, g, b] for r in (1, 0) for g in (1, 0) for b in (1, 0)] + [[0.5, 0.5, 0.5]] * 4, float)
    ramp = np.linspace(0, 1, 12)[:, None]
    ramps = [ramp * np.array(colour) for colour in ([1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1])]
    return np.stack([bars, bars * 0.75, *ramps, *np.random.default_rng(1).uniform(0, 1, (2, 12, 3))])


def centres(pixels):
    return pixels[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].astype(float)


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("subsampling", SUBSAMPLING)
def test_png_is_within_two_levels_of_the_standards(subsampling, depth, full, matrix, codec):
    tags = {"colorspace": MATRICES[matrix], "color_range": 2 if full else 1}
    frame, codes = coded(chart(), subsampling, depth, matrix, full=full)
    levels = centres(picture(video(codec, [frame], options=LOSSLESS[codec], **tags)))
    wanted = 255 * np.clip(standards.yuv_to_rgb(codes, matrix, depth=depth, full=full), 0, 1)
    within("mkv", codec, "colours, charts", np.abs(levels - wanted).max(), 2)


@pytest.mark.parametrize("depth", [8, 10])
def test_every_level_of_a_fine_ramp_is_within_two_levels(depth):
    """All codes of luma, one a column, and none of them flat or out of order."""
    count = 1 << depth
    luma = np.repeat(np.arange(count)[None], 16, 0).astype(np.uint8 if depth == 8 else np.uint16)
    middle = np.full((8, count // 2), count // 2, luma.dtype)
    name = "yuv420p" if depth == 8 else "yuv420p10le"
    source = video("ffv1", [frame_of(name, luma, middle, middle)], colorspace=1, color_range=1)
    levels = picture(source)[8].astype(float)
    codes = np.stack([luma[8], *[np.full(count, count // 2)] * 2], -1)
    assert np.abs(levels - 255 * np.clip(standards.yuv_to_rgb(codes, "BT.709", depth=depth), 0, 1)).max() <= 2
    assert (np.diff(levels[:, 0]) >= 0).all()
    assert set(levels[:, 0]) == set(range(256)) or depth == 8


@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [(1280, 720, "BT.709"), (720, 1280, "BT.709"), (1278, 718, "BT.601"), (480, 854, "BT.601"), (1280, 16, "BT.709")],
)
def test_untagged_video_is_709_from_720p_up_either_way_up(width, height, matrix):
    chroma = (height // 2, width // 2)
    red = (63, 102, 240)
    planes = [np.full(size, code, np.uint8) for size, code in zip([(height, width), chroma, chroma], red, strict=True)]
    levels = picture(video("ffv1", [frame_of("yuv420p", *planes)]))[5, 5]
    assert np.abs(levels - 255 * np.clip(standards.yuv_to_rgb(np.array(red), matrix), 0, 1)).max() <= 2


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libx264rgb", "bgr0"), ("libx265", "gbrp"), ("ffv1", "bgr0"), ("ffv1", "gbrp10le"), ("libvpx-vp9", "gbrp")],
)
def test_rgb_video_is_not_converted(codec, name):
    wanted = np.random.default_rng(2).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    red, green, blue = (wanted[..., index] for index in range(3))
    if name == "bgr0":
        frame = frame_of(name, np.dstack([blue, green, red, red]))
    elif name == "gbrp":
        frame = frame_of(name, green, blue, red)
    else:
        deep = (np.round(plane.astype(float) * 1023 / 255).astype(np.uint16) for plane in (green, blue, red))
        frame = frame_of(name, *deep)
    options = {"libvpx-vp9": {"lossless": "1"}, "libx264rgb": LOSSLESS["libx264"]} | LOSSLESS
    levels = picture(video(codec, [frame], options=options[codec])).astype(int)
    assert np.abs(levels - wanted).max() <= (1 if "10" in name else 0)


def test_matrices_that_cannot_be_read_are_refused():
    frame, _ = coded(chart(), "444", 8, "BT.709", full=False)
    with_tag = video("libx264", [frame], options=LOSSLESS["libx264"], colorspace=8, color_range=1)
    try:
        _, report = capture_all(with_tag)
        code, message = report.error_code, report.error_message
    except TaskError as error:
        code, message = error.code, error.message
    assert code == Code.UNSUPPORTED_MEDIA
    assert "YCgCo (matrix 8" in message


def test_standard_range_in_bt2020_is_not_washed_out():
    """Colours of BT.709, coded in BT.2020 with its gamut as broadcasters do, come back as they were."""
    colours = chart()
    inside = (colours**2.4 @ standards.between("BT.709", "BT.2020").T) ** (1 / 2.4)
    frame, codes = coded(inside, "444", 10, "BT.2020", full=False)
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 14}
    levels = centres(picture(video("libx265", [frame], options=LOSSLESS["libx265"], **tags)))
    light = np.clip(standards.yuv_to_rgb(codes, "BT.2020", depth=10), 0, 1) ** 2.4
    wanted = np.clip(light @ standards.between("BT.2020", "BT.709").T, 0, 1) ** (1 / 2.4)
    assert np.abs(levels - 255 * wanted).max() <= 2
    # At the gamut's border one code more or less is several levels where a channel is nearly black.
    assert np.abs(levels - 255 * colours)[colours.min(-1) > 0.1].max() <= 2


# --- what readers of the images see


@pytest.mark.parametrize(("image_format", "worst"), [(Format.JPG, 2), (Format.WEBP, 5), (Format.AVIF, 10)])
@pytest.mark.parametrize("matrix", ["BT.601", "BT.709"])
def test_lossy_images_keep_their_hues(image_format, worst, matrix):
    frame, _ = coded(chart(), "444", 8, matrix, full=False)
    source = video("ffv1", [frame], colorspace=MATRICES[matrix], color_range=1)
    exact = centres(picture(source))
    levels = centres(picture(source, format=image_format, quality=95))
    difference = levels - exact
    assert np.abs(difference).max() <= worst  # compression, worst patch and channel
    assert np.abs(difference.mean((0, 1))).max() < 1  # no cast
    turned = (standards.lab_hue(levels) - standards.lab_hue(exact) + 180) % 360 - 180
    assert np.abs(turned[np.ptp(exact, axis=-1) > 60]).max() < 4
    assert np.abs(standards.rgb_to_yuv(levels / 255, "BT.601") - standards.rgb_to_yuv(exact / 255, "BT.601")).max() <= 5


# --- high dynamic range


def hdr_video(rgb_nit, transfer, codec="libx265"):
    """Light in nit (rows, columns, 3) in BT.2020, as HDR10 or HLG video."""
    signal = standards.pq_inverse_eotf(rgb_nit) if transfer == "PQ" else standards.hlg_inverse_eotf(rgb_nit)
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": HDR[transfer]}
    frame, codes = coded(np.clip(signal, 0, 1), "420", 10, "BT.2020", full=False)
    return video(codec, [frame], options=LOSSLESS[codec], **tags), codes


def patches(top_nit):
    """Diffuse white, ramps up to the top, and skin, sky and leaves under several lights: 4 rows of 12."""
    natural = np.array([[115, 82, 68], [194, 150, 130], [98, 122, 157], [87, 108, 67]]) / 255
    scenes = natural**2.4 @ standards.between("BT.709", "BT.2020").T
    lit = np.concatenate([scenes * light for light in (50, 203, 500)])
    ramp = np.geomspace(0.5, top_nit, 12)[:, None]
    white = np.full((12, 3), 203.0)
    return np.stack([white, ramp * np.ones(3), ramp * [1, 0.6, 0.4], lit])


@pytest.mark.parametrize("codec", ["libx265", "ffv1"])
@pytest.mark.parametrize(("transfer", "peak"), [("PQ", 10_000), ("HLG", 1_000)])
def test_hdr_is_within_two_levels_of_the_reference_tone_mapping(transfer, peak, codec):
    source, codes = hdr_video(patches(peak), transfer, codec)
    levels = centres(picture(source))
    signal = np.clip(standards.yuv_to_rgb(codes, "BT.2020", depth=10), 0, 1)
    nit = standards.pq_eotf(signal) if transfer == "PQ" else standards.hlg_eotf(signal)
    difference = np.abs(levels - 255 * standards.tone_mapped(nit, "BT.2020", peak))
    within("mkv", codec, f"colours, {transfer}", difference.max(), 2)
    assert (levels[0] >= 0.75 * 255).all()
    assert (levels[0] <= 0.92 * 255).all()
    assert (np.diff(levels[1, :, 0]) > 0).all()  # not flat at either end


@pytest.mark.parametrize("transfer", HDR)
def test_scaled_hdr_is_the_scaled_tone_mapped_picture(transfer):
    source, _ = hdr_video(patches(1_000), transfer)
    whole, half = picture(source), picture(source, width=96, height=32)
    assert np.abs(centres(whole) - half[PATCH // 4 :: PATCH // 2, PATCH // 4 :: PATCH // 2]).max() <= 2


FFMPEG = shutil.which("ffmpeg")
needs_zscale = pytest.mark.skipif(
    FFMPEG is None
    or "zscale" not in subprocess.run([FFMPEG, "-hide_banner", "-filters"], capture_output=True, text=True).stdout,  # noqa: PLW1510
    reason="there is no ffmpeg command with zscale (scripts/setup ffmpeg installs one)",
)


@real_files
@needs_zscale
@pytest.mark.parametrize(
    "name",
    [
        "codecs/hevc_hlg_color_test.mp4",
        "codecs/hevc_pq_nasa.mp4",
        "codecs/hevc_pq_10bit_testsrc2.mp4",
        "codecs/av1_hdr10_portrait.mp4",
    ],
)
def test_real_hdr_looks_as_zscale_and_tonemap_make_it(name):
    """Another tone curve, so not the same levels: the same picture, no darker, brighter or paler than by so much."""
    size = (320, 180)
    steps = (
        "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:desat=0,"
        "zscale=t=bt709:m=gbr:r=full,scale=320:180:flags=area,format=rgb24"
    )
    command = [FFMPEG, "-v", "error", "-i", str(MEDIA / name), "-vf", steps, "-frames:v", "1", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(size[1], size[0], 3).astype(float)
    ours = picture(name, width=size[0], height=size[1], scale_type=ScaleType.STRETCH).astype(float)
    weights = [0.2126, 0.7152, 0.0722]
    assert np.corrcoef((ours @ weights).ravel(), (theirs @ weights).ravel())[0, 1] > 0.98
    assert abs((ours @ weights).mean() - (theirs @ weights).mean()) < 12
    codec = name.removeprefix("codecs/").partition("_")[0]
    within("mov", codec, "colours, HDR of real files near another tone mapping", np.abs(ours - theirs).mean(), 13)
    assert 0.85 < np.ptp(ours, axis=-1).mean() / np.ptp(theirs, axis=-1).mean() < 1.15


@real_files
@pytest.mark.parametrize("name", ["codecs/hevc_hlg_color_test.mp4", "codecs/hevc_pq_nasa.mp4"])
def test_real_hdr_uses_the_range_and_is_not_washed_out(name):
    levels = picture(name, width=320, height=180).astype(int).max(-1)
    assert np.percentile(levels, 1) < 60
    assert (levels == 255).mean() < 0.05


# The hues of X-Rite's ColorChecker as published (sRGB), and where its patches stand in the file, by row and column.
CHECKER = (
    ((115, 82, 68), (194, 150, 130), (98, 122, 157), (87, 108, 67), (133, 128, 177), (103, 189, 170)),
    ((214, 126, 44), (80, 91, 166), (193, 90, 99), (94, 60, 108), (157, 188, 64), (224, 163, 46)),
    ((56, 61, 150), (70, 148, 73), (175, 54, 60), (231, 199, 31), (187, 86, 149), (8, 133, 161)),
)
CHECKER_X = (301, 547, 787, 1034, 1274, 1526)
CHECKER_Y = (137, 384, 619)
SKIN_AND_SKY = {(0, 1), (0, 2)}
OUT_OF_GAMUT = {(2, 5)}  # cyan is outside BT.709


@real_files
def test_a_filmed_colour_chart_keeps_its_hues():
    """Media3's HLG test film: Android's own picture of it turns light skin by 58 degrees, orange by 36."""
    levels = picture("codecs/hevc_hlg_color_test.mp4").astype(float)
    for row, colours in enumerate(CHECKER):
        for column, published in enumerate(colours):
            x, y = CHECKER_X[column], CHECKER_Y[row]
            patch = levels[y - 15 : y + 15, x - 15 : x + 15].mean((0, 1))
            turned = (standards.lab_hue(patch) - standards.lab_hue(published) + 180) % 360 - 180
            if (row, column) not in OUT_OF_GAMUT:
                assert abs(turned) < (2 if (row, column) in SKIN_AND_SKY else 11), (row, column)
