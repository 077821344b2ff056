"""How a task's end is committed once, replayed ever after, and replaced on purpose only."""

import asyncio
import hashlib
import json
import logging
from dataclasses import replace

import pytest

from tests.corpus.messages import message, snapshot
from tests.fakes import MemoryStore
from tests.handler_world import BODY, DENIED, DOWN, NOW, RESULT_URI, Gate, World, image, turns
from worker import records as records_module
from worker.errors import Code, TaskError
from worker.messages.record import CancelRequest, read_record
from worker.records import REMEMBERED, REMEMBERED_S, NoRecords, StoredRecords
from worker.task import Location

PLACE = Location("oss", "own-bucket", "records")
OTHER_BODY = json.dumps(snapshot(Number=1)).encode()


class Keeping(World):
    """A world that keeps records, in a store of their own: `kept`. Another worker of it shares them."""

    def __init__(self, *args, kept=None, hold_s=0, **more):
        self.kept = kept or MemoryStore()
        super().__init__(*args, records=StoredRecords(self.kept, PLACE, hold_s, more.get("outages")), **more)
        self.kept.journal = self.journal

    @property
    def objects(self):
        return [each.data for _, each in sorted(self.kept.objects.items())]

    @property
    def record(self):
        (data,) = self.objects
        return read_record(data, "task-1")

    @property
    def steps(self):
        """The journal, with records by what is done with them."""
        return [
            f"{step.split()[0]} record" if ".json" in step and "records/" in step else step for step in self.journal
        ]


@pytest.fixture
def world():
    return Keeping()


def runs(run):
    return {"x-run": run}


# --- committing


async def test_the_record_is_written_after_the_images_and_before_the_event(world):
    await world.do()
    assert world.steps == [
        "stat videos/sample.mp4",
        "announce Running",
        "write x-1.jpg",
        "write x-2.jpg",
        "write_if record",
        "announce Succeeded",
        "ack 1",
    ]


async def test_the_record_tells_all_about_the_end(world):
    await world.do(json.dumps(message(Notification={"ExtendedMessageURI": RESULT_URI})).encode())
    (data,) = world.objects
    told = json.loads(data)
    event = told.pop("Event")
    assert told["About"]["Result"] == json.loads(world.broker.events[-1].body)["data"]
    assert (told["TaskId"], told["Status"], told["Runs"], told["About"]["SourceEtag"]) == (
        "task-1",
        "Succeeded",
        [""],
        "tag",
    )
    assert event["Body"].encode() == world.broker.events[-1].body


async def test_any_id_gives_a_key_of_its_own(world):
    ids = ["../../x", "a/b", "ü" * 255, " ", "%2e", "task-1", "TASK-1"]
    for each in ids:
        await world.do(message_id=each)
    keys = [key for _, key in world.kept.objects]
    assert len(set(keys)) == len(ids)
    assert all(len(key) == len("records/ab/") + 64 + len(".json") for key in keys)


async def test_an_invalid_message_has_no_record(world):
    await world.do(b"{}")
    assert world.objects == []


async def test_a_postponed_task_has_no_record_until_its_end(world):
    world.fail("write", "x-2.jpg", DOWN)
    await world.do()
    assert world.journal[-2:] == ["retry 5", "ack 1"]
    assert world.objects == []


# --- delivered again


@pytest.mark.parametrize("error", [None, DENIED])
async def test_a_finished_task_is_only_told_again(world, error):
    if error:
        world.fail("write", "x-1.jpg", error)
    await world.do()
    before = world.objects
    world.journal.clear()
    first = world.broker.events[-1]
    await world.do()
    status = "Failed" if error else "Succeeded"
    parked = ["park AccessDenied"] if error else []
    assert world.steps == ["stat record", f"announce {status}", *parked, "ack 2"]
    assert world.broker.events[-1] == first, "byte for byte"
    assert (world.objects, world.pool.started) == (before, 1)
    assert world.counts["deliveries_deduplicated_total",] == 1
    assert sum(value for (name, *_), value in world.counts.items() if name == "tasks_total") == 1


@pytest.mark.parametrize("crash", ["write_if", "announce Succeeded", "ack"])
async def test_what_a_crash_leaves_undone_is_done_by_the_next(crash):
    """The worker dies right before one of the last steps; another one gets the message."""
    dying = Keeping()
    gate = Gate(*({"write_if": ("write_if", _key("task-1")), "ack": ("ack", "1")}.get(crash) or crash.split()))
    dying.kept.before = dying.broker.before = gate
    task = dying.start(dying.broker.deliver(BODY))
    await gate.reached.wait()
    task.cancel()
    await asyncio.wait({task})

    dying.kept.before = MemoryStore().before
    next_one = Keeping(kept=dying.kept)
    delivery = await next_one.do()
    assert delivery.settled == "acked"
    assert next_one.pool.started == (1 if crash == "write_if" else 0)
    told = [json.loads(each.body)["id"] for each in dying.broker.events + next_one.broker.events if each.confirmed]
    ends = [each for each in (dying.broker.events + next_one.broker.events) if "Succeeded" in each.routing_key]
    assert len({json.loads(each.body)["id"] for each in ends}) == 1
    assert len(ends) == (2 if crash == "ack" else 1)
    assert told


def _key(task_id):
    name = hashlib.sha256(task_id.encode()).hexdigest()
    return f"records/{name[:2]}/{name}.json"


async def test_nothing_is_acknowledged_before_the_event_of_a_record_is_confirmed(world):
    await world.do()
    world.broker.lost.add("announce Succeeded")
    delivery = await world.do()
    assert delivery.settled == "given back"


async def test_of_two_workers_at_once_one_commits_and_both_tell_the_same():
    """They even differ in how it ended."""
    first, second = Keeping(), None
    second = Keeping(kept=first.kept)
    second.fail("write", "x-1.jpg", DENIED)
    gate = first.kept.before = Gate("write_if", _key("task-1"))
    slow = first.start(first.broker.deliver(BODY))
    await gate.reached.wait()
    first.kept.before = MemoryStore().before
    await second.do()
    gate.open.set()
    await slow
    assert [first.statuses[-1], second.statuses[-1]] == ["Failed", "Failed"]
    assert first.broker.events[-1].body == second.broker.events[-1].body
    assert first.broker.parked
    assert first.counts["deliveries_deduplicated_total",] == 1
    assert second.pool.started == first.pool.started == 1


async def test_another_message_with_the_id_of_a_finished_task_is_refused(world):
    await world.do()
    before = world.objects
    other = await world.do(OTHER_BODY)
    assert world.journal[-3:] == ["announce Failed", "park InvalidArgument", "ack 2"]
    assert world.event["Message"] == "TaskId task-1 was used for another message"
    assert (other.settled, world.objects) == ("acked", before)


async def test_another_message_that_ends_at_the_same_time_is_refused_too():
    first = Keeping()
    second = Keeping(kept=first.kept)
    gate = first.kept.before = Gate("write_if", _key("task-1"))
    slow = first.start(first.broker.deliver(BODY))
    await gate.reached.wait()
    first.kept.before = MemoryStore().before
    await second.do(OTHER_BODY)
    gate.open.set()
    await slow
    assert second.event["Status"] == "Succeeded"
    assert (first.event["Status"], first.event["Code"]) == ("Failed", "InvalidArgument")
    assert first.broker.parked[0][0] == "InvalidArgument"


# --- replayed on purpose


async def test_a_new_run_replaces_a_failure(world):
    world.fail("write", "x-1.jpg", DENIED)
    await world.do()
    failed = world.broker.events[-1]
    world.fail("write", "nothing", DENIED)
    await world.do(headers=runs("r1"))
    assert (world.record.status, world.record.runs) == ("Succeeded", ("", "r1"))
    await world.do(headers=runs("r1"))
    await world.do()
    assert world.statuses[-3:] == ["Succeeded"] * 3
    assert world.pool.started == 2
    assert failed.body != world.broker.events[-1].body


async def test_a_second_failure_is_told_as_another(world):
    """Whoever ignores events that they know would miss it otherwise."""
    world.fail("write", "x-1.jpg", DENIED)
    for run in ("", "r1", "r1", "r2"):
        await world.do(headers=runs(run))
    ids = [json.loads(each.body)["id"] for each in world.broker.events if "Failed" in each.routing_key]
    assert (ids[1], len(set(ids))) == (ids[2], 3)
    assert world.record.runs == ("", "r1", "r2")


async def test_a_success_is_never_replaced(world):
    await world.do()
    before = world.objects
    await world.do(headers=runs("r1"))
    assert (world.objects, world.pool.started) == (before, 1)


async def test_a_delivery_of_an_earlier_run_is_answered_with_the_latest(world):
    world.fail("write", "x-1.jpg", DENIED)
    for run in ("", "r1", ""):
        await world.do(headers=runs(run))
    assert world.pool.started == 2
    assert world.broker.events[-1] == world.broker.events[-2]


async def test_a_replay_while_the_first_run_is_being_settled_is_not_lost(world):
    """It was parked before it was acknowledged, so somebody may be as quick as that."""
    world.fail("write", "x-1.jpg", DENIED)
    gate = world.broker.before = Gate("ack", "1")
    task = world.start(world.broker.deliver(BODY))
    await gate.reached.wait()
    world.fail("write", "nothing", DENIED)
    replayed = await world.do(headers=runs("r1"))
    assert (replayed.settled, world.statuses[-1]) == ("acked", "Succeeded")
    gate.open.set()
    await task
    assert world.record.status == "Succeeded"


# --- the store of records


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
    await world.kept.write(replace(PLACE, key=_key("task-1")), data, "")
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
    data = world.kept.objects["own-bucket", _key("task-1")].data
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
    world.kept.before = _raising(DENIED)
    with pytest.raises(TaskError) as caught:
        await world.records.prepare()
    assert caught.value is DENIED


def _raising(error):
    async def before(*_):
        raise error

    return before


# --- cancelling


@pytest.fixture(params=[True, False], ids=["records", "no records"])
def any_world(request):
    """With records and without."""
    return Keeping if request.param else World


async def endless(plan, source):
    yield image(1)
    await asyncio.Event().wait()


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
    gate = busy.kept.before = Gate("write_if", _key("task-1"))
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
    gate = world.kept.before = Gate("stat", _key("task-1"))
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
    world.kept.before = _raising(DOWN)
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
