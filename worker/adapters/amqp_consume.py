"""Task messages as they come from RabbitMQ. Owns the consumer and keeps it registered.

The consumer is registered with aiormq, below aio-pika, which restores the channel but is not asked to restore the
consumer: whether we are registered is then seen at one place, and a queue that was deleted or changed meanwhile shows
as "not consuming" instead of in an endless loop of reconnecting. The task in which a callback runs is cancelled when
its channel closes; so the callback only hands over, and work that has begun goes on, to find out at its acknowledgement
that the message will come again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from typing import cast

from aio_pika import RobustConnection
from aio_pika.abc import AbstractRobustChannel
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from pamqp.common import FieldTable
from pamqp.decode import METHODS, TABLE_MAPPING, short_str, timestamp

from worker.adapters.amqp_delivery import AmqpDelivery
from worker.adapters.amqp_publish import broker_call
from worker.ports import BrokerLostError

CONSUMER_TIMEOUT_MS = 1_800_000
CALL_S = 10
WATCH_S = 1.0
SHORT_STRING_BYTES = 255

log = logging.getLogger(__name__)


def _lenient_timestamp(value: bytes) -> tuple[int, datetime | None]:
    try:
        return timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def _lenient_short_string(value: bytes) -> tuple[int, str]:
    try:
        return short_str(value)
    except UnicodeDecodeError:
        end = 1 + value[0]
        text = value[1:end].decode(errors="backslashreplace").encode()
        return end, text[:SHORT_STRING_BYTES].decode(errors="ignore")  # longer than it was, and copies must hold it


# pamqp refuses a time past the year 9999 (microseconds given as seconds) and a message id that is not UTF-8, and aiormq
# then drops the connection: again at every redelivery, for all workers, with all that is in flight.
METHODS["timestamp"] = TABLE_MAPPING[b"T"] = _lenient_timestamp
METHODS["shortstr"] = _lenient_short_string


class Consumer:
    """The registration at one queue, renewed whenever it is lost, until `stop`."""

    def __init__(
        self, channel: AbstractRobustChannel, queue: str, wrap: Callable[[DeliveredMessage], AmqpDelivery]
    ) -> None:
        self._channel = channel
        self._queue = queue
        self._wrap = wrap
        self._underlay: Channel | None = None
        self._tag = ""
        self._inbox: asyncio.Queue[AmqpDelivery | None] = asyncio.Queue()
        self._watch: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        connection: RobustConnection,
        queue: str,
        prefetch: int,
        wrap: Callable[[DeliveredMessage], AmqpDelivery],
    ) -> "Consumer":
        """Register for at most `prefetch` unsettled messages of `queue`, which must exist. Raises `BrokerLostError`."""
        async with broker_call(CALL_S):
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=prefetch)
        consumer = cls(channel, queue, wrap)
        await consumer._register()
        consumer._watch.append(asyncio.create_task(consumer._keep_registered()))
        return consumer

    async def _register(self) -> None:
        # RabbitMQ 4.3 takes the limit from here; older ones ignore it and have one limit for all.
        arguments: FieldTable = {"x-consumer-timeout": CONSUMER_TIMEOUT_MS}
        async with broker_call(CALL_S):
            await self._channel.ready()
            underlay = cast("Channel", await self._channel.get_underlay_channel())
            answer = await underlay.basic_consume(self._queue, self._receive, arguments=arguments)
        self._underlay, self._tag = underlay, answer.consumer_tag or ""

    async def _receive(self, message: DeliveredMessage) -> None:
        self._inbox.put_nowait(self._wrap(message))

    async def _keep_registered(self) -> None:
        """Look every second whether the registration holds: it ends with its channel, or by the broker's word."""
        while True:
            await asyncio.sleep(WATCH_S)
            if not self.registered:
                try:
                    await self._register()
                except BrokerLostError as error:
                    log.warning("not consuming %s: %s", self._queue, error)

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
        self.close()
        if self._underlay is not None:
            with suppress(BrokerLostError):  # a lost connection sends none either
                async with broker_call(CALL_S):
                    await self._underlay.basic_cancel(self._tag)
        while not self._inbox.empty():
            if (delivery := self._inbox.get_nowait()) is not None:
                await delivery.give_back()
        self._inbox.put_nowait(None)

    def close(self) -> None:
        """Renew the registration no more."""
        for task in self._watch:
            task.cancel()
