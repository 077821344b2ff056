"""One task, start to finish, when all goes well, and the result file that it may ask for."""

import asyncio
import hashlib
import json
from datetime import timedelta

import pytest

from tests.corpus.messages import message
from tests.handler_world import BODY, DENIED, DOWN, NOW, RESULT_URI, World, image, report, turns
from worker.media.plan import EntryReport, Progress, Warn
from worker.settings import MIB, Events, Pool, Settings

# --- all is well


async def test_the_acknowledgement_comes_after_everything_else(world):
    await world.do()
    assert world.journal == [
        "stat videos/sample.mp4",
        "announce Running",
        "write x-1.jpg",
        "write x-2.jpg",
        "announce Succeeded",
        "ack 1",
    ]


async def test_the_event_lists_what_is_stored(world):
    await world.do()
    assert world.statuses == ["Running", "Succeeded"]
    assert world.broker.events[-1].routing_key == "default.demo.Succeeded"
    assert [frame["Index"] for frame in world.frames[0]] == [1, 2]
    for frame in world.frames[0]:
        bucket, key = frame["URI"].removeprefix("oss://").split("/", 1)
        stored = world.store.objects[bucket, key]
        assert stored.content_type == "image/jpeg"
        assert frame["Sha256"] == hashlib.sha256(stored.data).hexdigest()
        assert (frame["ETag"], frame["Bytes"]) == (stored.etag, len(stored.data))


async def test_it_is_counted(world):
    await world.do(timestamp=NOW - timedelta(seconds=7))
    counts = world.counts
    assert counts.pop(("last_success_timestamp_seconds",)) > 1e9
    assert counts == {
        ("tasks_total", "succeeded", "interval"): 1,
        ("project_tasks_total", "demo", "succeeded"): 1,
        ("frames_total", "interval", "jpg"): 2,
        ("project_frames_total", "demo"): 2,
        ("frames_decoded_total",): 50,
    }
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in world.metrics.registry.collect()
        for sample in family.samples
    }
    assert samples["frame_capture_queue_wait_seconds_sum",] == 7
    assert samples["frame_capture_source_bytes_sum",] == 5
    for stage in ("stat", "probe", "decode", "encode", "upload", "announce"):
        assert samples["frame_capture_stage_seconds_count", stage] == 1
    assert samples["frame_capture_stage_seconds_sum", "encode"] == 0.3


async def test_uploads_may_end_in_any_order_but_the_list_is_in_time_order():
    last_first = asyncio.Event()

    async def before(operation, what):
        await asyncio.sleep(0)
        if operation == "write" and what != "x-9.jpg":
            await last_first.wait()

    async def script(plan, source):
        for index in range(1, 10):
            yield image(index)
        yield report(EntryReport(9, 9))

    world = World(script)
    world.store.before = before
    task = world.start(world.broker.deliver(BODY))
    await turns()
    assert world.journal[-1] == "write x-9.jpg"
    last_first.set()
    await task
    assert [frame["Index"] for frame in world.frames[0]] == list(range(1, 10))


@pytest.mark.parametrize(("size", "window", "most"), [(MIB, 4 * MIB, 4 * MIB), (3 * MIB, MIB, 3 * MIB)])
async def test_images_in_memory_stay_within_the_window(size, window, most):
    """The decoder is not asked for another image until there is room; one larger than the window goes alone."""
    made = stored = peak = 0

    async def script(plan, source):
        nonlocal made, peak
        for index in range(1, 31):
            made += size
            peak = max(peak, made - stored)
            yield image(index, size=size)
        yield report()

    async def slow(operation, what):
        nonlocal stored
        await turns(200)
        stored += size * (operation == "write")

    world = World(script, Settings(pool=Pool(inflight_bytes=window)))
    world.store.before = slow
    await world.do()
    assert len(world.frames[0]) == 30
    assert peak == most + size, "the window, and the one image that waits for room"


async def ten_steps(plan, source):
    for percent in range(0, 100, 10):
        yield Progress(percent / 100)
    yield image(1)
    yield report()


@pytest.fixture
def telling():
    """A world that tells all progress at once."""
    events = Events().model_copy(update={"progress_interval_s": 0})
    return World(ten_steps, Settings().model_copy(update={"events": events}))


async def test_progress_is_told_unconfirmed(telling):
    await telling.do()
    running = telling.broker.events[:-1]
    assert [json.loads(each.body)["data"]["Progress"] for each in running] == [0, *range(0, 100, 10)]
    assert [each.confirmed for each in running] == [True] + [False] * 10
    assert telling.broker.events[-1].confirmed


async def test_progress_that_the_broker_does_not_take_is_dropped(telling):
    telling.broker.lost.add("progress")
    await telling.do()
    assert telling.statuses == ["Running", "Succeeded"]


async def test_progress_is_told_now_and_then_only():
    world = World(ten_steps)
    await world.do()
    assert world.statuses == ["Running", "Succeeded"]


async def test_an_audio_cover_and_other_entries_are_uploaded_as_their_formats():
    body = message()
    body["Targets"][0]["Image"]["Snapshots"].append({"Format": "png", "URI": "oss://out-bucket/p.png", "Number": 1})

    async def script(plan, source):
        yield image(1, entry=1)
        yield image(1, entry=0)
        yield report(EntryReport(1, 1), EntryReport(1, 1, (Warn("StartTimeClamped", "late"),)))

    world = World(script)
    await world.do(json.dumps(body).encode())
    assert world.store.objects["out-bucket", "p.png"].content_type == "image/png"
    second = world.event["Targets"][0]["Image"]["Snapshots"][1]
    assert (second["Count"], second["Warnings"][0]["Code"]) == (1, "StartTimeClamped")


# --- the result file


EXTENDED = json.dumps(message(Notification={"ExtendedMessageURI": RESULT_URI})).encode()


async def test_the_result_is_written_before_it_is_announced(world):
    await world.do(EXTENDED)
    assert world.journal[-3:] == ["write results/all.json", "announce Succeeded", "ack 1"]
    result = world.store.objects["out-bucket", "results/all.json"]
    assert result.content_type == "application/json"
    assert json.loads(result.data) == world.event
    assert world.event["ExtendedMessageURI"] == RESULT_URI


async def test_a_result_that_may_not_be_written_fails_the_task_and_is_not_promised(world):
    world.fail("write", "results/all.json", DENIED)
    await world.do(EXTENDED)
    assert world.journal[-3:] == ["announce Failed", "park AccessDenied", "ack 1"]
    assert "ExtendedMessageURI" not in world.event
    assert len(world.frames[0]) == 2


async def test_a_result_that_cannot_be_written_now_is_tried_again(world):
    world.fail("write", "results/all.json", DOWN)
    await world.do(EXTENDED)
    assert world.journal[-3:] == ["announce Retrying", "retry 5", "ack 1"]


async def test_a_failure_has_a_result_too(world):
    world.fail("write", "x-2.jpg", DENIED)
    await world.do(EXTENDED)
    assert world.journal[-4:] == ["write results/all.json", "announce Failed", "park AccessDenied", "ack 1"]
    assert json.loads(world.store.objects["out-bucket", "results/all.json"].data)["Code"] == "AccessDenied"
