"""The whole worker at a real RabbitMQ: the memory it takes at rest, and how soon a task is done."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from aio_pika import Message, connect

from bench import processes
from bench.jobs import BUCKET, Job
from devkit.ports import free_ports
from worker.adapters.topology import topology
from worker.settings import Amqp, Retry

SLOTS = 2
START_S = 60
DEADLINE_S = 600
LIMIT_BYTES = 250_000_000
_TERMINAL = {"Succeeded": True, "Failed": False, "Canceled": False}


@dataclass(frozen=True, slots=True)
class Serving:
    """Memory is proportional set size, summed over the worker's processes.

    `latencies_s`: from publishing a task to its event, one task at a time.
    """

    slots: int
    ready_bytes: int
    after_bytes: int
    latencies_s: tuple[float, ...]


def measure(job: Job, url: str, home: Path, repeats: int) -> Serving:
    """Start a worker at a broker; do a job again and again."""
    root = home / "served"
    place = root / BUCKET / job.file.name
    place.parent.mkdir(parents=True)
    place.hardlink_to(job.file)
    with worker(url, root, home / "worker.log") as pid:
        ready_bytes = _memory(pid)
        asyncio.run(perform(url, [job.message] * SLOTS))  # each slot once, to warm up
        latencies_s = tuple(asyncio.run(perform(url, [job.message])) for _ in range(repeats))
        return Serving(SLOTS, ready_bytes, _memory(pid), latencies_s)


@contextmanager
def worker(url: str, root: Path, log: Path, *, slots: int = SLOTS, **settings: object) -> Iterator[int]:
    """Run `frame-capture serve`; gives its process id once it is ready. A setting is named `pool__split`, say."""
    (port,) = free_ports(1)
    local = {"amqp__url": url, "store__kind": "local", "store__root": root, "pool__slots": slots}
    settings = local | {"http__host": "127.0.0.1", "http__port": port} | settings
    own = {name: value for name, value in os.environ.items() if not name.startswith("FRAME_CAPTURE_")}
    env = own | {f"FRAME_CAPTURE_{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "worker", "serve"], env=env, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + START_S
            while not _ready(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the worker is not ready; its log ends:\n{log.read_text()[-3000:]}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def _ready(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
    except urllib.error.HTTPError as answer:
        answer.close()
        return False
    except OSError:
        return False
    return True


async def perform(url: str, messages: Sequence[Mapping[str, Any]]) -> float:
    """Publish tasks and wait until all have succeeded; tells the seconds from the first publish on."""
    names = topology(Amqp(), Retry())
    async with asyncio.timeout(DEADLINE_S), await connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(names.events, "#")
        exchange = await channel.get_exchange(names.tasks)
        started = time.monotonic()
        for message in messages:
            body = json.dumps(message).encode()
            await exchange.publish(Message(body, message_id=uuid4().hex, content_type="application/json"), names.lane)
        waiting = len(messages)
        async with queue.iterator(no_ack=True) as events:
            async for event in events:
                waiting -= succeeded(event.body)
                if not waiting:
                    break
        return time.monotonic() - started


def succeeded(body: bytes) -> bool:
    """Tell whether an event is that of a task's success. Raises `RuntimeError` for one of another end."""
    data = json.loads(body)["data"]
    status = data["Status"]
    if not _TERMINAL.get(status, True):
        raise RuntimeError(f"a task ended as {status}: {data.get('Code')} {data.get('Message')}")
    return status in _TERMINAL


def _memory(pid: int) -> int:
    return sum(processes.pss_bytes(one.pid) for one in processes.tree(pid))
