"""Frames whose two halves are packets of their own are given whole: each the one of a full decode from the start."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.exact import assert_as_expected
from tests.field_pictures import FIELD_S, SIZE, coded, field_video, samples
from tests.naive import decode_all
from worker.media.container import Media
from worker.media.plan import CapturePlan, EntryPlan, Format, Limits, Mode, Rendition, Selection

FRAMES, GOP = 30, 8
UNKNOWN, PROGRESSIVE = 0, 1  # AVFieldOrder
PNG = Rendition(format=Format.PNG)
SELECTIONS = {
    "every frame": Selection(),
    "interval": Selection(interval_s=Fraction(7, 50)),
    "far apart": Selection(interval_s=Fraction(23, 50)),
    "average": Selection(Mode.AVERAGE, number=7),
    "first of average": Selection(Mode.AVERAGE, number=1),
    "changes": Selection(Mode.DHASH, interval_s=Fraction(3, 25), threshold=3),
    "greatest changes": Selection(Mode.DHASH, Fraction(1, 10), Fraction(1, 10), 3, threshold=3),
    "keyframes": Selection(Mode.KEYFRAME),
    "some keyframes": Selection(Mode.KEYFRAME, Fraction(1, 3), number=2),
}
CONTAINERS = ["ts", "mkv", "mp4", "flv"]


@pytest.fixture(params=CONTAINERS)
def path(request, tmp_path):
    return field_video(tmp_path / f"fields.{request.param}", FRAMES, gop=GOP)


@pytest.fixture(params=CONTAINERS)
def mixed(request, tmp_path):
    """A video that begins with progressive frames, each of one packet."""
    return field_video(tmp_path / f"mixed.{request.param}", FRAMES, gop=GOP, whole=9)


def assert_exact(path):
    """Of every mode, and of single frames at all times: of every frame in its first and in its second half."""
    video = decode_all(path, keys=True)
    assert (len(video.frames), video.errors, len(video.keys)) == (FRAMES, 0, 4)
    singles = [Selection(start_s=place * FIELD_S * 3 / 4, number=1) for place in range(FRAMES * 8 // 3)]
    for selection in [*SELECTIONS.values(), *singles]:
        plan = CapturePlan((EntryPlan(selection, PNG),))
        assert_as_expected(path, plan, (path.suffix[1:], "h264"), "field pictures", video)
    entries = tuple(EntryPlan(selection, PNG) for selection in SELECTIONS.values())
    for trim in [(Fraction(0), Fraction(0)), (Fraction(1, 3), Fraction(17, 50))]:
        plan = CapturePlan(entries, *trim)
        assert_as_expected(path, plan, (path.suffix[1:], "h264"), "field pictures", video)


def field_order(path):
    """What FFmpeg knows of it before anything is decoded."""
    with path.open("rb") as file, Media(file, Limits()) as media:
        return media.context.field_order


def written():
    """The luma that was written of each frame, in the order they are shown."""
    reference, frames = {}, {}
    for frame in coded(FRAMES, GOP, 0):
        fields = {}
        for parity in (0, 1):
            blocks = [np.frombuffer(samples(frame.place, n, parity)[:256], np.uint8).reshape(16, 16) for n in (0, 1)]
            if not frame.idr or parity:  # one is that of the reference's field of the same parity
                seen = fields[0] if frame.idr else reference[parity]
                same = 1 - frame.place // 2 % 2
                blocks[same] = seen[:, 16 * same : 16 * same + 16]
            fields[parity] = np.hstack(blocks)
        reference = fields if frame.referenced else reference
        frames[frame.place] = np.stack([fields[0], fields[1]], 1).reshape(SIZE, SIZE)
    return [frames[place] for place in range(FRAMES)]


def test_each_pair_of_packets_decodes_to_one_frame(path):
    """Which has the samples that were written."""
    with av.open(path, format="mpegts" if path.suffix == ".ts" else None) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len({packet.pts for packet in packets}) == 2 * FRAMES
    frames = [each.frame for each in decode_all(path).frames]
    assert all(frame.interlaced_frame for frame in frames)
    for frame, luma in zip(frames, written(), strict=True):
        rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(-1, frame.planes[0].line_size)
        np.testing.assert_array_equal(rows[:SIZE, :SIZE], luma)


def test_frames_of_every_mode(path):
    assert_exact(path)


def test_frames_of_every_mode_behind_progressive_ones(mixed):
    """Which FFmpeg takes all frames for at the opening: only decoding shows that some have halves."""
    assert field_order(mixed) == PROGRESSIVE
    assert_exact(mixed)


def test_an_mp4_tells_nothing_of_halves(tmp_path):
    """So the above holds too where that is unknown at the opening."""
    assert field_order(field_video(tmp_path / "fields.mp4", FRAMES, gop=GOP)) == UNKNOWN


@pytest.mark.parametrize("whole", [0, 9], ids=["known", "found out later"])
def test_keyframes_whose_other_half_a_demuxer_would_leave_out(whole, tmp_path):
    """As FLV's does: the file is longer than what FFmpeg reads at its opening, when nothing is left out yet."""
    path = field_video(tmp_path / "long.flv", 400, gop=50, whole=whole)
    video = decode_all(path, keys=True)
    assert len(video.keys) == 8
    for selection in (SELECTIONS["keyframes"], Selection(Mode.KEYFRAME, Fraction(5), number=3)):
        plan = CapturePlan((EntryPlan(selection, PNG),))
        assert_as_expected(path, plan, ("flv", "h264"), "field pictures", video)
