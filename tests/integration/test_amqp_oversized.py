"""Messages that RabbitMQ took, but takes no copy of: none of them keeps others waiting, and none is lost."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from tests.handler_world import BODY, World
from tests.integration.connected import (
    RETRY,
    connected,
    eventually,
    message_limit,
    next_of,
    publish_bare,
    raw_channel,
    ready,
    settled,
    until,
)
from worker import service
from worker.adapters.amqp_publish import UnacceptableError
from worker.limits import LimitSettings
from worker.messages.headers import ENDING, OF_THE_TASK, OUTAGES
from worker.settings import Settings

FRAME_BYTES = 8
DONE = ("tasks_total", "succeeded", "interval")
OURS = {"x-run": "run-2", "x-attempt": 3, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
SHAPES = {
    "one large header": lambda room: {"theirs": "a" * room},
    "many small headers": lambda room: {f"t{number:05}": "" for number in range(room // 12)},
    "a large header of ours, forged": lambda room: {ENDING: "Canceled: " + "a" * room},
}


def full(frame_max, shape, **ours):
    """Properties whose frame is as large as one may be."""

    def properties(room, pad):
        headers = {"small": 7} | ours | SHAPES[shape](room) | {"p": "b" * pad}
        return Basic.Properties(message_id="task-1", headers=headers, delivery_mode=2)

    def size(room, pad=0):
        return len(ContentHeader(body_size=1, properties=properties(room, pad)).marshal()) + FRAME_BYTES

    room = frame_max - 1000
    assert size(room) < frame_max
    made = properties(room, frame_max - size(room))
    assert len(ContentHeader(body_size=1, properties=made).marshal()) + FRAME_BYTES == frame_max
    return made


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_message_with_as_large_a_header_as_there_may_be_is_tried_again_parked_and_replayed(amqp, shape):
    """The copy has a few bytes more, and over a frame that is too large the broker closes the whole connection."""
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        frame_max = channel.connection.connection_tune.frame_max
        await publish_bare(channel, broker.topology.tasks, "main", full(frame_max, shape, **OURS))
        deliveries = broker.deliveries()
        first = await next_of(deliveries)
        await first.retry(1, {"x-attempt": 4, ENDING: "Canceled: " + "é" * 200_000})
        await first.ack()
        second = await next_of(deliveries)
        assert {**OURS, "x-attempt": 4, "small": 7}.items() <= second.headers.items()
        assert second.headers[ENDING] == "Canceled: " + "é" * 507
        await second.park("Timeout", "x" * 5000)
        await second.ack()
        async with broker.parked() as messages:
            parked = await anext(messages)
            assert (parked.code, parked.reason) == ("Timeout", "x" * 1024)
            await parked.replay()
        third = await next_of(deliveries)
        assert (third.body, third.message_id) == (b"x", "task-1")
        assert third.headers["traceparent"] == OURS["traceparent"]
        await third.ack()
        assert (broker.counts.tries_failed, broker.counts.reconnects) == (0, 0)


async def test_of_the_headers_that_are_too_many_the_tasks_own_are_kept(amqp):
    """A replay that is tried again without its `x-run` would be taken for the first run."""
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        mine = dict.fromkeys(OF_THE_TASK, "m" * 30)
        sent = full(channel.connection.connection_tune.frame_max, "many small headers", **mine)
        await publish_bare(channel, broker.topology.tasks, "main", sent)
        delivery = await next_of(broker.deliveries())
        await delivery.park("Timeout", "x" * 1024)
        await delivery.ack()
        async with broker.parked() as messages:
            kept = (await anext(messages)).headers
        assert mine.items() <= kept.items()
        assert len(sent.headers) - 200 < len(kept) < len(sent.headers)


async def test_a_replay_begins_without_what_its_last_run_had_met(amqp):
    async with connected(amqp) as broker:
        await broker.start_consuming(1)
        await broker.submit(b"x", "task-1", {OUTAGES: 20, "x-attempt": 5, "theirs": 7})
        deliveries = broker.deliveries()
        delivery = await next_of(deliveries)
        await delivery.park("Timeout", "too long")
        await delivery.ack()
        async with broker.parked() as messages:
            await (await anext(messages)).replay()
        replayed = await next_of(deliveries)
        assert replayed.headers.keys() - {"x-delivery-count"} == {"theirs", "x-run", "x-replayed"}
        await replayed.ack()


@asynccontextmanager
async def working(amqp, size):
    """A worker that takes bodies of up to `size` bytes, on what the broker delivers; gives the world around it."""
    async with connected(amqp) as broker:
        settings = Settings(retry=RETRY, limits=LimitSettings(body_bytes=size))
        world = World(settings=settings, announcer=broker)
        await broker.start_consuming(2)
        receiving = asyncio.create_task(service._receive(broker, world.handler))
        try:
            yield broker, world
            await broker.stop_consuming()
            await receiving
        finally:
            receiving.cancel()


async def through(few, node, large):
    """Work until the broker has parked the large message, while it takes no such one; gives who worked."""
    async with working(few, 2048) as (broker, world):
        await until(lambda: world.counts.get(DONE) == 1)

        async def parked():
            return await ready(few, broker.topology.parked_queue) == 1

        await eventually(parked)
        assert not broker.mute
        async with broker.parked() as messages:
            kept = await anext(messages)
            assert (kept.task_id, kept.body) == ("large", large)
            with pytest.raises(UnacceptableError, match=r"refused 3 times: .*message size 5000.*4096"):
                await kept.replay()
        assert await settled(node, broker.topology.task_queue)
        assert await settled(node, broker.topology.dropped_queue)
    return broker


async def test_a_task_too_large_for_the_broker_by_now_keeps_nobody_waiting_and_is_kept(amqp, broker):
    """Its parked copy would never be taken; so the broker parks the message itself, at the end of its deliveries."""
    node, large = broker, b"x" * 5000
    few = amqp.model_copy(update={"delivery_limit": 2})
    async with connected(few) as broker:
        await broker.submit(large, "large", {})
        await broker.submit(BODY, "task-1", {})
    with message_limit(node, 4096):
        broker = await through(few, node, large)
    ends = []
    async with raw_channel(few) as channel:
        while (event := await channel.basic_get(f"{broker.topology.events}.unrouted", no_ack=True)).body:
            if event.delivery.routing_key.endswith(".Failed"):
                ends.append(json.loads(event.body)["id"])
    assert len(ends) > 1
    assert len(set(ends)) == 1, "one end, told again"
