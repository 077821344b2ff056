"""Captures in parts, one after the other in one process: what the pool does with several."""

from dataclasses import replace

from worker.media.capture import capture
from worker.media.parts import Joined, parts_of
from worker.media.plan import Cuts, Image


def capture_in_parts(file, plan, times_s, video_end_s=None):
    """Give the events of a capture that is cut at `times_s`, joined."""
    joined = Joined(plan)
    events = []
    for part in parts_of(Cuts(tuple(times_s), video_end_s)):
        if joined.is_complete:
            break
        file.seek(0)
        for event in capture(file, replace(plan, part=part)):
            events += joined.add(event)
    return [*events, *joined.finish()]


def results(events):
    """What is the same however a capture is done: each entry's images in their order, and how it ended.

    But for the words of an entry of keyframes that has none: whether it starts past the end, parts need not find out.
    """
    *others, report = events
    images = sorted((event for event in others if isinstance(event, Image)), key=lambda image: image.entry)
    ends = [
        (each.count, each.requested, {warn.code for warn in each.warnings}, each.error_code, _words(each.error_message))
        for each in report.entries
    ]
    return images, ends


def _words(message):
    return "no keyframe" if "no frame decodes on its own" in message or "past the end" in message else message
