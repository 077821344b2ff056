"""Copies of a task on a real RabbitMQ node: retried and parked ones, also of odd messages, and those no queue takes."""

import asyncio
import struct
import time
from datetime import UTC, datetime

import pamqp.encode
import pytest
from pamqp.commands import Basic

from devkit.broker import Node
from tests.integration.connected import connected, next_of, publish_bare, raw_channel, ready, redeliveries
from worker.messages.headers import task_id
from worker.ports import BrokerLostError


async def test_a_retry_comes_back_after_its_delay_as_the_same_task(amqp):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        headers = {"traceparent": "00-1-2-01", "x-attempt": 1, "CC": ["elsewhere"]}
        sent = Basic.Properties(message_id="task-1", timestamp=datetime(2026, 1, 2, tzinfo=UTC), headers=headers)
        await publish_bare(channel, broker.topology.tasks, "main", sent)
        deliveries = broker.deliveries()
        untouched = await next_of(deliveries)
        await untouched.give_back()
        first = await next_of(deliveries)
        assert redeliveries(first) == 1
        started = time.monotonic()
        await first.retry(1, {"x-attempt": 2})
        await first.ack()
        second = await next_of(deliveries)
        assert 0.7 < time.monotonic() - started < 3
        assert (second.body, second.message_id, second.timestamp) == (b"x", "task-1", sent.timestamp)
        assert (second.headers["traceparent"], second.headers["x-attempt"]) == ("00-1-2-01", 2)
        assert "CC" not in second.headers
        assert redeliveries(second) == 0
        await second.ack()
    assert await ready(amqp, broker.topology.task_queue) == 0
    assert await ready(amqp, f"{broker.topology.retry}.main.1s") == 0


async def test_a_copy_of_a_message_without_id_carries_the_tasks_id(amqp):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await publish_bare(channel, broker.topology.tasks, "main", Basic.Properties())
        await broker.start_consuming(1)
        deliveries = broker.deliveries()
        first = await next_of(deliveries)
        assert first.message_id is None
        await first.retry(1, {})
        await first.ack()
        second = await next_of(deliveries)
        assert second.message_id == task_id(b"x", None)
        await second.ack()


ODD = {
    "a time in microseconds": (
        {"timestamp": datetime(2026, 1, 2, tzinfo=UTC)},
        struct.pack(">Q", 1_700_000_000_000_000),
    ),
    "the last time there is": ({"timestamp": datetime(2026, 1, 2, tzinfo=UTC)}, b"\xff" * 8),
    "a count that is none": ({"headers": {"x-delivery-count": "many", "n": None}}, b""),
    "bytes that are no text": ({"headers": {"x-attempt": bytearray(b"\xff\xfe")}}, b""),
}


@pytest.mark.parametrize("odd", ODD)
async def test_odd_properties_neither_block_nor_disconnect(amqp, monkeypatch, odd):
    properties, time_bytes = ODD[odd]
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        sent = Basic.Properties(message_id="task-1", **properties)
        with monkeypatch.context() as patch:
            if time_bytes:
                patch.setitem(pamqp.encode.METHODS, "timestamp", lambda _: time_bytes)
            await publish_bare(channel, broker.topology.tasks, "main", sent)
        deliveries = broker.deliveries()
        first = await next_of(deliveries)
        assert first.timestamp is None
        assert (first.refusal is not None) == bool(time_bytes)
        await first.retry(1, {"x-attempt": 2})
        await first.ack()
        second = await next_of(deliveries)
        assert (second.message_id, second.headers["x-attempt"]) == ("task-1", 2)
        await second.ack()
        assert broker.counts.reconnects == 0
    assert await ready(amqp, broker.topology.task_queue) == 0


async def test_a_short_text_in_another_encoding_neither_blocks_nor_disconnects(amqp, monkeypatch):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        sent = Basic.Properties(message_id="t\xe4sk", correlation_id="\xff" * 255)
        with monkeypatch.context() as patch:
            patch.setitem(pamqp.encode.METHODS, "shortstr", lambda text: bytes([len(text)]) + text.encode("latin-1"))
            await publish_bare(channel, broker.topology.tasks, "main", sent)
        deliveries = broker.deliveries()
        first = await next_of(deliveries)
        assert first.message_id == "t\\xe4sk"
        assert "correlation_id" in first.refusal.message
        await first.retry(1, {"x-attempt": 2})
        await first.ack()
        second = await next_of(deliveries)
        assert (second.message_id, second.headers["x-attempt"]) == ("t\\xe4sk", 2)
        await second.ack()
        assert broker.counts.reconnects == 0


async def test_a_header_that_cannot_be_written_again_is_left_off_copies(amqp, monkeypatch):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        sent = Basic.Properties(message_id="task-1", headers={"theirs": "latin-1", "kept": 7})
        with monkeypatch.context() as patch:
            patch.setattr(pamqp.encode, "long_string", lambda _: struct.pack(">I", 1) + b"\xff")
            await publish_bare(channel, broker.topology.tasks, "main", sent)
        deliveries = broker.deliveries()
        first = await next_of(deliveries)
        assert first.headers["theirs"] == b"\xff"
        await first.retry(1, {"x-attempt": 2})
        await first.ack()
        second = await next_of(deliveries)
        assert {"kept": 7, "x-attempt": 2}.items() <= second.headers.items()
        assert "theirs" not in second.headers
        await second.ack()


async def test_a_parked_task_says_why(amqp):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        await broker.submit(b"x", "task-1", {"x-attempt": 5})
        delivery = await next_of(broker.deliveries())
        await delivery.park("InvalidArgument", "é" * 2000)
        await delivery.ack()
        parked = await channel.basic_get(f"{broker.topology.dead}.main", no_ack=True)
        properties = parked.header.properties
        assert (parked.body, properties.message_id, properties.delivery_mode) == (b"x", "task-1", 2)
        assert properties.headers == {
            "x-attempt": 5,
            "x-delivery-count": 0,  # from the broker, of this copy
            "x-park-code": "InvalidArgument",
            "x-park-reason": "é" * 512,
        }


async def test_a_copy_that_no_queue_takes_is_an_error(amqp):
    short = amqp.model_copy(update={"publish_deadline_s": 0.5})
    async with connected(short) as broker:
        await broker.start_consuming(1)
        await broker.submit(b"x", "task-1", {})
        delivery = await next_of(broker.deliveries())
        broker._publisher.repair = None  # then none goes on for the others
        with pytest.raises(BrokerLostError, match="NO_ROUTE"):
            await delivery.retry(77, {})
        assert broker.counts.returned >= 1
        await delivery.ack()


async def test_a_copy_that_a_full_queue_refuses_is_an_error(amqp, broker):
    node: Node = broker
    short = amqp.model_copy(update={"publish_deadline_s": 0.5})
    async with connected(short) as broker:
        retries = f"{broker.topology.retry}.main.1s"
        await asyncio.to_thread(
            node.rabbitmqctl, "set_policy", amqp.namespace, f"^{retries}$", '{"max-length": 0}', "--apply-to", "queues"
        )
        await broker.start_consuming(1)
        await broker.submit(b"x", "task-1", {})
        delivery = await next_of(broker.deliveries())
        await delivery.retry(1, {})  # the limit is overshot by one
        broker._publisher.repair = None  # then none goes on for the others
        with pytest.raises(BrokerLostError, match="Nack"):
            await delivery.retry(1, {})
        await asyncio.to_thread(node.rabbitmqctl, "clear_policy", amqp.namespace)
