"""How a task's end is committed once, replayed ever after, and replaced on purpose only."""

import asyncio
import json

import pytest

from tests.corpus.messages import message
from tests.fakes import MemoryStore
from tests.handler_world import BODY, DENIED, DOWN, RESULT_URI, Gate
from tests.record_world import OTHER_BODY, Keeping, record_key, runs


@pytest.fixture
def world():
    return Keeping()


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
    gate = Gate(*({"write_if": ("write_if", record_key("task-1")), "ack": ("ack", "1")}.get(crash) or crash.split()))
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
    gate = first.kept.before = Gate("write_if", record_key("task-1"))
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
    gate = first.kept.before = Gate("write_if", record_key("task-1"))
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
