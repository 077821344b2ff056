"""What every decoder pool promises: the real one with its processes, and the one in threads that tests use."""

import asyncio
import hashlib
import json
import os
from contextlib import aclosing, asynccontextmanager
from fractions import Fraction

import pytest

from devkit.media import counter_video
from tests.integration import captures
from tests.integration.pool_runs import MemorySource
from tests.thread_pool import ThreadPool
from worker.adapters.pool import DecoderPool
from worker.errors import Code, TaskError
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Mode, Progress, Rendition, Report, Selection
from worker.settings import MIB, Pool

PLAN = CapturePlan((EntryPlan(Selection(Mode.DHASH), Rendition(width=7)),))


@asynccontextmanager
async def processes(name):
    function = "worker.media.capture:capture" if name == "capture" else "tests.integration.captures:perform"
    async with DecoderPool(Pool(slots=1), function) as pool:
        yield pool


@asynccontextmanager
async def threads(name):
    yield ThreadPool(capture if name == "capture" else captures.perform)


@pytest.fixture(params=[processes, threads])
def new_pool(request):
    return request.param


@pytest.fixture
async def pool(new_pool):
    """Run scripted captures (`tests.integration.captures`)."""
    async with new_pool("scripted") as pool:
        yield pool


async def run(pool, source):
    return [event async for event in pool.capture(PLAN, source)]


async def fails(pool, source):
    with pytest.raises(TaskError) as caught:
        await run(pool, source)
    return caught.value


async def test_images_come_as_they_are_encoded_and_the_report_last(pool):
    source = MemorySource.command(do="echo", body=b"abc")
    progress, image, report = await run(pool, source)
    assert progress == Progress(0.5)
    assert isinstance(image, Image)
    assert image.data == source.data
    assert (image.dhash, image.score, image.time_s) == (2**64 - 1, Fraction(100, 3), Fraction(1, 3))
    assert isinstance(report, Report)
    assert report.stage_s == {"decode": 0.5}


async def test_a_source_is_read_as_a_file(pool):
    body = os.urandom(3 * MIB + 17)
    source = MemorySource.command(do="read_all", chunk=1_000_003, body=body)
    image, _ = await run(pool, source)
    assert image.data == hashlib.sha256(source.data).digest()


async def test_reading_past_the_end_gives_nothing(pool):
    image, _ = await run(pool, MemorySource.command(do="jump", body=b"-" * MIB + b"tail."))
    beyond, tail, _, named = json.loads(image.data)
    assert (beyond, tail, named) == (0, "tail.", False)


async def test_an_error_of_the_capture_comes_after_what_it_yielded(pool):
    async with aclosing(pool.capture(PLAN, MemorySource.command(do="refuse"))) as events:
        assert (await anext(events)).data == b"x"
        with pytest.raises(TaskError) as caught:
            await anext(events)
    error = caught.value
    assert (error.code, error.message, error.retryable) == (Code.CORRUPT_MEDIA, "the sample is broken", False)


async def test_an_unforeseen_error_is_ours_and_worth_another_attempt(pool):
    error = await fails(pool, MemorySource.command(do="blunder"))
    assert (error.code, error.retryable) == (Code.INTERNAL_ERROR, True)
    assert "unexpected RuntimeError while capturing: boom" in error.message


async def test_a_capture_without_a_report_is_an_error_of_ours(pool):
    error = await fails(pool, MemorySource.command(do="echo", report=False))
    assert (error.code, error.message) == (Code.INTERNAL_ERROR, "the capture ended without a report")


async def test_a_failed_read_ends_the_capture_with_its_own_error(pool):
    error = TaskError(Code.STORAGE_UNAVAILABLE, "the store is down", retryable=True)
    source = MemorySource.command(do="read_all", chunk=1000, body=bytes(MIB), error=error)
    assert await fails(pool, source) is error
    assert len(await run(pool, MemorySource.command(do="echo"))) == 3, "the slot is free again"


async def test_closing_early_frees_the_slot(pool):
    async with aclosing(pool.capture(PLAN, MemorySource.command(do="stream", count=1000, size=1000))) as events:
        await anext(events)
    assert len(await run(pool, MemorySource.command(do="echo"))) == 3


async def test_cancelling_a_capture_that_reads_frees_the_slot(pool):
    """Of a source whose second read never ends."""
    reading = asyncio.Event()
    source = MemorySource.command(do="read_all", chunk=1000, body=bytes(MIB))
    answer = source.read

    async def read(offset, size):
        if source.reads:
            reading.set()
            await asyncio.wait_for(asyncio.Event().wait(), 0.5)  # a thread cannot be killed
        return await answer(offset, size)

    source.read = read
    task = asyncio.create_task(run(pool, source))
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await run(pool, MemorySource.command(do="echo"))) == 3


async def test_captures_beyond_the_slots_wait_in_order(pool):
    order = []

    async def consume(number):
        await run(pool, MemorySource.command(do="echo"))
        order.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(consume(number))
    assert order == [0, 1, 2, 3]


async def test_a_video_gives_the_same_images_in_all(new_pool, tmp_path):
    video = counter_video(tmp_path / "v.mp4", width=320, height=180, seconds=4)
    selections = [Selection(Mode(mode), interval_s=Fraction(1), number=3) for mode in Mode]
    plan = CapturePlan(tuple(EntryPlan(each, Rendition(Format.PNG)) for each in selections))
    with video.path.open("rb") as file:
        direct = [event for event in capture(file, plan) if isinstance(event, Image)]
    async with new_pool("capture") as pool:
        events = [event async for event in pool.capture(plan, MemorySource(video.path.read_bytes()))]
    assert [event for event in events if isinstance(event, Image)] == direct
    assert len(direct) >= 10


async def test_what_is_not_wanted_any_more_when_its_turn_comes_is_not_begun(pool):
    def begun():
        raise KeyError("nobody wants it")

    source = MemorySource.command(do="refuse")
    with pytest.raises(KeyError):
        async for _ in pool.capture(PLAN, source, begun):
            pass
    assert source.reads == []
