"""What a worker does while the broker takes no publications, and nothing can be told: it waits, and tells it once."""

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial

import aio_pika
import pytest

from tests.handler_world import BODY, World
from tests.integration.connected import RETRY, allow_memory, by_way, connected, raw_channel, ready, until
from worker import service
from worker.adapters import amqp_publish
from worker.adapters.amqp import Broker
from worker.adapters.pool import DecoderPool
from worker.ports import BrokerLostError
from worker.settings import Pool, Settings

DONE = ("tasks_total", "succeeded", "interval")
OPEN_CHANNEL = b"\x00\x14\x00\x0a"


@pytest.fixture
def short(amqp, monkeypatch):
    """Settings with which a lost message is given up after three deliveries, and a publication after a second."""
    monkeypatch.setattr(amqp_publish, "LONGEST_PAUSE_S", 0.4)
    return amqp.model_copy(update={"delivery_limit": 2, "publish_timeout_s": 0.2, "publish_deadline_s": 1})


@asynccontextmanager
async def at_work(broker):
    """A handler at work on what the broker delivers; gives the delivery count of each, and the world around it."""
    counts = []
    world = World(settings=Settings(retry=RETRY), announcer=broker)

    async def handle(delivery):
        counts.append(delivery.headers.get("x-delivery-count", 0))
        await world.handler.handle(delivery)

    world.handle = handle
    await broker.start_consuming(2)
    receiving = asyncio.create_task(service._receive(broker, world))
    try:
        yield counts, world
        await broker.stop_consuming()
        await receiving
    finally:
        receiving.cancel()


async def reasons(broker):
    return await service._not_ready(broker, DecoderPool(Pool(slots=1)), asyncio.Event())


async def test_readiness_can_be_asked_for_at_every_moment_of_a_start(amqp):
    broker = Broker(amqp, RETRY)
    starting = asyncio.create_task(broker.start())
    asked = []
    while not starting.done():
        asked.append(await reasons(broker))
        await asyncio.sleep(0)
    await starting
    assert "no connection to the broker" in asked[0]
    assert "no connection to the broker" not in await reasons(broker)
    await broker.close()
    assert "no connection to the broker" in await reasons(broker)


async def told(amqp, names):
    """The terminal events that nobody listened to."""
    ends = []
    async with raw_channel(amqp) as channel:
        while (event := await channel.basic_get(f"{names.events}.unrouted", no_ack=True)).body:
            status = event.delivery.routing_key.rpartition(".")[2]
            ends += [json.loads(event.body)["data"]["TaskId"]] if status == "Succeeded" else []
    return sorted(ends)


@pytest.fixture
async def short_of_memory(broker):
    yield partial(allow_memory, broker)
    await allow_memory(broker, "0.4")


async def test_while_nothing_can_be_told_for_want_of_memory_tasks_wait_in_their_queue(short, short_of_memory):
    """Otherwise each would come back at once until the broker gives it up, and its end could not be told either."""
    async with connected(short) as broker:
        for number in range(3):
            await broker.submit(BODY, f"task-{number}", {})
        await short_of_memory("0.000001")
        async with at_work(broker) as (counts, world):
            await until(lambda: not broker.consuming)
            failed = broker.counts.tries_failed
            await until(lambda: broker.counts.tries_failed >= failed + 2)
            assert "the broker takes no publications" in await reasons(broker)
            assert max(counts) <= 2
            await short_of_memory("0.4")
            await until(lambda: world.counts.get(DONE) == 3)
        assert max(counts) <= 2
        assert await told(short, broker.topology) == ["task-0", "task-1", "task-2"]
        assert await ready(short, broker.topology.parked_queue) == 0


async def test_an_exchange_that_is_gone_is_made_again_before_anything_is_lost(short):
    async with connected(short) as broker, raw_channel(short) as channel:
        await channel.exchange_delete(broker.topology.events)
        for number in range(3):
            await broker.submit(BODY, f"task-{number}", {})
        async with at_work(broker) as (counts, world):
            await until(lambda: world.counts.get(DONE) == 3)
        assert max(counts) <= 2
        assert await told(short, broker.topology) == ["task-0", "task-1", "task-2"]


async def test_where_nothing_is_made_again_one_task_waits_for_it_and_the_others_in_their_queue(short):
    async with connected(short):
        pass
    passive = short.model_copy(update={"declare": "passive"})
    async with connected(passive) as broker, raw_channel(short) as channel:
        for number in range(3):
            await broker.submit(BODY, f"task-{number}", {})
        await channel.exchange_delete(broker.topology.events)
        async with at_work(broker) as (counts, world):
            await until(lambda: not broker.consuming)
            failed = broker.counts.tries_failed
            await until(lambda: broker.counts.tries_failed >= failed + 2)
            assert "the broker takes no publications" in await reasons(broker)
            async with connected(short):  # declares it
                await until(lambda: world.counts.get(DONE) == 3)
        assert max(counts) <= 2
        assert await told(short, broker.topology) == ["task-0", "task-1", "task-2"]


# --- the channels of copies


@pytest.mark.slow
async def test_a_channel_that_could_not_be_opened_is_not_opened_again_with_the_next_connection(amqp):
    hasty = amqp.model_copy(update={"publish_timeout_s": 0.3, "heartbeat_s": 5})
    with by_way(hasty) as (way, there):
        async with connected(there) as broker:
            before = len(broker._connections[1].transport.connection.channels)
            for number in range(2):
                reconnects, failed = broker.counts.reconnects, broker.counts.tries_failed
                trap = way.set(OPEN_CHANNEL)
                submitting = asyncio.create_task(broker.submit(b"x", f"task-{number}", {}))
                await asyncio.to_thread(trap.wait)
                await until(lambda: broker.counts.tries_failed > failed)  # noqa: B023
                way.open(trap, drop=True)
                await submitting
                await until(lambda: broker.counts.reconnects > reconnects)  # noqa: B023
            assert len(broker._connections[1].transport.connection.channels) == before
    assert await ready(amqp, broker.topology.task_queue) == 2


async def test_who_waits_for_no_queue_gives_up_at_the_deadline(short, short_of_memory):
    """What closes a channel waits for an answer as long as the heartbeat lets it; a submission begins with none."""
    async with connected(short) as broker:
        task = aio_pika.Message(b"x", message_id="task-1")
        copy = broker._publisher.publish_alone
        await short_of_memory("0.000001")
        async with asyncio.timeout(short.heartbeat_s / 2):
            for _ in range(2):
                with pytest.raises(BrokerLostError):
                    await copy(broker.topology.dead, broker.topology.lane, task)
