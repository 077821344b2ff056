"""Long captures in several slots of a real pool: in order, fair to others, and with no slot lost whatever happens."""

import asyncio
import json
from contextlib import aclosing, nullcontext

import pytest

from worker.adapters.decoder import BLOCK_BYTES
from worker.adapters.pool import DecoderPool
from worker.errors import Code, TaskError
from worker.media.plan import CapturePlan, EntryPlan, Image, Rendition, Report, Selection
from worker.settings import MIB, Pool

ALL = [bytes([part, index]) * 2 for part in range(5) for index in range(2)]


class GatedSource:
    """A source for the capture `parts`: tells which parts have begun, and lets each go on when the test says so."""

    def __init__(self, *, open_gates=(), **command):
        self._head = json.dumps({"do": "parts"} | command).encode() + b"\n"
        self.begun = asyncio.Queue()
        self.gates = [asyncio.Event() for _ in range(5)]
        self.size = 6 * BLOCK_BYTES
        for part in open_gates:
            self.gates[part].set()

    async def read(self, offset, size):
        if offset == 0:
            return self._head.ljust(size)
        part = offset // BLOCK_BYTES - 1
        self.begun.put_nowait(part)
        await self.gates[part].wait()
        return bytes(size)

    def reader(self):
        return nullcontext(self)

    async def next(self):
        async with asyncio.timeout(10):
            return await self.begun.get()


def make_pool(**settings):
    return DecoderPool(Pool(**{"slots": 2} | settings), "tests.integration.captures:perform")


def make_plan(number=0):
    return CapturePlan((EntryPlan(Selection(number=number), Rendition()),))


async def run(pool, source, number=0):
    return [event async for event in pool.capture(make_plan(number), source)]


def images(events):
    return [event.data for event in events if isinstance(event, Image)]


@pytest.fixture
async def pool():
    async with make_pool() as pool:
        yield pool
        assert pool.busy == 0


async def test_parts_come_in_order_though_later_ones_are_ready_first(pool):
    source = GatedSource(open_gates=[1, 2, 3, 4])
    task = asyncio.create_task(run(pool, source))
    assert {await source.next() for _ in range(5)} == {0, 1, 2, 3, 4}
    source.gates[0].set()
    *events, report = await task
    assert images(events) == ALL
    assert [event.index for event in events] == list(range(1, 11))
    assert isinstance(report, Report)
    assert (report.entries[0].count, report.frames_decoded) == (10, 15)
    assert pool.restarts == {}


@pytest.mark.parametrize("settings", [{"slots": 1}, {"split": False}])
async def test_nothing_is_cut_where_that_helps_nobody(settings):
    async with make_pool(**settings) as pool:
        source = GatedSource(open_gates=range(5))
        assert images(await run(pool, source)) == ALL[:2]
        assert source.begun.qsize() == 1


async def test_a_task_that_waits_goes_before_the_next_part(pool):
    long, short = GatedSource(), GatedSource(do="read_all", chunk=MIB)
    first = asyncio.create_task(run(pool, long))
    assert {await long.next(), await long.next()} == {0, 1}
    second = asyncio.create_task(run(pool, short))
    await asyncio.sleep(0)  # it has asked for a slot
    long.gates[1].set()
    assert await short.next() == 0
    assert pool.busy == 2
    assert long.begun.empty()
    for gate in (*long.gates, *short.gates):
        gate.set()
    assert images(await first) == ALL
    assert len(images(await second)) == 1


async def test_a_slot_that_becomes_free_later_takes_a_part():
    async with make_pool(slots=2) as pool:
        short, long = GatedSource(cuts=[1]), GatedSource()
        blocker = asyncio.create_task(run(pool, short, number=1))
        first_two = {await short.next(), await short.next()}
        assert first_two == {0, 1}
        other = asyncio.create_task(run(pool, long))
        short.gates[1].set()
        assert await long.next() == 0
        short.gates[0].set()
        await blocker
        assert await long.next() == 1
        for gate in long.gates:
            gate.set()
        assert images(await other) == ALL


async def test_a_crash_in_a_part_fails_the_capture_in_its_place(pool):
    source = GatedSource(open_gates=[1, 2, 3, 4], crash_in=1)
    async with aclosing(pool.capture(make_plan(), source)) as events:
        first = asyncio.ensure_future(anext(events))
        assert {await source.next(), await source.next()} == {0, 1}
        source.gates[0].set()
        assert (await first).data == ALL[0]
        assert (await anext(events)).data == ALL[1]
        with pytest.raises(TaskError, match="exit code 3") as caught:
            await anext(events)
    assert caught.value.code == Code.WORKER_CRASHED
    assert pool.restarts["crashed"] == 1
    assert images(await run(pool, GatedSource(open_gates=range(5)))) == ALL


async def test_a_failed_read_of_a_part_fails_the_capture(pool):
    source = GatedSource(open_gates=range(5))
    answer, error = source.read, TaskError(Code.STORAGE_UNAVAILABLE, "the store is down", retryable=True)

    async def read(offset, size):
        if offset == 3 * BLOCK_BYTES:
            raise error
        return await answer(offset, size)

    source.read = read
    with pytest.raises(TaskError) as caught:
        await run(pool, source)
    assert caught.value is error
    assert images(await run(pool, GatedSource(open_gates=range(5)))) == ALL


async def test_cancelling_ends_all_parts(pool):
    source = GatedSource()
    task = asyncio.create_task(run(pool, source))
    assert {await source.next(), await source.next()} == {0, 1}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (pool.busy, pool.restarts) == (0, {"canceled": 2})
    assert images(await run(pool, GatedSource(open_gates=range(5)))) == ALL


async def test_closing_early_ends_all_parts(pool):
    source = GatedSource(open_gates=[0], endless_in=0)
    async with aclosing(pool.capture(make_plan(), source)) as events:
        await anext(events)
        assert {await source.next(), await source.next()} == {0, 1}
        assert pool.busy == 2
    assert pool.busy == 0
    assert images(await run(pool, GatedSource(open_gates=range(5)))) == ALL


async def test_parts_that_nobody_needs_any_more_are_ended(pool):
    source = GatedSource(open_gates=[0, 1], endless_in=2)
    events = await run(pool, source, number=3)
    assert images(events) == ALL[:3]
    assert events[-1].entries[0].count == 3


async def test_a_later_part_waits_once_much_of_it_is_kept(tmp_path):
    """Of 100 MB of the second part, no more is taken than may be kept while the first part is at work."""
    async with make_pool(inflight_bytes=4 * MIB) as pool:
        source = GatedSource(open_gates=[1], count=100, size=MIB, cuts=[1])
        task = asyncio.create_task(run(pool, source))
        assert {await source.next(), await source.next()} == {0, 1}
        full = asyncio.Event()
        receive, taken = pool._receive, 0

        async def counted(slot, child, plan):
            nonlocal taken
            message = await receive(slot, child, plan)
            taken += isinstance(message, Image)
            if taken == 4:  # three are kept, with what they take beside their data, and one waits to be
                full.set()
            return message

        pool._receive = counted
        async with asyncio.timeout(10):
            await full.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert taken == 4
        source.gates[0].set()
        assert len(images(await task)) == 200


@pytest.mark.parametrize("cuts", [[], [2, 1], [1, 1], [0, 1], list(range(1, 1001))])
async def test_cuts_that_make_no_sense_are_garbage(pool, cuts):
    with pytest.raises(TaskError, match=f"sent garbage: {len(cuts)} cuts"):
        await run(pool, GatedSource(cuts=cuts))
