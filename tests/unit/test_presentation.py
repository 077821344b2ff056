"""What the container says of how pictures are to be shown: margins, the shape of pixels, Dolby Vision."""

from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest

from tests.boxes import VIDEO_SETTINGS, clean_aperture, dolby_vision, pixel_crop, sample_entry, with_box, with_element
from tests.formats import tally, within
from tests.pictures import MEDIA, capture_all, frame_of, picture, real_files, video, with_fields
from worker.errors import Code, TaskError
from worker.media.geometry import Margins
from worker.media.plan import ScaleType
from worker.media.presentation import presentation

LOSSLESS = {"qp": "0", "preset": "ultrafast"}


# --- margins


def coded(width=96, height=64):
    """Noise in gray, so that a pixel's value tells where it is from."""
    samples = np.random.default_rng(11).integers(0, 256, (height, width), dtype=np.uint8)
    middle = np.full((height // 2, width // 2), 128, np.uint8)
    return samples, frame_of("yuv420p", samples, middle, middle)


def h264(frame, container="mp4", **more):
    return video("libx264", [frame], container=container, options=LOSSLESS, colorspace=1, color_range=2, **more)


@pytest.mark.parametrize(("aperture", "where"), [((80, 50, -4, 3), (4, 10)), ((96, 60, 0, 0), (0, 2))])
def test_the_clean_aperture_of_mp4_is_cut_out(aperture, where):
    samples, frame = coded()
    width, height, x, y = aperture
    data = with_box(h264(frame).getvalue(), sample_entry("avc1"), clean_aperture(width, height, x, y))
    levels = picture(BytesIO(data))[..., 1]
    left, top = where
    wanted = samples[top : top + height, left : left + width]
    assert levels.shape == wanted.shape
    within("mp4", "libx264", "shapes, margins", (levels != wanted).sum())


@pytest.mark.parametrize(
    ("sides", "where"),
    [
        ({"left": 4, "right": 12, "top": 10, "bottom": 4}, (slice(10, 60), slice(4, 84))),
        ({"top": 2}, (slice(2, 64), slice(0, 96))),
    ],
    ids=str,
)
def test_the_pixel_crop_of_matroska_is_cut_off(sides, where):
    samples, frame = coded()
    data = with_element(h264(frame, "mkv").getvalue(), VIDEO_SETTINGS, pixel_crop(**sides))
    levels = picture(BytesIO(data))[..., 1]
    assert levels.shape == samples[where].shape
    within("mkv", "libx264", "shapes, margins", (levels != samples[where]).sum())


def test_fields_are_told_apart_before_margins_are_cut():
    """A line less at the top would put the second field first."""
    from tests.unit.test_deinterlace import INTERLACED, moving, plain, psnr, woven

    first = moving(0)
    samples = woven(first, moving(20))
    middle = np.full_like(samples, 128)
    frame = with_fields(frame_of("yuv444p", samples, middle, middle, colorspace=1, color_range=1), "tff")
    source = video("libx264", [frame], options=INTERLACED["libx264"][1], colorspace=1, color_range=1)
    data = with_element(source.getvalue(), VIDEO_SETTINGS, pixel_crop(top=1, left=4))
    whole = plain(first)[1:, 4:]
    levels = picture(BytesIO(data))
    assert levels.shape == whole.shape
    assert psnr(levels, whole) > 40


def test_margins_do_not_make_untagged_video_standard_definition():
    chroma = (90, 640)
    planes = [
        np.full(size, code, np.uint8) for size, code in zip([(180, 1280), chroma, chroma], (63, 102, 240), strict=True)
    ]
    source = video("libx264", [frame_of("yuv420p", *planes)], options=LOSSLESS)
    data = with_element(source.getvalue(), VIDEO_SETTINGS, pixel_crop(left=8))
    levels = picture(BytesIO(data))
    assert levels.shape == (180, 1272, 3)
    assert (levels == picture(source)[:, 8:]).all()


def test_margins_are_cut_before_scaling_and_turning():
    """A white frame of margin around black: none of it may bleed in."""
    samples = np.full((64, 96), 255, np.uint8)
    samples[10:60, 4:84] = 0
    middle = np.full((32, 48), 128, np.uint8)
    source = h264(frame_of("yuv420p", samples, middle, middle), aspect=Fraction(2)).getvalue()
    data = bytearray(with_box(source, sample_entry("avc1"), clean_aperture(80, 50, -4, 3)))
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    quarter = (0, 65536, 0, -65536, 0, 0, 0, 0, 2**30)
    data[at : at + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in quarter)
    levels = picture(BytesIO(bytes(data)))
    assert levels.shape == (160, 50, 3)
    assert not levels.any()
    levels = picture(BytesIO(bytes(data)), width=25, height=40, scale_type=ScaleType.FIT)
    assert levels.shape == (40, 12, 3) or levels.shape == (40, 13, 3)
    assert not levels.any()


@real_files
def test_a_camcorders_aperture_is_cut_out():
    """HDV as an editor wrote it: 1416x1062 of 1440x1080, pixels of 4:3 (read with a hex viewer)."""
    assert b"clap" in (MEDIA / "codecs/mpeg2_hdv_1080i50.mov").read_bytes()
    assert picture("codecs/mpeg2_hdv_1080i50.mov").shape == (1062, 1888, 3)


def test_words_in_tags_are_not_taken_for_facts():
    _, frame = coded()
    file = BytesIO()
    words = "x\n  Stream #0:0: Video\n    Side data:\n      Frame Cropping: 4/4/4/4\n"
    with av.open(file, "w", format="mp4") as output:
        output.metadata["comment"] = output.metadata["title"] = words
        stream = output.add_stream("libx264", rate=25, options=LOSSLESS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as opened:
        assert "Frame Cropping" in opened.metadata["comment"]
        assert presentation(opened, opened.streams.video[0]).margins == Margins()


# --- the shape of pixels


def broadcast(aspects, frames=6):
    """MPEG-2 in a transport stream whose aspect changes on the way, as where a film starts."""
    file = BytesIO()
    with av.open(file, "w", format="mpegts") as output:
        stream = output.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for place, aspect in enumerate(aspects):
            encoder = av.CodecContext.create("mpeg2video", "w")
            encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
            encoder.time_base, encoder.framerate, encoder.sample_aspect_ratio = Fraction(1, 25), 25, aspect
            encoder.max_b_frames, encoder.options = 2, {"qscale": "2"}
            packets = []
            for number in range(frames):
                _, frame = coded(64, 48)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode(None):
                packet.pts, packet.dts = packet.pts + place * frames, packet.dts + place * frames
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                output.mux(packet)
    file.seek(0)
    return file


FOUR_THIRDS, SIXTEEN_NINTHS = Fraction(1), Fraction(4, 3)


@pytest.mark.parametrize("aspects", [(FOUR_THIRDS, SIXTEEN_NINTHS), (SIXTEEN_NINTHS, FOUR_THIRDS, SIXTEEN_NINTHS)])
def test_a_change_of_aspect_in_a_broadcast_counts_from_its_frame_on(aspects):
    source = broadcast(aspects)
    wanted = [(round(64 * aspect), 48) for aspect in aspects for _ in range(6)]
    images, _ = capture_all(source, number=0)
    tally("ts", "mpeg2video", "shapes, changing aspects", [(image.width, image.height) for image in images], wanted)
    assert [(image.width, image.height) for image in images] == wanted
    images, _ = capture_all(source, number=0, interval_s=Fraction(3, 25))
    assert [(image.width, image.height) for image in images] == wanted[::3]
    images, _ = capture_all(source, start_s=Fraction(7, 25))
    assert (images[0].width, images[0].height) == wanted[7]


def test_the_containers_aspect_counts_where_the_codec_says_another():
    """As with the `ffmpeg` command."""
    _, frame = coded()
    source = h264(frame, aspect=Fraction(3, 2))
    assert picture(source).shape == (64, 144, 3)
    data = source.getvalue()
    at = data.index(b"pasp") + 4
    assert data[at : at + 8] == bytes([0, 0, 0, 3, 0, 0, 0, 2])
    changed = data[:at] + bytes([0, 0, 0, 2, 0, 0, 0, 1]) + data[at + 8 :]
    assert picture(BytesIO(changed)).shape == (64, 192, 3)


# --- Dolby Vision


@pytest.mark.parametrize(("profile", "compatibility"), [(5, 0), (10, 0)])
def test_dolby_vision_without_a_base_layer_is_refused(profile, compatibility):
    _, frame = coded()
    data = with_box(h264(frame).getvalue(), sample_entry("avc1"), dolby_vision(profile, compatibility))
    with pytest.raises(TaskError, match=f"Dolby Vision of profile {profile} .*profiles 7, 8 and 9") as caught:
        capture_all(BytesIO(data))
    assert caught.value.code == Code.UNSUPPORTED_MEDIA


@pytest.mark.parametrize(("profile", "compatibility"), [(8, 1), (8, 4), (9, 2), (7, 6), (10, 4)])
def test_dolby_vision_with_a_base_layer_shows_that(profile, compatibility):
    samples, frame = coded()
    data = with_box(h264(frame).getvalue(), sample_entry("avc1"), dolby_vision(profile, compatibility))
    assert (picture(BytesIO(data))[..., 1] == samples).all()
