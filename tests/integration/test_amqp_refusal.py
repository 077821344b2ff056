"""Messages at which no attempt may be made, as a real RabbitMQ delivers them: unreadable, dropped, outdated."""

import asyncio
import struct
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pamqp.encode
import pytest
from pamqp.commands import Basic

from tests.integration.connected import (
    connected,
    eventually,
    next_of,
    publish_bare,
    raw_channel,
    ready,
    redeliveries,
    until,
)
from worker.adapters.amqp_refusal import EXPIRATION, refusal
from worker.adapters.topology import topology
from worker.settings import Retry


def nested(depth: int) -> bytes:
    """A header table that holds a table that holds a table …, as bytes: no library here writes it."""
    table = b""
    for _ in range(depth):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


POISON = {
    "a time in microseconds": ("timestamp", struct.pack(">Q", 1_700_000_000_000_000), "1700000000000000 is no time"),
    "a correlation id in another encoding": ("correlation_id", b"\x02\xe4\xff", "correlation_id cannot be read"),
    "a message id in another encoding": ("message_id", b"\x02\xe4\xff", "message_id cannot be read"),
    "a header's name in another encoding": ("headers", struct.pack(">I", 4) + b"\x01\xfft\x01", r"name b'\xff' is not"),
    "headers nested 60 deep": ("headers", nested(60), "nested more than 32 deep"),
    "headers nested 500 deep": ("headers", nested(500), "nested more than 32 deep"),
    "headers nested 5000 deep": ("headers", nested(5000), "nested more than 32 deep"),
}
VALUES = {"timestamp": datetime(2026, 1, 2, tzinfo=UTC), "headers": {"a": 1}}
KINDS = {"timestamp": "timestamp", "headers": "table"}


async def publish_poison(channel, exchange: str, monkeypatch, prop: str, value: bytes, message_id: str = "poison"):
    """Publish a message with the bytes `value` for one of its properties."""
    text = pamqp.encode.short_string

    def encode(given):
        return value if given == VALUES.get(prop, "odd") else text(given)

    properties = {"message_id": message_id} | {prop: VALUES.get(prop, "odd")}
    with monkeypatch.context() as patch:
        patch.setitem(pamqp.encode.METHODS, KINDS.get(prop, "shortstr"), encode)
        await publish_bare(channel, exchange, "main", Basic.Properties(**properties))


@pytest.mark.parametrize("poison", POISON)
async def test_poison_is_told_and_parked_and_takes_no_innocent_with_it(amqp, monkeypatch, poison):
    prop, value, says = POISON[poison]
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.submit(b"x", "before", {})
        await publish_poison(channel, broker.topology.tasks, monkeypatch, prop, value)
        await eventually(lambda: _has(amqp, broker.topology.task_queue, 2))
        await broker.submit(b"x", "after", {})
        await broker.start_consuming(3)
        deliveries = broker.deliveries()
        before, poisoned, after = [await next_of(deliveries) for _ in range(3)]
        assert (before.refusal, after.refusal) == (None, None)
        assert poisoned.refusal.code == "InvalidArgument"
        assert says in poisoned.refusal.message
        if prop != "message_id":
            assert poisoned.message_id == "poison"
        await poisoned.park("InvalidArgument", poisoned.refusal.message)
        for each in (poisoned, before, after):
            await each.ack()
        assert (broker.counts.reconnects, broker.counts.acks_lost) == (0, 0)
        parked = await channel.basic_get(broker.topology.parked_queue, no_ack=True)
        assert says in parked.header.properties.headers["x-park-reason"]
    assert await ready(amqp, broker.topology.task_queue) == 0


async def _has(amqp, queue: str, count: int) -> bool:
    return await ready(amqp, queue) == count


@asynccontextmanager
async def given_up(amqp, times: int):
    """A consumer that takes a task and gives it back `times` times, as one does that dies with it."""
    async with raw_channel(amqp) as channel:
        came = asyncio.Queue()
        await channel.basic_qos(prefetch_count=1)
        await channel.basic_consume(topology(amqp, Retry()).task_queue, came.put)
        for _ in range(times):
            message = await asyncio.wait_for(came.get(), 20)
            await channel.basic_nack(message.delivery_tag)
        yield


async def test_a_task_that_kills_its_workers_is_delivered_as_a_crash(amqp):
    short = amqp.model_copy(update={"delivery_limit": 2})
    async with connected(short) as broker:
        await broker.submit(b"x", "killer", {"x-attempt": 2})
        async with given_up(short, 3):
            await eventually(lambda: _has(short, broker.topology.dropped_queue, 1))
        await broker.start_consuming(1)
        dropped = await next_of(broker.deliveries())
        assert (dropped.message_id, dropped.refusal.code) == ("killer", "WorkerCrashed")
        assert "more than 2 deliveries" in dropped.refusal.message
        await dropped.park(dropped.refusal.code, dropped.refusal.message)
        await dropped.ack()
    assert await ready(short, broker.topology.dropped_queue) == 0
    async with raw_channel(short) as channel:
        parked = await channel.basic_get(broker.topology.parked_queue, no_ack=True)
    headers = parked.header.properties.headers
    assert (headers["x-park-code"], headers["x-attempt"]) == ("WorkerCrashed", 2)
    assert not [name for name in headers if name.startswith(("x-death", "x-first-death"))]


async def test_a_task_that_nobody_took_in_time_is_delivered_as_expired(amqp):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await publish_bare(channel, broker.topology.tasks, "main", Basic.Properties(message_id="late", expiration="50"))
        await eventually(lambda: _has(amqp, broker.topology.dropped_queue, 1))
        await broker.start_consuming(1)
        dropped = await next_of(broker.deliveries())
        assert (dropped.message_id, dropped.refusal.code) == ("late", "Expired")
        assert "0.05 s" in dropped.refusal.message
        await dropped.ack()


async def test_a_task_that_a_full_queue_dropped_is_delivered_as_over_the_limit(amqp):
    queue = topology(amqp, Retry()).task_queue
    async with connected(amqp) as broker:
        async with raw_channel(amqp) as channel:  # as an operator may have declared it
            await channel.queue_delete(queue)
            arguments = {
                "x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "drop-head",
                "x-dead-letter-exchange": broker.topology.dead,
                "x-dead-letter-routing-key": broker.topology.dropped_key,
            }  # fmt: skip
            await channel.queue_declare(queue, durable=True, arguments=arguments)
            await channel.queue_bind(queue, broker.topology.tasks, "main")
            for number in range(3):
                await broker.submit(b"x", f"task-{number}", {})
            await eventually(lambda: _has(amqp, broker.topology.dropped_queue, 2))
        await broker.start_consuming(1)
        deliveries = broker.deliveries()
        seen = [await next_of(deliveries) for _ in range(3)]
        codes = {each.message_id: each.refusal and each.refusal.code for each in seen}
        assert codes == {"task-0": "LimitExceeded", "task-1": "LimitExceeded", "task-2": None}
        for each in seen:
            await each.ack()


async def test_only_one_worker_announces_what_was_dropped(amqp):
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(connected(amqp))
        two = await stack.enter_async_context(connected(amqp))
        await one.start_consuming(1)
        await two.start_consuming(1)
        async with raw_channel(amqp) as channel:
            for number in range(4):
                await publish_bare(
                    channel, one.topology.dead, one.topology.dropped_key, Basic.Properties(message_id=f"{number}")
                )
            deliveries = one.deliveries()
            seen = [await next_of(deliveries) for _ in range(4)]
            assert [each.message_id for each in seen] == ["0", "1", "2", "3"]
            assert {each.refusal.code for each in seen} == {"InternalError"}  # the broker would have said why
            for each in seen:
                await each.ack()
            with pytest.raises(TimeoutError):
                await next_of(two.deliveries(), within_s=0.2)


async def test_a_retry_keeps_the_publishers_expiration(amqp):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        sent = Basic.Properties(message_id="task-1", expiration="60000")
        await publish_bare(channel, broker.topology.tasks, "main", sent)
        await broker.start_consuming(1)
        deliveries = broker.deliveries()
        first = await next_of(deliveries)
        await first.retry(1, {"x-attempt": 2})
        await first.ack()
        second = await next_of(deliveries)
        assert (second.headers[EXPIRATION], second.refusal) == ("60000", None)
        later = datetime.now(UTC) + timedelta(seconds=65)
        late = refusal(second._message, broker.topology, later)
        assert late.code == "Expired"
        assert "60 s" in late.message
        assert refusal(second._message, broker.topology, later - timedelta(seconds=10)) is None
        await second.ack()


async def test_an_acknowledgement_that_does_not_get_out_frees_its_channel(amqp, monkeypatch):
    monkeypatch.setattr("worker.adapters.amqp_delivery.SETTLE_S", 0.2)
    async with connected(amqp) as broker:
        await broker.submit(b"x", "task-1", {})
        await broker.start_consuming(1)
        deliveries = broker.deliveries()
        first = await next_of(deliveries)

        async def stuck(*_args, **_kwargs):
            await asyncio.Event().wait()

        monkeypatch.setattr(first._message.channel, "basic_ack", stuck)
        await first.ack()
        assert broker.counts.acks_lost == 1
        assert first.stale
        second = await next_of(deliveries)
        assert (second.message_id, redeliveries(second)) == ("task-1", 1)
        await second.ack()
        assert broker.counts.reconnects == 0
    assert await ready(amqp, broker.topology.task_queue) == 0


async def test_a_registration_without_an_answer_leaves_no_second_consumer(amqp, monkeypatch):
    monkeypatch.setattr("worker.adapters.amqp_consume.CALL_S", 0.3)
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        task_consumer = broker._consumers[0]
        swallowed = []
        await channel.queue_delete(broker.topology.task_queue)
        await until(lambda: not broker.consuming)
        below = await task_consumer._channel.get_underlay_channel()
        put = below.rpc_frames.put

        async def put_late(frame):
            if isinstance(frame, Basic.ConsumeOk) and not swallowed:
                swallowed.append(frame)  # the broker has registered us, and we never hear of it
            else:
                await put(frame)

        monkeypatch.setattr(below.rpc_frames, "put", put_late)
        await until(lambda: bool(swallowed))
        await until(lambda: broker.consuming)
        await broker.submit(b"x", "task-1", {})
        delivery = await next_of(broker.deliveries())
        assert await broker.consumers() == 1
        await delivery.ack()


async def test_delays_are_kept_within_a_quarter_whatever_waits_beside_them(amqp):
    from worker.adapters.amqp import Broker

    async with Broker(amqp, Retry(delays_s=(1, 5), jitter=0.25)) as broker:
        await broker.prepare()
        await broker.start_consuming(8)
        loop, sent, came = asyncio.get_running_loop(), {}, {}
        deliveries = broker.deliveries()
        for number in range(8):
            await broker.submit(b"x", f"task-{number}", {})
            delivery = await next_of(deliveries)
            delay_s = (5, 1)[number % 2]  # long ones first: in one queue they would hold up the short
            await delivery.retry(delay_s, {"x-attempt": 2})
            sent[delivery.message_id] = (loop.time(), delay_s)
            await delivery.ack()
        while len(came) < 8:
            delivery = await next_of(deliveries)
            came[delivery.message_id] = loop.time()
            await delivery.ack()
        for name, (moment, delay_s) in sent.items():
            assert 0.74 * delay_s <= came[name] - moment <= 1.25 * delay_s, name


async def test_every_declaration_that_is_sent_is_allowed_on_every_version(amqp, monkeypatch):
    """What RabbitMQ 4.3 denies: queues neither durable nor exclusive, a limit for a whole connection, old arguments."""
    from aiormq import Channel

    sent = []
    rpc = Channel.rpc

    def record(self, frame, *args, **kwargs):
        sent.append(frame)
        return rpc(self, frame, *args, **kwargs)

    monkeypatch.setattr(Channel, "rpc", record)
    async with connected(amqp) as broker, broker.events("#"):
        await broker.start_consuming(1)
    names = [frame.name for frame in sent]
    assert {"Queue.Declare", "Exchange.Declare", "Basic.Qos", "Basic.Consume"} <= set(names)
    denied = {"x-queue-mode", "x-queue-version", "x-queue-master-locator", "x-max-priority", "x-ha-policy"}
    for frame in sent:
        match frame.name:
            case "Queue.Declare":
                assert frame.durable or frame.exclusive, frame.queue
                assert not denied & set(frame.arguments or {})
                if frame.durable:
                    assert frame.arguments["x-queue-type"] == "quorum"
            case "Exchange.Declare":
                assert frame.durable
                assert not frame.auto_delete
            case "Basic.Qos":
                assert not frame.global_
