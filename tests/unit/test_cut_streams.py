"""Videos that were cut without being encoded again give the frames of a full decode, and are not taken for damaged."""

from fractions import Fraction

import pytest

from tests.cuts import copy_from, with_edits
from tests.exact import assert_as_expected
from tests.naive import decode_all
from tests.streams import FAST, Stream, make
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Format, Mode, Rendition, Selection

PNG = Rendition(format=Format.PNG)
SELECTIONS = (
    Selection(),
    Selection(interval_s=Fraction(1, 5)),
    Selection(Mode.AVERAGE, number=5),
    Selection(Mode.KEYFRAME),
    Selection(Mode.DHASH, interval_s=Fraction(1, 5), threshold=3),
    *(Selection(start_s=Fraction(n, 10), number=1) for n in range(0, 20, 3)),
)
X264 = "scenecut=0:b-adapt=0:threads=1"
OPEN = "keyint=25:bframes=3:open-gop=1"
OPEN_PYRAMID = "keyint=12:bframes=2:open-gop=1:b-pyramid=normal:ref=3"


def encoded(folder, codec, params, frames, container="mp4"):
    name, rest = {
        "libx264": ("x264-params", X264),
        "libx265": ("x265-params", "scenecut=0:pools=none:frame-threads=1:log-level=none"),
    }[codec]
    options = FAST[codec] | {name: f"{params}:{rest}"}
    recipe = Stream(
        codec, container, 25, 3, tuple(options.items()), Fraction(1, 25), Fraction(25), (1,) * frames, 0, 0, (96, 64),
        interlaced=False,
    )  # fmt: skip
    return make(recipe, folder)


def assert_exact(path, codec):
    """Each selection alone; gives the naive video."""
    video = decode_all(path, keys=True)
    assert video.errors == 0
    for selection in SELECTIONS:
        plan = CapturePlan((EntryPlan(selection, PNG),))
        assert_as_expected(path, plan, (path.suffix[1:], codec), "cut streams", video)
    return video


def report_of(path, selection):
    with path.open("rb") as file:
        return list(capture(file, CapturePlan((EntryPlan(selection, Rendition(width=16, height=16)),))))[-1]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("params", [OPEN, OPEN_PYRAMID], ids=["open GOPs", "B-pyramid"])
def test_h264_that_begins_at_a_recovery_point(params, suffix, tmp_path):
    """Its first pictures tell the decoder to forget pictures that were cut off: FFmpeg calls that invalid data."""
    path = copy_from(encoded(tmp_path, "libx264", params, 90, suffix), 2)
    assert len(assert_exact(path, "libx264").frames) > 30


@pytest.mark.parametrize(
    ("codec", "params"),
    [
        ("libx264", "keyint=25:min-keyint=25:bframes=3"),
        ("libx264", OPEN),
        ("libx265", "keyint=25:bframes=3:open-gop=1"),
    ],
    ids=["H.264", "H.264 of open GOPs", "HEVC"],
)
@pytest.mark.parametrize("start_s", [Fraction(38, 25), Fraction(63, 25)])
def test_an_edit_that_starts_and_ends_amid_groups_of_pictures(start_s, codec, params, tmp_path):
    path = with_edits(encoded(tmp_path, codec, params, 160), (start_s, 2))
    video = assert_exact(path, codec)
    hidden = start_s * 25 % 25
    assert report_of(path, Selection(Mode.KEYFRAME)).frames_decoded <= len(video.keys) + 2 * hidden + 10


def test_several_edits(tmp_path):
    """What one leaves out is read before what the next goes back to is."""
    whole = encoded(tmp_path, "libx264", "keyint=25:min-keyint=25:bframes=3", 160)
    for edits in ([(Fraction(38, 25), 2), (Fraction(107, 25), 2)], [(1, 2), (4, 2)]):
        assert_exact(with_edits(whole, *edits), "libx264")
