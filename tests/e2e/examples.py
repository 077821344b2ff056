"""The eight example tasks: what their texts ask of the test video, and what a run of all of them leaves behind."""

import asyncio
import json
import math
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from devkit.broker import Node
from tests.e2e.bus import Bus, Told, bus
from tests.e2e.media import Sources
from tests.e2e.store import Bucket
from tests.e2e.worker_process import COMMAND, WorkerProcess, environment
from worker.messages.examples import EXAMPLE_TASKS

SCHEMAS = Path(__file__).parents[2] / "schemas"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@dataclass
class Expected:
    """What the examples' texts ask of the video, worked out from its description alone."""

    keys: list[str]
    numbers: list[int]
    image_format: str = "JPEG"
    size: tuple[int, int] = (1280, 720)
    scale_type: str = "stretch"
    scores: list[Fraction] | None = None


def expected_of(sources: Sources) -> dict[str, Expected]:
    video = sources.video
    samples = [video.number_at(second) for second in range(math.ceil(video.end_s))]
    scores = dict(zip(samples, video.scores(samples), strict=True))
    changes = [number for number in samples if scores[number] > 15]
    best = sorted(sorted((number for number in samples if scores[number] > 0), key=lambda number: -scores[number])[:5])

    def at(*times_s: int | Fraction) -> list[int]:
        return [video.number_at(time_s) for time_s in times_s]

    def made(pattern: str, numbers: list[int], **rest) -> Expected:
        keys = [f"snapshots/{pattern.format(place)}" for place in range(1, len(numbers) + 1)]
        return Expected(keys, numbers, **rest)

    return {
        "a-cover": made("cover.jpg", at(5)),
        "b-training": made(
            "training/snapshot-{}.jpg", at(0, 10, 20, 30, 40, 50, 60), size=(512, 512), scale_type="crop"
        ),
        "c-segment": made(
            "segment/sample-{:05d}.png", at(11, 15, 19, 23, 27), image_format="PNG", size=(640, 360), scale_type="crop"
        ),
        "d-events": made("events/{}.jpg", changes, scores=[scores[number] for number in changes]),
        "e-representative": made("representative/{}.jpg", best, scores=[scores[number] for number in best]),
        "f-keyframes": made("keyframes/{}.jpg", list(video.keyframes)),
        "g-evenly": made("evenly/{}.jpg", at(*(place * video.end_s / 10 for place in range(10)))),
        "h-audio-cover": Expected(["snapshots/song-cover.jpg"], [], size=(600, 600)),
    }


@dataclass
class Run:
    """What one run of all examples left behind. `objects` by key; `tasks` gives each example's TaskId."""

    told: list[Told]
    tasks: dict[str, str]
    objects: dict[str, dict]
    metrics: dict[str, float]
    queues: dict[str, tuple[int, int]]
    log: list[dict]
    printed: list[dict] = field(default_factory=list)

    def of(self, name: str) -> list[Told]:
        return [each for each in self.told if each.task_id == self.tasks[name]]

    def frames(self, name: str) -> list[dict]:
        (snapshot,) = self.of(name)[-1].snapshots
        return snapshot["Frames"]


async def by_aio_pika(line: Bus, _environment: dict[str, str]) -> tuple[list[str], list[dict]]:
    names = [f"example-{name}" for name in EXAMPLE_TASKS]
    for name, task in zip(names, EXAMPLE_TASKS.values(), strict=True):
        await line.publish(task, name, headers={"traceparent": TRACEPARENT})
    return names, []


async def by_submit(_line: Bus, settings: dict[str, str]) -> tuple[list[str], list[dict]]:
    files = [SCHEMAS / "examples" / f"{name}.task.json" for name in EXAMPLE_TASKS]
    submit = await asyncio.create_subprocess_exec(
        COMMAND, "submit", "--watch", "--json", *files, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await submit.communicate()
    assert submit.returncode == 0, errors.decode()
    printed = [json.loads(line) for line in output.splitlines()]
    return [each["subject"] for each in printed], printed


async def perform(publish, node: Node, bucket: Bucket, worker: WorkerProcess) -> Run:
    """Let a worker that has done nothing yet do all examples, and look at everything that it leaves behind."""
    for key in bucket.keys("snapshots/"):
        bucket.delete(key)
    async with bus(node.url, worker.namespace) as line:
        settings = {"amqp__url": node.url, "amqp__namespace": worker.namespace, "retry__delays_s": "[1]"}
        task_ids, printed = await publish(line, environment(settings))
        await line.ended(task_ids)
        await asyncio.to_thread(worker.until, lambda: worker.metrics()["tasks_in_flight"] == 0, "the last ack")
        objects = {key: bucket.get(key) for key in bucket.keys("snapshots/")}
        tasks = dict(zip(EXAMPLE_TASKS, task_ids, strict=True))
        queues = await line.settled(node)
        return Run(line.told, tasks, objects, worker.metrics(), queues, worker.log(), printed)
