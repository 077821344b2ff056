"""Everything around a handler, in memory: fails and holds up on demand, and tells in which order things were done."""

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial

from prometheus_client import CollectorRegistry

from tests.corpus.messages import message
from tests.fakes import MemoryBroker, MemoryStore, ScriptedPool, StoredObject
from worker.adapters.hls import open_source
from worker.errors import Code, TaskError
from worker.handler import Handler
from worker.media.plan import EntryReport, Image, Progress, Report
from worker.metrics import Metrics
from worker.settings import MIB, Events, Settings
from worker.stores import AllowedBuckets

SOURCE = ("in-bucket", "videos/sample.mp4")
BODY = json.dumps(message()).encode()
DOWN = TaskError(Code.STORAGE_UNAVAILABLE, "the store is down", retryable=True)
DENIED = TaskError(Code.ACCESS_DENIED, "the bucket is not yours")
RESULT_URI = "oss://out-bucket/results/all.json"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def image(index, entry=0, size=10, **more):
    data = index.to_bytes(2, "big") * (size // 2)
    return Image(
        entry, index, Fraction(index), Fraction(index), index * 100, True, 4, 3, data,
        hashlib.sha256(data).hexdigest(), **more,
    )  # fmt: skip


def report(*entries):
    entries = entries or (EntryReport(2, 0),)
    return Report(entries, "mp4", "h264", 1280, 720, 50, 60, 1, {"probe": 0.1, "decode": 0.2, "encode": 0.3})


async def two_images(plan, source):
    yield image(1)
    yield Progress(0.5)
    yield image(2)
    yield report()


@dataclass
class World:
    """Everything around a handler. `journal` is the order of what was done, by all."""

    script: object = two_images
    settings: Settings = field(default_factory=lambda: Settings(events=Events(progress_interval_s=1000)))
    allowed: AllowedBuckets = field(default_factory=AllowedBuckets)
    records: object = None
    outages: object = None
    announcer: object = None

    def __post_init__(self):
        self.journal = []
        objects = {SOURCE: StoredObject(b"video", "", "tag")}
        self.store = MemoryStore(objects, journal=self.journal, allowed=self.allowed)
        self.broker = MemoryBroker(self.journal)
        self.pool = ScriptedPool(self.script)
        self.metrics = Metrics(CollectorRegistry())
        self.handler = Handler(
            store=self.store,
            open_source=partial(open_source, self.store, cache_bytes=4 * MIB, max_bytes=4 * MIB),
            decoders=self.pool,
            announcer=self.announcer or self.broker,
            settings=self.settings,
            metrics=self.metrics,
            records=self.records,
            outages=self.outages,
            clock=lambda: NOW,
        )

    async def do(self, body=BODY, **properties):
        delivery = self.broker.deliver(body, **properties)
        await self.handler.handle(delivery)
        return delivery

    def start(self, delivery):
        return asyncio.create_task(self.handler.handle(delivery))

    def fail(self, operation, what, error, *, where="store"):
        """Make one operation raise, others go on."""

        async def before(done, done_with):
            await asyncio.sleep(0)
            if (done, done_with) == (operation, what):
                raise error

        getattr(self, where).before = before

    @property
    def event(self):
        return json.loads(self.broker.events[-1].body)["data"]

    @property
    def statuses(self):
        return [each.routing_key.rpartition(".")[2] for each in self.broker.events]

    @property
    def frames(self):
        return [entry.get("Frames") for entry in self.event["Targets"][0]["Image"]["Snapshots"]]

    @property
    def counts(self):
        """All counters and gauges of ours that are not zero."""
        return {
            (sample.name.removeprefix("frame_capture_"), *sample.labels.values()): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name.startswith("frame_capture_") and family.type in ("counter", "gauge") and sample.value
        }


async def turns(count=50):
    """Let everything that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


class Gate:
    """Holds up one operation until it is opened."""

    def __init__(self, operation, what):
        self._key = (operation, what)
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, operation, what):
        await asyncio.sleep(0)
        if (operation, what) == self._key:
            self.reached.set()
            await self.open.wait()
