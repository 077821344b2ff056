"""Transparency of WebM, through made files and real ones: it is kept, frame by frame, and black in JPEG."""

import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.formats import within
from tests.pictures import FFMPEG, MEDIA, capture_all, frame_of, needs_ffmpeg, picture, real_files, shown, video
from worker.media.plan import Format
from worker.media.presentation import decoder_for


def plane_of(frame, index):
    plane = frame.planes[index]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]


def transparent(codec, alphas, container="mkv", **options):
    """A film of one colour, full range, with these planes of opacity."""
    height, width = alphas[0].shape
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    luma = np.full((height, width), 180, np.uint8)
    frames = [frame_of("yuva420p", luma, chroma, chroma, alpha) for alpha in alphas]
    options = {"auto-alt-ref": "0", "crf": "4", "b": "2M"} | options
    return video(codec, frames, container=container, options=options, colorspace=6, color_range=2)


def quarters(levels):
    """Opacity of four quarters."""
    return np.kron(np.array(levels, np.uint8).reshape(2, 2), np.ones((32, 32), np.uint8))


@pytest.mark.parametrize("container", ["mkv", "webm"])
@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("image_format", Format)
def test_transparency_of_webm_is_kept_and_black_in_jpeg(image_format, codec, container):
    alpha = quarters([0, 255, 100, 200])
    levels = picture(transparent(codec, [alpha] * 2, container), format=image_format, quality=95).astype(int)
    at = np.arange(8, 64, 16)
    opacity = alpha[np.ix_(at, at)]
    colours = levels[np.ix_(at, at)]
    gray = 180 if codec == "libvpx-vp9" else round((180 - 16) * 255 / 219)  # VP8 cannot say that its range is full
    if image_format is Format.JPG:
        assert colours.shape[2] == 3
        assert np.abs(colours - (gray * (opacity / 255))[..., None]).max() <= 4
    else:
        within(container, codec, "opacity", np.abs(colours[..., 3] - opacity).max(), 4)
        assert np.abs(colours[..., :3] - gray)[opacity > 0].max() <= 4


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_every_frame_of_a_transparent_film_has_its_own_opacity_and_keyframes_are_told(codec):
    alphas = [quarters([20 * number, 255 - 20 * number, 90, 0]) for number in range(12)]
    source = transparent(codec, alphas, g="4")
    images, report = capture_all(source, number=0)
    assert report.error_code == ""
    assert len(images) == 12
    for image, alpha in zip(images, alphas, strict=True):
        off = np.abs(shown(image)[8::16, 8::16, 3].astype(int) - alpha[8::16, 8::16]).max()
        within("mkv", codec, "opacity", off, 6)
    source.seek(0)
    with av.open(source) as opened:
        keys = [packet.is_keyframe for packet in opened.demux(video=0) if packet.size]
    assert sum(keys) >= 3
    assert [image.key_frame for image in images] == keys
    late, _ = capture_all(source, start_s=Fraction(9, 25))
    assert late[0].data == images[9].data


@real_files
@needs_ffmpeg
def test_a_real_transparent_film_has_the_opacity_that_the_ffmpeg_command_finds():
    name = "codecs/vp9_alpha_200x200.webm"
    command = [FFMPEG, "-v", "error", "-c:v", "libvpx-vp9", "-i", str(MEDIA / name), "-vf", "alphaextract"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], check=True, capture_output=True).stdout
    wanted = np.frombuffer(raw, np.uint8).reshape(-1, 200, 200)
    images, _ = capture_all(name, number=0, interval_s=Fraction(1, 2))
    assert len(images) == 10
    found = [shown(image)[..., 3] for image in images]
    for place, one in enumerate(found):
        within("matroska", "vp9", "opacity, real files", (one != wanted[15 * place]).sum())
    assert any((one > 0).any() and (one == 0).any() for one in found)


@real_files
@pytest.mark.parametrize("name", ["codecs/vp9_alpha_200x200.webm", "geometry/reschange_red400_green200.webm"])
def test_the_decoder_of_transparency_gives_the_same_colours_as_ffmpegs_own(name):
    with av.open(MEDIA / name) as opened, av.open(MEDIA / name) as other:
        own = list(opened.decode(video=0))
        decoder = decoder_for(other.streams.video[0])
        assert decoder.name.startswith("libvpx")
        frames = [frame for packet in other.demux(video=0) for frame in decoder.decode(packet if packet.size else None)]
        assert [frame.pts for frame in frames] == [frame.pts for frame in own]
        for frame, wanted in zip(frames, own, strict=True):
            for plane in range(3):
                assert (plane_of(frame, plane) == plane_of(wanted, plane)).all()
