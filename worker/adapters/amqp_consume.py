"""Task messages as they come from RabbitMQ. Owns the consumer and keeps it registered.

The consumer is registered with aiormq, below aio-pika, which restores the channel but is not asked to restore the
consumer: whether we are registered is then seen at one place, and a queue that was deleted or changed meanwhile shows
as "not consuming" instead of in an endless loop of reconnecting. The task in which a callback runs is cancelled when
its channel closes; so the callback only hands over, and work that has begun goes on, to find out at its acknowledgement
that the message will come again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from aio_pika import RobustConnection
from aio_pika.abc import AbstractRobustChannel
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from pamqp.common import FieldTable

from worker.adapters.amqp_delivery import AmqpDelivery
from worker.adapters.amqp_publish import broker_call
from worker.ports import BrokerLostError

CALL_S = 10
WATCH_S = 1.0

log = logging.getLogger(__name__)


Restore = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Order:
    """What to consume: a queue, and the inbox that its messages go to once `wrap` has made deliveries of them.

    While `paused` tells so, nothing new comes, from within a second on; what came may be settled all the same.
    """

    queue: str
    inbox: asyncio.Queue[AmqpDelivery | None]
    wrap: Callable[[DeliveredMessage], AmqpDelivery]
    consumer_timeout_s: float
    paused: Callable[[], bool]


class Consumer:
    """The registration at one queue, renewed whenever it is lost, until `stop`. Puts what comes into an inbox."""

    def __init__(self, channel: AbstractRobustChannel, order: Order, restore: Restore) -> None:
        self._channel = channel
        self._order = order
        self._restore = restore
        self._underlay: Channel | None = None
        self._tag = ""
        self._watch: list[asyncio.Task[None]] = []
        # Held while the broker is asked for something: what is cancelled then closes the channel (aiormq).
        self._asking = asyncio.Lock()

    @classmethod
    async def open(cls, connection: RobustConnection, order: Order, prefetch: int, restore: Restore) -> "Consumer":
        """Register for at most `prefetch` unsettled messages of a queue, which must exist. Raises `BrokerLostError`.

        `restore` is awaited before each later registration; where it raises `BrokerLostError`, there is none.
        """
        async with broker_call(CALL_S):
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=prefetch)
        consumer = cls(channel, order, restore)
        await consumer._register()
        consumer._watch.append(asyncio.create_task(consumer._keep_registered()))
        return consumer

    async def _register(self) -> None:
        # RabbitMQ 4.3 takes the limit from here; older ones ignore it and have one limit for all.
        arguments: FieldTable = {"x-consumer-timeout": int(self._order.consumer_timeout_s * 1000)}
        async with self._asking:
            async with broker_call(CALL_S):
                await self._channel.ready()
                underlay = cast("Channel", await self._channel.get_underlay_channel())
                # One that gets no answer closes its channel, and with it a registration that came about after all.
                answer = await underlay.basic_consume(self._order.queue, self._receive, arguments=arguments)
            self._underlay, self._tag = underlay, answer.consumer_tag or ""

    async def _receive(self, message: DeliveredMessage) -> None:
        self._order.inbox.put_nowait(self._order.wrap(message))

    async def _keep_registered(self) -> None:
        """Look every second whether the registration holds: it ends with its channel, or by the broker's word.

        This is the only place that changes it, also for a pause, so that no pause is lost between two of its steps.
        """
        while True:
            await asyncio.sleep(WATCH_S)
            paused = self._order.paused()
            if self.registered != paused:
                continue
            try:
                await (self._cancel() if paused else self._renew())
            except BrokerLostError as error:
                log.warning("not consuming %s: %s", self._order.queue, error)
            else:
                log.warning("pausing at %s" if paused else "consuming %s again", self._order.queue)

    async def _renew(self) -> None:
        await self._restore()
        await self._register()

    async def _cancel(self) -> None:
        """Ask the broker for no more messages. Raises `BrokerLostError`: a lost connection sends none either."""
        async with self._asking:
            if self._underlay is not None:
                async with broker_call(CALL_S):
                    await self._underlay.basic_cancel(self._tag)

    @property
    def registered(self) -> bool:
        """Whether the broker sends messages, as far as this side knows."""
        below = self._underlay
        return below is not None and not below.is_closed and self._tag in below.consumers

    async def stop(self) -> None:
        """Ask the broker for no more messages. What came can still be settled."""
        async with self._asking:
            self.close()
        with suppress(BrokerLostError):
            await self._cancel()

    def close(self) -> None:
        """Renew the registration no more."""
        for task in self._watch:
            task.cancel()
