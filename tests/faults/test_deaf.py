"""No worker is alive but deaf: one that cannot consume says that it is not ready, then ends with status 1.

Its time for that is short here; the defaults are held to what is promised in tests/unit/test_service.py.
"""

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.e2e.proxy import proxy
from tests.faults.test_faults import impatient, load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SHORT = {"amqp__recovery_deadline_s": 4}


async def ends(worker, reason):
    """Wait until the worker has said that it is not ready for `reason`, and ended by itself, in this order."""
    await asyncio.to_thread(worker.until, lambda: reason in (worker.not_ready() or []), "the worker to be not ready")
    assert await asyncio.to_thread(worker.wait) == 1
    said = [line["event"] for line in worker.log()]
    assert said.index("serving") < said.index("not consuming for too long, giving up") < said.index("stopped")


async def done(local, ledger, namespace):
    """All is done by a worker that comes later."""
    with local(namespace):
        account = await ledger.balance()
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


async def delete_queue(ledger, namespace):
    async with ledger._channel() as channel:
        await channel.queue_delete(f"{namespace}.tasks.main")


async def test_f12_a_queue_declared_otherwise_ends_the_worker(local, ledger, namespace):
    with local(namespace, **SHORT) as worker:
        await delete_queue(ledger, namespace)
        async with ledger._channel() as channel:
            await channel.declare_queue(f"{namespace}.tasks.main", durable=True)
        await ends(worker, "not consuming")
    await delete_queue(ledger, namespace)
    await ledger.open()
    await ledger.submit_all(load(3))
    await done(local, ledger, namespace)


async def test_a_consumer_that_is_cancelled_for_good_ends_the_worker(local, ledger, namespace):
    """The broker cancels the consumer of a queue that is gone, and nobody may make it anew."""
    with local(namespace, amqp__declare="passive", **SHORT) as worker:
        await ledger.submit_all(load(3, prefix="before"))
        await ledger.until_ended(3)
        await delete_queue(ledger, namespace)
        await ends(worker, "not consuming")
    await ledger.open()
    await ledger.submit_all(load(3))
    await done(local, ledger, namespace)


async def test_f3_a_worker_that_the_broker_does_not_answer_any_more_ends(local, broker, ledger, namespace):
    with proxy(urlsplit(broker.url).port) as way:
        settings = impatient(way, broker) | {"amqp__heartbeat_s": 1, "amqp__connect_timeout_s": 1} | SHORT
        with local(namespace, **settings) as worker:
            await ledger.submit_all(load(3, prefix="before"))
            await ledger.until_ended(3)
            with way.trapping(b"", "freeze"):
                await ledger.submit_all(load(3))
                await ends(worker, "no connection to the broker")
    await done(local, ledger, namespace)
