"""Which part of a capture begins when, what is kept of later ones, and whose turn it is for a slot."""

import asyncio
from fractions import Fraction

import pytest

from worker.adapters.decoder_slot import Slot
from worker.adapters.parts import EVENT_BYTES, PartsAtWork
from worker.adapters.turns import Claim, Turns
from worker.errors import TaskError
from worker.media.plan import Image, Progress

BOUND = 10 * (EVENT_BYTES + 10)


def image(part, number, size=10):
    zero = Fraction(0)
    return Image(part, number, zero, zero, number, True, 1, 1, bytes(size), "")


class Parts:
    """Parts that each have `slots` permits and give `count` images; records who has begun, given and ended."""

    def __init__(self, number, slots=2, count=3, size=10, fails=None):
        self.begun, self.given, self.ended = [], [], []
        self.gates = [asyncio.Event() for _ in range(number)]
        self._slots = asyncio.Semaphore(slots)
        self._count, self._size, self._fails = count, size, fails
        self.work = PartsAtWork(number, self.start, BOUND)

    async def start(self, part, begun):
        async with self._slots:
            begun()
            self.begun.append(part)
            try:
                await self.gates[part].wait()
                for number in range(self._count):
                    if (part, number) == self._fails:
                        raise TaskError("CorruptMedia", "broken")
                    self.given.append(part)
                    yield image(part, number, self._size)
            finally:
                self.ended.append(part)

    def open(self, *parts):
        for part in parts or range(len(self.gates)):
            self.gates[part].set()


async def settle():
    """Let everything happen that can: nothing here waits for more than other tasks."""
    for _ in range(200):
        await asyncio.sleep(0)


async def drain(events):
    return [(event.entry, event.index) async for event in events]


async def test_events_come_part_after_part_whichever_is_ready_first():
    parts = Parts(4)
    task = asyncio.create_task(drain(parts.work.events()))
    parts.open(1, 2, 3)
    await settle()
    assert parts.ended == [1, 2, 3]
    parts.open(0)
    assert await task == [(part, number) for part in range(4) for number in range(3)]


async def test_parts_begin_in_order():
    parts = Parts(6, slots=2)
    parts.open()
    await drain(parts.work.events())
    assert parts.begun == [0, 1, 2, 3, 4, 5]


async def test_what_is_kept_is_bounded_and_no_part_begins_meanwhile():
    parts = Parts(5, slots=4, count=8, size=EVENT_BYTES + 20)
    task = asyncio.create_task(drain(parts.work.events()))
    await settle()
    parts.open(1, 2, 3, 4)
    await settle()
    assert parts.begun == [0, 1, 2, 3]
    assert len(parts.given) <= BOUND // (2 * EVENT_BYTES + 20) + 3  # one each waits to be kept
    parts.open(0)
    assert len(await task) == 40


async def test_progress_is_kept_within_the_same_bound():
    """A decoder that was taken over may tell it without end, long before its turn."""
    given = 0

    async def start(part, begun):
        nonlocal given
        begun()
        while part:
            given += 1
            await asyncio.sleep(0)
            yield Progress(0.5)
        await asyncio.Event().wait()

    task = asyncio.create_task(drain(PartsAtWork(2, start, BOUND).events()))
    await settle()
    assert given == BOUND // EVENT_BYTES + 1
    task.cancel()
    await asyncio.wait({task})


async def test_an_image_larger_than_the_bound_still_comes():
    parts = Parts(3, size=5 * BOUND)
    parts.open()
    assert len(await drain(parts.work.events())) == 9


async def test_a_consumer_that_stops_stops_all_parts():
    parts = Parts(3, slots=3, count=50)
    parts.open()
    events = parts.work.events()
    await anext(events)
    await settle()
    assert len(parts.given) <= BOUND // (EVENT_BYTES + 10) + 4
    await events.aclose()
    assert sorted(parts.ended) == sorted(parts.begun)


async def test_a_failure_comes_in_its_place_and_ends_the_rest():
    parts = Parts(5, slots=2, fails=(1, 2))
    events = parts.work.events()
    first = asyncio.ensure_future(anext(events))
    parts.open(1)
    await settle()
    assert parts.ended == [1]
    parts.open()
    given = [(await first).index]
    given += [(await anext(events)).index for _ in range(4)]
    with pytest.raises(TaskError, match="broken"):
        await anext(events)
    assert given == [0, 1, 2, 0, 1]
    assert 4 not in parts.begun
    assert sorted(parts.ended) == sorted(parts.begun)


async def test_cancelling_ends_every_part():
    parts = Parts(4, slots=2)
    task = asyncio.create_task(drain(parts.work.events()))
    await settle()
    assert parts.begun == [0, 1]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(parts.ended) == [0, 1]


# --- turns


@pytest.fixture
async def slots():
    starting = asyncio.ensure_future(asyncio.sleep(0))
    await starting
    return [Slot(starting) for _ in range(3)]


async def test_slots_go_first_come_first_served(slots):
    turns, order = Turns(), []

    async def take(name):
        await turns.take(Claim())
        order.append(name)

    tasks = [asyncio.create_task(take(name)) for name in "abc"]
    await settle()
    for slot in slots:
        turns.give_back(slot)
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]


async def test_who_holds_none_goes_before_who_holds_some(slots):
    turns, holder = Turns(), Claim()
    turns.give_back(slots[0])
    turns.give_back(slots[1])
    held = [await turns.take(holder), await turns.take(holder)]
    assert held == slots[:2]
    more = asyncio.create_task(turns.take(holder))
    await settle()
    newcomer = asyncio.create_task(turns.take(Claim()))
    await settle()
    turns.give_back(slots[0], holder)
    await settle()
    assert (newcomer.done(), more.done(), holder.held) == (True, False, 1)
    turns.give_back(slots[1], holder)
    assert await more is slots[1]
    assert not slots[1].idle


@pytest.mark.parametrize("given_first", [False, True])
async def test_who_is_cancelled_takes_no_slot_away(slots, given_first):
    turns, claim = Turns(), Claim()
    task = asyncio.create_task(turns.take(claim))
    await settle()
    if given_first:
        turns.give_back(slots[0])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if not given_first:
        turns.give_back(slots[0])
    assert claim.held == 0
    assert slots[0].idle
    assert await turns.take(Claim()) is slots[0]
