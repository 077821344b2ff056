"""One task, start to finish, against a world in memory that fails on demand."""

import asyncio
import hashlib
import json
import logging
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from tests.corpus.messages import message, snapshot, snapshots
from tests.fakes import MemoryBroker, MemoryStore, ScriptedPool, StoredObject
from worker.adapters.hls import open_source
from worker.errors import Code, TaskError
from worker.handler import Handler
from worker.media.plan import EntryReport, Image, Progress, Report, Warn
from worker.metrics import Metrics
from worker.settings import MIB, Events, LimitSettings, Pool, Retry, Settings
from worker.stores import AllowedBuckets

SOURCE = ("in-bucket", "videos/sample.mp4")
BODY = json.dumps(message()).encode()
DOWN = TaskError(Code.STORAGE_UNAVAILABLE, "the store is down", retryable=True)
DENIED = TaskError(Code.ACCESS_DENIED, "the bucket is not yours")
RESULT_URI = "oss://out-bucket/results/all.json"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def image(index, entry=0, size=10, **more):
    data = index.to_bytes(2, "big") * (size // 2)
    return Image(
        entry, index, Fraction(index), Fraction(index), index * 100, True, 4, 3, data,
        hashlib.sha256(data).hexdigest(), **more,
    )  # fmt: skip


def report(*entries):
    entries = entries or (EntryReport(2, 0),)
    return Report(entries, "mp4", "h264", 1280, 720, 50, 60, 1, {"probe": 0.1, "decode": 0.2, "encode": 0.3})


async def two_images(plan, source):
    yield image(1)
    yield Progress(0.5)
    yield image(2)
    yield report()


@dataclass
class World:
    """Everything around a handler. `journal` is the order of what was done, by all."""

    script: object = two_images
    settings: Settings = field(default_factory=lambda: Settings(events=Events(progress_interval_s=1000)))
    allowed: AllowedBuckets = field(default_factory=AllowedBuckets)
    records: object = None
    outages: object = None
    announcer: object = None

    def __post_init__(self):
        self.journal = []
        objects = {SOURCE: StoredObject(b"video", "", "tag")}
        self.store = MemoryStore(objects, journal=self.journal, allowed=self.allowed)
        self.broker = MemoryBroker(self.journal)
        self.pool = ScriptedPool(self.script)
        self.metrics = Metrics(CollectorRegistry())
        self.handler = Handler(
            store=self.store,
            open_source=partial(open_source, self.store, cache_bytes=4 * MIB, max_bytes=4 * MIB),
            decoders=self.pool,
            announcer=self.announcer or self.broker,
            settings=self.settings,
            metrics=self.metrics,
            records=self.records,
            outages=self.outages,
            clock=lambda: NOW,
        )

    async def do(self, body=BODY, **properties):
        delivery = self.broker.deliver(body, **properties)
        await self.handler.handle(delivery)
        return delivery

    def start(self, delivery):
        return asyncio.create_task(self.handler.handle(delivery))

    def fail(self, operation, what, error, *, where="store"):
        """Make one operation raise, others go on."""

        async def before(done, done_with):
            await asyncio.sleep(0)
            if (done, done_with) == (operation, what):
                raise error

        getattr(self, where).before = before

    @property
    def event(self):
        return json.loads(self.broker.events[-1].body)["data"]

    @property
    def statuses(self):
        return [each.routing_key.rpartition(".")[2] for each in self.broker.events]

    @property
    def frames(self):
        return [entry.get("Frames") for entry in self.event["Targets"][0]["Image"]["Snapshots"]]

    @property
    def counts(self):
        """All counters and gauges of ours that are not zero."""
        return {
            (sample.name.removeprefix("frame_capture_"), *sample.labels.values()): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name.startswith("frame_capture_") and family.type in ("counter", "gauge") and sample.value
        }


@pytest.fixture
def world():
    return World()


async def turns(count=50):
    """Let everything that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


class Gate:
    """Holds up one operation until it is opened."""

    def __init__(self, operation, what):
        self._key = (operation, what)
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, operation, what):
        await asyncio.sleep(0)
        if (operation, what) == self._key:
            self.reached.set()
            await self.open.wait()


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


# --- failures


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


# --- the broker is lost


@pytest.mark.parametrize("status", ["Running", "Succeeded"])
async def test_nothing_is_acknowledged_on_an_unconfirmed_event(world, status):
    world.broker.lost.add(f"announce {status}")
    delivery = await world.do()
    assert world.journal[-1] == "give back 1"
    assert delivery.settled == "given back"
    assert world.counts["messages_requeued_total",] == 1
    assert ("tasks_in_flight",) not in world.counts
    world.broker.lost.clear()
    await world.do()
    assert world.journal[-2:] == ["announce Succeeded", "ack 2"]


@pytest.mark.parametrize(("operation", "error"), [("retry", DOWN), ("park", DENIED)])
async def test_nothing_is_acknowledged_without_its_copy(world, operation, error):
    world.fail("write", "x-1.jpg", error)
    world.broker.lost.add(operation)
    await world.do()
    assert world.journal[-1] == "give back 1"
    assert not world.broker.retried
    assert not world.broker.parked
    assert world.counts["messages_requeued_total",] == 1
    assert not [name for name, *_ in world.counts if name in ("retries_total", "tasks_parked_total", "tasks_total")]


@pytest.mark.parametrize("operation", ["announce", "park"])
async def test_an_invalid_message_is_not_acknowledged_either(world, operation):
    world.broker.lost.add(operation)
    await world.do(b"{}")
    assert world.journal[-1] == "give back 1"
    assert "tasks_parked_total" not in {name for name, *_ in world.counts}


# --- delivered again


async def test_a_redelivery_joins_the_run_and_is_acknowledged_with_it(world):
    """Twice: the connections that the first two came by are lost, so only the last acknowledgement counts."""
    gate = world.store.before = Gate("write", "x-1.jpg")
    deliveries = [world.broker.deliver(BODY) for _ in range(3)]
    task = world.start(deliveries[0])
    await gate.reached.wait()
    for before, after in pairwise(deliveries):
        before.stale = True
        await world.handler.handle(after)
    assert world.counts["deliveries_joined_total",] == 2
    assert world.counts["tasks_in_flight",] == 1
    gate.open.set()
    await task
    assert world.journal[-2:] == ["announce Succeeded", "ack 3"]
    assert [each.settled for each in deliveries] == ["", "", "acked"]
    assert (world.pool.started, world.statuses) == (1, ["Running", "Succeeded"])


async def test_a_redelivery_while_acknowledging_is_acknowledged_too(world):
    gate = world.broker.before = Gate("ack", "1")
    task = world.start(world.broker.deliver(BODY))
    await gate.reached.wait()
    await world.do()
    gate.open.set()
    await task
    assert world.journal[-2:] == ["ack 1", "ack 2"]
    assert world.pool.started == 1


async def test_who_joined_is_given_back_too(world):
    gate = world.store.before = Gate("write", "x-1.jpg")
    world.broker.lost.add("announce Succeeded")
    task = world.start(world.broker.deliver(BODY))
    await gate.reached.wait()
    await world.do()
    gate.open.set()
    await task
    assert sorted(world.journal[-2:]) == ["give back 1", "give back 2"]


async def test_a_redelivery_while_the_first_is_given_back_is_not_forgotten(world):
    """It would stay unsettled for ever, and its slot empty, if it joined a run that is over."""
    world.broker.lost.add("announce Succeeded")
    gate = world.broker.before = Gate("give back", "1")
    task = world.start(world.broker.deliver(BODY))
    await gate.reached.wait()
    world.broker.lost.clear()
    again = await world.do()
    assert again.settled == "acked"
    gate.open.set()
    await task
    assert world.pool.started == 2


async def test_the_copy_to_retry_is_not_acknowledged_with_the_attempt_that_made_it(world):
    """Its delay may be over before the acknowledgement is done; acknowledged with it, the task would be lost."""
    world.fail("write", "x-1.jpg", DOWN)
    gate = world.broker.before = Gate("ack", "1")
    task = world.start(world.broker.deliver(BODY))
    await gate.reached.wait()
    copy = world.broker.retried[-1][1]
    world.fail("write", "nothing", DOWN)
    world.broker.before = Gate("nothing", "")
    copied = await world.do(headers=copy.headers)
    assert world.journal[-2:] == ["announce Succeeded", "ack 2"]
    assert (copied.settled, world.pool.started) == ("acked", 2)
    gate.open.set()
    await task
    assert world.journal[-1] == "ack 1"


async def test_another_message_with_the_id_of_a_running_task_is_refused(world):
    gate = world.store.before = Gate("write", "x-1.jpg")
    first = world.broker.deliver(BODY)
    task = world.start(first)
    await gate.reached.wait()
    other = await world.do(json.dumps(snapshot(Number=1)).encode())
    assert world.journal[-3:] == ["announce Failed", "park InvalidArgument", "ack 2"]
    assert world.event["Message"] == "TaskId task-1 was used for another message"
    assert (other.settled, first.settled) == ("acked", "")
    gate.open.set()
    await task
    assert world.journal[-2:] == ["announce Succeeded", "ack 1"]


async def test_messages_without_an_id_are_known_by_their_bodies(world):
    gate = world.store.before = Gate("write", "x-1.jpg")
    task = world.start(world.broker.deliver(BODY, message_id=None))
    await gate.reached.wait()
    await world.do(message_id=None)
    other = world.start(world.broker.deliver(json.dumps(snapshot(Number=1)).encode(), message_id=None))
    await turns()
    assert world.pool.started == 2
    gate.open.set()
    await asyncio.gather(task, other)
    assert sorted(world.journal[-4:])[:3] == ["ack 1", "ack 2", "ack 3"]


# --- messages that are no tasks


async def test_an_invalid_message_is_parked_with_everything_wrong_with_it(world):
    body = message(Foo=1)
    body["Targets"][0]["Image"]["Snapshots"][0]["Quality"] = 101
    await world.do(json.dumps(body).encode())
    assert world.journal == ["announce Failed", "park InvalidArgument", "ack 1"]
    code, reason, _ = world.broker.parked[0]
    assert code == "InvalidArgument"
    assert "$.Foo: " in reason
    assert "$.Targets[0].Image.Snapshots[0].Quality: " in reason
    assert {each["Path"] for each in world.event["Problems"]} == {
        "$.Foo",
        "$.Targets[0].Image.Snapshots[0].Quality",
    }
    assert (world.event["TaskId"], world.event["ProjectName"]) == ("task-1", "demo")
    assert world.counts == {
        ("tasks_parked_total", "InvalidArgument"): 1,
        ("task_failures_total", "InvalidArgument"): 1,
    }


@pytest.mark.parametrize(("body", "project"), [(b'{"ProjectName": "demo"}', "demo"), (b"no JSON", "unknown")])
async def test_the_log_tells_whose_an_invalid_message_is(world, body, project, caplog):
    caplog.set_level(logging.INFO)
    await world.do(body)
    (line,) = [each for each in caplog.records if each.message == "invalid message"]
    assert line.fields["project"] == project


async def test_the_trace_of_an_invalid_message_goes_on_in_its_event(world):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await world.do(b"{}", headers={"traceparent": parent})
    assert json.loads(world.broker.events[-1].body)["traceparent"] == parent


async def test_missing_fields_count_as_one_code(world):
    await world.do(b"{}")
    assert world.event["Code"] == "MissingProjectName"
    assert world.counts["tasks_parked_total", "Missing"] == 1


# --- what should not happen


async def test_a_bug_before_the_task_is_known_costs_only_this_message(world):
    """A delivery whose clock has no time zone breaks the port's promise."""
    delivery = await world.do(timestamp=datetime(2026, 1, 2))  # noqa: DTZ001
    assert delivery.settled == "given back"
    assert world.counts == {("messages_requeued_total",): 1}
    assert (await world.do()).settled == "acked"


@pytest.mark.parametrize("operation", ["announce", "park"])
async def test_a_bug_of_the_broker_side_costs_only_this_message(world, operation):
    world.fail("write", "x-1.jpg", DENIED)
    world.fail(operation, {"announce": "Failed", "park": "AccessDenied"}[operation], TypeError("x"), where="broker")
    delivery = await world.do()
    assert delivery.settled == "given back"
    assert not world.handler._running


# --- stopping


async def test_a_cancelled_task_stays_as_it_is(world):
    """At the end of the drain: nothing is announced, nothing settled, the decoder and the uploads are stopped."""
    gate = world.store.before = Gate("write", "x-1.jpg")
    delivery = world.broker.deliver(BODY)
    task = world.start(delivery)
    await gate.reached.wait()
    done = list(world.journal)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await turns()
    assert world.journal == done
    assert delivery.settled == ""
    assert (world.pool.closed, world.counts, world.handler._running) == (1, {}, {})


@pytest.mark.parametrize("status", ["Running", "Succeeded"])
async def test_cancelled_while_announcing(world, status):
    gate = world.broker.before = Gate("announce", status)
    delivery = world.broker.deliver(BODY)
    task = world.start(delivery)
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert delivery.settled == ""
    assert f"announce {status}" not in world.journal
