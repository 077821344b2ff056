"""The broker as a user of the worker sees it: publishes tasks and hears events with aio-pika alone."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika

from devkit.broker import Node

DEADLINE_S = 45
TERMINAL = ("Succeeded", "Failed", "Canceled")


@dataclass(frozen=True)
class Told:
    """One event as it came."""

    routing_key: str
    content_type: str
    body: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        return self.body["data"] if "data" in self.body else json.loads(self.body["content"])

    @property
    def status(self) -> str:
        return self.data["Status"]

    @property
    def task_id(self) -> str:
        return self.data["TaskId"]

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        return [each for target in self.data["Targets"] for each in target["Image"]["Snapshots"]]


class Bus:
    def __init__(self, channel: aio_pika.abc.AbstractChannel, namespace: str) -> None:
        self.told: list[Told] = []
        self._channel = channel
        self._namespace = namespace
        self._news = asyncio.Condition()

    async def publish(self, task: dict[str, Any] | bytes, task_id: str | None = None, **properties: Any) -> str:
        """Publish a task, confirmed and routed; gives its `message_id`."""
        task_id = task_id or f"task-{secrets.token_hex(4)}"
        body = task if isinstance(task, bytes) else json.dumps(task).encode()
        message = aio_pika.Message(
            body, message_id=task_id, content_type="application/json", delivery_mode=2, **properties
        )
        exchange = await self._channel.get_exchange(f"{self._namespace}.tasks")
        await exchange.publish(message, "main", mandatory=True)
        return task_id

    async def cancel(self, task_id: str) -> None:
        """Ask all workers to cancel a task."""
        exchange = await self._channel.get_exchange(f"{self._namespace}.control")
        await exchange.publish(aio_pika.Message(json.dumps({"cancel": task_id}).encode()), "", mandatory=True)

    async def listen(self) -> None:
        queue = await self._channel.declare_queue(exclusive=True)
        await queue.bind(f"{self._namespace}.events", "#")
        await queue.consume(self._hear, no_ack=True)

    async def _hear(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        async with self._news:
            told = Told(message.routing_key or "", message.content_type or "", json.loads(message.body))
            self.told.append(told)
            self._news.notify_all()

    def of(self, task_id: str) -> list[Told]:
        return [each for each in self.told if each.task_id == task_id]

    def statuses(self, task_id: str) -> list[str]:
        return [each.status for each in self.of(task_id)]

    async def until(self, holds: Callable[[], Any], what: str) -> None:
        """Wait until `holds` is true of what was told."""
        async with self._news:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._news.wait_for(holds)
            except TimeoutError:
                told = "\n".join(f"{each.routing_key} {each.task_id} {each.data['Message']}" for each in self.told)
                raise AssertionError(f"waited {DEADLINE_S} s for {what}; told so far:\n{told}") from None

    async def ended(self, task_ids: Iterable[str]) -> None:
        """Wait for a terminal event of each task."""
        wanted = set(task_ids)
        await self.until(
            lambda: wanted <= {each.task_id for each in self.told if each.status in TERMINAL}, f"the end of {wanted}"
        )

    async def end_of(self, task_id: str) -> Told:
        """Wait for a task's terminal event."""
        await self.ended([task_id])
        return next(each for each in self.of(task_id) if each.status in TERMINAL)

    async def outcome(self, task: dict[str, Any] | bytes, **properties: Any) -> Told:
        """Publish a task and wait for its end."""
        return await self.end_of(await self.publish(task, **properties))

    async def under_way(self, task_id: str) -> None:
        """Wait until frames of the task have come out of a decoder."""
        await self.until(lambda: any(each.data.get("Progress") for each in self.of(task_id)), f"progress of {task_id}")

    async def parked(self) -> list[aio_pika.abc.AbstractIncomingMessage]:
        """Take all messages off the queue of those that will not be tried again."""
        queue = await self._channel.get_queue(f"{self._namespace}.dead.main")
        messages = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            messages.append(message)
        return messages

    async def settled(self, node: Node, **holding: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Wait until no queue but those of `holding` has messages, ready or unacknowledged; gives all queues' counts.

        RabbitMQ refreshes these counts now and then: what it tells right after an acknowledgement may be old.
        """
        wanted = {f"{self._namespace}.{name.replace('_', '.')}": counts for name, counts in holding.items()}
        deadline = time.monotonic() + DEADLINE_S
        while True:
            queues = await asyncio.to_thread(node.queues)
            mine = {name: counts for name, counts in queues.items() if name.startswith(f"{self._namespace}.")}
            if {name: counts for name, counts in mine.items() if counts != (0, 0)} == wanted:
                return mine
            assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for the queues to hold {wanted}: {mine}"


@asynccontextmanager
async def bus(url: str, namespace: str) -> AsyncIterator[Bus]:
    """Listen to all events of a namespace, whose exchanges the worker has declared, from now on."""
    connection = await aio_pika.connect(url)
    async with connection:
        heard = Bus(await connection.channel(publisher_confirms=True, on_return_raises=True), namespace)
        await heard.listen()
        yield heard
