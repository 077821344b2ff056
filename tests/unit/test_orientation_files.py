"""Rotations and mirrorings, through real files and made ones: pictures are upright, and as large as they are shown."""

import struct
import subprocess
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image

from tests.formats import within
from tests.pictures import FFMPEG, MEDIA, frame_of, needs_ffmpeg, picture, real_files, video


def psnr(one, other):
    assert one.shape == other.shape
    return 10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9))


ONE = 65536
TURNS = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "quarter clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "half": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "quarter counter-clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "mirrored quarter": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "mirrored other quarter": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
}
NONSENSE = {
    "zeros": (0,) * 9,
    "flat": (ONE, 0, 0, ONE, 0, 0, 0, 0, 2**30),
    "least": (-(2**31),) * 9,
    "greatest": (2**31 - 1,) * 9,
    "not a number as float": (0x7FC00000,) * 9,
}


def with_matrix(numbers, aspect=None):
    """A lossless MOV of a random picture with this display matrix in its track header, and the picture."""
    pixels = np.random.default_rng(4).integers(0, 256, (20, 34, 3), dtype=np.uint8)
    data = bytearray(video("png", [frame_of("rgb24", pixels)], container="mov", aspect=aspect).getvalue())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    data[at : at + 36] = struct.pack(">9i", *numbers)
    return BytesIO(bytes(data)), pixels


@pytest.mark.parametrize("turn", TURNS)
def test_display_matrices_turn_and_mirror(turn):
    (a, b, c, d), turned = TURNS[turn]
    source, pixels = with_matrix((a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 2**30))
    levels = picture(source)
    assert levels.shape == turned(pixels).shape
    within("mov", "png", "orientation", (levels != turned(pixels)).sum())


@pytest.mark.parametrize("numbers", NONSENSE)
def test_nonsense_matrices_turn_nothing(numbers):
    source, pixels = with_matrix(NONSENSE[numbers])
    assert (picture(source) == pixels).all()


def test_square_pixels_come_with_rotation_too():
    source, _ = with_matrix((0, ONE, 0, -ONE, 0, 0, 0, 0, 2**30), aspect=Fraction(2))
    assert picture(source).shape == (68, 20, 3)


@real_files
@pytest.mark.parametrize("name", [f"rot_{angle}_h264.mp4" for angle in (0, 90, 180, 270)] + ["rot_90_vp9.mp4"])
def test_khronos_rotations_come_upright(name):
    """`webgl/video-rotation.html`: these colours at these places; it allows 10 for H.264 and 45 for VP9."""
    levels = picture(f"geometry/{name}").astype(int)
    assert levels.shape == (96, 128, 3)
    tolerance, codec = (45, "vp9") if "vp9" in name else (10, "h264")
    for (x, y), colour in {
        (0.5, 0.25): (255, 0, 0),
        (0.4, 0.5): (0, 0, 255),
        (0.6, 0.5): (255, 255, 0),
        (0.5, 0.75): (0, 255, 0),
    }.items():
        off = np.abs(levels[int(96 * y), int(128 * x)] - colour).max()
        within("mov", codec, "orientation, real files", off, tolerance)


@real_files
@pytest.mark.parametrize(
    ("name", "reference"),
    [("geometry/rot_90_vali.mp4", "frame_0_90_deg.jpg"), ("ground_truth/vali/test.mp4", "frame_0.jpg")],
)
def test_vali_rotation_is_that_of_its_pictures(name, reference):
    wanted = np.asarray(Image.open(MEDIA / "ground_truth" / "vali" / reference).convert("RGB"))
    assert psnr(picture(name), wanted) > 36


@real_files
@needs_ffmpeg
@pytest.mark.parametrize(
    "name",
    [
        "rot_90_decord.mov",
        "rot_270_decord.mov",
        "rot_180_timestamps_720p.mp4",
        "rot_90_and_mirror.mp4",
        "rot_90_iphone_ios9.mov",
        "rot_90_fragmented_bbb.mp4",
        "rot_90_torchcodec_nasa.mp4",
        "sar_3_2_black.webm",
        "sar_525_352_vfr.mp4",
        "odd_321x241_vp9.mp4",
        "odd_29x19_offset.ogv",
        "four_colors.mp4",
        "tiny_2x2_green.mp4",
        "tiny_10x6_65s.webm",
    ],
)
def test_size_and_orientation_are_those_of_the_ffmpeg_command(name):
    path = MEDIA / "geometry" / name
    steps = "scale=iw*sar:ih:flags=bicubic+accurate_rnd+full_chroma_int"
    command = [
        FFMPEG,
        "-v",
        "error",
        "-i",
        str(path),
        "-vf",
        steps,
        "-frames:v",
        "1",
        "-f",
        "image2",
        "-c:v",
        "png",
        "-",
    ]
    png = subprocess.run(command, check=True, capture_output=True).stdout
    wanted = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
    with av.open(path) as opened:
        kind = opened.format.name.split(",")[0], opened.streams.video[0].codec_context.name
    within(*kind, "sizes and orientation, real files", 45 - psnr(picture(f"geometry/{name}"), wanted))


@real_files
def test_four_colours_are_those_of_the_reference_picture():
    wanted = np.asarray(Image.open(MEDIA / "ground_truth" / "wpt" / "four-colors.png").convert("RGB")).astype(int)
    levels = picture("geometry/four_colors.mp4").astype(int)
    assert levels.shape == wanted.shape
    for y in (0.25, 0.75):
        for x in (0.25, 0.75):
            at = int(y * wanted.shape[0]), int(x * wanted.shape[1])
            assert np.abs(levels[at] - wanted[at]).max() <= 3
