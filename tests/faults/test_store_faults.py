"""Faults of the store, and of who else works on it, injected under load; the books are balanced after each."""

import asyncio
from functools import partial

import pytest

from tests.faults.kept import InS3
from tests.faults.test_faults import load, longer


def answer(status: str, code: str = "") -> bytes:
    """An answer of an S3 server."""
    body = f"<Error><Code>{code}</Code><Message>as a test wants it</Message></Error>".encode() if code else b""
    head = (f"HTTP/1.1 {status}", "Content-Type: application/xml", f"Content-Length: {len(body)}", "Connection: close")
    return "\r\n".join((*head, "", "")).encode() + body


SLOW_DOWN = answer("503 Slow Down", "SlowDown")
INTERNAL_ERROR = answer("500 Internal Server Error", "InternalError")


@pytest.fixture
def kept(bucket, namespace):
    return InS3(bucket, namespace)


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
