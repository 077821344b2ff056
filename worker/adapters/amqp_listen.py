"""Listening to an exchange from now on, through a queue of one's own that goes when its connection does.

Nothing is settled here: what comes while the connection is lost is missed. Must not know what the messages say.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aio_pika import RobustConnection
from aio_pika.abc import AbstractIncomingMessage

from worker.adapters.amqp_publish import broker_call
from worker.ports import BrokerLostError

CLOSE_S = 5
WAITING_MESSAGES = 100_000


@asynccontextmanager
async def listening(
    connection: RobustConnection, exchange: str, patterns: tuple[str, ...], limit_s: float
) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
    """Give an iterator of the routing keys and bodies of what is published to `exchange` with one of these keys.

    It goes on with another queue when a lost connection is back. Raises `BrokerLostError` if that takes longer than
    `limit_s` seconds now.
    """
    inbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def receive(message: AbstractIncomingMessage) -> None:
        inbox.put_nowait((message.routing_key or "", message.body))

    async def listen() -> AsyncIterator[tuple[str, bytes]]:
        while True:
            yield await inbox.get()

    async with broker_call(limit_s):
        channel = await connection.channel(publisher_confirms=False)
        queue = await channel.declare_queue(
            exclusive=True, auto_delete=True, arguments={"x-max-length": WAITING_MESSAGES}
        )
        for pattern in patterns:
            await queue.bind(exchange, pattern)
        await queue.consume(receive, no_ack=True)
    try:
        yield listen()
    finally:
        with suppress(BrokerLostError):  # then the queue is gone already
            async with broker_call(CLOSE_S):
                await channel.close()
