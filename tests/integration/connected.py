"""The AMQP adapter connected to a real node, a bare channel beside it, and waiting for what a broker does not tell."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiormq
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from devkit.broker import Node
from tests.declared import patiently
from worker.adapters.amqp import Broker
from worker.adapters.amqp_delivery import AmqpDelivery
from worker.settings import Amqp, Retry

RETRY = Retry(delays_s=(1,), jitter=0.25)


@asynccontextmanager
async def connected(amqp: Amqp) -> AsyncIterator[Broker]:
    async with Broker(amqp, RETRY) as broker:
        await patiently(broker.prepare)
        yield broker


@asynccontextmanager
async def raw_channel(amqp: Amqp) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    connection = await aiormq.connect(amqp.url.get_secret_value())
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def ready(amqp: Amqp, queue: str) -> int:
    """How many messages the queue would deliver now."""
    async with raw_channel(amqp) as channel:
        return (await channel.queue_declare(queue, passive=True)).message_count


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 20) -> None:
    """Wait for a state of the broker that it sends no event about."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110  the broker sends no event about it
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds, within_s)


async def publish_bare(channel, exchange: str, key: str, properties: Basic.Properties) -> None:
    """Publish the body `x` with exactly these properties; aiormq's own method always adds a message id."""
    header = ContentHeader(properties=properties, body_size=1)
    frames = [Basic.Publish(exchange=exchange, routing_key=key), header, ContentBody(b"x")]
    await channel.write_queue.put(ChannelFrame.marshall(channel_number=channel.number, frames=frames))


async def next_of(deliveries: AsyncIterator[AmqpDelivery], within_s: float = 20) -> AmqpDelivery:
    async with asyncio.timeout(within_s):
        return await anext(deliveries)


def redeliveries(delivery: AmqpDelivery) -> int:
    """How many deliveries of this copy ended without an acknowledgement."""
    return delivery.headers.get("x-delivery-count", 0)


async def settled(node: Node, queue: str) -> bool:
    """Whether the queue holds nothing, neither ready nor delivered."""
    return (await asyncio.to_thread(node.queues))[queue] == (0, 0)


@contextmanager
def message_limit(node: Node, size: int) -> Iterator[None]:
    """Have the node take no bodies of more than `size` bytes on channels that are opened meanwhile."""
    before = node.rabbitmqctl("eval", "application:get_env(rabbit, max_message_size, none).")
    node.rabbitmqctl("eval", f"application:set_env(rabbit, max_message_size, {size}).")
    try:
        yield
    finally:
        size_before = before.strip().removeprefix("{ok,").removesuffix("}")
        node.rabbitmqctl("eval", f"application:set_env(rabbit, max_message_size, {size_before}).")
