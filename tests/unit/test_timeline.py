"""Where videos start and end and where their keyframes are, told from packets and checked by decoding."""

import io
from fractions import Fraction

import av
import pytest

from tests.naive import decode_all
from tests.streams import FAST, Stream, make
from worker.media.container import Media
from worker.media.extent import is_truncated
from worker.media.plan import Limits
from worker.media.timeline import end_pts, first_pts, has_order, key_pts

X264 = "keyint=12:min-keyint=12:scenecut=0:bframes=2:threads=1"
RECIPES = {
    "mp4": ("libx264", "mp4", {"x264-params": X264}, 0),
    "mp4 that starts late": ("libx264", "mp4", {"x264-params": X264}, 250),
    "fragmented mp4": ("libx264", "fmp4", {"x264-params": X264}, 0),
    "mkv": ("libx264", "mkv", {"x264-params": X264}, 100),
    "ts": ("libx264", "ts", {"x264-params": X264}, 0),
    "ts whose clock wraps": ("libx264", "ts", {"x264-params": X264}, 95443 * 25),
    "ts with open GOPs": ("libx264", "ts", {"x264-params": X264 + ":open-gop=1"}, 0),
    "flv": ("libx264", "flv", {"x264-params": X264}, 0),
    "mpeg-2": ("mpeg2video", "ts", {}, 0),
    "webm": ("libvpx", "webm", {}, 0),
    "avi": ("mpeg4", "avi", {}, 0),
}


def recipe(codec, container, options=None, start=0, steps=(1,) * 40):
    options = FAST.get(codec, {}) | (options or {})
    return Stream(
        codec, container, 12, 2 if codec in {"libx264", "mpeg2video"} else 0, tuple(options.items()), Fraction(1, 25),
        Fraction(25), steps, start, 0, (96, 64), interlaced=False,
    )  # fmt: skip


@pytest.fixture(params=RECIPES)
def video(request, tmp_path):
    path = make(recipe(*RECIPES[request.param]), tmp_path)
    with path.open("rb") as file, Media(file, Limits()) as media:
        yield decode_all(path, keys=True), media


def test_the_first_pts_is_that_of_the_first_frame(video):
    naive, media = video
    assert first_pts(media) in {naive.frames[0].pts, None}
    assert first_pts(media) == first_pts(media)  # it leaves the media as it was


def test_packets_tell_the_first_pts_of_ordinary_files(tmp_path):
    for codec, container in [("libx264", "mp4"), ("libx264", "mkv"), ("libx264", "ts"), ("libvpx", "webm")]:
        path = make(recipe(codec, container), tmp_path)
        with path.open("rb") as file, Media(file, Limits()) as media:
            assert first_pts(media) == decode_all(path).frames[0].pts


def test_the_end_is_that_of_the_last_frame(video):
    naive, media = video
    assert (end_pts(media) - naive.frames[0].pts) * media.time_base == naive.end_s


def test_keyframes_are_those_that_decode_alone(video):
    naive, media = video
    keys = [naive.frames[index].pts for index in sorted(naive.keys)]
    assert key_pts(media, naive.frames[0].pts) == keys


def test_keyframes_from_a_time_on(video):
    naive, media = video
    start = naive.frames[15].pts
    keys = [naive.frames[index].pts for index in sorted(naive.keys)]
    assert key_pts(media, start) == [pts for pts in keys if pts >= start]


def test_the_end_of_variable_rates_needs_no_more_than_the_last_gop(tmp_path):
    steps = tuple(1 + (n * 7) % 5 for n in range(200))
    path = make(recipe("libx264", "mp4", {"x264-params": X264}, steps=steps), tmp_path)
    with path.open("rb") as file, Media(file, Limits()) as media:
        assert end_pts(media) * media.time_base == decode_all(path).end_s
        assert media.packets_read < 30


@pytest.mark.parametrize("container", ["h264", "avi"])
def test_raw_streams_and_avi_do_not_tell_the_order_of_h264(container, tmp_path):
    path = make(recipe("libx264", container, {"x264-params": X264}), tmp_path)
    with path.open("rb") as file, Media(file, Limits()) as media:
        assert not has_order(media)
        assert first_pts(media) is None
        assert end_pts(media) is None


@pytest.mark.parametrize(
    ("codec", "container", "told"),
    [
        ("libx264", "mp4", True),
        ("libx264", "mkv", True),
        ("libvpx", "webm", True),
        ("mpeg4", "avi", True),
        ("libx264", "ts", False),
        ("libx264", "flv", False),
    ],
)
def test_files_that_end_early_are_told_where_something_promises_more(codec, container, told, tmp_path):
    path = make(recipe(codec, container), tmp_path)
    data = (index_first(path) if container == "mp4" else path).read_bytes()
    for share, truncated in ((100, False), (90, told), (60, told)):
        with Media(io.BytesIO(data[: len(data) * share // 100]), Limits()) as media:
            assert media.truncated is truncated


def index_first(path):
    """A copy of an MP4 with its index before its data."""
    copy = path.with_name("index_first.mp4")
    with av.open(path) as source, av.open(copy, "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return copy


@pytest.mark.parametrize(
    ("head", "size", "truncated"),
    [
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x88" + bytes(14), 24, False),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x8f" + bytes(14), 24, True),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7, 17, False),  # a live recording's size is unknown
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff" + bytes(3), 13, False),
        (b"\x1a\x45\xdf\xa3\x80", 5, False),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67", 9, False),
        (b"", 0, False),
    ],
)
def test_matroska_segment_sizes(head, size, truncated):
    file = io.BytesIO(head)
    file.seek(3)
    assert len(head) == size
    assert is_truncated(file, "matroska", None) is truncated
    assert file.tell() == 3
