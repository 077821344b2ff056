"""More faults of the broker and of the way to it, injected under load; the books are balanced after each."""

import asyncio
import os
from functools import partial
from signal import SIGKILL
from urllib.parse import urlsplit

import pytest

from tests.e2e.media import long_task
from tests.e2e.proxy import proxy
from tests.faults.test_faults import impatient, load, longer

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def lost(worker):
    return "no connection to the broker" in (worker.not_ready() or [])


def only(account):
    return {each[0] for each in account.ends.values()}


async def test_f2_f3_a_half_open_connection_is_noticed_and_a_black_hole_is_not_waited_for(
    local, broker, ledger, namespace
):
    """Nothing passes, and nobody hangs up; then connections open into the same silence, each try for its time only."""
    with proxy(urlsplit(broker.url).port) as way:
        settings = impatient(way, broker) | {"amqp__heartbeat_s": 1, "amqp__connect_timeout_s": 1}
        with local(namespace, **settings) as worker:
            await ledger.submit_all(load(6, longer, "long") | load(20))
            await ledger.until_ended(3)
            with way.trapping(b"", "freeze") as trap:
                await asyncio.to_thread(worker.until, partial(lost, worker), "the loss to be noticed")
                await asyncio.to_thread(trap.wait, 5)  # both connections, and tries to connect again
                assert "not consuming" in worker.not_ready()
                await ledger.submit_all(load(5, prefix="later"))
            account = await ledger.balance()
            assert worker.metrics()["deliveries_joined_total"] + worker.metrics()["deliveries_deduplicated_total"] > 0
    assert only(account) == {"Succeeded"}


async def test_f4_a_broker_that_is_stopped_and_started(local, broker, ledger, namespace):
    with local(namespace) as worker:
        await ledger.submit_all(load(6, longer, "long") | load(20))
        await ledger.until_ended(3)
        await asyncio.to_thread(broker.rabbitmqctl, "stop_app")
        try:
            await asyncio.to_thread(worker.until, partial(lost, worker), "the loss to be noticed")
        finally:
            await asyncio.to_thread(broker.rabbitmqctl, "start_app")
        await ledger.submit_all(load(5, prefix="later"))
        account = await ledger.balance()
        await asyncio.to_thread(worker.until_ready)
    assert only(account) == {"Succeeded"}


async def test_f9_a_broker_short_of_disk(local, broker, ledger, namespace):
    with local(namespace) as worker:
        await ledger.submit_all(load(30, longer, "long"))
        await ledger.until_ended(2)
        await asyncio.to_thread(broker.rabbitmqctl, "set_disk_free_limit", "1000000GB")
        try:
            await asyncio.to_thread(
                worker.until, lambda: "the broker takes no publications" in worker.not_ready(), "the worker to notice"
            )
            assert worker.metrics()["amqp_blocked"] == 1
        finally:
            await asyncio.to_thread(broker.rabbitmqctl, "set_disk_free_limit", "10MB")
        account = await ledger.balance()
    assert only(account) == {"Succeeded"}


async def test_f13_without_the_events_exchange_nothing_is_acknowledged(local, ledger, namespace):
    """Unbound, events go to the queue of those that nobody asked for; deleted, tasks wait for the exchange."""
    with local(namespace) as worker:
        await ledger.submit_all(load(5, prefix="before"))
        await ledger.until_ended(5)
        async with ledger._channel() as channel:
            await channel.exchange_delete(f"{namespace}.events")
        await ledger.submit_all(load(4, longer, "long"))
        await asyncio.to_thread(
            worker.until, lambda: worker.metrics()["publish_tries_failed"] >= 4, "events to find no exchange"
        )
        await ledger.listen()
        assert len(ledger.ended) == 5
        await asyncio.to_thread(holds, ledger, 4)
        await ledger.open()  # as `frame-capture topology --declare` does
        account = await ledger.balance()
    assert only(account) == {"Succeeded"}


def holds(ledger, count):
    """Wait until the task queue tells of so many messages; it does so now and then."""
    while sum(ledger.node.queues()[f"{ledger.namespace}.tasks.main"]) != count:
        pass  # each asking takes a second; the test has a time limit


async def test_f14_a_copy_that_no_queue_takes_leaves_its_task_unacknowledged(local, broker, ledger, namespace):
    """The retry queue takes one copy and refuses the other, until there is room; neither task is lost meanwhile."""
    policy = f"{namespace}-full"
    full = (policy, f"^{namespace}.retry", '{"max-length": 0}', "--apply-to", "queues")  # a quorum queue takes one more
    await asyncio.to_thread(broker.rabbitmqctl, "set_policy", *full)
    try:
        with local(namespace, pool__split=False, retry__crash_attempts=5) as worker:
            names = ("one", "other")
            for name in names:
                await ledger.submit(name, long_task(name), headers={"traceparent": TRACE})
            await ledger.until_told(
                lambda told: {each["TaskId"] for each in told if each.get("Progress")} == set(names)
            )
            for decoder in worker.family()[1:3]:
                os.kill(decoder, SIGKILL)
            await asyncio.to_thread(
                worker.until, lambda: worker.metrics()["publish_tries_failed"] >= 1, "a copy to be refused"
            )
            await ledger.listen()
            assert ledger.ended == set()
            await asyncio.to_thread(broker.rabbitmqctl, "clear_policy", policy)
            account = await ledger.balance()
            assert worker.metrics()["retries_total"] == 2
    finally:
        if policy in broker.rabbitmqctl("list_policies"):
            broker.rabbitmqctl("clear_policy", policy)
    assert only(account) == {"Succeeded"}
    assert {event.get("traceparent") for _, event in ledger.events} == {TRACE}
