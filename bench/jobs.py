"""What is measured: requests on the made videos, others' ways to do the same, and the bars that we want to clear."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.media import SCENES_S
from bench.peers import Way, every_frame, fps_filter, keyframes, loop, scene_filter, seeks
from worker.media.plan import Selection
from worker.messages import parse_task
from worker.settings import LimitSettings
from worker.task import Task

BUCKET = "media"
CROP = {"Width": 512, "Height": 512, "ScaleType": "crop"}


@dataclass(frozen=True, slots=True)
class Bar:
    """Ours to be at most `limit` times `peer`'s CPU seconds."""

    peer: str
    limit: float


@dataclass(frozen=True, slots=True)
class Job:
    """A request on one video, and others' ways to do it. `scenes`: its frames are those of `scenes.mp4`, repeated."""

    name: str
    file: Path
    message: dict[str, Any]
    ways: tuple[Way, ...]
    bars: tuple[Bar, ...] = ()
    scenes: bool = False

    @property
    def selection(self) -> Selection:
        """Which frames the one entry of the task asks for."""
        (entry,) = read_task(self.message).entries
        return entry.plan.selection


def read_task(message: dict[str, Any]) -> Task:
    """Read a task message as the worker does."""
    body, now = json.dumps(message).encode(), datetime.now(UTC)
    return parse_task(body, message_id=None, timestamp=now, headers={}, limits=LimitSettings(), received_at=now)


def message(file: Path, *others: dict[str, Any], **snapshot: Any) -> dict[str, Any]:
    """Write a task message for JPEGs of a video: one entry, and more of them if others are given."""
    form = {"Format": "jpg"}
    snapshots = [snapshot | form | {"URI": "oss://out/{index:05d}.jpg"}]
    snapshots += [each | form | {"URI": f"oss://out/{n}/{{index:05d}}.jpg"} for n, each in enumerate(others, 2)]
    source = {"URI": f"oss://{BUCKET}/{file.name}"}
    return {"ProjectName": "bench", "Sources": [source], "Targets": [{"Image": {"Snapshots": snapshots}}]}


def long_jobs(file: Path, seconds: int) -> list[Job]:
    """The requests that the bars speak of, on a long H.264 video."""
    tens, evenly = range(0, seconds, 10), [k * seconds / 10 for k in range(10)]

    def job(name: str, ways: Sequence[Way], bars: Sequence[Bar], **snapshot: Any) -> Job:
        return Job(name, file, message(file, **snapshot), tuple(ways), tuple(bars), scenes=True)

    return [
        job("every 10 s, cropped to 512×512", [seeks(file, tens, crop=True), fps_filter(file, 10, crop=True)],
            [Bar("ffmpeg -ss, a process each", 0.55), Bar("ffmpeg fps=1/10", 0.10)], Interval=10, **CROP),
        job("dhash every 1 s, threshold 15", [fps_filter(file, 1)], [Bar("ffmpeg fps=1/1", 0.65)],
            Mode="dhash", Interval=1, Threshold=15),
        job("keyframes", [keyframes(file)], [Bar("ffmpeg -skip_frame nokey", 0.80)], Mode="keyframe"),
        job("average, 10 frames", [seeks(file, evenly)], [Bar("ffmpeg -ss, a process each", 0.55)],
            Mode="average", Number=10),
        middle(file, seconds),
    ]  # fmt: skip


def middle(file: Path, seconds: int) -> Job:
    """One frame in the middle of a long video."""
    return Job(
        "one frame in the middle", file, message(file, StartTime=seconds / 2, Number=1),
        (seeks(file, [seconds / 2]),), scenes=True,
    )  # fmt: skip


def dense_jobs(scenes: Path) -> list[Job]:
    """Beside libraries that decode everything: on about a minute, since they take as much longer as a video is."""
    return [
        Job("every 2 s", scenes, message(scenes, Interval=2), (
            seeks(scenes, range(0, SCENES_S, 2)), fps_filter(scenes, 2), loop("OpenCV, seeking", scenes, 2),
            loop("OpenCV, reading on", scenes, 2), loop("PyAV, reading on", scenes, 2),
        ), scenes=True),
        Job("dhash every 1 s, threshold 15", scenes, message(scenes, Mode="dhash", Interval=1, Threshold=15), (
            scene_filter(scenes, 15), loop("PySceneDetect HashDetector", scenes, 1),
        ), scenes=True),
    ]  # fmt: skip


def other_jobs(media: dict[str, Path]) -> list[Job]:
    """Other codecs and sizes."""
    hevc, large, short = media["hevc"], media["4k"], media["short"]
    return [
        Job("HEVC, every 7 s", hevc, message(hevc, Interval=7),
            (seeks(hevc, range(0, SCENES_S, 7)), fps_filter(hevc, 7)), scenes=True),
        Job("HEVC, keyframes", hevc, message(hevc, Mode="keyframe"), (keyframes(hevc),), scenes=True),
        Job("4K, every 1 s", large, message(large, Interval=1), (seeks(large, range(10)), fps_filter(large, 1))),
        Job("short clip, every frame", short, message(short), (
            every_frame(short), loop("OpenCV, reading on", short, 0), loop("PyAV, reading on", short, 0),
        ), (Bar("ffmpeg", 1.0),)),
    ]  # fmt: skip
