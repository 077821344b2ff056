"""What is announced of a file's reads: where its index is, and the packets that wanted times need."""

import io
from dataclasses import dataclass

import av
import pytest

from bench.limits import Recipe, make
from bench.reading import inflate
from worker.media.container import Media
from worker.media.plan import Limits
from worker.media.reads import KEYS_AHEAD, MAX_BOXES, expect_index

GOP = 50


class Told(io.BytesIO):
    """A file in memory that keeps what is announced, and what is read apart from it."""

    def __init__(self, data):
        super().__init__(data)
        self.ranges = []

    def expect(self, ranges):
        self.ranges += ranges


def box(kind, body=b"", *, size=None, long=False):
    length = len(body) + (16 if long else 8) if size is None else size
    head = (1).to_bytes(4) + kind + length.to_bytes(8) if long else length.to_bytes(4) + kind
    return head + body


FTYP = box(b"ftyp", b"isom")
MOOV = box(b"moov", b"m" * 500)
MDAT = box(b"mdat", b"d" * 5000)


def announced(data):
    file = Told(data)
    expect_index(file)
    assert file.tell() == 0
    return file.ranges


@pytest.mark.parametrize("before", [FTYP, FTYP + box(b"free", b"f" * 9), FTYP + box(b"wide") + box(b"skip")])
@pytest.mark.parametrize("long", [False, True])
def test_the_index_is_announced_exactly_where_it_comes_first(before, long):
    moov = box(b"moov", b"m" * 500, long=long)
    assert announced(before + moov + MDAT) == [(len(before), len(moov))]


@pytest.mark.parametrize("long", [False, True])
def test_all_behind_the_media_data_is_announced_where_the_index_comes_last(long):
    before = FTYP + box(b"mdat", b"d" * 5000, long=long)
    assert announced(before + MOOV + box(b"free")) == [(len(before), len(MOOV) + 8)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"RIFF" + bytes(100),
        b"\x47" * 1000,
        FTYP + box(b"moov", b"m", size=10**6),
        FTYP + box(b"moov", b"m", size=3),
        FTYP + box(b"moov", b"m" * 20, size=0),
        FTYP + box(b"mdat", b"d" * 20, size=2**40, long=True) + MOOV,
        FTYP + box(b"mdat", b"d" * 20, size=15, long=True) + MOOV,
        FTYP + box(b"mdat", b"d" * 20, size=2**64 - 1, long=True) + MOOV,
        FTYP + box(b"what") + MOOV,
        FTYP + MDAT,
        box(b"free") * MAX_BOXES + MOOV,
    ],
)
def test_nothing_is_announced_where_the_boxes_look_odd(data):
    assert announced(data) == []


def test_boxes_without_end_are_not_walked_forever():
    assert announced(box(b"free") * 10**5) == []


def test_a_file_that_does_not_want_to_know_is_not_touched():
    file = io.BytesIO(FTYP + MOOV)
    file.seek(3)
    expect_index(file)
    assert file.tell() == 3


# --- packets


@pytest.fixture(scope="module", params=["video.mp4", "first.mp4", "video.mov", "video.mkv"])
def video(request, tmp_path_factory):
    """A video, and what FFmpeg's demuxer tells of its packets when it reads them all."""
    folder = tmp_path_factory.mktemp("reads")
    small = make(folder / "small.mp4", Recipe("libx264", GOP), frames=300)
    options = {"movflags": "faststart"} if request.param == "first.mp4" else {}
    path = inflate(small, folder / request.param, options)
    with av.open(path) as container:
        return path, [packet_of(one) for one in container.demux(video=0) if one.size]


@dataclass(frozen=True)
class Sent:
    pts: int
    dts: int | None
    key: bool
    start: int
    end: int


def packet_of(packet):
    return Sent(packet.pts, packet.dts, packet.is_keyframe, packet.pos, packet.pos + packet.size)


def merged(spans):
    found = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def length(spans):
    return sum(end - start for start, end in merged(spans))


def told_for(media, thresholds):
    before = len(media.file.ranges)
    media.expect(thresholds)
    return [(offset, offset + size) for offset, size in media.file.ranges[before:]]


def needed(packets, number):
    """The packets of the frame of that number and what it may refer to, and those decoded until its time is over."""
    threshold = sorted(one.pts for one in packets)[number]
    first = max(place for place, one in enumerate(packets) if one.key and one.pts <= threshold)
    last = max(place for place, one in enumerate(packets) if one.pts <= threshold)
    while last + 1 < len(packets) and packets[last].dts is not None and packets[last].dts <= threshold:
        last += 1
    return threshold, [(one.start, one.end) for one in packets[first : last + 1]]


@pytest.mark.parametrize("number", [0, 1, 49, 50, 51, 99, 100, 149, 160, 298, 299])
def test_a_wanted_time_announces_the_packets_that_it_needs(video, number):
    path, packets = video
    threshold, wanted = needed(packets, number)
    with Media(Told(path.read_bytes()), Limits()) as media:
        media.seek(0)  # Matroska's index is there after the first seek
        told = told_for(media, [threshold])
    if path.suffix != ".mkv":
        assert length(told + wanted) == length(told), "all that is needed"
        assert length(told) <= length(wanted) + 1000, "and no more"
    elif number < 250:  # the last group's end is not in the index
        both = length(told) + length(wanted) - length(told + wanted)
        assert both >= 0.6 * length(wanted)
        assert length(told) <= 1.3 * length(wanted)


def test_each_packet_is_announced_once(video):
    path, packets = video
    times = sorted(one.pts for one in packets)
    with Media(Told(path.read_bytes()), Limits()) as media:
        media.seek(0)
        told = []
        for place in range(0, 240, 3):
            told += told_for(media, [times[place], times[place + 7], times[place + 60]])
    assert told
    assert sum(end - start for start, end in told) <= 1.02 * length(told)


def test_a_file_opened_again_is_announced_again(video):
    path, packets = video
    times = sorted(one.pts for one in packets)
    with Media(Told(path.read_bytes()), Limits()) as media:
        media.seek(0)
        first = told_for(media, [times[120]])
        assert first
        assert not told_for(media, [times[120]])
        media.rewind()
        media.seek(0)
        assert told_for(media, [times[120]]) == first


def test_matroska_announces_what_is_wanted_as_soon_as_its_index_is_read(video):
    path, packets = video
    if path.suffix != ".mkv":
        pytest.skip("the index is there from the start")
    times = sorted(one.pts for one in packets)
    with Media(Told(path.read_bytes()), Limits()) as media:
        assert not told_for(media, [times[120]])
        media.seek(times[120])
        assert media.file.ranges


def test_keyframes_are_announced_some_at_a_time(tmp_path):
    path = inflate(make(tmp_path / "keys.mp4", Recipe("libx264", 4), frames=200), tmp_path / "large.mp4")
    with av.open(path) as container:
        keys = [packet_of(one) for one in container.demux(video=0) if one.is_keyframe and one.size]
    with Media(Told(path.read_bytes()), Limits()) as media:
        media.file.ranges.clear()
        for number, key in enumerate(keys):
            media.expect_keys(key.dts, key.end - key.start)
            told = [(offset, offset + size) for offset, size in media.file.ranges]
            soon = [(one.start, one.end) for one in keys[number + 1 : number + 1 + KEYS_AHEAD // 2]]
            assert length(told + soon) == length(told)
            assert len(told) <= number + KEYS_AHEAD
        assert told == [(one.start, one.end) for one in keys[1:]]
