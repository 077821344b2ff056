"""Stores of records that are out of reach, give what nobody can read, or know no conditional writes."""

import asyncio
import logging
from dataclasses import replace

import pytest

from tests.fakes import MemoryStore
from tests.handler_world import DENIED, DOWN
from tests.record_world import PLACE, Keeping, raising, record_key, runs
from worker import records as records_module
from worker.errors import Code, TaskError
from worker.messages.record import read_record
from worker.records import StoredRecords


@pytest.fixture
def world():
    return Keeping()


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(records_module, "FIRST_PAUSE_S", 0.001)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("operation", ["stat", "write_if"])
@pytest.mark.parametrize("error", [DOWN, DENIED])
async def test_while_the_store_of_records_is_out_of_reach_the_task_waits(operation, error):
    world = Keeping(hold_s=60)
    failures = 5

    async def before(done, _):
        nonlocal failures
        await asyncio.sleep(0)
        if done == operation and failures:
            failures -= 1
            raise error

    world.kept.before = before
    await world.do()
    assert (world.statuses, world.pool.started, failures) == (["Running", "Succeeded"], 1, 0)


@pytest.mark.parametrize("operation", ["stat", "write_if"])
async def test_a_task_that_cannot_wait_longer_goes_back_at_no_attempts_cost(world, operation):
    async def before(done, _):
        await asyncio.sleep(0)
        if done == operation:
            raise DOWN

    world.kept.before = before
    await world.do(headers={"x-attempt": 4, "x-crashes": 1})
    ((delay_s, copy),) = world.broker.retried
    assert (delay_s, copy.headers["x-attempt"], copy.headers["x-crashes"]) == (1800, 4, 1)
    assert world.journal[-3:] == ["announce Retrying", "retry 1800", "ack 1"]
    world.kept.before = MemoryStore().before
    await world.do(headers=copy.headers)
    assert world.statuses[-1] == "Succeeded"


@pytest.mark.parametrize("data", [b"", b"{}", b'{"TaskId": "other", "Status": "Failed"}', b"[]"])
async def test_a_record_that_nobody_can_read_parks_the_message(world, data):
    await world.kept.write(replace(PLACE, key=record_key("task-1")), data, "")
    await world.do()
    assert world.journal[-3:] == ["announce Failed", "park InternalError", "ack 1"]
    assert "record of the task 'task-1' cannot be read" in world.event["Message"]
    assert world.objects == [data]


class Deaf(MemoryStore):
    """A store that ignores conditions, as some do, or says that it knows none."""

    def __init__(self, answer=None):
        super().__init__()
        self.answer = answer

    async def write_if(self, location, data, content_type, etag):
        if self.answer:
            raise self.answer
        await self.write(location, data, content_type)
        return True


@pytest.mark.parametrize("answer", [None, TaskError(Code.INVALID_ARGUMENT, "501 NotImplemented")])
async def test_without_conditional_writes_the_record_is_looked_for_first(answer, caplog):
    caplog.set_level(logging.INFO)
    world = Keeping(kept=Deaf(answer))
    await world.records.prepare()
    (warning,) = caplog.records
    assert "does not honour conditional writes" in warning.message
    assert (warning.fields["if_none_match"], warning.fields["if_match"]) == (False, False)
    world.fail("write", "x-1.jpg", DENIED)
    await world.do()
    await world.do()
    world.fail("write", "nothing", DENIED)
    await world.do(headers=runs("r1"))
    data = world.kept.objects["own-bucket", record_key("task-1")].data
    assert read_record(data, "task-1").runs == ("", "r1")
    assert world.pool.started == 2


async def test_conditional_writes_are_proven_at_start_and_again(caplog):
    caplog.set_level(logging.INFO)
    records = StoredRecords(MemoryStore(), PLACE, 0)
    await records.prepare()
    await records.prepare()
    assert caplog.records == []


async def test_records_that_may_not_be_read_end_the_start():
    store = MemoryStore()
    world = Keeping(kept=store)
    world.kept.before = raising(DENIED)
    with pytest.raises(TaskError) as caught:
        await world.records.prepare()
    assert caught.value is DENIED
