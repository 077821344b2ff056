"""What must hold of any capture: it is what the naive full decode of the same file gives, bit by bit."""

import av
import pytest

from tests.formats import tally
from tests.naive import Naive, decode_all
from tests.naive_selection import expect
from worker.errors import Code, TaskError
from worker.media.capture import capture
from worker.media.encode import encode
from worker.media.plan import Format, Image, Mode, Report
from worker.media.raster import Renderer


def assert_as_expected(path, plan, kind, of="drawn streams", video=None):
    """Capture by a plan; times, pixels, hashes, warnings and errors must be those that the naive full decode gives."""
    try:
        video = video or decode_all(path, keys=True)
    except av.FFmpegError:
        video = Naive()
    if not video.frames:  # some encoders and muxers make nothing of very short videos
        with path.open("rb") as file, pytest.raises(TaskError, match=Code.CORRUPT_MEDIA):
            list(capture(file, plan))
        return
    with path.open("rb") as file:
        events = list(capture(file, plan))
    report = events[-1]
    assert isinstance(report, Report)
    for number, entry in enumerate(plan.entries):
        if entry.selection.mode is Mode.KEYFRAME and not video.monotonic:
            continue  # frames that are shown out of the order of their times have no time of their own
        wanted = expect(video, entry, plan.trim_start_s, plan.trim_duration_s)
        images = [event for event in events if isinstance(event, Image) and event.entry == number]
        told = report.entries[number]
        found = [(image.requested_s + plan.trim_start_s, image.source_pts) for image in images]
        expected = [(each.asked_s, video.frames[each.index].pts) for each in wanted.frames]
        tally(*kind, f"{entry.selection.mode}, {of}", found, expected)
        assert found == expected, f"{entry}\n{told}"
        assert told.error_code == wanted.error
        assert {warning.code for warning in told.warnings} == wanted.warnings
        assert told.count == len(images)
        for each, image in zip(wanted.frames, images, strict=True):
            pixels = Renderer(entry.rendition).render(video.frames[each.index].frame, video.aspect)
            assert image.data == encode(pixels, Format.PNG, 90)
            assert (image.repeated, image.dhash, image.score) == (each.repeated, each.hash, each.score)
            assert image.time_s == max(video.times_s[each.index] - plan.trim_start_s, 0)
        if not entry.last_only:
            assert [image.index for image in images] == list(range(1, len(images) + 1))
