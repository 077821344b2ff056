"""The books of a fault test: which tasks the broker accepted, and what became of each.

As in Jepsen's total-queue test: every accepted task ended, is parked or is still queued (lost = 0); nothing ended that
nobody sent (unexpected = 0); what was told twice is counted, and recognisable by its id. Then the books are held
against what is stored (`kept`), and against the queues, which hold nothing any more. Events are collected in a durable
queue, so that none is missed while the broker, or this side, is gone.
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from devkit.broker import Node
from tests.declared import declare_for, patiently
from tests.faults.kept import InS3, OnDisk, discrepancies
from worker.settings import Amqp, Retry

DEADLINE_S = 90
TERMINAL = ("Succeeded", "Failed", "Canceled")
QUORUM = {"x-queue-type": "quorum"}


@dataclass
class Account:
    """The figures at the end. `told` are the terminal events of each task; `left` what the queues still hold."""

    accepted: set[str]
    told: dict[str, list[dict[str, Any]]]
    parked: Counter[str]
    left: dict[str, tuple[int, int]]

    @property
    def ends(self) -> dict[str, list[str]]:
        """The terminal statuses of each task."""
        return {name: [event["data"]["Status"] for event in events] for name, events in self.told.items()}

    @property
    def lost(self) -> set[str]:
        return self.accepted - set(self.ends)

    @property
    def duplicates(self) -> int:
        return sum(len(each) - 1 for each in self.ends.values())

    def __str__(self) -> str:
        told = Counter(status for each in self.ends.values() for status in each[:1])
        return (
            f"accepted {len(self.accepted)}, ended {dict(told)}, duplicates {self.duplicates}, "
            f"lost {len(self.lost)}, parked {sum(self.parked.values())}, left {self.left}"
        )


@dataclass
class Ledger:
    node: Node
    namespace: str
    kept: OnDisk | InS3
    accepted: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    bodies: dict[str, bytes] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def _heard(self) -> str:
        return f"{self.namespace}.heard"

    async def open(self) -> None:
        """Declare what a worker declares, and the queue that collects all events."""
        await declare_for(Amqp(url=self.node.url, namespace=self.namespace), Retry(delays_s=(1,)))
        await patiently(self._declare, self.node)

    async def _declare(self) -> None:
        async with self._channel() as channel:
            queue = await channel.declare_queue(self._heard, durable=True, arguments=QUORUM)
            await queue.bind(f"{self.namespace}.events", "#")
            # RabbitMQ 3.10.8: of quorum queues made right before a SIGKILL, the last finds no leader ever after.
            await channel.declare_queue(f"{self.namespace}.last", durable=True, arguments=QUORUM)

    async def close(self) -> None:
        """Delete all of the test's queues: a broker with hundreds of idle ones is slow, and not what is tested."""
        queues = await asyncio.to_thread(self.node.queues)
        async with self._channel() as channel:
            for name in queues:
                if name.startswith(f"{self.namespace}."):
                    await channel.queue_delete(name)

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        connection = await aio_pika.connect(self.node.url, timeout=10)
        async with connection:
            yield await connection.channel(publisher_confirms=True, on_return_raises=True)

    async def submit(self, name: str, task: dict[str, Any] | bytes, **properties: Any) -> None:
        """Publish one task, again and again until the broker confirms it, as a careful producer does."""
        body = task if isinstance(task, bytes) else json.dumps(task).encode()
        self.tried.add(name)
        self.bodies[name] = body
        deadline = time.monotonic() + DEADLINE_S
        while name not in self.accepted:
            try:
                async with asyncio.timeout(10), self._channel() as channel:
                    message = aio_pika.Message(body, message_id=name, delivery_mode=2, **properties)
                    exchange = await channel.get_exchange(f"{self.namespace}.tasks")
                    await exchange.publish(message, "main", mandatory=True)
                    self.accepted.add(name)
            except (*CONNECTION_EXCEPTIONS, TimeoutError):
                assert time.monotonic() < deadline, "the broker does not come back"
                await asyncio.sleep(0.2)  # a refused connection has no event to wait for

    async def submit_again(self, name: str) -> None:
        """Publish a task once more, as a producer does that missed the confirmation."""
        self.accepted.discard(name)
        await self.submit(name, self.bodies[name])

    async def submit_all(self, tasks: dict[str, dict[str, Any]]) -> None:
        for name, task in tasks.items():
            await self.submit(name, task)

    async def cancel(self, name: str) -> None:
        """Ask all workers to cancel a task."""
        async with self._channel() as channel:
            exchange = await channel.get_exchange(f"{self.namespace}.control")
            await exchange.publish(aio_pika.Message(json.dumps({"cancel": name}).encode()), "", mandatory=True)

    async def listen(self) -> None:
        """Take in what was told so far."""
        async with self._channel() as channel:
            queue = await channel.get_queue(self._heard)
            while (message := await queue.get(fail=False)) is not None:
                self.events.append((message.routing_key or "", json.loads(message.body)))
                await message.ack()

    @property
    def ended(self) -> set[str]:
        return {event["data"]["TaskId"] for _, event in self.events if event["data"]["Status"] in TERMINAL}

    async def until_ended(self, count: int) -> None:
        """Wait until so many tasks have ended."""
        await self.until_told(lambda _: len(self.ended) >= count)

    async def until_told(self, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until `holds` is true of the content of all events so far."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds([event["data"] for _, event in self.events]):
            assert time.monotonic() < deadline, f"waited {DEADLINE_S} s: {await self.account()}"
            try:
                await self.listen()
            except CONNECTION_EXCEPTIONS:
                assert time.monotonic() < deadline
            await asyncio.sleep(0.05)  # what others told meanwhile is asked for, not pushed

    async def account(self) -> Account:
        """Close the books: everything heard, everything parked, and what the queues still hold."""
        await self.listen()
        told = defaultdict(list)
        for _, event in self.events:
            if event["data"]["Status"] in TERMINAL:
                told[event["data"]["TaskId"]].append(event)
        async with self._channel() as channel:
            queue = await channel.get_queue(f"{self.namespace}.dead.main")
            parked: Counter[str] = Counter()
            while (message := await queue.get(fail=False)) is not None:
                parked[message.message_id or ""] += 1
                await message.ack()
        return Account(self.accepted, dict(told), parked, await self._left())

    async def _left(self) -> dict[str, tuple[int, int]]:
        """Tell of the queues that a task can wait in what they hold, ready and unacknowledged, if anything."""
        queues = await asyncio.to_thread(self.node.queues)
        waiting = tuple(f"{self.namespace}.{kind}." for kind in ("tasks", "retry", "dropped"))
        return {name: counts for name, counts in queues.items() if name.startswith(waiting) and counts != (0, 0)}

    async def until_empty(self) -> None:
        """Wait until nothing waits or is unacknowledged. RabbitMQ refreshes what it tells of that now and then."""
        deadline = time.monotonic() + DEADLINE_S
        while left := await self._left():
            assert time.monotonic() < deadline, f"the queues still hold {left}"

    async def balance(self, invalid: Collection[str] = ()) -> Account:
        """Wait for the end of all that was accepted, and hold the figures to the promises. Gives the figures.

        `invalid` names what was sent and is no task, so that there is no record of it.
        """
        await self.until_ended(len(self.accepted))
        await self.until_empty()
        account = await self.account()
        print(account)  # noqa: T201 - shown by `pytest -s` and with a failure
        assert account.lost == set(), str(account)
        assert set(account.ends) <= self.tried, f"unexpected: {set(account.ends) - self.tried}"
        ids = {name: {event["id"] for event in events} for name, events in account.told.items()}
        assert {len(each) for each in ids.values()} == {1}, f"two ends of one task: {account.ends}"
        failed = {name for name, each in account.ends.items() if each[0] == "Failed"}
        assert set(account.parked) == failed, (account.parked, failed)
        valid = {name: events for name, events in account.told.items() if name not in invalid}
        assert await asyncio.to_thread(discrepancies, self.kept, valid) == []
        return account
