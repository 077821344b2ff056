"""How much memory the worker takes at its most: for a minute and an hour of the same video, and task after task.

What grows with the length of a video, or with the number of tasks done, shows in the second figure of each pair.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

from bench import processes, report, serving
from bench.jobs import BUCKET, message
from worker.settings import MIB

FPS = 25
GOP = 25  # a second, on whose keyframes the times of all requests lie: reading much and decoding little
MINUTE_S, HOUR_S = 60, 3600
FEW_TASKS, MANY_TASKS = 100, 1000
SIZES = {"1080p": (1920, 1080), "4K": (3840, 2160)}
SAMPLE_S = 0.05
MAX_GROWTH_BYTES = 32 * MIB
# What the settings allow to be kept of a long source and of its images is no growth.
SETTINGS = {"pool__cache_bytes": 8 * MIB, "pool__inflight_bytes": 8 * MIB}
DRAWN = {"Width": 320, "Height": 180}  # small images: those stored are none of the memory's business

REQUESTS: dict[str, list[dict[str, Any]]] = {
    "every 20 s, and dhash every 10 s": [{"Interval": 20}, {"Mode": "dhash", "Interval": 10, "Threshold": 5} | DRAWN],
    "50 keyframes": [{"Mode": "keyframe", "Number": 50}],
}


@dataclass(frozen=True, slots=True)
class Peaks:
    """The largest resident size so far of the worker's first process, and of any one of the others."""

    parent_bytes: int
    decoder_bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Peaks after something small, and after the same a great deal longer."""

    small: Peaks
    large: Peaks

    @property
    def parent_bytes(self) -> int:
        return self.large.parent_bytes - self.small.parent_bytes

    @property
    def decoder_bytes(self) -> int:
        return self.large.decoder_bytes - self.small.decoder_bytes

    @property
    def worst_bytes(self) -> int:
        return max(self.parent_bytes, self.decoder_bytes)


class Watch:
    """Looks at the worker's processes again and again while entered, since decoders come and go."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def peaks(self) -> Peaks:
        """Tell the peaks so far."""
        self._sample()
        known = dict(self._peaks)
        return Peaks(known.pop(self._pid), max(known.values()))

    def _look(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        for pid in [one.pid for one in processes.tree(self._pid)]:
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                self._peaks[pid] = max(processes.peak_bytes(pid), self._peaks.get(pid, 0))


def measure(url: str, home: Path, *, quick: bool) -> dict[str, Growth]:
    """Measure all, or what is small of it."""
    few = 1 if quick else None
    growths = {
        f"{size}, {name}: one minute, one hour": lengths(url, home, SIZES[size], snapshots)
        for size in list(SIZES)[:few]
        for name, snapshots in list(REQUESTS.items())[:few]
    }
    return growths | {f"{FEW_TASKS} tasks, {MANY_TASKS:,} tasks": tasks(url, home)}


def lengths(url: str, home: Path, size: tuple[int, int], snapshots: list[dict[str, Any]]) -> Growth:
    """Do a request on a minute of video, then on an hour, in one worker."""
    bucket = home / "memory" / BUCKET
    bucket.mkdir(parents=True, exist_ok=True)
    peaks = []
    with _watched(url, bucket.parent) as watch:
        for seconds in (MINUTE_S, HOUR_S):
            video = bucket / f"{size[1]}-{seconds}.mp4"
            if not video.exists():
                make(video, size, seconds)
            asyncio.run(serving.perform(url, [message(video, *snapshots[1:], **snapshots[0])]))
            peaks.append(watch.peaks())
    return Growth(*peaks)


def tasks(url: str, home: Path) -> Growth:
    """Do some tasks of a video of one frame, then many more, in one worker."""
    bucket = home / "memory" / BUCKET
    bucket.mkdir(parents=True, exist_ok=True)
    video = bucket / "tiny.mp4"
    make(video, (64, 64), 1)
    one = message(video, Number=1)
    with _watched(url, bucket.parent) as watch:
        peaks = []
        for number in (FEW_TASKS, MANY_TASKS - FEW_TASKS):
            asyncio.run(serving.perform(url, [one] * number))
            peaks.append(watch.peaks())
    return Growth(*peaks)


@contextmanager
def _watched(url: str, root: Path) -> Iterator[Watch]:
    with serving.worker(url, root, root / "worker.log", **SETTINGS) as pid, Watch(pid) as watch:
        yield watch


def make(path: Path, size: tuple[int, int], seconds: int) -> None:
    """Encode one second, of a gradient that wanders, and repeat its packets."""
    width, height = size
    options = {"preset": "ultrafast", "crf": "35", "g": str(GOP), "bf": "2", "sc_threshold": "0"}
    ramp = np.add.outer(np.arange(height), np.arange(width + 8 * GOP)) // 8 % 224
    with av.open(path, "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        packets = []
        for number in range(GOP):
            plane = np.full((height * 3 // 2, width), 128, np.uint8)
            plane[:height] = 16 + ramp[:, 8 * number : 8 * number + width]
            frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        coded = [(bytes(each), each.pts, each.dts, each.is_keyframe) for each in packets]
        for second in range(seconds):
            for data, pts, dts, is_key in coded:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.time_base = pts + second * FPS, dts + second * FPS, Fraction(1, FPS)
                packet.duration, packet.is_keyframe, packet.stream = 1, is_key, stream
                container.mux(packet)


def table(growths: Mapping[str, Growth]) -> str:
    """Write the peaks in MB."""
    lines = [
        [
            name,
            *(
                f"{size / report.MB:.0f}"
                for peaks in (each.small, each.large)
                for size in (peaks.parent_bytes, peaks.decoder_bytes)
            ),
        ]
        for name, each in growths.items()
    ]
    head = ["peak MB after", "first process", "largest decoder", "first process, then", "largest decoder, then"]
    return f"**Memory at its most, by length and number**\n\n{report.table(head, lines)}"


def verdict(growths: Mapping[str, Growth]) -> report.Verdict:
    """Judge the worst growth."""
    worst_bytes = max(each.worst_bytes for each in growths.values())
    return report.Verdict("growth of the worker's peak memory to 32 MiB", 1.0, worst_bytes / MAX_GROWTH_BYTES)
