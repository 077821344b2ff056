"""The AMQP adapter against a real RabbitMQ node: tasks, events, commands, and what it declares."""

from datetime import UTC, datetime

import pytest

from tests.integration.connected import RETRY, connected, eventually, next_of, ready, redeliveries, until
from worker.adapters.amqp import Broker
from worker.adapters.amqp_listen import listening
from worker.adapters.topology import TopologyError
from worker.settings import Amqp


async def test_a_task_arrives_as_it_was_submitted(amqp):
    async with connected(amqp) as broker:
        await broker.start_consuming(1)
        before = datetime.now(UTC).replace(microsecond=0)
        await broker.submit(b'{"a": 1}', "task-1", {"traceparent": "00-1-2-01"})
        delivery = await next_of(broker.deliveries())
        assert (delivery.body, delivery.message_id) == (b'{"a": 1}', "task-1")
        assert delivery.headers["traceparent"] == "00-1-2-01"
        assert before <= delivery.timestamp <= datetime.now(UTC)
        assert redeliveries(delivery) == 0
        await delivery.ack()
        assert broker.counts.acks_lost == 0
    assert await ready(amqp, broker.topology.task_queue) == 0


async def test_what_is_not_acknowledged_comes_again_with_its_count(amqp):
    async with connected(amqp) as broker:
        await broker.start_consuming(1)
        await broker.submit(b"x", "task-1", {})
        await next_of(broker.deliveries())
    assert await ready(amqp, broker.topology.task_queue) == 1
    async with connected(amqp) as broker:
        await broker.start_consuming(1)
        delivery = await next_of(broker.deliveries())
        assert redeliveries(delivery) == 1
        await delivery.ack()
    assert await ready(amqp, broker.topology.task_queue) == 0


async def test_no_more_than_the_slots_are_delivered(amqp):
    async with connected(amqp) as broker:
        for number in range(5):
            await broker.submit(b"x", f"task-{number}", {})
        await broker.start_consuming(2)
        deliveries = broker.deliveries()
        first, second = await next_of(deliveries), await next_of(deliveries)
        assert await ready(amqp, broker.topology.task_queue) == 3
        with pytest.raises(TimeoutError):
            await next_of(broker.deliveries(), within_s=0.3)
        await first.ack()
        third = await next_of(broker.deliveries())
        assert third.message_id == "task-2"
        for delivery in (second, third):
            await delivery.ack()


async def test_events_are_heard_by_those_who_listen(amqp):
    async with connected(amqp) as broker, broker.events("*.project.*") as events:
        await broker.announce("default.other.Running", b"1", "application/json")
        await broker.announce("default.project.Running", b"2", "application/json", confirm=False)
        await broker.announce("default.project.Succeeded", b"3", "application/json")
        heard = [await anext(events), await anext(events)]
        assert heard == [("default.project.Running", b"2"), ("default.project.Succeeded", b"3")]
        assert broker.counts.unconfirmed == 0


async def test_what_comes_faster_than_it_is_heard_is_told_of_and_left_out(amqp, caplog):
    async with connected(amqp) as broker:
        listener = listening(broker._connections[0], broker.topology.control, ("",), 10, waiting=2)
        async with listener as commands:
            for number in range(5):
                await broker.command(b"%d" % number)
            await until(lambda: any("others are not heard" in text for text in caplog.messages))
            assert [await anext(commands), await anext(commands)] == [("", b"0"), ("", b"1")]


async def test_events_that_nobody_hears_are_confirmed_and_kept(amqp):
    async with connected(amqp) as broker:
        await broker.announce("default.project.Failed", b"x", "application/json")
        assert await ready(amqp, f"{broker.topology.events}.unrouted") == 1


async def test_after_stopping_nothing_comes_and_what_was_taken_can_be_settled(amqp):
    async with connected(amqp) as broker:
        await broker.submit(b"x", "task-1", {})
        await broker.submit(b"x", "task-2", {})
        await broker.start_consuming(2)
        deliveries = broker.deliveries()
        taken = await next_of(deliveries)
        await eventually(lambda: _is_empty(amqp, broker.topology.task_queue))
        await broker.stop_consuming()
        assert not broker.consuming
        assert [delivery async for delivery in deliveries] == []
        assert await ready(amqp, broker.topology.task_queue) == 1  # the one that nobody took
        await broker.submit(b"x", "task-3", {})
        assert await ready(amqp, broker.topology.task_queue) == 2
        await taken.ack()
    assert await ready(amqp, broker.topology.task_queue) == 2


async def test_checking_changes_nothing_and_names_what_is_missing(amqp):
    passive = amqp.model_copy(update={"declare": "passive"})
    async with Broker(passive, RETRY) as broker:
        with pytest.raises(TopologyError) as caught:
            await broker.prepare()
        names = [*broker.topology.exchanges, *broker.topology.queues]
        assert len(caught.value.findings) == len(names)
        assert all(one.name in finding for one, finding in zip(names, caught.value.findings, strict=True))
        assert len(await broker.check()) == len(names)
        await broker.declare()
        assert await broker.check() == []
        await broker.prepare()


async def test_other_arguments_are_told(amqp):
    async with connected(amqp), Broker(amqp.model_copy(update={"delivery_limit": 3}), RETRY) as other:
        with pytest.raises(TopologyError, match="x-delivery-limit"):
            await other.prepare()


async def _is_empty(amqp: Amqp, queue: str) -> bool:
    return await ready(amqp, queue) == 0
