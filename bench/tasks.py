"""What a task costs beside its capture: many tasks of a 64x64 video of one frame, through a real RabbitMQ.

`python -m bench.tasks` measures in turn, with the same messages and the same broker: the worker; a plain aio-pika
consumer that only acknowledges; and, where it is installed, Celery with one `ffmpeg` process a task. Exits 1 when the
worker's first process, which does everything but the capture, takes more than it may. Its main thread is told apart:
the other threads move bytes from and to files.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika

from bench import peers, processes, report, serving
from bench.jobs import BUCKET
from devkit.broker import broker
from devkit.media import counter_video

TASKS = 1000
WARM_TASKS = 50
SLOTS = 2
LIMIT_MS = 4.0  # of CPU a task in the worker's first process
DEADLINE_S = 600
OURS = "this worker"
CONSUMED = "bench.acks"
CONSUMER = "consumer"  # the argument with which this file is the plain consumer


@dataclass(frozen=True, slots=True)
class Cost:
    """What one task costs, in milliseconds of CPU: in the first process, and there in the main thread; in the other

    processes; and in those that ended before the last task did: `ffmpeg`, or our decoders that were replaced by fresh
    ones. `tasks_per_s` is by the wall clock.
    """

    loop_ms: float
    parent_ms: float
    others_ms: float
    ended_ms: float
    tasks_per_s: float

    @property
    def total_ms(self) -> float:
        return self.parent_ms + self.others_ms + self.ended_ms


def measure(
    url: str, home: Path, *, tasks: int, repeats: int, celery_python: str = str(peers.PYTHON)
) -> dict[str, list[Cost]]:
    """Measure each way `repeats` times in turn, below an existing directory `home`; Celery where it is installed."""
    bucket = home / "tiny" / BUCKET
    bucket.mkdir(parents=True)
    video = bucket / "tiny.mp4"
    counter_video(video, width=64, height=64, fps=1, seconds=1, gop=1)
    has_peer = shutil.which("ffmpeg") is not None and _has_celery(celery_python)
    costs: dict[str, list[Cost]] = {}
    for _ in range(repeats):
        with serving.worker(url, bucket.parent, home / "worker.log", slots=SLOTS) as pid:
            _performed(url, WARM_TASKS)
            costs.setdefault(OURS, []).append(_spent(pid, tasks, lambda: _performed(url, tasks)))
        with _consumer(url) as pid:
            asyncio.run(_feed(url, WARM_TASKS))
            cost = _spent(pid, tasks, lambda: asyncio.run(_feed(url, tasks)))
            costs.setdefault("aio-pika consumer that only acks", []).append(cost)
        if has_peer:
            with _celery(celery_python, url, home, video) as (pid, perform):
                perform(WARM_TASKS)
                costs.setdefault("Celery and ffmpeg", []).append(_spent(pid, tasks, lambda: perform(tasks)))
    return costs


def _spent(pid: int, tasks: int, perform) -> Cost:
    """Let tasks be performed, and divide by them what the process and its descendants spent meanwhile."""
    before, started = _cpu(pid), time.perf_counter()
    perform()
    spent_s = time.perf_counter() - started
    spent_ms = (1000 * (now - then) / tasks for now, then in zip(_cpu(pid), before, strict=True))
    return Cost(*spent_ms, tasks_per_s=tasks / spent_s)


def _cpu(pid: int) -> tuple[float, float, float, float]:
    first, *others = processes.tree(pid)
    ended_s = sum(one.ended_cpu_s for one in (first, *others))
    return processes.main_thread_cpu_s(pid), first.cpu_s, sum(one.cpu_s for one in others), ended_s


def _message(number: int) -> dict[str, Any]:
    snapshot = {"Format": "jpg", "URI": f"oss://{BUCKET}/images/{number}.jpg", "Number": 1}
    source = {"URI": f"oss://{BUCKET}/tiny.mp4"}
    return {"ProjectName": "bench", "Sources": [source], "Targets": [{"Image": {"Snapshots": [snapshot]}}]}


def _performed(url: str, tasks: int) -> None:
    asyncio.run(serving.perform(url, [_message(number) for number in range(tasks)]))


# --- a consumer that only acknowledges


@contextmanager
def _consumer(url: str) -> Iterator[int]:
    with _started([sys.executable, "-m", "bench.tasks", CONSUMER, url], dict(os.environ), None) as consumer:
        assert consumer.stdout is not None
        consumer.stdout.readline()
        yield consumer.pid


async def _consume(url: str) -> None:
    """Take messages as the worker does, that is as many at a time, acknowledge each, and report in at the last."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=SLOTS)
        queue = await channel.declare_queue(CONSUMED, durable=True)
        print("ready", flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                if message.reply_to:
                    await channel.default_exchange.publish(aio_pika.Message(b""), message.reply_to)


async def _feed(url: str, tasks: int) -> None:
    """Publish the messages of the same tasks, and wait until the last is acknowledged."""
    async with asyncio.timeout(DEADLINE_S), await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        answers = await channel.declare_queue(exclusive=True)
        for number in range(tasks):
            message = aio_pika.Message(
                json.dumps(_message(number)).encode(),
                message_id=f"bench-{number}",
                content_type="application/json",
                reply_to=answers.name if number == tasks - 1 else None,
            )
            await channel.default_exchange.publish(message, CONSUMED)
        async with answers.iterator(no_ack=True) as iterator:
            await anext(iterator)


# --- Celery


def _has_celery(python: str) -> bool:
    return (
        Path(python).exists()
        and subprocess.run([python, "-c", "import celery"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    )


@contextmanager
def _celery(python: str, url: str, home: Path, video: Path):
    """Run a Celery worker with as many processes as we have slots; gives its id, and what performs so many tasks."""
    folder = home / "celery"
    folder.mkdir(exist_ok=True)
    env = dict(os.environ) | {"FRAME_CAPTURE_BENCH_BROKER": url}

    def perform(tasks: int) -> None:
        client = [python, "-m", "bench.celery_peer", str(video), str(folder), str(tasks)]
        subprocess.run(client, env=env, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)

    command = [python, "-m", "celery", "-A", "bench.celery_peer", "worker", "-c", str(SLOTS), "-l", "INFO"]
    with _started(command, env, home / "celery.log") as worker:
        yield worker.pid, perform


# --- processes


@contextmanager
def _started(command: Sequence[str], env: dict[str, str], log: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends; without a `log` its output is a pipe."""
    output = log.open("wb") if log else subprocess.PIPE
    process = subprocess.Popen(command, env=env, stdout=output, stderr=output if log else None)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()
        if log:
            output.close()


# --- telling


def table(costs: Mapping[str, Sequence[Cost]]) -> str:
    """Write medians, in milliseconds of CPU a task."""
    parts = ("loop_ms", "parent_ms", "others_ms", "ended_ms", "total_ms", "tasks_per_s")
    lines = []
    for name, each in costs.items():
        *times_ms, per_s = (statistics.median(getattr(cost, part) for cost in each) for part in parts)
        lines.append([name, *(f"{time_ms:.2f}" for time_ms in times_ms), f"{per_s:.0f}"])
    head = ["CPU ms a task", "main thread", "first process", "others", "ended meanwhile", "all", "tasks/s"]
    return f"**Many tasks of a 64×64 video of one frame**\n\n{report.table(head, lines)}"


def verdict(costs: Mapping[str, Sequence[Cost]]) -> report.Verdict:
    """Judge what the worker itself costs."""
    parent_ms = statistics.median(cost.parent_ms for cost in costs[OURS])
    return report.Verdict("CPU of the worker's first process, a task, to 4 ms", 1.0, parent_ms / LIMIT_MS)


def main() -> int:
    """Measure and print; 1 when the worker's first process takes too much."""
    parser = argparse.ArgumentParser(prog="python -m bench.tasks", description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help=f"tasks of one measurement (default: {TASKS})")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each, in turn (default: 3)")
    parser.add_argument("--celery-python", default=str(peers.PYTHON), help="an interpreter that has Celery")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="frame-capture-tasks-") as directory, broker() as node:
        costs = measure(
            node.url, Path(directory), tasks=args.tasks, repeats=args.repeats, celery_python=args.celery_python
        )
    judged = verdict(costs)
    print(f"{table(costs)}\n\n{report.verdicts([judged])}")
    return 0 if judged.passed else 1


if __name__ == "__main__":
    if sys.argv[1:2] == [CONSUMER]:
        asyncio.run(_consume(sys.argv[2]))
    else:
        sys.exit(main())
