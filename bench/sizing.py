"""How many workers a load needs: `python -m bench.sizing` prints the table of docs/operations.md, in about 5 minutes.

CPU seconds are those of the whole worker, its own and its decoders', for tasks through a private RabbitMQ and the local
store; an S3 server's own work is not among them.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes, report, serving
from bench.jobs import BUCKET, message
from bench.media import prepare
from devkit.broker import broker

HOUR_S = 3600
MEDIA = Path(__file__).parents[1] / "bench-media"


@dataclass(frozen=True, slots=True)
class Load:
    """Tasks of one kind: how many are measured, after one to warm up, and how many images each gives."""

    name: str
    task: dict[str, Any]
    images: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one task took: CPU seconds, and the peak resident size of a decoder so far."""

    load: Load
    cpu_s: float
    peak_bytes: int


def loads(media: dict[str, Path]) -> list[Load]:
    """Typical videos, and what people want of them."""
    short, long, hevc, large = media["short"], media["long"], media["hevc"], media["4k"]
    return [
        Load("10 s of 720p, one image, 640 wide",
             message(short, StartTime=5, Number=1, Width=0.5, Height=0.5), 1, 40),
        Load("10 s of 720p, 10 evenly, 640 wide",
             message(short, Mode="average", Number=10, Width=0.5, Height=0.5), 10, 20),
        Load("10 min of 1080p, one frame in the middle", message(long, StartTime=300, Number=1), 1, 10),
        Load("10 min of 1080p, 10 evenly", message(long, Mode="average", Number=10), 10, 4),
        Load("10 min of 1080p, every 10 s, 512×512",
             message(long, Interval=10, Width=512, Height=512, ScaleType="crop"), 61, 2),
        Load("10 min of 1080p, dhash each second", message(long, Mode="dhash", Interval=1, Threshold=15), 462, 1),
        Load("55 s of 1080p HEVC, every 7 s", message(hevc, Interval=7), 8, 3),
        Load("10 s of 4K, every second", message(large, Interval=1), 10, 2),
    ]  # fmt: skip


def measure(url: str, home: Path, load: Load, source: Path) -> Cost:
    """Do the tasks with one slot, so that nothing is split and no two compete."""
    place = home / BUCKET / source.name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.hardlink_to(source)
    with serving.worker(url, home, home / "worker.log", slots=1) as pid:
        asyncio.run(serving.perform(url, [load.task]))
        before = _cpu_s(pid)
        asyncio.run(serving.perform(url, [load.task] * load.tasks))
        spent_s = _cpu_s(pid) - before
        peak = max(processes.peak_bytes(one.pid) for one in processes.tree(pid)[1:])
        return Cost(load, spent_s / load.tasks, peak)


def _cpu_s(pid: int) -> float:
    return sum(one.cpu_s + one.ended_cpu_s for one in processes.tree(pid))


def costs(media: dict[str, Path]) -> Iterator[Cost]:
    """Measure one kind of task after another, each with a fresh worker."""
    with broker() as node:
        for load in loads(media):
            name = load.task["Sources"][0]["URI"].rpartition("/")[2]
            with tempfile.TemporaryDirectory(prefix="frame-capture-bench-", dir=MEDIA) as home:
                yield measure(node.url, Path(home), load, MEDIA / BUCKET / name)


def row(cost: Cost) -> list[str]:
    """Write one line of the table."""
    tasks = HOUR_S / cost.cpu_s
    images = f"{tasks * cost.load.images:,.0f}" if cost.load.images else ""
    return [cost.load.name, f"{cost.cpu_s:.3g}", f"{tasks:,.0f}", images, f"{cost.peak_bytes / 2**20:.0f}"]


def main() -> int:
    """Print the table."""
    head = ["task", "CPU s", "tasks per core-hour", "images per core-hour", "peak MiB of a decoder"]
    rows = []
    for cost in costs(prepare(MEDIA / BUCKET)):
        rows.append(row(cost))
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    print(report.table(head, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
