"""Task messages from RabbitMQ: how they come in, and the ways to settle one.

Owns the consumer, which aio-pika registers again after a lost connection. Must not know what the messages say.

aio-pika cancels a message callback when its channel closes, so the callback only hands over: work that has begun goes
on, and finds out at its acknowledgement that the message will come again.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import cast

from aio_pika import DeliveryMode, Message, RobustConnection
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, AbstractRobustChannel
from aio_pika.exceptions import ChannelInvalidStateError
from aiormq import Channel
from pamqp.common import FieldTable

from worker.adapters.amqp_publish import Publisher, broker_call
from worker.adapters.topology import Topology
from worker.ports import BrokerLostError
from worker.task import task_id

CONSUMER_TIMEOUT_MS = 1_800_000
CALL_S = 10
PARK_REASON_BYTES = 1024
# What the broker writes into a message, or obeys in one: on a copy it would be untrue, or send it elsewhere.
BROKER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "CC", "BCC")

log = logging.getLogger(__name__)


class AmqpDelivery:
    """One task message. It belongs to the channel that it came on: when that is gone, the broker sends it again."""

    def __init__(self, message: AbstractIncomingMessage, publisher: Publisher, names: Topology, jitter: float) -> None:
        self._message = message
        self._publisher = publisher
        self._names = names
        self._jitter = jitter

    @property
    def body(self) -> bytes:
        """The message body, unparsed."""
        return self._message.body

    @property
    def message_id(self) -> str | None:
        """The AMQP property, where the publisher set it."""
        return self._message.message_id

    @property
    def timestamp(self) -> datetime | None:
        """When the publisher says the message was made (UTC)."""
        return self._message.timestamp

    @property
    def headers(self) -> Mapping[str, object]:
        """The AMQP headers, untrusted."""
        return self._message.headers

    @property
    def redelivered(self) -> bool:
        """Whether the broker has delivered the message before."""
        return bool(self._message.redelivered)

    @property
    def delivery_count(self) -> int:
        """How many deliveries of this copy ended without an acknowledgement, by crashes and lost connections."""
        count = self._message.headers.get("x-delivery-count", 0)
        return count if isinstance(count, int) else 0

    @property
    def stale(self) -> bool:
        """Whether its channel is gone, so that the broker delivers the message again."""
        try:
            return self._message.channel.is_closed
        except ChannelInvalidStateError:
            return True

    async def ack(self) -> None:
        """Settle: the broker may forget the message. A lost connection makes this a no-op: it comes again."""
        try:
            async with broker_call(self._publisher.try_s):
                await self._message.ack()
        except BrokerLostError as error:
            self._publisher.counts.acks_lost += 1
            log.warning("task %s: acknowledgement lost, it will be delivered again: %s", self._task_id, error)

    async def retry(self, delay_s: int, headers: Mapping[str, str | int]) -> None:
        """Publish a copy, with `headers` added, to the delay queue for `delay_s`, confirmed. Does not ack.

        Raises `BrokerLostError`.
        """
        # Never above the queue's own limit: a message at the head that lives longer would hold up all behind it.
        share = random.uniform(1 - self._jitter, 1)  # noqa: S311 - nothing secret
        copy = self._copy(headers, expiration_s=delay_s * share)
        await self._publisher.publish_alone(self._names.retry, self._names.retry_key(delay_s), copy)

    async def park(self, code: str, reason: str) -> None:
        """Publish a copy to the dead-letter exchange, with the reason, confirmed. Does not ack.

        Raises `BrokerLostError`.
        """
        short = reason.encode()[:PARK_REASON_BYTES].decode(errors="ignore")
        copy = self._copy({"x-park-code": code, "x-park-reason": short})
        await self._publisher.publish_alone(self._names.dead, self._names.lane, copy)

    async def give_back(self) -> None:
        """Return the message to the queue untouched, for another worker."""
        with suppress(BrokerLostError):  # then the broker does so by itself
            async with broker_call(self._publisher.try_s):
                await self._message.nack(requeue=True)

    @property
    def _task_id(self) -> str:
        return task_id(self.message_id, self.body)

    def _copy(self, headers: Mapping[str, str | int], expiration_s: float | None = None) -> Message:
        original = self._message
        kept = {name: value for name, value in original.headers.items() if not name.startswith(BROKER_HEADERS)}
        return Message(
            original.body,
            headers={**kept, **headers},
            content_type=original.content_type,
            content_encoding=original.content_encoding,
            correlation_id=original.correlation_id,
            reply_to=original.reply_to,
            priority=original.priority,
            type=original.type,
            app_id=original.app_id,
            timestamp=original.timestamp,
            message_id=self._task_id,
            expiration=expiration_s,
            delivery_mode=DeliveryMode.PERSISTENT,
        )


class Consumer:
    """The registration at one queue, with at most `prefetch` messages unacknowledged at a time."""

    def __init__(self, channel: AbstractRobustChannel, queue: AbstractQueue) -> None:
        # The channel is held: aio-pika keeps only weak references to what it restores.
        self._channel = channel
        self._queue = queue
        self._underlay: Channel | None = None
        self._tag = ""
        self._inbox: asyncio.Queue[AmqpDelivery | None] = asyncio.Queue()

    @classmethod
    async def open(
        cls,
        connection: RobustConnection,
        queue: str,
        prefetch: int,
        wrap: Callable[[AbstractIncomingMessage], AmqpDelivery],
    ) -> "Consumer":
        """Register at `queue`, which must exist. Raises `BrokerLostError`."""
        async with broker_call(CALL_S):
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=prefetch)
            consumer = cls(channel, await channel.get_queue(queue))
            await consumer._register(wrap)
        return consumer

    async def _register(self, wrap: Callable[[AbstractIncomingMessage], AmqpDelivery]) -> None:
        async def receive(message: AbstractIncomingMessage) -> None:
            self._inbox.put_nowait(wrap(message))

        # RabbitMQ 4.3 takes the limit from here; older ones ignore it and have one limit for all.
        arguments: FieldTable = {"x-consumer-timeout": CONSUMER_TIMEOUT_MS}
        self._tag = await self._queue.consume(receive, arguments=arguments)
        self._channel.reopen_callbacks.add(self._look_below)
        await self._look_below()

    async def _look_below(self, *_: object) -> None:
        self._underlay = cast("Channel", await self._channel.get_underlay_channel())

    @property
    def registered(self) -> bool:
        """Whether the broker sends messages, as far as this side knows."""
        below = self._underlay
        return below is not None and not below.is_closed and self._tag in below.consumers

    async def deliveries(self) -> AsyncIterator[AmqpDelivery]:
        """Yield messages as they come, until `stop`; for one reader."""
        while (delivery := await self._inbox.get()) is not None:
            if not delivery.stale:
                yield delivery

    async def stop(self) -> None:
        """Ask the broker for no more messages, and give back those that nobody has taken yet."""
        with suppress(BrokerLostError):  # a lost connection sends none either
            async with broker_call(CALL_S):
                await self._queue.cancel(self._tag)
        while not self._inbox.empty():
            if (delivery := self._inbox.get_nowait()) is not None:
                await delivery.give_back()
        self._inbox.put_nowait(None)
