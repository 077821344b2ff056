"""Listening to an exchange from now on, through a queue of one's own that goes when its connection does.

Nothing is settled here: what comes while the connection is lost is missed, and what comes while more than
`WAITING_MESSAGES` wait here. Must not know what the messages say.

All of it is declared below aio-pika, which would declare it again with each connection, and for an exchange that is not
there any more close that connection, with all that is consumed on it, again and again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

from aio_pika import RobustConnection
from aiormq import Channel
from aiormq.abc import DeliveredMessage

from worker.adapters.amqp_publish import below, broker_call
from worker.ports import BrokerLostError

CLOSE_S = 5
WATCH_S = 1.0
LONGEST_PAUSE_S = 60.0
WAITING_MESSAGES = 100_000

log = logging.getLogger(__name__)


class _Listener:
    def __init__(
        self, connection: RobustConnection, exchange: str, patterns: tuple[str, ...], limit_s: float, waiting: int
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._patterns = patterns
        self._limit_s = limit_s
        self._waiting = waiting
        self._channel: Channel | None = None
        self._overflowed = False
        self._inbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(waiting)

    async def listen(self) -> None:
        """Begin to hear what is published. Raises `BrokerLostError`."""
        async with broker_call(self._limit_s):
            await self._connection.ready()
            channel = cast("Channel", await below(self._connection).channel(publisher_confirms=False))
            declared = await channel.queue_declare(
                exclusive=True, auto_delete=True, arguments={"x-max-length": self._waiting}
            )
            for pattern in self._patterns:
                await channel.queue_bind(declared.queue or "", self._exchange, pattern)
            await channel.basic_consume(declared.queue or "", self._receive, no_ack=True)
        self._channel = channel

    async def keep_listening(self) -> None:
        """Look every second whether the channel is there: it goes with its connection, or by the broker's word.

        On a connection that is there, refusals are asked about at growing intervals: they may be meant.
        """
        pause_s = WATCH_S
        while True:
            await asyncio.sleep(pause_s)
            if self._channel is not None and not self._channel.is_closed and self._channel.consumers:
                continue
            await self.close()
            await self._connection.ready()
            try:
                await self.listen()
            except BrokerLostError as error:
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                log.warning("not listening to %s, trying again in %.0f s: %s", self._exchange, pause_s, error)
            else:
                pause_s = WATCH_S
                log.warning("listening to %s again", self._exchange)

    async def _receive(self, message: DeliveredMessage) -> None:
        full = self._inbox.full()
        if full and not self._overflowed:
            log.warning("more than %d messages of %s wait: others are not heard", self._waiting, self._exchange)
        self._overflowed = full
        if not full:
            self._inbox.put_nowait((message.routing_key or "", message.body))

    async def heard(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            yield await self._inbox.get()

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with suppress(BrokerLostError):  # then the queue is gone already
                async with broker_call(CLOSE_S):
                    await channel.close()


@asynccontextmanager
async def listening(
    connection: RobustConnection,
    exchange: str,
    patterns: tuple[str, ...],
    limit_s: float,
    waiting: int = WAITING_MESSAGES,
    *,
    at_once: bool = True,
) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
    """Give an iterator of the routing keys and bodies of what is published to `exchange` with one of these keys.

    At most `waiting` of them wait to be taken. It goes on with another queue when a lost connection is back. Raises
    `BrokerLostError` if it cannot begin within `limit_s` seconds; if that need not be `at_once`, it begins when it can.
    """
    listener = _Listener(connection, exchange, patterns, limit_s, waiting)
    try:
        await listener.listen()
    except BrokerLostError as error:
        if at_once:
            raise
        log.warning("not listening to %s yet: %s", exchange, error)
    keeping = asyncio.create_task(listener.keep_listening())
    try:
        yield listener.heard()
    finally:
        keeping.cancel()
        await listener.close()
