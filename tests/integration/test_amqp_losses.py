"""A real RabbitMQ node that closes connections, dies, lacks memory or loses what was declared: nothing is lost."""

import asyncio
from contextlib import suppress

import pytest

from devkit.broker import Node
from tests.integration.connected import (
    by_way,
    connected,
    eventually,
    next_of,
    raw_channel,
    ready,
    redeliveries,
    settled,
    short_of_memory,
    until,
)
from worker.ports import BrokerLostError


async def test_a_connection_that_the_broker_closes_loses_nothing(amqp, broker):
    node: Node = broker
    with by_way(amqp) as (way, there):
        async with connected(there) as broker:
            await broker.start_consuming(1)
            await broker.submit(b"x", "task-1", {})
            deliveries = broker.deliveries()
            first = await next_of(deliveries)
            with way.refusing(only_new=True):  # or it may be back before the command is
                await asyncio.to_thread(node.rabbitmqctl, "close_all_connections", "test")
                await until(lambda: not broker.connected and not broker.consuming)
                assert await broker.blocked()
                await broker.announce("default.p.Running", b"1", "application/json", confirm=False)
                assert broker.counts.unconfirmed == 1
                terminal = asyncio.create_task(broker.announce("default.p.Succeeded", b"2", "application/json"))
                await asyncio.sleep(0)  # it waits for the connection
            await terminal
            await first.ack()
            assert broker.counts.acks_lost == 1
            second = await next_of(deliveries)
            assert (second.message_id, redeliveries(second)) == ("task-1", 1)
            await until(lambda: broker.consuming)  # what was dropped may be registered for after the tasks
            assert broker.connected
            await until(lambda: broker.counts.reconnects == 2)
            await second.ack()
            await eventually(lambda: settled(node, broker.topology.task_queue))
    assert await ready(amqp, broker.topology.task_queue) == 0
    assert await ready(amqp, f"{broker.topology.events}.unrouted") == 1


async def test_an_exchange_that_is_gone_after_a_loss_keeps_nobody_from_working(amqp):
    """Restoring what was bound to it would end the connection that consumes, again and again."""
    with by_way(amqp) as (way, there):
        async with connected(there) as broker, broker.commands() as commands, raw_channel(amqp) as channel:
            await broker.start_consuming(1)
            await channel.exchange_delete(broker.topology.control)
            with way.refusing():
                await until(lambda: not broker.connected)
            await until(lambda: broker.connected and broker.consuming)
            hearing = asyncio.create_task(anext(commands))

            async def heard() -> bool:
                with suppress(BrokerLostError):  # nobody listens yet
                    await broker.command(b"1")
                return hearing.done()

            await eventually(heard)
            assert await hearing == ("", b"1")


@pytest.mark.slow
async def test_a_broker_that_dies_and_comes_back_has_all_that_it_confirmed(amqp, broker):
    node: Node = broker
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        # RabbitMQ 3.10.8: of quorum queues made right before a SIGKILL, the last finds no leader ever after.
        await channel.queue_declare(f"{amqp.namespace}.last", durable=True, arguments={"x-queue-type": "quorum"})
        await broker.start_consuming(1)
        for number in range(3):
            await broker.submit(b"x", f"task-{number}", {})
        deliveries = broker.deliveries()
        await next_of(deliveries)
        await asyncio.to_thread(node.kill)
        await until(lambda: not broker.connected and not broker.consuming)
        terminal = asyncio.create_task(broker.announce("default.p.Succeeded", b"2", "application/json"))
        await asyncio.to_thread(node.start)
        await terminal
        seen = []
        for _ in range(3):
            delivery = await next_of(deliveries)
            seen.append(delivery.message_id)
            await delivery.ack()
        assert sorted(seen) == ["task-0", "task-1", "task-2"]
    assert await ready(amqp, broker.topology.task_queue) == 0


async def test_a_deleted_queue_shows_and_heals(amqp):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        assert broker.consuming
        await channel.queue_delete(broker.topology.task_queue)
        await until(lambda: not broker.consuming)
        await broker.declare()
        await until(lambda: broker.consuming)
        await broker.submit(b"x", "task-1", {})
        await (await next_of(broker.deliveries())).ack()


async def test_a_broker_short_of_memory_blocks_publishing_but_not_acknowledging(amqp, broker):
    node: Node = broker
    async with connected(amqp) as broker:
        await broker.start_consuming(1)
        await broker.submit(b"x", "task-1", {})
        deliveries = broker.deliveries()
        delivery = await next_of(deliveries)
        assert not await broker.blocked()
        async with short_of_memory(node):
            await broker.announce("default.p.Running", b"1", "application/json", confirm=False)
            await eventually(broker.blocked)
            terminal = asyncio.create_task(broker.announce("default.p.Succeeded", b"2", "application/json"))
            await delivery.ack()
            await eventually(lambda: settled(node, broker.topology.task_queue))
            assert not terminal.done()
        await terminal
        assert not await broker.blocked()
        assert broker.counts.acks_lost == 0


async def test_a_cancelled_task_is_cancelled_also_while_it_publishes(amqp):
    with by_way(amqp) as (way, there):
        async with connected(there) as broker:
            with way.refusing():
                await until(lambda: not broker.connected)
                waiting = asyncio.create_task(broker.announce("default.p.Succeeded", b"2", "application/json"))
                await asyncio.sleep(0)  # it waits for the connection
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
