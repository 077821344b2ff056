"""Captures in parts give what they give in one go, wherever they are cut."""

import io
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from hypothesis import given, reject, seed
from hypothesis import strategies as st

from tests.parts import capture_in_parts, results
from tests.streams import make, streams
from tests.unit.test_capture import SEED, explore, plans
from worker.errors import Code, TaskError
from worker.media import parts
from worker.media.capture import capture
from worker.media.parts import Joined
from worker.media.plan import CapturePlan, EntryPlan, EntryReport, Image, Mode, Rendition, Report, Selection


@st.composite
def cuts(draw, length_s):
    """Times anywhere within the video, on frames' borders and off them, but no two the same."""
    shares = st.integers(1, 999).map(lambda share: Fraction(round(length_s * share), 1000))
    frames = st.integers(1, 40).map(lambda number: Fraction(number, 25))
    return sorted(draw(st.sets(st.one_of(shares, frames), min_size=1, max_size=4)) - {0})


@seed(SEED)
@explore(60)
@given(st.data())
def test_parts_come_to_what_the_whole_gives(data):
    stream = data.draw(streams(), label="stream")
    length_s = sum(stream.steps) * stream.time_base
    drawn = data.draw(plans(length_s), label="plan")
    plan = replace(drawn, entries=tuple(replace(entry, last_only=False) for entry in drawn.entries))
    times_s = data.draw(cuts(length_s), label="cuts")
    with tempfile.TemporaryDirectory() as folder:
        try:
            video = make(stream, Path(folder)).read_bytes()
        except av.FFmpegError:  # some options do not go together
            reject()
    try:
        whole = list(capture(io.BytesIO(video), plan))
    except TaskError:
        return
    joined = capture_in_parts(io.BytesIO(video), plan, times_s)
    assert brief(joined) == brief(whole)
    assert results(joined) == results(whole)


def brief(events):
    """What a person can compare."""
    images, ends = results(events)
    return [(i.entry, i.index, i.source_pts, str(i.requested_s), str(i.score), i.repeated) for i in images], ends


def test_what_all_entries_keep_back_while_parts_are_joined_is_bounded(monkeypatch):
    """They are joined in the process that all captures share."""
    monkeypatch.setattr(parts, "JOINED_BYTES", 50)
    best = EntryPlan(Selection(Mode.DHASH, interval_s=Fraction(1), number=5), Rendition())
    joined = Joined(CapturePlan((best,) * 3))
    for number in range(5):
        for entry in range(3):
            time_s = Fraction(number)
            image = Image(entry, 1, time_s, time_s, number, True, 8, 8, bytes(5), "", number, Fraction(100))
            assert list(joined.add(image)) == []
    assert list(joined.add(Report((EntryReport(5, 5),) * 3, "mov", "h264", 8, 8, 5, 5, 0, {}))) == []
    *images, report = joined.finish()
    assert sum(len(image.data) for image in images) == 50
    assert sorted(entry.error_code for entry in report.entries) == ["", "", Code.LIMIT_EXCEEDED]
