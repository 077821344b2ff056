"""What becomes of a task whose source, store or decoder fails: which verdict, and what is kept of the images."""

import asyncio
import json
import re

import pytest

from tests.corpus.messages import message, snapshots
from tests.handler_world import DENIED, DOWN, NOW, World, image, report
from worker.errors import Code, TaskError
from worker.media.plan import EntryReport
from worker.settings import MIB, LimitSettings, Retry, Settings
from worker.stores import AllowedBuckets


@pytest.mark.parametrize(
    "body",
    [
        snapshots("oss://out-bucket/{index}", "oss://no-bucket/{index}"),
        message(Notification={"ExtendedMessageURI": "oss://no-bucket/all.json"}),
    ],
)
async def test_an_output_where_nothing_may_be_written_fails_the_task_before_it_starts(body):
    world = World(allowed=AllowedBuckets(targets=("out-bucket",)))
    await world.do(json.dumps(body).encode())
    assert world.journal == ["announce Failed", "park AccessDenied", "ack 1"]
    assert re.search(r"^oss://no-bucket/\S+ may not be written: .*STORE__TARGET_BUCKETS", world.event["Message"])


async def test_a_source_that_is_not_there_fails_the_task_before_it_starts(world):
    world.store.objects.clear()
    await world.do()
    assert world.journal == ["announce Failed", "park ResourceNotFound", "ack 1"]
    assert world.pool.started == 0
    assert world.event["Code"] == "ResourceNotFound"


async def test_a_source_that_is_too_large_is_not_opened():
    world = World(settings=Settings(limits=LimitSettings(source_bytes=4)))
    await world.do()
    assert world.journal[1:] == ["announce Failed", "park LimitExceeded", "ack 1"]
    assert world.event["Message"] == "the source has 5 bytes: the limit LIMITS__SOURCE_BYTES is 4"


async def test_a_store_that_is_down_postpones_the_task(world):
    world.fail("write", "x-2.jpg", DOWN)
    delivery = await world.do()
    assert world.journal[-3:] == ["announce Retrying", "retry 5", "ack 1"]
    ((delay_s, copy),) = world.broker.retried
    assert delay_s == 5
    assert copy.headers == {"x-attempt": 2, "x-crashes": 0, "x-outages": 0, "x-created": NOW.isoformat()}
    assert copy.body == delivery.body
    assert (world.event["RetryAfter"], world.event["Attempt"], world.event["Code"]) == (5, 2, "StorageUnavailable")
    stored = "write x-1.jpg" in world.journal
    assert world.counts == {
        ("tasks_total", "postponed", "interval"): 1,
        ("project_tasks_total", "demo", "postponed"): 1,
        ("task_failures_total", "StorageUnavailable"): 1,
        ("retries_total",): 1,
        **({("frames_total", "interval", "jpg"): 1, ("project_frames_total", "demo"): 1} if stored else {}),
    }


async def test_attempts_go_on_until_they_are_spent(world):
    """As the broker would deliver them: each copy with its headers, the clock of the first kept."""
    world.fail("write", "x-2.jpg", DOWN)
    await world.do()
    while len(world.broker.retried) > world.pool.started - 1:
        await world.do(headers=world.broker.retried[-1][1].headers)
    assert world.pool.started == 5
    assert [delay_s for delay_s, _ in world.broker.retried] == [5, 30, 120, 600]
    assert {copy.headers["x-created"] for _, copy in world.broker.retried} == {NOW.isoformat()}
    assert world.journal[-3:] == ["announce Failed", "park StorageUnavailable", "ack 5"]


async def test_a_crash_is_tried_once_more():
    async def script(plan, source):
        yield image(1)
        raise TaskError(Code.WORKER_CRASHED, "the decoder was killed by SIGSEGV", retryable=True)

    world = World(script)
    await world.do()
    await world.do(headers=world.broker.retried[-1][1].headers)
    assert world.statuses == ["Running", "Retrying", "Running", "Failed"]
    assert world.broker.parked[0][0] == "WorkerCrashed"


async def test_a_store_that_refuses_fails_the_task_at_once_and_stops_the_decoder():
    async def script(plan, source):
        for index in range(1, 1_000_000):
            yield image(index, size=MIB)
            await asyncio.sleep(0)

    world = World(script)
    world.fail("write", "x-3.jpg", DENIED)
    await world.do()
    assert world.journal[-3:] == ["announce Failed", "park AccessDenied", "ack 1"]
    assert world.pool.closed == 1
    assert [frame["Index"] for frame in world.frames[0]] == [1, 2]
    stored = {key for bucket, key in world.store.objects if bucket == "out-bucket"}
    assert stored == {"x-1.jpg", "x-2.jpg"}, "no upload goes on after the verdict"
    assert world.event["Code"] == "AccessDenied"
    assert world.broker.parked[0][:2] == ("AccessDenied", "the bucket is not yours")


async def test_a_decoder_that_fails_for_good_leaves_the_images_that_it_gave():
    held, opened = asyncio.Event(), asyncio.Event()

    async def script(plan, source):
        yield image(1)
        yield image(2)
        await held.wait()
        raise TaskError(Code.CORRUPT_MEDIA, "broken")

    async def before(operation, what):
        await asyncio.sleep(0)
        if what == "x-2.jpg":
            held.set()
            await opened.wait()

    world = World(script)
    world.store.before = before
    doing = asyncio.create_task(world.do())
    await held.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not doing.done()
    opened.set()
    await doing
    assert world.event["Code"] == "CorruptMedia"
    assert [frame["Index"] for frame in world.frames[0]] == [1, 2]


async def test_a_failed_entry_does_not_undo_the_others():
    body = message()
    body["Targets"][0]["Image"]["Snapshots"].append({"Format": "png", "URI": "oss://out-bucket/{index}.png"})

    async def script(plan, source):
        yield image(1)
        yield report(EntryReport(1, 1), EntryReport(0, 1, (), Code.INVALID_ARGUMENT, "StartTime is past the end"))

    world = World(script)
    await world.do(json.dumps(body).encode())
    assert world.journal[-4:] == ["write x-1.jpg", "announce Failed", "park InvalidArgument", "ack 1"]
    first, second = world.event["Targets"][0]["Image"]["Snapshots"]
    assert (first["Count"], first.get("Code")) == (1, None)
    assert (second["Count"], second["Code"], second["Message"]) == (0, "InvalidArgument", "StartTime is past the end")
    assert world.event["Message"] == "1 of 2 entries failed; the first: StartTime is past the end"
    assert world.counts["task_failures_total", "InvalidArgument"] == 1
    assert world.counts["tasks_parked_total", "InvalidArgument"] == 1


async def test_an_error_of_ours_is_tried_again_and_then_fails():
    async def script(plan, source):
        yield image(1)
        raise ZeroDivisionError("oops")

    world = World(script, Settings(retry=Retry(max_attempts=2)))
    await world.do()
    assert world.journal[-3:] == ["announce Retrying", "retry 5", "ack 1"]
    await world.do(headers=world.broker.retried[-1][1].headers)
    assert world.event["Status"] == "Failed"
    assert world.event["Code"] == "InternalError"
    assert world.event["Message"] == "unexpected ZeroDivisionError", "nothing of our insides"
    assert world.counts["task_failures_total", "InternalError"] == 2


async def test_what_a_decoder_makes_up_makes_no_series():
    """A hijacked decoder says what it likes; labels are closed sets."""

    async def script(plan, source):
        yield image(1)
        made_up = report(EntryReport(1, 1, (), "NoSuchCode", "x"))
        made_up.stage_s["no such stage"] = 1.0
        yield made_up

    world = World(script)
    await world.do()
    assert "no such stage" not in str(list(world.metrics.registry.collect()))
    assert "NoSuchCode" not in str(list(world.metrics.registry.collect()))
