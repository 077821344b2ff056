"""The decoder pool with real processes: what arrives, what is read, and how a capture ends."""

import asyncio
import hashlib
import io
import json
import os
import time
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path

import pytest

from tests.integration.pool_runs import MIB, MemorySource, fails, gone, make_plan, make_pool, run
from worker.adapters.pool import DecoderPool, DecoderTraceback
from worker.errors import Code, TaskError
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Progress, Rendition, Report, Selection
from worker.settings import Pool


async def test_events_arrive_as_they_were_sent():
    async with make_pool() as pool:
        source = MemorySource.command(do="echo", body=b"abc")
        progress, image, report = await run(pool, source)
    assert progress == Progress(0.5)
    assert isinstance(image, Image)
    assert image.data == source.data
    assert (image.dhash, str(image.score), str(image.time_s), image.key_frame) == (2**64 - 1, "100/3", "1/3", True)
    assert isinstance(report, Report)
    assert report.stage_s == {"decode": 0.5}


async def test_a_real_video_gives_what_it_gives_without_a_process_between():
    from worker.media.capture import capture

    video = Path(__file__).parents[2].parent / "shared" / "media" / "footage" / "bbb_480p_30s.mp4"
    if not video.exists():
        pytest.skip(f"the shared media are not here: no {video.name}")
    plan = CapturePlan(
        tuple(EntryPlan(Selection(number=4, interval_s=Fraction(5)), Rendition(kind)) for kind in Format)
    )
    with video.open("rb") as file:
        direct = [event for event in capture(io.BytesIO(file.read()), plan) if isinstance(event, Image)]
    async with DecoderPool(Pool(slots=1)) as pool:
        events = [event async for event in pool.capture(plan, MemorySource(video.read_bytes()))]
        assert pool.restarts == {}
    assert [event for event in events if isinstance(event, Image)] == direct
    assert len(direct) == 16


async def test_50_mb_stream_through_intact_while_two_captures_share_nothing():
    async with make_pool(slots=2) as pool:
        big, small = await asyncio.gather(
            run(pool, do="stream", count=25, size=2 * MIB), run(pool, do="stream", count=1000, size=400)
        )
        assert [event.data for event in big[:-1]] == [i.to_bytes(4, "big") * (MIB // 2) for i in range(1, 26)]
        assert [event.data for event in small[:-1]] == [i.to_bytes(4, "big") * 100 for i in range(1, 1001)]
        assert pool.restarts == {}


@pytest.mark.parametrize(("chunk", "requests"), [(32 * 1024, 13), (1_000_003, 5), (-1, 4)])
async def test_a_source_reads_intact_in_few_requests(chunk, requests):
    body = os.urandom(3 * MIB + 17)
    source = MemorySource.command(do="read_all", chunk=chunk if chunk > 0 else 10 * MIB, body=body)
    async with make_pool() as pool:
        image, _ = await run(pool, source)
    assert image.data == hashlib.sha256(source.data).digest()
    assert len(source.reads) == len(set(source.reads)) == requests


async def test_what_a_capture_announces_is_told_and_read_exactly():
    ranges = [[700_000, 50_001], [300_000, 3], [2 * MIB, 2 * MIB - 5], [4 * MIB, 10**9]]
    source = MemorySource.command(do="announce", ranges=ranges, body=os.urandom(5 * MIB))
    async with make_pool() as pool:
        image, _ = await run(pool, source)
    inside = [*map(tuple, ranges[:3]), (4 * MIB, source.size - 4 * MIB)]
    assert source.announced == [tuple(inside)]
    wanted = b"".join(source.data[offset : offset + size] for offset, size in inside)
    assert image.data == hashlib.sha256(wanted).digest()
    read = source.reads[1:]
    assert [place for place in read if place[0] == 700_000] == [(700_000, 50_001)]
    assert sum(size for _, size in read) == sum(size for _, size in inside)


async def test_many_announced_ranges_are_told_in_several_messages():
    source = MemorySource.command(do="announce", ranges=[[MIB, 10]], times=2500, body=bytes(2 * MIB))
    async with make_pool() as pool:
        await run(pool, source)
    assert [len(told) for told in source.announced] == [1024, 1024, 452]


async def test_the_head_comes_with_the_plan_and_is_neither_announced_nor_asked_for():
    """Each message less is a wake of the parent less: a small source costs one read."""
    source = MemorySource.command(do="announce", ranges=[[300, 700], [5, 10]], body=os.urandom(1000))
    async with make_pool() as pool:
        image, _ = await run(pool, source)
    assert image.data == hashlib.sha256(source.data[300:1000] + source.data[5:15]).digest()
    assert (source.announced, source.reads) == ([], [(0, source.size)])


async def test_seeking_costs_no_request_and_the_reader_has_no_name():
    source = MemorySource.command(do="jump", body=b"-" * 3 * MIB + b"tail.")
    async with make_pool() as pool:
        image, _ = await run(pool, source)
    assert json.loads(image.data) == [0, "tail.", source.size, False]
    assert len(source.reads) == 2


async def test_a_slow_consumer_stops_the_decoder():
    """Of 100 MB, no more than the socket's buffer leaves the decoder before the consumer comes back."""
    async with (
        make_pool() as pool,
        aclosing(pool.capture(make_plan(), MemorySource.command(do="stream", count=100, size=MIB))) as events,
    ):
        await anext(events)
        io, status = (Path(f"/proc/{pool.pids()[0]}/{name}") for name in ("io", "status"))
        await asyncio.to_thread(wait_until, lambda: "State:\tS" in status.read_text())
        written = next(int(line.split()[1]) for line in io.read_text().splitlines() if line.startswith("wchar"))
        assert written < 3 * MIB
        assert len([event async for event in events]) == 100


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "never happened"


async def test_an_error_of_the_capture_crosses_as_it_was_raised():
    async with make_pool() as pool:
        error = await fails(pool, do="refuse")
        assert (error.code, error.message, error.retryable) == ("CorruptMedia", "the sample is broken", False)
        assert pool.restarts == {"recycled": 1}


async def test_no_report_is_an_error_of_ours_and_a_second_start_garbage():
    async with make_pool() as pool:
        error = await fails(pool, do="echo", report=False)
        assert (error.code, error.message) == (Code.INTERNAL_ERROR, "the capture ended without a report")
        error = await fails(pool, do="restart")
        assert (error.code, error.message) == (
            Code.WORKER_CRASHED,
            "the decoder process sent garbage: a second start",
        )


async def test_leaving_after_the_report_keeps_the_decoder():
    async with make_pool() as pool:
        async with aclosing(pool.capture(make_plan(), MemorySource.command(do="echo"))) as events:
            async for event in events:
                if isinstance(event, Report):
                    break
        assert pool.restarts == {}
        await run(pool, do="echo")
        assert pool.restarts == {}


async def test_an_unforeseen_error_brings_its_traceback():
    async with make_pool() as pool:
        error = await fails(pool, do="blunder")
    assert (error.code, error.retryable) == (Code.INTERNAL_ERROR, True)
    assert "unexpected RuntimeError while capturing: boom" in error.message
    assert isinstance(error.__cause__, DecoderTraceback)
    assert "in blunder" in str(error.__cause__)


async def test_a_failed_read_ends_the_capture_with_its_own_error():
    source = MemorySource.command(do="read_all", chunk=1000, body=bytes(MIB))
    source.error = TaskError(Code.STORAGE_UNAVAILABLE, "the store is down", retryable=True)
    async with make_pool() as pool:
        assert await fails(pool, source) is source.error
        await run(pool, do="echo")


async def test_closing_early_kills_the_decoder():
    async with make_pool() as pool:
        (pid,) = pool.pids()
        async with aclosing(pool.capture(make_plan(), MemorySource.command(do="spin_in_c"))) as events:
            await anext(events)
            assert pool.busy == 1
        await gone(pid)
        await run(pool, do="echo")
        assert (pool.restarts, pool.busy) == ({"canceled": 1}, 0)


async def test_cancelling_while_waiting_for_a_frame_kills_the_decoder():
    async with make_pool() as pool:
        (pid,) = pool.pids()
        first = asyncio.Event()

        async def consume():
            async for _ in pool.capture(make_plan(), MemorySource.command(do="spin_in_c")):
                first.set()

        task = asyncio.create_task(consume())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(pid)
        await run(pool, do="echo")
        assert pool.restarts == {"canceled": 1}


async def test_slots_are_given_in_the_order_of_asking():
    async with make_pool() as pool:
        order = []

        async def consume(number):
            await run(pool, do="echo")
            order.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(consume(number))
        assert order == [0, 1, 2, 3, 4]
