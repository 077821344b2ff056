"""`frame-capture dead`, in processes of its own, on parked messages in a real broker."""

import asyncio
import json

import pytest

from tests.integration.connected import by_way, connected, eventually, message_limit, next_of, raw_channel, ready, until
from tests.integration.test_cli import call, environ, root
from worker.ports import BrokerLostError

assert callable(environ)
assert callable(root)
ACK = b"\x00\x3c\x00\x50"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def names(amqp):
    """Three parked tasks, made by the adapter as the worker does; gives the topology."""
    async with connected(amqp) as broker:
        await broker.start_consuming(1)
        deliveries = broker.deliveries()
        for number in range(3):
            headers = {"x-attempt": 5, "x-crashes": 1, "traceparent": TRACE, "theirs": 7}
            await broker.submit(b'{"a": %d}' % number, f"task-{number}", headers)
            delivery = await next_of(deliveries)
            await delivery.park("Timeout", f"too long \x1b[2J {number}")
            await delivery.ack()
    return broker.topology


@pytest.fixture
def dead(environ, names):
    """Run `frame-capture dead …` where retries have the delays that the fixtures use."""
    variables = environ | {"FRAME_CAPTURE_RETRY__DELAYS_S": "[1]"}
    return lambda *args: call(variables, "dead", *args)


async def test_looking_declares_nothing(amqp, broker, names, environ):
    """Whoever looks may have other delays in mind than the workers."""
    before = await asyncio.to_thread(broker.queues)
    done = call(environ | {"FRAME_CAPTURE_RETRY__DELAYS_S": "[1, 77]"}, "dead", "list")
    assert (done.returncode, done.stderr) == (0, "3 messages\n")
    assert (await asyncio.to_thread(broker.queues)).keys() == before.keys()


async def test_listing_and_showing_change_nothing(amqp, names, dead):
    for _ in range(2):
        listed = dead("list")
        assert listed.returncode == 0, listed.stderr
        assert listed.stdout.splitlines() == [
            f"task-{number}  attempts 5  Timeout: too long �[2J {number}" for number in range(3)
        ]
        assert listed.stderr == "3 messages\n"
    rows = [json.loads(line) for line in dead("list", "--json", "--limit", "2").stdout.splitlines()]
    assert [row["TaskId"] for row in rows] == ["task-0", "task-1"]
    assert (rows[0]["Code"], rows[0]["Attempts"], rows[0]["TraceParent"]) == ("Timeout", 5, TRACE)
    shown = json.loads(dead("show", "task-1").stdout)
    assert (shown["Message"], shown["Headers"]["theirs"]) == ({"a": 1}, 7)
    assert await ready(amqp, names.parked_queue) == 3


async def test_a_replayed_task_starts_anew_as_another_run(amqp, names, dead):
    done = dead("replay", "task-1", "task-9")
    assert (done.returncode, done.stderr) == (1, "no parked message of task task-9\n")
    assert done.stdout.startswith("replayed task-1")
    assert await ready(amqp, names.parked_queue) == 2
    async with raw_channel(amqp) as channel:
        replayed = (await channel.basic_get(names.task_queue, no_ack=True)).header.properties
    assert replayed.message_id == "task-1"
    assert {"traceparent": TRACE, "theirs": 7}.items() <= replayed.headers.items()
    assert len(replayed.headers["x-run"]) == 36
    assert not {"x-attempt", "x-crashes", "x-park-code", "x-park-reason"} & set(replayed.headers)
    assert replayed.timestamp is not None


async def test_a_replay_that_was_cut_short_is_the_same_run_when_repeated(amqp, names):
    async with connected(amqp) as broker, raw_channel(amqp) as channel:
        runs = []
        for _ in range(2):
            async with broker.parked() as messages:
                one = await anext(messages)
                one.drop = _not  # as if the process had died between the copy and the acknowledgement
                await one.replay()
            copy = await channel.basic_get(names.task_queue, no_ack=True)
            runs.append(copy.header.properties.headers["x-run"])
        assert runs[0] == runs[1]
        assert await ready(amqp, names.parked_queue) == 3


async def test_what_the_broker_does_not_take_any_more_stays_parked_and_the_others_are_replayed(
    amqp, broker, names, dead
):
    async with connected(amqp) as connection:
        await connection.start_consuming(1)
        await connection.submit(b"x" * 5000, "large", {})
        await connection.submit(b"{}", "after", {})
        deliveries = connection.deliveries()
        for _ in range(2):
            delivery = await next_of(deliveries)
            await delivery.park("Timeout", "too long")
            await delivery.ack()
    with message_limit(broker, 4096):
        done = await asyncio.to_thread(dead, "replay", "--all")
    assert done.returncode == 1
    assert "task large stays parked: refused 3 times: " in done.stderr
    assert "4 messages" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("replayed after")
    assert await ready(amqp, names.parked_queue) == 1


async def _not():
    pass


async def test_only_what_is_confirmed_is_dropped(amqp, names, dead):
    assert dead("drop", "--all").returncode == 2
    assert dead("drop", "--yes").returncode == 2
    assert await ready(amqp, names.parked_queue) == 3
    assert dead("drop", "task-0", "--yes").stdout.startswith("dropped task-0")
    assert await ready(amqp, names.parked_queue) == 2
    assert dead("drop", "--all", "--yes").returncode == 0
    assert await ready(amqp, names.parked_queue) == 0
    assert dead("show", "task-1").returncode == 1


@pytest.mark.parametrize("act", ["drop", "replay"])
async def test_a_loss_while_a_message_is_taken_off_is_told(amqp, broker, names, act):
    """An acknowledgement that the broker did not hear would leave what was said to be gone."""
    async with connected(amqp) as connection, connection.parked() as messages:
        one = await anext(messages)
        await asyncio.to_thread(broker.rabbitmqctl, "close_all_connections", "test")
        await until(lambda: one.stale)
        with pytest.raises(BrokerLostError):
            await getattr(one, act)()
    await eventually(lambda: _has(amqp, names.parked_queue, 3))


async def _has(amqp, queue, count):
    return await ready(amqp, queue) == count


async def test_what_the_broker_does_not_answer_is_not_said_to_be_dropped(amqp, names, monkeypatch):
    monkeypatch.setattr("worker.adapters.amqp_delivery.SETTLE_S", 0.3)
    with by_way(amqp) as (way, there):
        async with connected(there) as connection, connection.parked() as messages:
            one = await anext(messages)
            with way.trapping(ACK, "freeze"), pytest.raises(BrokerLostError):
                await one.drop()
    await eventually(lambda: _has(amqp, names.parked_queue, 3))
