"""The AMQP adapter against a real RabbitMQ node."""

import asyncio
import re
import secrets
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import aiormq
import pamqp.encode
import pytest
from aiormq.abc import ChannelFrame
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pydantic import SecretStr

from devkit.broker import Node
from tests.declared import patiently
from worker.adapters.amqp import Broker, BrokerRefusedError
from worker.adapters.amqp_delivery import AmqpDelivery
from worker.adapters.amqp_listen import listening
from worker.adapters.topology import TopologyError
from worker.messages.headers import task_id
from worker.ports import BrokerLostError
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


async def test_a_connection_that_the_broker_closes_loses_nothing(amqp, broker):
    node: Node = broker
    async with connected(amqp) as broker:
        await broker.start_consuming(1)
        await broker.submit(b"x", "task-1", {})
        deliveries = broker.deliveries()
        first = await next_of(deliveries)
        await asyncio.to_thread(node.rabbitmqctl, "close_all_connections", "test")
        await until(lambda: not broker.connected and not broker.consuming)
        assert await broker.blocked()
        await broker.announce("default.p.Running", b"1", "application/json", confirm=False)
        assert broker.counts.unconfirmed == 1
        await broker.announce("default.p.Succeeded", b"2", "application/json")  # waits for the connection
        await first.ack()
        assert broker.counts.acks_lost == 1
        second = await next_of(deliveries)
        assert (second.message_id, redeliveries(second)) == ("task-1", 1)
        await until(lambda: broker.consuming)  # what was dropped may be registered for after the tasks
        assert broker.connected
        await until(lambda: broker.counts.reconnects == 2)
        await second.ack()
        await eventually(lambda: _settled(node, broker.topology.task_queue))
    assert await ready(amqp, broker.topology.task_queue) == 0
    assert await ready(amqp, f"{broker.topology.events}.unrouted") == 1


async def test_an_exchange_that_is_gone_after_a_loss_keeps_nobody_from_working(amqp, broker):
    """Restoring what was bound to it would end the connection that consumes, again and again."""
    node: Node = broker
    async with connected(amqp) as broker, broker.commands() as commands, raw_channel(amqp) as channel:
        await broker.start_consuming(1)
        await channel.exchange_delete(broker.topology.control)
        await asyncio.to_thread(node.rabbitmqctl, "close_all_connections", "test")
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
        await asyncio.to_thread(node.rabbitmqctl, "set_vm_memory_high_watermark", "0.000001")
        try:
            await broker.announce("default.p.Running", b"1", "application/json", confirm=False)
            await eventually(broker.blocked)
            terminal = asyncio.create_task(broker.announce("default.p.Succeeded", b"2", "application/json"))
            await delivery.ack()
            await eventually(lambda: _settled(node, broker.topology.task_queue))
            assert not terminal.done()
        finally:
            await asyncio.to_thread(node.rabbitmqctl, "set_vm_memory_high_watermark", "0.4")
        await terminal
        assert not await broker.blocked()
        assert broker.counts.acks_lost == 0


async def test_a_cancelled_task_is_cancelled_also_while_it_publishes(amqp, broker):
    async with connected(amqp) as connection:
        await asyncio.to_thread(broker.rabbitmqctl, "close_all_connections", "test")
        waiting = asyncio.create_task(connection.announce("default.p.Succeeded", b"2", "application/json"))
        await until(lambda: not connection.connected)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_without_a_broker_the_start_ends_at_its_deadline():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"amqp://guest:secret@127.0.0.1:{nobody.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(BrokerLostError, match="FRAME_CAPTURE_AMQP__URL") as caught:
            await Broker(Amqp(url=url, startup_deadline_s=1), RETRY).start()
        assert time.monotonic() - started < 2
        assert "secret" not in str(caught.value)


def elsewhere(amqp: Amqp, old: str, new: str, path: str, deadline_s: float) -> Amqp:
    url = SecretStr(amqp.url.get_secret_value().replace(old, new) + path)
    return amqp.model_copy(update={"url": url, "startup_deadline_s": deadline_s})


LOGIN = r"refused the login; are user and password in FRAME_CAPTURE_AMQP__URL right\? It says: ACCESS_REFUSED - Login"
PATH = (
    r"refused the virtual host; is the path of FRAME_CAPTURE_AMQP__URL right\? It says: NOT_ALLOWED - vhost nowhere not"
)


@pytest.mark.parametrize(
    ("old", "new", "says"), [("/guest:", "/stranger:", LOGIN), (":guest@", ":hunter2@", LOGIN), ("@", "@", PATH)]
)
async def test_a_refusal_is_told_in_the_brokers_words_at_once(amqp, old, new, says):
    settings = elsewhere(amqp, old, new, "nowhere" if says == PATH else "", 60)
    async with asyncio.timeout(20):
        with pytest.raises(BrokerRefusedError, match=says) as caught:
            await Broker(settings, RETRY, patient=False).start()
    assert "hunter2" not in str(caught.value)


async def test_the_patient_try_until_the_deadline_and_then_tell_the_refusal(amqp, caplog):
    with pytest.raises(BrokerRefusedError, match="vhost nowhere not found"):
        await Broker(elsewhere(amqp, "", "", "nowhere", 0.5), RETRY).start()
    assert caplog.messages
    assert all("trying again in 0." in text and "vhost nowhere not found" in text for text in caplog.messages)


async def test_the_patient_get_in_once_the_virtual_host_is_made(amqp, broker, caplog):
    name = f"late-{secrets.token_hex(4)}"
    latecomer = Broker(elsewhere(amqp, "", "", name, 60), RETRY)
    starting = asyncio.create_task(latecomer.start())
    await until(lambda: any(f"vhost {name} not found" in text for text in caplog.messages))
    await asyncio.to_thread(broker.rabbitmqctl, "add_vhost", name)
    await asyncio.to_thread(broker.rabbitmqctl, "set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    await starting
    assert latecomer.connected
    await latecomer.close()
    await asyncio.to_thread(broker.rabbitmqctl, "delete_vhost", name)


async def test_a_failed_try_to_connect_is_logged_once(caplog):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"amqp://guest:guest@127.0.0.1:{nobody.getsockname()[1]}/"
        with pytest.raises(BrokerLostError):
            await Broker(Amqp(url=url, startup_deadline_s=1), RETRY).start()
    pauses = [re.fullmatch(r"trying again in (\d\.\d) s: .*Connect call failed.*", text) for text in caplog.messages]
    assert pauses
    assert all(match is not None and float(match[1]) > 0 for match in pauses)


async def test_a_server_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(BrokerLostError):
            await Broker(Amqp(url=url, startup_deadline_s=1, connect_timeout_s=0.3), RETRY).start()
        assert time.monotonic() - started < 2


@pytest.fixture
async def tls(broker, tmp_path):
    """A TLS listener before the broker, with a certificate of its own; gives the port and the certificate's file."""
    key, authority = ec.generate_private_key(ec.SECP256R1()), tmp_path / "ca.pem"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority.write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(private)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, tmp_path / "key.pem")

    async def pipe(source, target):
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def serve(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", broker.port)
        await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], authority
    server.close()
    await server.wait_closed()


async def test_tls_trusts_the_authority_given_and_no_other(amqp, tls):
    port, authority = tls
    url = f"amqps://guest:guest@localhost:{port}/"
    trusting = amqp.model_copy(update={"url": SecretStr(url), "ca_file": authority})
    async with connected(trusting) as broker:
        await broker.announce("default.p.Succeeded", b"x", "application/json")
    doubting = amqp.model_copy(update={"url": SecretStr(url), "startup_deadline_s": 0.5})
    with pytest.raises(BrokerLostError, match="CERTIFICATE_VERIFY_FAILED"):
        await Broker(doubting, RETRY).start()


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


async def _settled(node: Node, queue: str) -> bool:
    return (await asyncio.to_thread(node.queues))[queue] == (0, 0)
