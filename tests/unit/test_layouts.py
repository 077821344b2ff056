"""How containers hold streams: where the index is, what edit lists cut, clocks that jump, times that are missing.

Packets of one encoded stream are written again in each way; the truth is the naive full decode, and FFmpeg's own
command line where it is installed.
"""

import shutil
import subprocess
from fractions import Fraction

import av
import pytest

from tests.exact import assert_as_expected
from tests.naive import decode_all
from tests.streams import CONTAINERS, make, quiet
from tests.unit.test_exactness import assert_exact, stream
from worker.media.capture import capture
from worker.media.container import Media
from worker.media.decode import FrameReader
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Limits, Mode, Rendition, Selection
from worker.media.timeline import first_pts

PNG = Rendition(format=Format.PNG)


def rewritten(source, path, change=lambda packets: packets, **muxer):
    """Write the packets of a file's video anew, after `change`."""
    with quiet(), av.open(source) as given, av.open(path, "w", options=muxer) as out:
        video = out.add_stream_from_template(given.streams.video[0])
        for packet in change([packet for packet in given.demux(video=0) if packet.size]):
            packet.stream = video
            out.mux(packet)
    return path


def later(ticks):
    """Move all times, also to below zero."""

    def change(packets):
        for packet in packets:
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return packets

    return change


def doubled(packets):
    """Give every third packet the time of the one before it."""
    for before, packet in zip(packets[::3], packets[1::3], strict=False):
        packet.pts, packet.dts = before.pts, before.dts
    return packets


def box(data, kind):
    return data.index(kind) - 4


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    recipes = {
        "h264": stream("libx264", "mp4", "open-gop=1"),
        "hevc": stream("libx265", "mp4", "open-gop=1:bframes=4:b-pyramid=1"),
        "mjpeg": stream("mjpeg", "mov"),
        "mpeg4": stream("mpeg4", "mp4"),
    }
    return {name: make(each, tmp_path_factory.mktemp(name)) for name, each in recipes.items()}


@pytest.mark.parametrize("codec", ["h264", pytest.param("hevc", marks=pytest.mark.slow)])
def test_the_index_first_and_last(sources, codec, tmp_path):
    last = rewritten(sources[codec], tmp_path / "last.mp4").read_bytes()
    path = rewritten(sources[codec], tmp_path / "first.mp4", movflags="faststart")
    first = path.read_bytes()
    assert box(last, b"mdat") < box(last, b"moov")
    assert box(first, b"moov") < box(first, b"mdat")
    assert [f.digest for f in assert_exact(path, ("mp4, index first", codec)).frames] == [
        f.digest for f in assert_exact(tmp_path / "last.mp4", ("mp4, index last", codec)).frames
    ]


@pytest.mark.parametrize("codec", ["h264", pytest.param("hevc", marks=pytest.mark.slow)])
@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_every_frame+empty_moov+dash", "frag_keyframe"])
def test_fragments(sources, codec, flags, tmp_path):
    path = rewritten(sources[codec], tmp_path / "x.mp4", movflags=flags)
    assert b"moof" in path.read_bytes()
    assert len(assert_exact(path, ("mp4, fragmented", codec)).frames) == 40


@pytest.mark.parametrize("codec", ["h264", pytest.param("hevc", marks=pytest.mark.slow)])
@pytest.mark.parametrize("cut", [3, 12, 17])
def test_edit_lists_that_cut_the_start(sources, codec, cut, tmp_path):
    """Packets from before the cut are there, and decoded, but not shown."""
    ticks = cut * 512
    path = rewritten(sources[codec], tmp_path / "x.mp4", later(-ticks), avoid_negative_ts="disabled")
    with av.open(path) as media:
        assert any(packet.is_discard for packet in media.demux(video=0))
    video = assert_exact(path, ("mp4, edit list", codec))
    whole = decode_all(sources[codec])
    assert [frame.digest for frame in video.frames] == [frame.digest for frame in whole.frames][cut:]


@pytest.mark.parametrize(("codec", "suffix"), [("h264", "mp4"), ("hevc", "mp4"), ("h264", "mkv"), ("mpeg4", "mov")])
def test_times_below_zero(sources, codec, suffix, tmp_path):
    options = {"avoid_negative_ts": "disabled"} | ({"use_editlist": "0"} if suffix != "mkv" else {})
    path = rewritten(sources[codec], tmp_path / f"x.{suffix}", later(-2 * 512), **options)
    assert_exact(path, (f"{suffix}, from below zero", codec))


@pytest.mark.parametrize(("codec", "container"), [("mjpeg", "mkv"), ("mpeg4", "mkv")])
def test_frames_that_have_the_same_time(sources, codec, container, tmp_path):
    path = rewritten(sources[codec], tmp_path / f"x.{container}", doubled if codec == "mjpeg" else lambda p: p)
    video = decode_all(path, keys=True)
    entries = tuple(EntryPlan(Selection(interval_s=Fraction(n, 50)), PNG) for n in (0, 1, 2, 5))
    assert_as_expected(path, CapturePlan(entries), (f"{container}, doubled times", codec), "made streams", video)


def counted(data):
    """Number the packets of a transport stream anew: a gap in the numbers says that some were lost."""
    out, counts = bytearray(data), {}
    for at in range(0, len(out), 188):
        pid = int.from_bytes(out[at + 1 : at + 3]) & 0x1FFF
        counts[pid] = counts.get(pid, -1) + bool(out[at + 3] & 0x10)
        out[at + 3] = out[at + 3] & 0xF0 | counts[pid] & 15
    return bytes(out)


@pytest.mark.parametrize(
    "codec", ["libx264", *(pytest.param(codec, marks=pytest.mark.slow) for codec in ("mpeg2video", "libx265"))]
)
@pytest.mark.parametrize("starts", [(0, 7), (7, 0), (95440, 3), (3, 95440), (0, 0, 0), (36000, 5, 80000)])
def test_transport_streams_that_were_cut_together(codec, starts, tmp_path):
    """Each part begins with a keyframe and a clock of its own; all frames of all parts follow each other."""
    data = b""
    for number, start_s in enumerate(starts):
        (tmp_path / str(number)).mkdir()
        data += make(stream(codec, "ts", start=start_s * 25), tmp_path / str(number)).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(counted(data))
    assert_exact(path, ("ts, jumping clock", codec))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("codec", "container"), [(codec, c) for codec, cs in CONTAINERS.items() for c in cs])
def test_one_frame_and_two(codec, container, count, tmp_path):
    path = make(stream(codec, container, bframes=0, steps=(1,) * count), tmp_path)
    video = decode_all(path, keys=True)
    assert len(video.frames) == count
    entries = tuple(
        EntryPlan(each, PNG)
        for each in (
            Selection(),
            Selection(number=50),
            Selection(Mode.INTERVAL, Fraction(60), number=1),
            Selection(Mode.AVERAGE, number=2),
            Selection(Mode.KEYFRAME),
            Selection(Mode.DHASH, number=3),
        )
    )
    for plan in (CapturePlan(entries), *(CapturePlan((entry,)) for entry in entries)):
        assert_as_expected(path, plan, (container, codec), "very short streams", video)


# --- FFmpeg's own command line


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="there is no ffmpeg command")
@pytest.mark.parametrize(
    ("codec", "container", "params"),
    [
        ("libx264", "mp4", "open-gop=1:b-pyramid=normal"),
        ("libx264", "ts", "open-gop=1"),
        ("libx264", "mkv", "intra-refresh=1"),
        ("libx265", "mp4", "open-gop=1:bframes=4"),
        ("mpeg2video", "ts", ""),
        ("mpeg4", "avi", ""),
        ("libvpx", "webm", ""),
        ("ffv1", "mkv", ""),
        ("rv20", "rm", ""),
        ("h263", "3gp", ""),
    ],
)
def test_frames_are_those_that_the_ffmpeg_command_selects(codec, container, params, tmp_path):
    path = make(stream(codec, container, params), tmp_path)
    wanted = [0, 1, 11, 12, 13, 24, 30, 39]
    chosen = "+".join(f"eq(n\\,{number})" for number in wanted)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", f"select={chosen}", "-fps_mode", "passthrough"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], check=True, capture_output=True).stdout
    size = len(raw) // len(wanted)
    for place, number in enumerate(wanted):
        with path.open("rb") as file, Media(file, Limits()) as media:
            frame = FrameReader(media, Limits(), first_pts(media)).at(Fraction(number, 25)).frame
        assert frame.to_ndarray().tobytes() == raw[place * size : (place + 1) * size], number


@pytest.mark.parametrize("mode", [Mode.INTERVAL, Mode.DHASH])
def test_a_frame_that_begins_within_the_last_two_milliseconds(tmp_path, mode):
    path = make(stream("libx264", "mp4"), tmp_path)
    begins_s = Fraction(9, 25)
    selection = Selection(mode, begins_s - Fraction(8, 10_000), Fraction(1), 2)
    entry = EntryPlan(selection, Rendition(Format.PNG))
    plan = CapturePlan((entry,), trim_duration_s=begins_s + Fraction(5, 10_000))
    assert_as_expected(path, plan, ("mp4", "h264"), "made streams")
    with path.open("rb") as file:
        image = next(event for event in capture(file, plan) if isinstance(event, Image))
    assert image.time_s == begins_s
