"""The AMQP adapter connected to a real node, a bare channel beside it, and waiting for what a broker does not tell."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from subprocess import TimeoutExpired
from urllib.parse import urlsplit

import aiormq
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pydantic import SecretStr

from devkit.broker import Node
from tests.declared import patiently
from tests.e2e.proxy import Proxy, proxy
from worker.adapters.amqp import Broker
from worker.adapters.amqp_delivery import AmqpDelivery
from worker.settings import Amqp, Retry

RETRY = Retry(delays_s=(1,), jitter=0.25)
COMMAND_TRIES = 5


@asynccontextmanager
async def connected(amqp: Amqp) -> AsyncIterator[Broker]:
    async with Broker(amqp, RETRY) as broker:
        await patiently(broker.prepare)
        yield broker


@contextmanager
def by_way(amqp: Amqp) -> Iterator[tuple[Proxy, Amqp]]:
    """Run a proxy before the broker; gives it, and the settings with which one comes by it."""
    url = amqp.url.get_secret_value()
    port = urlsplit(url).port
    assert port is not None
    with proxy(port) as way:
        there = SecretStr(url.replace(f":{port}/", f":{way.port}/"))
        yield way, amqp.model_copy(update={"url": there})


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
    size_before = before.strip().removeprefix("{ok,").removesuffix("}")
    try:
        _command(node, "eval", f"application:set_env(rabbit, max_message_size, {size}).")
        yield
    finally:
        _command(node, "eval", f"application:set_env(rabbit, max_message_size, {size_before}).")


async def allow_memory(node: Node, share: str) -> None:
    """Set the share of the machine's memory above which the node takes no publications: `0.4` is usual."""
    await asyncio.to_thread(_command, node, "set_vm_memory_high_watermark", share)


@asynccontextmanager
async def short_of_memory(node: Node) -> AsyncIterator[None]:
    """Have the node take no publications as long as the block lasts."""
    try:
        await allow_memory(node, "0.000001")
        yield
    finally:
        await allow_memory(node, "0.4")


def _command(node: Node, *args: str) -> None:
    """Run `rabbitmqctl`, again where it fails: a node that stays as one test made it ruins all tests after it."""
    for left in reversed(range(COMMAND_TRIES)):
        try:
            node.rabbitmqctl(*args)
        except (RuntimeError, TimeoutExpired):
            if not left:
                raise
        else:
            return
