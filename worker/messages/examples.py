"""The example tasks that the project is explained and tested with, and what an event of each looks like.

The images in the events are made up, since no video is read here: their names, times and order are as the worker
would give them, their bytes are not.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from worker.messages.event import Event, build_event
from worker.messages.parse import parse_task
from worker.settings import Events, LimitSettings
from worker.task import Completed, EntryResult, Frame, Task
from worker.template import expand

_STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_ENDED = _STARTED + timedelta(seconds=2)
_TIME_BASE = 12_800
_AUDIO = "oss://examplebucket/music/song.mp3"
_VIDEO = "oss://examplebucket/videos/sample.mp4"
_OUT = "oss://examplebucket/snapshots"


def _task(source: str, snapshot: dict[str, Any]) -> dict[str, Any]:
    return {
        "ProjectName": "demo",
        "Sources": [{"URI": source}],
        "Targets": [{"Image": {"Snapshots": [snapshot]}}],
        "Notification": {"MNS": {"TopicName": "frame-capture"}},
    }


EXAMPLE_TASKS: dict[str, dict[str, Any]] = {
    "a-cover": _task(_VIDEO, {"Format": "jpg", "URI": f"{_OUT}/cover.jpg", "StartTime": 5, "Number": 1}),
    "b-training": _task(
        _VIDEO,
        {"Format": "jpg", "URI": f"{_OUT}/training/snapshot-{{index}}.{{autoext}}", "Interval": 10}
        | {"Width": 512, "Height": 512, "ScaleType": "crop"},
    ),
    "c-segment": _task(
        _VIDEO,
        {"Format": "png", "URI": f"{_OUT}/segment/{{barename}}-{{index:05d}}.{{autoext}}"}
        | {"StartTime": 11, "Interval": 4, "Number": 5, "Width": 0.5, "Height": 0.5, "ScaleType": "crop"},
    ),
    "d-events": _task(
        _VIDEO,
        {"Format": "jpg", "URI": f"{_OUT}/events/{{index}}.{{autoext}}"}
        | {"Mode": "dhash", "Interval": 1, "Threshold": 15},
    ),
    "e-representative": _task(
        _VIDEO,
        {"Format": "jpg", "URI": f"{_OUT}/representative/{{index}}.{{autoext}}"}
        | {"Mode": "dhash", "Interval": 1, "Number": 5},
    ),
    "f-keyframes": _task(
        _VIDEO, {"Format": "jpg", "URI": f"{_OUT}/keyframes/{{index}}.{{autoext}}", "Mode": "keyframe"}
    ),
    "g-evenly": _task(
        _VIDEO, {"Format": "jpg", "URI": f"{_OUT}/evenly/{{index}}.{{autoext}}", "Mode": "average", "Number": 10}
    ),
    "h-audio-cover": _task(_AUDIO, {"Format": "jpg", "URI": f"{_OUT}/song-cover.jpg", "Number": 1}),
}

_TIMES_S: dict[str, list[int]] = {
    "a-cover": [5],
    "b-training": list(range(0, 60, 10)),
    "c-segment": list(range(11, 31, 4)),
    "d-events": [0, 8, 21],
    "e-representative": [0, 8, 21, 34, 47],
    "f-keyframes": list(range(0, 60, 10)),
    "g-evenly": list(range(0, 60, 6)),
    "h-audio-cover": [0],
}


def example_files() -> dict[str, Any]:
    """Give the content of each example file by its name."""
    files: dict[str, Any] = {}
    for name, message in EXAMPLE_TASKS.items():
        files[f"{name}.task.json"] = message
        files[f"{name}.event.json"] = json.loads(example_event(name, Events()).body)
    files["a-cover.imm-event.json"] = json.loads(example_event("a-cover", Events(envelope="imm")).body)
    return files


def example_event(name: str, settings: Events) -> Event:
    """Make the `Succeeded` event of an example."""
    task = parse_task(
        json.dumps(EXAMPLE_TASKS[name]).encode(),
        message_id=f"MediaConvert-example-{name}",
        timestamp=_STARTED,
        headers={},
        limits=LimitSettings(),
        received_at=_STARTED,
    )
    frames = tuple(_frame(task, index, time_s) for index, time_s in enumerate(_TIMES_S[name], 1))
    requested = task.entries[0].plan.selection.number
    outcome = Completed((EntryResult(requested, frames, (), None),))
    return build_event(task, outcome, settings=settings, started_at=_STARTED, now=_ENDED)


def _frame(task: Task, index: int, time_s: int) -> Frame:
    entry = task.entries[0]
    uri = str(expand(entry.template, index))
    digest = hashlib.sha256(uri.encode()).hexdigest()
    sampled = entry.plan.selection.mode == "dhash"
    cover = task.source.location.key.endswith(".mp3")
    return Frame(
        index=index,
        uri=uri,
        time_s=Fraction(time_s),
        source_pts=-1 if cover else time_s * _TIME_BASE,
        key_frame=cover or time_s % 10 == 0,
        width=_pixels(entry.plan.rendition.width, 600 if cover else 1280),
        height=_pixels(entry.plan.rendition.height, 600 if cover else 720),
        bytes=40_000 + 100 * index,
        sha256=digest,
        etag=digest[:32],
        dhash=int(digest[:16], 16) if sampled else None,
        score=Fraction(100 if index == 1 else 25 * index, 1 if index == 1 else 2) if sampled else None,
        repeated=False,
    )


def _pixels(wanted: int | Fraction | None, source: int) -> int:
    if wanted is None:
        return source
    return wanted if isinstance(wanted, int) else round(wanted * source)
