"""A worker in this process: the real handler, store and decoder pool with its sandbox, with tight limits."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from os import uname
from pathlib import Path

from prometheus_client import CollectorRegistry

from tests.playlists import Recorder
from worker.adapters import landlock, seccomp
from worker.adapters.pool import DecoderPool
from worker.errors import TaskError
from worker.handler import Handler
from worker.lone import Listener
from worker.metrics import Metrics
from worker.openers import opener
from worker.settings import MIB, LimitSettings, Pool, Retry, Settings, Store

CAGED = "required" if landlock.version() and uname().machine in seccomp.MACHINES else "best_effort"
BUCKET = "fuzz"
CPU_S = 60
"""CPU time of one attempt: of the seeds none takes one second. Clocks are no measure on a machine with other work."""


def tight(root: Path) -> Settings:
    """Settings for small files: what takes more than they allow is a bomb, or hangs."""
    return Settings(
        store=Store(root=root),
        pool=Pool(
            slots=2, memory_bytes=600 * MIB, cpu_time_limit_s=CPU_S, soft_time_limit_s=300, hard_time_limit_s=330,
            silence_limit_s=150, cache_bytes=16 * MIB, sandbox=CAGED,
        ),
        limits=LimitSettings(
            source_bytes=16 * MIB, pixels=9_000_000, decoded_frames=3000, frames_per_entry=100, frames=300, streams=64,
        ),
        retry=Retry(max_attempts=1, crash_attempts=1),
    )  # fmt: skip


@dataclass
class Watched:
    """A task message, and how it was settled."""

    body: bytes
    message_id: str | None = None
    timestamp: datetime | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    refusal: TaskError | None = None
    stale: bool = False
    settled: list[str] = field(default_factory=list)

    async def ack(self) -> None:
        self.settled.append("ack")

    async def retry(self, delay_s: int, headers: Mapping[str, str | int]) -> None:
        self.settled.append("retry")

    async def give_back(self) -> None:
        self.settled.append("give back")

    async def park(self, code: str, reason: str, run: str = "") -> None:
        self.settled.append("park")


@dataclass(frozen=True)
class Told:
    """What came of a message: the data of all its events, how it was settled, and the objects that were asked for."""

    events: list[dict]
    settled: list[str]
    read: set[str]

    @property
    def end(self) -> dict:
        return self.events[-1] if self.events else {}


class World:
    """Tells what the worker makes of a message."""

    def __init__(self, root: Path, settings: Settings, pool: DecoderPool) -> None:
        self.root = root
        self.settings = settings
        self.pool = pool
        self._metrics = Metrics(CollectorRegistry())

    async def do(self, delivery: Watched) -> Told:
        """Hand a message to a handler of its own and wait until it is done with it."""
        events: list[dict] = []
        store = Recorder(self.root)
        handler = Handler(
            store=store,
            open_source=opener(self.settings, store),
            decoders=self.pool,
            announcer=Listener(lambda _key, body: events.append(json.loads(body)["data"])),
            settings=self.settings,
            metrics=self._metrics,
        )
        await handler.handle(delivery)
        return Told(events, delivery.settled, store.keys)


@asynccontextmanager
async def world(root: Path) -> AsyncIterator[World]:
    """Run the worker over a folder of buckets."""
    (root / BUCKET).mkdir(parents=True, exist_ok=True)
    settings = tight(root)
    async with DecoderPool(settings.pool) as pool:
        yield World(root, settings, pool)


async def at_once(world: World, deliveries: list[Watched]) -> list[Told]:
    """Do several together."""
    return list(await asyncio.gather(*(world.do(each) for each in deliveries)))
