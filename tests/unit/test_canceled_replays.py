"""A replay that waits is canceled by a request that came after it was asked for, and by no other."""

import json
from datetime import timedelta

import pytest

from tests.handler_world import DENIED, DOWN, NOW, image, report
from tests.record_world import Keeping
from worker.messages.record import read_record

BEFORE, AFTER = (NOW - timedelta(minutes=1)).isoformat(), (NOW + timedelta(minutes=1)).isoformat()


async def works(plan, source):
    yield image(1)
    yield report()


@pytest.fixture
async def failed():
    """A world with a task that failed."""
    world = Keeping(works)
    world.fail("stat", "videos/sample.mp4", DENIED)
    await world.do()
    world.fail("stat", "nothing", DENIED)
    assert world.statuses[-1] == "Failed"
    return world


def replay(at=None):
    return {"x-run": "r1"} | ({"x-replayed": at} if at else {})


async def test_a_replay_that_waits_is_canceled_when_it_comes(failed):
    await failed.handler.cancel("task-1")
    delivery = await failed.do(headers=replay(BEFORE))
    assert (failed.statuses[-1], delivery.settled, failed.pool.started) == ("Canceled", "acked", 0)
    assert (failed.record.status, failed.record.runs, failed.record.canceled_at) == ("Canceled", ("", "r1"), None)


async def test_a_replay_that_waits_to_be_tried_again_is_canceled(failed):
    failed.fail("stat", "videos/sample.mp4", DOWN)
    await failed.do(headers=replay(BEFORE))
    ((_, copy),) = failed.broker.retried
    failed.fail("stat", "nothing", DOWN)
    await failed.handler.cancel("task-1")
    await failed.handler.handle(copy)
    assert failed.statuses[-2:] == ["Retrying", "Canceled"]


@pytest.mark.parametrize("at", [AFTER, None, "yesterday"])
async def test_a_replay_that_was_asked_for_later_or_nobody_knows_when_is_done(failed, at):
    await failed.handler.cancel("task-1")
    await failed.do(headers=replay(at))
    assert failed.statuses[-1] == "Succeeded"


async def test_what_failed_stays_as_it_ended(failed):
    (before,) = failed.objects
    await failed.handler.cancel("task-1")
    (after,) = failed.objects
    assert json.loads(after) == json.loads(before) | {"CanceledAt": NOW.isoformat()}
    await failed.do()
    assert failed.broker.events[-1] == failed.broker.events[-2]


async def test_what_succeeded_takes_no_request():
    world = Keeping(works)
    await world.do()
    before = world.objects
    await world.handler.cancel("task-1")
    assert world.objects == before


async def test_a_request_and_the_end_of_a_replay_do_not_undo_each_other(failed):
    """The replay ends between the reading of the record and the writing of the request onto it."""
    original, writes = failed.kept.before, []

    async def before(operation, what):
        await original(operation, what)
        if operation == "write_if":
            writes.append(what)
            if len(writes) == 2:  # the first was to create it
                await failed.do(headers=replay(BEFORE))

    failed.kept.before = before
    await failed.handler.cancel("task-1")
    assert failed.statuses[-1] == "Succeeded"
    (data,) = failed.objects
    assert (read_record(data, "task-1").runs, "CanceledAt" in json.loads(data)) == (("", "r1"), False)
