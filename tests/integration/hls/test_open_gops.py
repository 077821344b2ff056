"""HLS whose segments begin at keyframes that need, or forget, what came before them."""

from fractions import Fraction
from itertools import pairwise

import pytest

from tests.playlists import Reading, make, plan
from worker.media.capture import capture
from worker.media.plan import Image, Limits, Mode, Selection
from worker.media.segments import read_table

FORGETTING = "open-gop=1:keyint=3:min-keyint=1:b-pyramid=strict:ref=3:bframes=3:b-adapt=0:scenecut=0:threads=1"
"""x264 tells decoders at some keyframes which earlier pictures to forget: without those, strict decoding fails."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    make(folder, "open", kind="fmp4", seconds=12, hls_time=1,
         options={"preset": "veryfast", "x264-params": FORGETTING})  # fmt: skip
    return folder


def keyframes(root, start_s, **limits):
    """The times of a capture's keyframes, and its report."""
    selection = Selection(Mode.KEYFRAME, start_s=Fraction(start_s))
    with Reading(root, "open/x.m3u8") as file:
        *events, report = capture(file, plan(selection, limits=Limits(**limits)))
    return [event.time_s for event in events if isinstance(event, Image)], report


def test_no_keyframe_is_missed_wherever_a_capture_begins(root):
    every, _ = keyframes(root, 0)
    assert len(every) > 90
    assert all(before < after for before, after in pairwise(every))
    with Reading(root, "open/x.m3u8") as file:
        starts = [Fraction(segment.start_s).limit_denominator(1000) for segment in read_table(file)]
    landed = 0
    for start_s in starts:
        found, report = keyframes(root, start_s)
        assert found == [time_s for time_s in every if time_s >= start_s], start_s
        assert not report.entries[0].warnings
        landed += report.seeks > 1  # and was started again
    assert landed > 5


def test_frames_count_towards_the_limit_however_often_a_source_is_opened(root):
    """Each opening decodes less than the limit, and all together more."""
    _, report = keyframes(root, 6)
    decoded = report.frames_decoded
    assert keyframes(root, 6, max_decoded_frames=decoded)[1].entries[0].error_code == ""
    with pytest.raises(Exception, match=f"more than {decoded - 1} frames") as caught:
        keyframes(root, 6, max_decoded_frames=decoded - 1)
    assert caught.value.code == "LimitExceeded"
