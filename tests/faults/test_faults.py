"""Faults injected under load, with the books balanced after each. The names give the fault's number in the list."""

import asyncio
import os
import struct
from contextlib import ExitStack
from datetime import UTC, datetime
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from urllib.parse import urlsplit

import pamqp.encode
import pytest
from pamqp.commands import Basic

from tests.e2e.media import BUCKET, task
from tests.e2e.proxy import proxy
from tests.integration.connected import publish_bare, short_of_memory

pytestmark = pytest.mark.timeout(300)

QUICK = {"Number": 1, "Width": 32, "Height": 18}


def quick(name: str) -> dict:
    return task(QUICK | {"URI": f"oss://{BUCKET}/{name}/{{index}}.jpg"})


def longer(name: str) -> dict:
    """A task of about half a second."""
    return task({"URI": f"oss://{BUCKET}/{name}/{{index}}.jpg", "Number": 60, "Width": 0.5, "Height": 0.5})


def load(count: int, make=quick, prefix: str = "task") -> dict[str, dict]:
    return {f"{prefix}-{number}": make(f"{prefix}-{number}") for number in range(count)}


def impatient(proxied, broker) -> dict:
    url = broker.url.replace(f":{broker.port}/", f":{proxied.port}/")
    return {"amqp_url": url, "amqp__heartbeat_s": 2}


async def test_f7_connections_that_the_broker_closes_under_load(local, broker, ledger, namespace):
    with local(namespace) as worker:
        await ledger.submit_all(load(6, longer, "long") | load(20))
        await ledger.until_ended(3)
        await asyncio.to_thread(broker.rabbitmqctl, "close_all_connections", "fault")
        account = await ledger.balance()
        worker.until(lambda: worker.metrics()["amqp_reconnects"] >= 2, "both connections to be back")
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


async def test_f25_poison_among_good_tasks(local, ledger, namespace, monkeypatch):
    """It is told, parked at once, and the connection stays."""
    with local(namespace) as worker:
        await ledger.submit_all(load(5, prefix="before"))
        poison = struct.pack(">Q", 1_700_000_000_000_000)
        async with ledger._channel() as channel:
            below = await channel.get_underlay_channel()
            moment = Basic.Properties(message_id="poison", timestamp=datetime(2026, 1, 2, tzinfo=UTC))
            with monkeypatch.context() as patch:
                patch.setitem(pamqp.encode.METHODS, "timestamp", lambda _: poison)
                await publish_bare(below, f"{namespace}.tasks", "main", moment)
            await ledger.submit("not-json", b"{")
        ledger.accepted.add("poison")
        ledger.tried.add("poison")
        await ledger.submit_all(load(5, prefix="after"))
        account = await ledger.balance(invalid={"poison", "not-json"})
        metrics = worker.metrics()
    assert account.ends["poison"] == account.ends["not-json"] == ["Failed"]
    assert account.parked == {"poison": 1, "not-json": 1}
    assert (metrics["amqp_reconnects"], account.duplicates) == (0, 0)


async def test_what_the_broker_gave_up_or_let_expire_is_told_and_parked(local, ledger, namespace):
    await ledger.submit("killer", quick("killer"))
    async with ledger._channel() as channel:
        queue = await channel.get_queue(f"{namespace}.tasks.main")
        async with queue.iterator() as messages:
            for _ in range(21):  # as workers that die with it
                await (await anext(messages)).nack(requeue=True)
    await ledger.submit("late", quick("late"), expiration=0.05)
    with local(namespace):
        await ledger.submit_all(load(3))
        account = await ledger.balance()
    codes = {event["data"]["TaskId"]: event["data"].get("Code") for _, event in ledger.events}
    assert (codes["late"], codes["killer"]) == ("Expired", "WorkerCrashed")
    assert account.parked == {"late": 1, "killer": 1}


@pytest.mark.slow
async def test_f1_connections_cut_at_many_points(local, broker, ledger, namespace):
    with proxy(urlsplit(broker.url).port) as way, local(namespace, **impatient(way, broker)) as worker:
        await ledger.submit_all(load(12, longer, "long") | load(30))
        for ended in (2, 8, 14, 20, 26):
            await ledger.until_ended(ended)
            trap = way.set(b"", "cut")
            trap.wait(2)
            way.open(trap)
        account = await ledger.balance()
        assert worker.metrics()["amqp_reconnects"] >= 5
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


@pytest.mark.slow
async def test_f5_a_broker_that_dies_and_comes_back(local, broker, ledger, namespace):
    with local(namespace) as worker:
        await ledger.submit_all(load(6, longer, "long") | load(30))
        await ledger.until_ended(4)
        await asyncio.to_thread(broker.kill)
        worker.until(lambda: "no connection to the broker" in (worker.not_ready() or []), "the loss to be noticed")
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(broker.rabbitmqctl, "eval", "application:set_env(rabbit, quorum_tick_interval, 500).")
        await ledger.submit_all(load(5, prefix="later"))
        account = await ledger.balance()
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


@pytest.mark.slow
async def test_f6_a_broker_that_stands_still(local, broker, ledger, namespace):
    with local(namespace, amqp__heartbeat_s=1) as worker:
        await ledger.submit_all(load(6, longer, "long") | load(20))
        await ledger.until_ended(3)
        node = broker.processes[-1].pid
        os.killpg(node, SIGSTOP)
        try:
            worker.until(lambda: "no connection to the broker" in (worker.not_ready() or []), "the loss to be noticed")
        finally:
            os.killpg(node, SIGCONT)
        await ledger.submit_all(load(5, prefix="later"))
        account = await ledger.balance()
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


@pytest.mark.slow
async def test_f8_a_broker_short_of_memory(local, broker, ledger, namespace):
    """No task is acknowledged before its end is told, and afterwards all are."""
    with local(namespace) as worker:
        # More than are done while the command starts: the broker blocks who publishes, and nobody else.
        await ledger.submit_all(load(30, longer, "long"))
        await ledger.until_ended(2)
        async with short_of_memory(broker):
            worker.until(
                lambda: "the broker takes no publications" in (worker.not_ready() or []), "the worker to notice"
            )
            assert worker.metrics()["amqp_blocked"] == 1
        account = await ledger.balance()
        worker.until_ready()
        assert worker.metrics()["amqp_blocked"] == 0
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


@pytest.mark.slow
async def test_f11_a_queue_deleted_under_its_consumer_is_made_again(local, broker, ledger, namespace):
    with local(namespace) as worker:
        await ledger.submit_all(load(3))
        await ledger.balance()
        async with ledger._channel() as channel:
            await channel.queue_delete(f"{namespace}.tasks.main")
        worker.until(
            lambda: any("consuming" in line["event"] and "again" in line["event"] for line in worker.log()), "it"
        )
        worker.until_ready()
        await ledger.submit_all(load(3, prefix="later"))
        await ledger.balance()


@pytest.mark.slow
async def test_f15_workers_killed_again_and_again(local, ledger, namespace):
    await ledger.submit_all(load(12, longer, "long") | load(20))
    for ended in (2, 8, 16):
        with local(namespace) as worker:
            await ledger.until_ended(ended)
            worker.signal(SIGKILL)
            assert worker.wait() == -SIGKILL
    with local(namespace):
        account = await ledger.balance()
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


@pytest.mark.slow
async def test_f16_decoders_killed_under_load(local, ledger, namespace):
    """Each costs its own task an attempt; the books balance, and no more than those tasks end otherwise."""
    with local(namespace, retry__crash_attempts=5) as worker:
        await ledger.submit_all(load(12, longer, "long") | load(10))
        for ended in (2, 6, 10):
            await ledger.until_ended(ended)
            os.kill(worker.family()[1], SIGKILL)
        account = await ledger.balance()
        assert worker.metrics()["decoder_restarts crashed"] >= 1
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


@pytest.mark.slow
async def test_f20_f21_rolling_restarts_with_two_workers(local, ledger, namespace):
    """Every worker leaves with status 0, and nothing is told twice or given up."""
    await ledger.submit_all(load(20, longer, "long") | load(30))
    with ExitStack() as stack:
        workers = [stack.enter_context(local(namespace, pool__slots=1)) for _ in range(2)]
        for ended in (4, 10, 16, 22):
            await ledger.until_ended(ended)
            oldest = workers.pop(0)
            oldest.signal(SIGTERM)
            workers.append(stack.enter_context(local(namespace, pool__slots=1)))
            assert await asyncio.to_thread(oldest.wait) == 0
        account = await ledger.balance()
    assert account.duplicates == 0
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


@pytest.mark.slow
async def test_f20_a_second_sigterm_ends_at_once_and_loses_nothing(local, ledger, namespace):
    await ledger.submit_all(load(4, longer, "long"))
    with local(namespace, pool__slots=1) as worker:
        await ledger.until_ended(1)
        worker.signal(SIGTERM)
        worker.until(lambda: "draining" in (worker.not_ready() or []), "the worker to drain")
        worker.signal(SIGTERM)
        assert worker.wait() == 143
    with local(namespace):
        await ledger.balance()
