"""What a keyframe is worth: hand-made NAL units, and the packets of real encoders."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from worker.media.access import Access, classifier, nal_units

SPS, PPS, AUD, IDR, SLICE = b"\x67\x64\x00\x1f", b"\x68\xeb", b"\x09\x10", b"\x65\x88\x84", b"\x41\x9a\x02"
AVCC = bytes([1, 100, 0, 31, 0xFC | 3, 0xE1])


def annex_b(*units):
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units)


def sized(*units, size=4):
    return b"".join(len(unit).to_bytes(size, "big") + unit for unit in units)


def recovery_point(bits):
    """An SEI unit with a user data message first, as encoders write it, then a recovery point of these bits."""
    payload = int(bits.ljust(8, "1"), 2).to_bytes(1, "big")
    return b"\x06" + b"\x05\x03abc" + bytes([6, len(payload)]) + payload + b"\x80"


H264 = {
    "IDR with its parameter sets": (annex_b(AUD, SPS, PPS, IDR), b"", Access.RESET),
    "IDR whose parameter sets came earlier": (annex_b(AUD, IDR), b"", Access.ALONE),
    "IDR in MP4": (sized(IDR), AVCC, Access.RESET),
    "IDR in MP4 behind an SEI of 300 bytes": (sized(b"\x06\x05\xff\x2d" + bytes(300), IDR), AVCC, Access.RESET),
    "no IDR": (sized(SLICE), AVCC, Access.NONE),
    "recovers at once, exactly": (sized(recovery_point("11"), SLICE), AVCC, Access.CLEAN),
    "recovers at once, about": (sized(recovery_point("10"), SLICE), AVCC, Access.ALONE),
    "recovers after some frames": (sized(recovery_point("01011"), SLICE), AVCC, Access.NONE),
    "recovers at once, with parameter sets": (annex_b(SPS, PPS, recovery_point("11"), SLICE), b"", Access.CLEAN),
    "recovers at once, without parameter sets": (annex_b(recovery_point("11"), SLICE), b"", Access.ALONE),
    "empty": (b"", AVCC, Access.NONE),
    "a length past the end": (b"\x00\x00\xff\xff\x41", AVCC, Access.NONE),
    "an SEI that is cut short": (sized(b"\x06\x06"), AVCC, Access.NONE),
    "an SEI of nothing but size bytes": (sized(b"\x06" + b"\xff" * 60, SLICE), AVCC, Access.NONE),
}


@pytest.mark.parametrize(("data", "extradata", "wanted"), H264.values(), ids=H264)
def test_h264(data, extradata, wanted):
    assert classifier("h264", extradata, "mov")(data) is wanted


HVCC = bytes([1]) + bytes(20) + bytes([3])
HEVC_SETS = (b"\x40\x01", b"\x42\x01", b"\x44\x01")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (1, Access.NONE),
        (9, Access.NONE),
        (16, Access.RESET),
        (19, Access.RESET),
        (20, Access.RESET),
        (21, Access.CLEAN),
    ],
)
def test_hevc(kind, wanted):
    unit = bytes([kind << 1, 1, 0x80])
    assert classifier("hevc", HVCC, "mov")(sized(unit)) is wanted
    assert classifier("hevc", b"", "mpegts")(annex_b(*HEVC_SETS, unit)) is wanted
    assert classifier("hevc", b"", "mpegts")(annex_b(unit)) is min(wanted, Access.ALONE)


@pytest.mark.parametrize(
    ("codec", "container", "data", "wanted"),
    [
        ("mpeg2video", "mpegts", b"\x00\x00\x01\xb3\x12\x00\x00\x01\x00", Access.RESET),
        ("mpeg2video", "mpegts", b"\x00\x00\x01\x00\x00\x0f", Access.ALONE),
        ("mpeg4", "mov", b"", Access.RESET),
        ("mpeg4", "avi", b"", Access.ALONE),
        ("vp9", "matroska", b"", Access.RESET),
        ("wmv3", "asf", b"", Access.ALONE),
    ],
)
def test_other_codecs(codec, container, data, wanted):
    assert classifier(codec, b"", container)(data) is wanted


@pytest.mark.parametrize("size", [1, 2, 4])
def test_units_are_split_by_length_or_start_code_alike(size):
    units = [SPS, PPS, IDR + bytes(range(3, 90))]
    cut = [unit[:64] for unit in units]
    assert list(nal_units(sized(*units, size=size), size)) == cut
    assert [unit[: len(each)] for unit, each in zip(nal_units(annex_b(*units), 0), cut, strict=True)] == cut


def encoded(codec, params, frames=60, container="mp4"):
    """The access of each packet that is marked as a keyframe, and how many frames decode from each on."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25, options={"preset": "veryfast", f"{codec[3:]}-params": params})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        random = np.random.default_rng(1)
        for number in range(frames):
            picture = np.roll(random.integers(0, 99, (64, 96, 3), np.uint8), number, 1)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as media:
        stream = media.streams.video[0]
        context = stream.codec_context
        classify = classifier(context.name, bytes(context.extradata or b""), media.format.name.split(",")[0])
        return [classify(bytes(packet)) for packet in media.demux(stream) if packet.size and packet.is_keyframe]


X264 = "keyint=12:min-keyint=12:scenecut=0:bframes=2:threads=1"
X265 = "keyint=12:min-keyint=12:scenecut=0:bframes=2:pools=none:frame-threads=1:log-level=none"


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_x264_closed_gops_reset(container):
    assert encoded("libx264", X264, container=container) == [Access.RESET] * 5


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_x264_open_gops_are_clean(container):
    kinds = encoded("libx264", X264 + ":open-gop=1", container=container)
    assert kinds == [Access.RESET, *[Access.CLEAN] * (len(kinds) - 1)]
    assert len(kinds) >= 5


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_of_x264_intra_refresh_only_the_first_is_worth_anything(container):
    kinds = encoded("libx264", X264 + ":intra-refresh=1", container=container)
    assert kinds == [Access.RESET, *[Access.NONE] * (len(kinds) - 1)]
    assert len(kinds) > 2


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_x265(container):
    closed = encoded("libx265", X265 + ":open-gop=0", container=container)
    assert set(closed) == {Access.RESET}
    kinds = encoded("libx265", X265 + ":open-gop=1", container=container)
    assert kinds[0] >= Access.CLEAN
    assert Access.CLEAN in kinds
    assert min(kinds) >= Access.CLEAN


VOP, PICTURE, SEQUENCE = b"\x00\x00\x01\xb6", b"\x00\x00\x01\x00", b"\x00\x00\x01\xb3\x12"
MPEG = {
    "MPEG-4, I": ("mpeg4", VOP + b"\x10", Access.RESET),
    "MPEG-4, P, whatever the container says": ("mpeg4", VOP + b"\x50", Access.NONE),
    "MPEG-4, B": ("mpeg4", VOP + b"\x90", Access.NONE),
    "MPEG-4, a sprite": ("mpeg4", VOP + b"\xd0", Access.NONE),
    "MPEG-4, cut short": ("mpeg4", VOP, Access.RESET),
    "MPEG-2, I with its headers": ("mpeg2video", SEQUENCE + PICTURE + b"\x00\x0f", Access.RESET),
    "MPEG-2, I without": ("mpeg2video", PICTURE + b"\x00\x0f", Access.ALONE),
    "MPEG-2, P with headers": ("mpeg2video", SEQUENCE + PICTURE + b"\x00\x17", Access.NONE),
    "MPEG-1, B": ("mpeg1video", PICTURE + b"\x00\x1f", Access.NONE),
    "MPEG-1, cut short": ("mpeg1video", PICTURE, Access.ALONE),
}


@pytest.mark.parametrize(("codec", "data", "wanted"), MPEG.values(), ids=MPEG)
def test_mpeg(codec, data, wanted):
    assert classifier(codec, b"", "mov")(data) is wanted
