"""Faults of the store, and of who else works on it, injected under load; the books are balanced after each."""

import asyncio
from functools import partial
from urllib.parse import urlsplit

import pytest

from tests.e2e.proxy import proxy
from tests.e2e.store import store_settings
from tests.faults.kept import InS3
from tests.faults.test_faults import load, longer

SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def kept(bucket, namespace):
    return InS3(bucket, namespace)


@pytest.fixture
def way(seaweed_server):
    """The way of the workers to the S3 server."""
    with proxy(urlsplit(seaweed_server.endpoint).port) as one:
        yield one


@pytest.fixture
def remote(start, seaweed_server, kept, way):
    """Start workers on the S3 server, on that way. They try no request twice, so that a fault is seen at once."""
    usual = store_settings(seaweed_server) | {
        "store__endpoint_url": f"http://127.0.0.1:{way.port}",
        "store__max_attempts": 1,
        "store__timeout_s": 1,
        "records__uri": kept.records_uri,
    }

    def remote(namespace: str, **settings: object):
        return start(namespace, **usual | settings)

    return remote


def paused(worker):
    metrics = worker.metrics()
    return (metrics["store_outage"], metrics["consuming"]) == (1, 0)


def attempts(ledger):
    return {event["data"].get("Attempt") for _, event in ledger.events}


async def outage(kind, way, ledger, worker):
    """Have an outage begin while tasks run, and end once the worker has paused for some time and been sent more."""
    await ledger.until_ended(2)
    begin = {
        "refused": way.refusing,
        "silent": partial(way.trapping, b"", "silent"),
        "503": partial(way.trapping, b"", "answer", SLOW_DOWN),
    }
    with begin[kind]():
        await asyncio.to_thread(worker.until, partial(paused, worker), "the worker to pause")
        reasons = worker.not_ready()
        checks = worker.metrics()["store_requests_total check error"]
        await ledger.submit_all(load(10, prefix="later"))
        more = lambda: worker.metrics()["store_requests_total check error"] >= checks + 2  # noqa: E731
        await asyncio.to_thread(worker.until, more, "the worker to ask the store again")
        assert paused(worker)
    assert "the store is out of reach" in reasons


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "with_records"), [("refused", False), ("silent", False), ("503", False), ("refused", True)]
)
async def test_f23_while_the_store_is_away_work_is_paused_at_no_attempts_cost(
    remote, broker, ledger, namespace, way, kind, with_records
):
    settings = {} if with_records else {"records__uri": ""}
    with remote(namespace, retry__max_attempts=1, **settings) as worker:
        await ledger.submit_all(load(6, longer, "long") | load(20))
        await outage(kind, way, ledger, worker)
        await asyncio.to_thread(worker.until_ready)
        account = await ledger.balance() if with_records else await ledger.balance(invalid=ledger.accepted)
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}
    assert attempts(ledger) == {1}
