"""What a capture held is free when it is over; the garbage collector would be late, since it counts objects."""

import gc
from fractions import Fraction

import pytest

from devkit.media import counter_video
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Mode, Rendition, Report, Selection

SELECTIONS = {
    "interval": Selection(interval_s=Fraction(1)),
    "average": Selection(Mode.AVERAGE, number=3),
    "keyframe": Selection(Mode.KEYFRAME),
    "dhash": Selection(Mode.DHASH, interval_s=Fraction(1, 2), threshold=5),
}


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts"])
def video(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / f"small.{request.param}"
    return counter_video(path, width=128, height=96, fps=10, seconds=4, gop=10).path


@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("may_split", [False, True])
def test_a_capture_leaves_no_cycles(video, selection, may_split):
    plan = CapturePlan((EntryPlan(selection, Rendition()),), may_split=may_split)
    with video.open("rb", buffering=0) as file:
        list(capture(file, plan))  # libraries keep some things of the first time
        gc.collect()
        gc.disable()
        try:
            assert isinstance(list(capture(file, plan))[-1], Report)
            assert gc.collect() == 0
        finally:
            gc.enable()
