"""Where messages go on a real broker when nobody takes them, or nobody can."""

import json

import aiormq
import pytest

from tests.declared import declare_for
from worker.adapters.topology import TopologyError, check, declare, topology
from worker.settings import Retry

RETRY = Retry(delays_s=(1, 5))


@pytest.fixture
async def connection(amqp):
    opened = await aiormq.connect(amqp.url.get_secret_value())
    yield opened
    await opened.close()


@pytest.fixture
async def channel(connection):
    return await connection.channel()


@pytest.fixture
async def declared(amqp):
    return await declare_for(amqp, RETRY)


async def ready(channel, queue: str) -> int:
    return (await channel.queue_declare(queue, passive=True)).message_count


async def test_declaring_again_changes_nothing(declared, channel, connection):
    await declare(channel, declared)
    assert await check(connection, declared, arguments=True) == []


async def test_everything_is_durable(declared, broker):
    for kind, names in (("exchanges", declared.exchanges), ("queues", declared.queues)):
        listed = json.loads(broker.rabbitmqctl(f"list_{kind}", "name", "durable", "--formatter", "json"))
        durable = {row["name"] for row in listed if row["durable"]}
        assert {one.name for one in names} <= durable


async def test_what_is_deleted_is_missed(declared, channel, connection):
    await channel.queue_delete(declared.task_queue)
    await channel.exchange_delete(declared.events)
    findings = await check(connection, declared, arguments=True)
    assert [finding.split()[:2] for finding in findings] == [
        ["exchange", declared.events],
        ["queue", declared.task_queue],
    ]


async def test_a_changed_argument_is_refused_and_named(amqp, declared, channel):
    other = topology(amqp.model_copy(update={"delivery_limit": 7}), RETRY)
    with pytest.raises(TopologyError, match="x-delivery-limit"):
        await declare(channel, other)


async def test_a_task_for_a_lane_that_nobody_serves_is_kept(amqp, declared, channel):
    await channel.basic_publish(b"x", exchange=declared.tasks, routing_key="nobody", mandatory=True)
    assert await ready(channel, f"{amqp.namespace}.unrouted") == 1


async def test_a_rejected_task_is_dropped_and_keeps_its_reason(declared, channel):
    await channel.basic_publish(b"x", exchange=declared.tasks, routing_key=declared.lane)
    got = await channel.basic_get(declared.task_queue)
    await channel.basic_reject(got.delivery_tag, requeue=False)
    dead = await _arrives(channel, declared.dropped_queue)
    assert dead.header.properties.headers["x-first-death-reason"] == "rejected"


async def test_a_task_that_keeps_coming_back_is_dropped_after_its_limit(amqp, connection, channel):
    wanted = topology(amqp.model_copy(update={"delivery_limit": 2}), RETRY)
    await declare(channel, wanted)
    await channel.basic_publish(b"x", exchange=wanted.tasks, routing_key=wanted.lane)
    for _ in range(3):
        # A connection that dies with the task, as a crashed worker's does.
        crashing = await aiormq.connect(amqp.url.get_secret_value())
        taken = await _arrives(await crashing.channel(), wanted.task_queue, no_ack=False)
        assert taken.body == b"x"
        await crashing.close()
    dead = await _arrives(channel, wanted.dropped_queue)
    assert dead.header.properties.headers["x-first-death-reason"] == "delivery_limit"
    assert await ready(channel, wanted.task_queue) == 0


async def _arrives(channel, queue: str, *, no_ack: bool = True):
    """Wait for a message by consuming, since dead-lettering takes the broker a moment."""
    inbox = channel.connection.loop.create_future()

    async def receive(message) -> None:
        inbox.set_result(message)

    await channel.basic_qos(prefetch_count=1)
    consumer = await channel.basic_consume(queue, receive, no_ack=no_ack)
    message = await inbox
    await channel.basic_cancel(consumer.consumer_tag)
    return message
