"""Faults of the store, and of who else works on it, injected under load; the books are balanced after each."""

import asyncio
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlsplit

import pytest

from tests.e2e.media import BUCKET
from tests.e2e.proxy import proxy
from tests.faults.kept import RECORDS, InS3
from tests.faults.test_faults import impatient, load, longer, quick

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def answer(status: str, code: str = "") -> bytes:
    """An answer of an S3 server."""
    body = f"<Error><Code>{code}</Code><Message>as a test wants it</Message></Error>".encode() if code else b""
    head = (f"HTTP/1.1 {status}", "Content-Type: application/xml", f"Content-Length: {len(body)}", "Connection: close")
    return "\r\n".join((*head, "", "")).encode() + body


SLOW_DOWN = answer("503 Slow Down", "SlowDown")
CONFLICT = answer("409 Conflict", "ConditionalRequestConflict")
NEVER_SAID = b"\xff\xfe never said"
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
        await asyncio.to_thread(
            worker.until,
            lambda: worker.metrics()["store_requests_total check error"] >= checks + 2,
            "the worker to ask the store again",
        )
        assert paused(worker)
    assert "the store is out of reach" in reasons


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


# What the requests for one task's source are answered: how, with what; then how the task ends, in which attempt.
ANSWERS = {
    "error": ("answer", INTERNAL_ERROR, "", 2),
    "slow-down": ("answer", SLOW_DOWN, "", 2),
    "broken": ("break", b"", "", 2),
    "changed": ("answer", answer("412 Precondition Failed", "PreconditionFailed"), "", 2),
    "forbidden": ("answer", answer("403 Forbidden"), "AccessDenied", 1),
    "missing": ("answer", answer("404 Not Found"), "ResourceNotFound", 1),
}


def sprung(trap):
    """Wait until a trap was run into, and have nobody run into it again."""
    trap.wait()
    trap.word = NEVER_SAID


async def test_f22_answers_of_the_store_are_retried_or_not_as_they_deserve(
    remote, ledger, namespace, way, bucket, sources
):
    """Each to one task among good ones, once where it may pass; what befalls one object is no outage."""
    video = sources.bucket / "videos" / "sample.mp4"
    tasks = {}
    for name in ANSWERS:
        bucket.put(f"videos/{namespace}-{name}.mp4", video)
        tasks[name] = quick(name) | {"Sources": [{"URI": f"oss://{BUCKET}/videos/{namespace}-{name}.mp4"}]}
    with remote(namespace, store__timeout_s=20) as worker, ExitStack() as stack:
        traps = {}
        for name, (how, what, *_) in ANSWERS.items():
            word = f" /{BUCKET}/videos/{namespace}-{name}.mp4 ".encode()
            traps[name] = stack.enter_context(way.trapping(word, how, what))
        with way.trapping(f"PUT /{BUCKET}/{RECORDS}/{namespace}/".encode(), "answer", CONFLICT) as conflict:
            await ledger.submit_all(load(6) | tasks)
            await asyncio.to_thread(conflict.wait, 2)  # the task waits, and tries again
        passing = [name for name, (*_, attempt) in ANSWERS.items() if attempt == 2]
        await asyncio.gather(*(asyncio.to_thread(sprung, traps[name]) for name in passing))
        account = await ledger.balance()
        metrics = worker.metrics()
    ends = {name: events[0]["data"] for name, events in account.told.items()}
    assert {name: (ends[name]["Code"], ends[name]["Attempt"]) for name in ANSWERS} == {
        name: (code, attempt) for name, (*_, code, attempt) in ANSWERS.items()
    }
    assert {ends[name]["Attempt"] for name in load(6)} == {1}
    assert (metrics["store_outage"], metrics["retries_total"]) == (0, 4)


async def test_f22_a_slow_store_only_takes_longer(remote, ledger, namespace, way):
    """Uploads that get no answer until all other tasks are over cost no attempt."""
    with remote(namespace, store__timeout_s=30) as worker:
        with way.trapping(f"PUT /{BUCKET}/slow".encode(), "hold") as trap:
            await ledger.submit("slow", quick("slow"))
            await asyncio.to_thread(trap.wait)
            await ledger.submit_all(load(20))
            await ledger.until_ended(20)
        account = await ledger.balance()
        assert worker.metrics()["retries_total"] == 0
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}


async def test_f24_two_workers_at_the_same_tasks_commit_each_once(remote, broker, ledger, namespace):
    """Half of the tasks are sent twice; then one worker is cut off at work, so that the other gets its tasks too."""
    with proxy(urlsplit(broker.url).port) as broker_way:
        cut_off = impatient(broker_way, broker) | {"amqp__heartbeat_s": 1}
        with remote(namespace, **cut_off) as first, remote(namespace):
            await ledger.submit_all(load(6, longer, "long") | load(14))
            for name in list(ledger.accepted)[::2]:
                await ledger.submit_again(name)
            await ledger.until_ended(2)
            with broker_way.trapping(b"", "freeze"):
                await asyncio.to_thread(
                    first.until,
                    lambda: "no connection to the broker" in (first.not_ready() or []),
                    "the loss to be noticed",
                )
            account = await ledger.balance()
            await asyncio.to_thread(first.until_ready)
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}
    assert account.duplicates > 0
