"""Stopping to consume from a real RabbitMQ node, at whatever moment: what is under way stays this worker's."""

import asyncio

import pytest

from tests.integration.connected import by_way, connected, eventually, next_of, settled, until

CONSUME, CANCEL = b"\x00\x3c\x00\x14", b"\x00\x3c\x00\x1e"


@pytest.mark.parametrize("asked", [CONSUME, CANCEL], ids=["to send again", "to send no more"])
async def test_stopping_while_the_broker_is_being_asked_takes_nothing_from_what_is_under_way(amqp, broker, asked):
    """A question that is cancelled closes its channel, and all that was delivered on it would come again."""
    with by_way(amqp) as (way, there):
        async with connected(there) as connection:
            await connection.start_consuming(2)
            await connection.submit(b"x", "task-1", {})
            deliveries = connection.deliveries()
            under_way = await next_of(deliveries)
            if asked == CONSUME:
                connection.paused.set()
                await until(lambda: not any(each.registered for each in connection._consumers))
            trap = way.set(asked)
            (connection.paused.clear if asked == CONSUME else connection.paused.set)()
            await asyncio.to_thread(trap.wait)
            stopping = asyncio.create_task(connection.stop_consuming())
            await asyncio.sleep(0)  # it has begun to stop
            way.open(trap)
            await stopping
            assert not under_way.stale
            assert not connection.consuming
            await under_way.ack()
            assert connection.counts.acks_lost == 0
            await eventually(lambda: settled(broker, connection.topology.task_queue))
