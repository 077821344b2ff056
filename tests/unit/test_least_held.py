"""What is remembered and looked through while frames are found grows with what is far ahead, not with the video."""

from fractions import Fraction

import pytest

from bench.limits import Recipe, make
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Rendition, Selection
from worker.media.shown import ShownTimes
from worker.media.waiting import Waiting

FRAMES = 600


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make(tmp_path_factory.mktemp("video") / "video.mp4", Recipe("libx264", FRAMES), frames=FRAMES)


def take(path, selection):
    with path.open("rb") as file:
        *_, report = capture(file, CapturePlan((EntryPlan(selection, Rendition(width=16, height=16)),)))
    assert report.entries[0].error_code == ""


def test_packets_that_wait_are_not_looked_through_again_for_each_frame(video, monkeypatch):
    seen = 0
    iterate = Waiting.__iter__

    def counting(waiting):
        nonlocal seen
        for held in iterate(waiting):
            seen += 1
            yield held

    monkeypatch.setattr(Waiting, "__iter__", counting)
    take(video, Selection(start_s=Fraction(23), number=1))
    assert seen <= FRAMES


def test_times_of_frames_gone_by_are_forgotten(video, monkeypatch):
    most = 0
    note = ShownTimes.note

    def noting(shown, *arguments):
        nonlocal most
        note(shown, *arguments)
        most = max(most, len(shown._times))

    monkeypatch.setattr(ShownTimes, "note", noting)
    take(video, Selection())
    assert 0 < most < FRAMES / 10
