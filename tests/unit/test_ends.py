"""Ends that are decided before any attempt, and ends that cannot be told, recorded or counted at once."""

import asyncio
import json

import pytest

from tests.fakes import MemoryStore
from tests.handler_world import BODY, DENIED, DOWN, Gate, turns, two_images
from tests.record_world import OTHER_BODY, Keeping, endless, raising, record_key, runs
from worker import records as records_module
from worker.errors import Code, TaskError


@pytest.fixture
def world():
    return Keeping()


# --- given up by the broker

GIVEN_UP = TaskError(Code.WORKER_CRASHED, "more than 20 deliveries of the task ended without an answer")


async def test_a_task_that_is_given_up_fails_on_record(any_world):
    world = any_world()
    await world.do(refusal=GIVEN_UP)
    assert world.journal[-3:] == ["announce Failed", "park WorkerCrashed", "ack 1"]
    assert (world.event["Message"], world.pool.started) == (GIVEN_UP.message, 0)
    if isinstance(world, Keeping):
        assert world.record.code == "WorkerCrashed"


async def test_a_finished_task_that_is_given_up_stays_as_it_ended(world):
    """Its acknowledgements were lost so often that the broker took it away."""
    await world.do()
    await world.do(refusal=GIVEN_UP)
    assert world.statuses == ["Running", "Succeeded", "Succeeded"]
    assert (world.broker.parked, world.record.status) == ([], "Succeeded")


async def test_a_task_that_is_given_up_while_it_runs_here_ends_as_that_run_does(world):
    gate = world.store.before = Gate("write", "x-1.jpg")
    task = world.start(world.broker.deliver(BODY))
    await gate.reached.wait()
    await world.do(refusal=GIVEN_UP)
    gate.open.set()
    await task
    assert (world.statuses, world.journal[-2:]) == (["Running", "Succeeded"], ["ack 1", "ack 2"])


async def test_a_task_that_is_given_up_waits_for_records_and_is_not_tried_again(world):
    """Given back it would come again at once, until the broker gives it up for good."""
    world.kept.before = raising(DOWN)
    await world.do(refusal=GIVEN_UP)
    ((delay_s, copy),) = world.broker.retried
    assert (delay_s, world.statuses) == (1800, ["Retrying"])
    world.kept.before = MemoryStore().before
    await world.do(headers=copy.headers)
    assert (world.statuses, world.pool.started) == (["Retrying", "Failed"], 0)
    assert (world.record.code, world.event["Message"]) == ("WorkerCrashed", GIVEN_UP.message)


async def test_a_request_to_cancel_that_cannot_be_recorded_goes_along_with_the_task():
    world = Keeping(endless)
    task = world.start(world.broker.deliver(BODY))
    await turns()
    world.kept.before = raising(DOWN)
    await world.handler.cancel("task-1")
    await task
    ((_, copy),) = world.broker.retried
    world.kept.before = MemoryStore().before
    world.pool.script = two_images
    await world.do(headers=copy.headers)
    assert world.statuses == ["Running", "Retrying", "Canceled"]
    assert (world.record.status, world.pool.started) == ("Canceled", 1)


async def test_a_late_copy_of_an_earlier_run_is_parked_as_the_run_that_answers_it(world):
    """Replayed as its own it would be answered by that run too, and parked again, for ever."""
    world.fail("write", "x-1.jpg", DENIED)
    for run in ("", "r1"):
        await world.do(headers=runs(run))
    await world.do()
    assert [copy.headers.get("x-run") for _, _, copy in world.broker.parked] == ["", "r1", "r1"]


# --- which end is told under which id


def failures(world):
    return [json.loads(each.body)["id"] for each in world.broker.events if "Failed" in each.routing_key]


async def test_an_invalid_message_that_is_replayed_is_told_as_another_end(world):
    for headers in ({}, {}, runs("r1")):
        await world.do(b"{}", headers=headers)
    first, again, replayed = failures(world)
    assert first == again != replayed


async def test_a_message_with_the_id_of_a_failed_task_is_told_as_another_end(world):
    """Also where the task failed with the code that tells of the impostor."""
    world.fail("write", "x-1.jpg", TaskError(Code.INVALID_ARGUMENT, "no such time"))
    for body in (BODY, OTHER_BODY, OTHER_BODY):
        await world.do(body)
    own, other, again = failures(world)
    assert own != other == again


async def test_a_message_that_nobody_can_read_is_told_and_parked_at_once(any_world):
    world = any_world()
    delivery = await world.do(b"\xff", refusal=TaskError(Code.INVALID_ARGUMENT, "correlation_id cannot be read"))
    assert world.journal == ["announce Failed", "park InvalidArgument", "ack 1"]
    assert (world.event["Message"], delivery.settled) == ("correlation_id cannot be read", "acked")


# --- settling


async def test_a_bug_in_counting_comes_after_all_is_settled(world, monkeypatch, caplog):
    """To give back what is acknowledged closes the channel, and with it those of the neighbours."""

    def bug(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(world.metrics, "count_task", bug)
    delivery = await world.do()
    assert delivery.settled == "acked"
    assert [each.message for each in caplog.records if each.exc_info] == ["unexpected error while counting"]


async def test_a_store_that_never_answers_holds_a_task_no_longer_than_it_may_wait(monkeypatch):
    monkeypatch.setattr(records_module, "FIRST_ANSWER_S", 0.01)
    world = Keeping()
    world.kept.before = Gate("stat", record_key("task-1"))
    await world.do()
    assert world.journal == ["announce Retrying", "retry 1800", "ack 1"]


async def test_a_task_whose_message_went_elsewhere_while_it_waited_is_not_begun(world):
    """Otherwise a connection that comes and goes would have ever more tasks wait that others do."""
    world.pool.turn.clear()
    gone, back = world.broker.deliver(BODY), world.broker.deliver(BODY, message_id="task-2")
    tasks = [world.start(gone), world.start(back)]
    await turns()
    gone.stale = back.stale = True
    tasks.append(world.start(world.broker.deliver(BODY, message_id="task-2")))
    await turns()
    world.pool.turn.set()
    await asyncio.gather(*tasks)
    assert world.pool.started == 1
    assert [json.loads(each.body)["data"]["TaskId"] for each in world.broker.events if "Succ" in each.routing_key] == [
        "task-2"
    ]
    assert world.handler._running == {}
