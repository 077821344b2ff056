"""A task that is cancelled ends at once or before it starts, on record or remembered for a while."""

import asyncio
import json
from dataclasses import replace

import pytest

from tests.fakes import MemoryStore
from tests.handler_world import BODY, DOWN, NOW, Gate, World, turns
from tests.record_world import Keeping, endless, raising, record_key, runs
from worker.messages.record import CancelRequest
from worker.records import REMEMBERED, REMEMBERED_S, NoRecords


@pytest.fixture
def world():
    return Keeping()


async def test_a_running_task_is_cancelled_at_once(any_world):
    world = any_world(endless)
    task = world.start(world.broker.deliver(BODY))
    await turns()
    assert "write x-1.jpg" in world.journal
    await world.handler.cancel("task-1")
    await task
    assert world.statuses == ["Running", "Canceled"]
    assert (world.event["Code"], [each["Index"] for each in world.frames[0]]) == ("Canceled", [1])
    assert world.journal[-2:] == ["announce Canceled", "ack 1"]
    assert (world.pool.closed, world.broker.parked) == (1, [])
    assert world.counts["tasks_total", "canceled", "interval"] == 1
    first = world.broker.events[-1]
    await world.do()
    assert json.loads(world.broker.events[-1].body)["id"] == json.loads(first.body)["id"]
    assert world.pool.started == 1


async def test_a_cancelled_task_stops_its_uploads():
    world = Keeping()
    gate = world.store.before = Gate("write", "x-1.jpg")
    task = world.start(world.broker.deliver(BODY))
    await gate.reached.wait()
    await world.handler.cancel("task-1")
    await task
    gate.open.set()
    await turns()
    assert [key for bucket, key in world.store.objects if bucket == "out-bucket"] == ["x-2.jpg"], "was stored before"
    assert [each["URI"] for each in world.frames[0]] == ["oss://out-bucket/x-2.jpg"]
    assert world.record.status == "Canceled"


async def test_a_waiting_task_is_cancelled_when_it_comes(any_world):
    world = any_world()
    await world.handler.cancel("task-1")
    await world.do()
    assert (world.statuses, world.pool.started) == (["Canceled"], 0)
    await world.do(message_id="task-2")
    assert world.statuses[-1] == "Succeeded"


async def test_a_task_that_waits_to_be_tried_again_is_cancelled(any_world):
    world = any_world()
    world.fail("write", "x-2.jpg", DOWN)
    await world.do()
    await world.handler.cancel("task-1")
    await world.do(headers=world.broker.retried[-1][1].headers)
    assert world.statuses[-2:] == ["Retrying", "Canceled"]
    assert world.pool.started == 1


async def test_cancelling_what_is_over_changes_nothing(any_world):
    world = any_world()
    await world.do()
    await world.handler.cancel("task-1")
    afterwards = world.journal[world.journal.index("ack 1") :]
    assert not [step for step in afterwards if step.startswith("write")]
    await world.do()
    assert set(world.statuses) == {"Running", "Succeeded"}


async def test_a_request_holds_for_workers_that_did_not_hear_it():
    first = Keeping()
    await first.handler.cancel("task-1")
    second = Keeping(kept=first.kept)
    await second.do()
    assert second.statuses == ["Canceled"]
    assert first.record.status == "Canceled"


async def test_a_request_that_comes_while_another_worker_ends_the_task_wins_or_loses_as_a_whole():
    busy = Keeping()
    gate = busy.kept.before = Gate("write_if", record_key("task-1"))
    task = busy.start(busy.broker.deliver(BODY))
    await gate.reached.wait()
    busy.kept.before = MemoryStore().before
    await Keeping(kept=busy.kept).handler.cancel("task-1")
    gate.open.set()
    await task
    assert busy.statuses[-1] == busy.record.status
    await busy.do()
    assert busy.broker.events[-1].body == busy.broker.events[-2].body


async def test_a_canceled_task_can_be_run_anew(world):
    await world.handler.cancel("task-1")
    await world.do()
    await world.do(headers=runs("r1"))
    assert world.statuses == ["Canceled", "Running", "Succeeded"]


async def test_cancelling_while_the_task_looks_for_its_record(world):
    gate = world.kept.before = Gate("stat", record_key("task-1"))
    task = world.start(world.broker.deliver(BODY))
    await gate.reached.wait()
    world.kept.before = MemoryStore().before
    await world.handler.cancel("task-1")
    await task
    assert (world.statuses, world.pool.started) == (["Canceled"], 0)


async def test_a_request_that_cannot_be_recorded_ends_what_runs_all_the_same():
    world = Keeping(endless)
    task = world.start(world.broker.deliver(BODY))
    await turns()
    world.kept.before = raising(DOWN)
    await world.handler.cancel("task-1")
    world.kept.before = MemoryStore().before
    await task
    assert world.statuses[-1] in ("Canceled", "Retrying")


async def test_the_drain_is_no_request_to_cancel():
    world = Keeping(endless)
    delivery = world.broker.deliver(BODY)
    task = world.start(delivery)
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (delivery.settled, world.statuses, world.objects) == ("", ["Running"], [])


async def test_without_records_a_request_that_comes_while_the_task_ends_is_too_late():
    class HearsLate(NoRecords):
        async def commit(self, *args):
            await world.handler.cancel("task-1")
            return await super().commit(*args)

    world = World(records=HearsLate())
    await world.do()
    first = world.broker.events[-1]
    await world.do()  # the acknowledgement was lost
    assert world.statuses == ["Running", "Succeeded"] * 2
    assert json.loads(world.broker.events[-1].body)["id"] == json.loads(first.body)["id"]


async def test_without_records_requests_are_forgotten_in_time_and_when_there_are_too_many():
    moment = 0.0
    records = NoRecords(lambda: moment)
    world = World()
    task = world.handler._parse(world.broker.deliver(BODY), NOW)
    await records.cancel("task-1", NOW)
    assert (await records.find(task)).content == CancelRequest("task-1")
    assert await records.find(replace(task, run="r1")) is None, "replayed on purpose"
    moment = REMEMBERED_S
    assert await records.find(task) is None
    await records.cancel("task-1", NOW)
    for n in range(REMEMBERED):
        await records.cancel(f"other-{n}", NOW)
    assert await records.find(task) is None
