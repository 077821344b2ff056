"""Fragmented MP4 whose fragments are indexed only when they are come to, also those that begin without a keyframe."""

from fractions import Fraction

import pytest

from bench.limits import FRAGMENTS, Recipe, make
from tests.exact import assert_as_expected
from tests.naive import decode_all
from worker.media.container import Media
from worker.media.plan import CapturePlan, EntryPlan, Format, Limits, Mode, Rendition, Selection
from worker.media.timeline import end_pts, latest_pts

EACH_FRAME = "frag_every_frame+empty_moov+default_base_moof+global_sidx"
PNG = Rendition(format=Format.PNG)
SELECTIONS = [
    Selection(Mode.AVERAGE, number=2),
    Selection(Mode.AVERAGE, number=7),
    Selection(start_s=Fraction("3.1"), number=1),
    Selection(start_s=Fraction("0.9"), interval_s=Fraction("1.3")),
    Selection(Mode.KEYFRAME),
]


@pytest.fixture(scope="module", params=[(FRAGMENTS, ""), (FRAGMENTS, "open-gop=1"), (EACH_FRAME, "open-gop=1")])
def video(request, tmp_path_factory):
    movflags, params = request.param
    path = make(tmp_path_factory.mktemp("video") / "video.mp4", Recipe("libx264", 12, params, 0, movflags), frames=136)
    return path, decode_all(path, keys=True)


def test_the_end_is_that_of_the_last_frame_and_not_of_what_is_indexed(video):
    path, naive = video
    with path.open("rb") as file, Media(file, Limits()) as media:
        assert latest_pts(media) is None
        assert (end_pts(media) - naive.frames[0].pts) * media.time_base == naive.end_s


@pytest.mark.parametrize("selection", SELECTIONS)
def test_frames_are_those_of_the_full_decode(video, selection):
    path, naive = video
    assert_as_expected(path, CapturePlan((EntryPlan(selection, PNG),)), ("mp4", "libx264"), "fragments", naive)
