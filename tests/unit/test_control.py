"""What workers make of what is said to all of them."""

import asyncio

import pytest

from tests.handler_world import turns
from worker import control
from worker.control import obey
from worker.messages.control import cancel_message, read_cancel


@pytest.mark.parametrize("task_id", ["task-1", "ü" * 255, '"\n'])
def test_a_request_is_read_as_it_was_written(task_id):
    assert read_cancel(cancel_message(task_id)) == task_id


NONSENSE = [
    b"",
    b"cancel",
    b"{}",
    b'{"cancel": 1}',
    b'{"cancel": ""}',
    b'{"cancel": "x", "when": 1}',
    b"\xff",
    b"[" * 10_000,
]


@pytest.mark.parametrize("body", NONSENSE)
def test_anything_else_is_no_request(body):
    with pytest.raises(ValueError, match="should be"):
        read_cancel(body)


async def test_one_bad_message_or_error_does_not_make_the_worker_deaf():
    heard = []
    slow = asyncio.Event()

    async def cancel(task_id):
        heard.append(task_id)
        if task_id == "slow":
            await slow.wait()
        if task_id == "bug":
            raise ZeroDivisionError
        if task_id == "last":
            slow.set()

    async def messages():
        for body in (cancel_message("slow"), b"nonsense", cancel_message("bug"), cancel_message("last")):
            yield "", body

    async with asyncio.timeout(10):
        await obey(messages(), cancel)
    assert heard == ["slow", "bug", "last"]


async def test_a_flood_of_requests_waits_outside(monkeypatch):
    monkeypatch.setattr(control, "AT_ONCE", 3)
    heard, taken, may_end = [], [], asyncio.Event()

    async def cancel(task_id):
        heard.append(task_id)
        await may_end.wait()

    async def messages():
        for number in range(10):
            taken.append(number)
            yield "", cancel_message(f"task-{number}")

    obeying = asyncio.create_task(obey(messages(), cancel))
    await turns()
    assert (len(heard), len(taken)) == (3, 4)
    may_end.set()
    await obeying
    assert len(heard) == 10
