"""The world as the handler knows it, in memory: small real implementations of the ports, which can be made to fail.

Each writes what it did, once it is done, into a `journal` that they may share, so that a test sees the order of
operations across all of them. `before` is called first with the operation and its object: it may wait, or raise.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from worker.errors import Code, TaskError
from worker.media.plan import CaptureEvent, CapturePlan
from worker.ports import BrokerLostError, ByteSource, ObjectInfo
from worker.settings import MIB
from worker.stores import AllowedBuckets, OnRequest, observed, unobserved
from worker.task import Location

Before = Callable[[str, str], Awaitable[None]]


async def at_once(operation: str, what: str) -> None:
    """Only let others run, as everything real does."""
    await asyncio.sleep(0)


@dataclass(frozen=True)
class StoredObject:
    data: bytes
    content_type: str
    etag: str


class MemoryStore:
    """An object store; `objects` is its content, by bucket and key."""

    def __init__(
        self,
        objects: dict[tuple[str, str], StoredObject] | None = None,
        *,
        journal: list[str] | None = None,
        allowed: AllowedBuckets | None = None,
        on_request: OnRequest = unobserved,
    ) -> None:
        self.objects = {} if objects is None else objects
        self.journal = [] if journal is None else journal
        self.before: Before = at_once
        self._allowed = allowed or AllowedBuckets()
        self._on_request = on_request

    async def check(self) -> None:
        await self.before("check", "")

    async def stat(self, location: Location, head_bytes: int = 0) -> ObjectInfo:
        self._allowed.check_read(location)
        with observed(self._on_request, "stat") as transfer:
            await self.before("stat", location.key)
            found = self._find(location)
            transfer.bytes_in = len(found.data[:head_bytes])
        self.journal.append(f"stat {location.key}")
        return ObjectInfo(len(found.data), found.etag, found.data[:head_bytes])

    async def read(self, location: Location, offset: int, size: int, etag: str) -> bytes:
        self._allowed.check_read(location)
        with observed(self._on_request, "read") as transfer:
            await self.before("read", location.key)
            found = self._find(location)
            if found.etag != etag:
                raise TaskError(
                    Code.STORAGE_UNAVAILABLE, f"{location} was changed while being read: try again", retryable=True
                )
            data = found.data[offset : offset + size]
            transfer.bytes_in = len(data)
        return data

    def check_write(self, location: Location) -> None:
        self._allowed.check_write(location)

    async def write(self, location: Location, data: bytes, content_type: str) -> str:
        self.check_write(location)
        with observed(self._on_request, "write") as transfer:
            await self.before("write", location.key)
            for _ in range(len(data) // MIB):  # large objects take longer
                await asyncio.sleep(0)
            etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
            self.objects[location.bucket, location.key] = StoredObject(data, content_type, etag)
            transfer.bytes_out = len(data)
        self.journal.append(f"write {location.key}")
        return etag

    async def write_if(self, location: Location, data: bytes, content_type: str, etag: str | None) -> bool:
        self.check_write(location)
        with observed(self._on_request, "write_if") as transfer:
            await self.before("write_if", location.key)
            there = self.objects.get((location.bucket, location.key))
            stored = (there.etag if there else None) == etag
            if stored:
                tag = hashlib.md5(data, usedforsecurity=False).hexdigest()
                self.objects[location.bucket, location.key] = StoredObject(data, content_type, tag)
            transfer.bytes_out = len(data)
        self.journal.append(f"write_if {location.key}" if stored else f"keep {location.key}")
        return stored

    def _find(self, location: Location) -> StoredObject:
        try:
            return self.objects[location.bucket, location.key]
        except KeyError:
            raise TaskError(Code.RESOURCE_NOT_FOUND, f"{location}: there is no such object") from None


class SettledTwiceError(Exception):
    """A real broker closes the channel for this, and with it all that runs."""


@dataclass(eq=False)
class MemoryDelivery:
    """A task message that `broker` delivered. `settled` tells how: `acked`, `given back`, or empty."""

    broker: "MemoryBroker"
    name: str
    body: bytes
    message_id: str | None
    timestamp: datetime | None
    headers: Mapping[str, object]
    refusal: TaskError | None = None
    stale: bool = False
    settled: str = ""

    async def ack(self) -> None:
        await self._settle("ack", "acked")

    async def give_back(self) -> None:
        await self._settle("give back", "given back")

    async def _settle(self, operation: str, how: str) -> None:
        await self.broker.before(operation, self.name)
        if self.stale:
            return
        if self.settled:
            raise SettledTwiceError(f"delivery {self.name} was {self.settled} already")
        self.settled = how
        self.broker.journal.append(f"{operation} {self.name}")

    async def retry(self, delay_s: int, headers: Mapping[str, str | int]) -> None:
        await self.broker.confirm("retry", str(delay_s))
        self.broker.retried.append((delay_s, self._copy(headers)))

    async def park(self, code: str, reason: str, run: str = "") -> None:
        await self.broker.confirm("park", code)
        self.broker.parked.append((code, reason, self._copy({"x-run": run} if run else {})))

    def _copy(self, headers: Mapping[str, str | int]) -> "MemoryDelivery":
        name = f"copy of {self.name}"
        return MemoryDelivery(
            self.broker, name, self.body, self.message_id, self.timestamp, {**self.headers, **headers}
        )


@dataclass(frozen=True)
class Announced:
    routing_key: str
    body: bytes
    content_type: str
    confirmed: bool


@dataclass
class MemoryBroker:
    """A broker: makes deliveries, takes events, copies to retry and copies to park. Implements `ports.Announcer`.

    `lost` names operations that it does not confirm: `announce <status>`, `announce`, `retry`, `park`; `progress` is
    what is announced unconfirmed.
    """

    journal: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    before: Before = at_once
    events: list[Announced] = field(default_factory=list)
    retried: list[tuple[int, MemoryDelivery]] = field(default_factory=list)
    parked: list[tuple[str, str, MemoryDelivery]] = field(default_factory=list)
    delivered: int = 0
    consuming: bool = True
    connected: bool = True
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    inbox: "asyncio.Queue[MemoryDelivery | None]" = field(default_factory=asyncio.Queue)

    async def deliveries(self) -> AsyncGenerator[MemoryDelivery, None]:
        """Yield what is put into `inbox`, until `stop_consuming`."""
        while (delivery := await self.inbox.get()) is not None:
            yield delivery

    async def stop_consuming(self) -> None:
        await self.before("stop consuming", "")
        self.journal.append("stop consuming")
        self.inbox.put_nowait(None)

    def deliver(
        self,
        body: bytes,
        *,
        message_id: str | None = "task-1",
        timestamp: datetime | None = None,
        headers: Mapping[str, object] | None = None,
        refusal: TaskError | None = None,
    ) -> MemoryDelivery:
        self.delivered += 1
        return MemoryDelivery(self, str(self.delivered), body, message_id, timestamp, headers or {}, refusal)

    async def announce(self, routing_key: str, body: bytes, content_type: str, *, confirm: bool = True) -> None:
        status = routing_key.rpartition(".")[2]
        if confirm:
            await self.confirm("announce", status)
        elif "progress" in self.lost:
            return
        self.events.append(Announced(routing_key, body, content_type, confirm))

    async def confirm(self, operation: str, what: str) -> None:
        await self.before(operation, what)
        if self.loses(operation, what):
            raise BrokerLostError(f"{operation} {what} was not confirmed")
        self.journal.append(f"{operation} {what}")

    def loses(self, operation: str, what: str) -> bool:
        return not self.lost.isdisjoint({operation, f"{operation} {what}"})


Script = Callable[[CapturePlan, ByteSource], AsyncGenerator[CaptureEvent, None]]


class ScriptedPool:
    """A decoder pool that does what a test's generator does, at its pace. `closed` counts captures that ended."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.started = 0
        self.closed = 0
        self.turn = asyncio.Event()  # set unless captures are to wait for a slot
        self.turn.set()

    async def capture(
        self, plan: CapturePlan, source: ByteSource, begun: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[CaptureEvent, None]:
        await self.turn.wait()
        begun()
        self.started += 1
        try:
            async with aclosing(self.script(plan, source)) as events:
                async for event in events:
                    yield event
        finally:
            self.closed += 1
