"""The store as a whole is told apart from one object; its outage pauses work and costs no attempt."""

import asyncio
from time import monotonic

import pytest

from tests.handler_world import BODY, DENIED, DOWN, World
from tests.record_world import Keeping
from worker import outage, records
from worker.execution import FREE_OUTAGES
from worker.outage import StoreOutages


class Store:
    """A store as a whole: asking it raises `error`, if there is one."""

    def __init__(self, error=None):
        self.error = error
        self.asked = 0
        self.was_asked = asyncio.Event()

    async def check(self):
        self.asked += 1
        self.was_asked.set()
        await asyncio.sleep(0)
        if self.error:
            raise self.error


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(outage, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(outage, "LONGEST_PAUSE_S", 0.004)
    monkeypatch.setattr(records, "FIRST_PAUSE_S", 0.001)


async def asked_again(store, times):
    for _ in range(times):
        store.was_asked.clear()
        await store.was_asked.wait()


async def test_what_one_object_does_not_give_costs_its_task_an_attempt():
    store, paused = Store(), asyncio.Event()
    async with StoreOutages(store.check, paused) as outages:
        world = World(outages=outages)
        world.fail("stat", "videos/sample.mp4", DOWN)
        await world.do()
    assert (store.asked, paused.is_set()) == (1, False)
    ((delay_s, copy),) = world.broker.retried
    assert (delay_s, copy.headers["x-attempt"]) == (5, 2)


async def test_an_outage_pauses_work_at_no_attempts_cost_until_the_store_answers():
    store, paused = Store(DOWN), asyncio.Event()
    async with StoreOutages(store.check, paused) as outages:
        world = World(outages=outages)
        world.fail("write", "x-2.jpg", DOWN)
        await world.do(headers={"x-attempt": 5, "x-crashes": 1})  # it would be the last
        assert outages.active
        await asked_again(store, 3)
        assert paused.is_set()
        store.error = None
        await asyncio.wait({outages._probing})
        assert (paused.is_set(), outages.active) == (False, False)
    ((delay_s, copy),) = world.broker.retried
    assert (delay_s, copy.headers["x-attempt"], copy.headers["x-crashes"]) == (5, 5, 1)
    assert (world.statuses[-1], world.event["Attempt"], world.event["Code"]) == ("Retrying", 5, "StorageUnavailable")


async def test_what_meets_one_outage_after_another_pays_for_it_in_the_end():
    """It may be the task that brings the store down."""
    async with StoreOutages(Store(DOWN).check, asyncio.Event()) as outages:
        counts = []
        for met in (0, 1, FREE_OUTAGES - 1, FREE_OUTAGES):
            world = World(outages=outages)
            world.fail("write", "x-2.jpg", DOWN)
            await world.do(headers={"x-attempt": 2, "x-outages": met})
            ((_, copy),) = world.broker.retried
            counts.append((copy.headers["x-attempt"], copy.headers["x-outages"]))
    assert counts == [(2, 1), (2, 2), (2, FREE_OUTAGES), (3, 0)]


async def test_a_failure_that_does_not_pass_is_no_outage():
    store = Store(DOWN)
    async with StoreOutages(store.check, asyncio.Event()) as outages:
        world = World(outages=outages)
        world.fail("stat", "videos/sample.mp4", DENIED)
        await world.do()
    assert (store.asked, world.event["Code"]) == (0, "AccessDenied")


async def test_what_began_before_the_end_of_an_outage_is_explained_by_it():
    store, paused = Store(DOWN), asyncio.Event()
    async with StoreOutages(store.check, paused) as outages:
        before = monotonic()
        assert await outages.explains(before)
        store.error = None
        await asyncio.wait({outages._probing})
        asked = store.asked
        assert await outages.explains(before)
        assert store.asked == asked
        assert not await outages.explains(monotonic())


async def test_a_store_that_does_not_answer_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(outage, "ANSWER_S", 0.001)

    async def never():
        await asyncio.Event().wait()

    async with StoreOutages(never, asyncio.Event()) as outages:
        assert await outages.explains(monotonic())


async def test_a_bug_in_asking_the_store_is_an_outage_until_it_is_over(caplog):
    """A task must not go back at once for it, nor the pause end, nor the asking."""
    store, paused = Store(ZeroDivisionError()), asyncio.Event()
    async with StoreOutages(store.check, paused) as outages:
        world = World(outages=outages)
        world.fail("write", "x-2.jpg", DOWN)
        delivery = await world.do()
        await asked_again(store, 2)
        assert (paused.is_set(), outages.active) == (True, True)
        store.error = None
        await asyncio.wait({outages._probing})
        assert not paused.is_set()
    assert (delivery.settled, len(world.broker.retried)) == ("acked", 1)
    assert "unexpected error while asking the store" in caplog.text


async def test_many_failures_at_once_begin_one_outage():
    store, paused = Store(DOWN), asyncio.Event()
    async with StoreOutages(store.check, paused) as outages:
        now = monotonic()
        assert await asyncio.gather(*(outages.explains(now) for _ in range(5))) == [True] * 5
        assert store.asked == 5
        before = outages._probing
        assert await outages.explains(now)
        assert (outages._probing, store.asked) == (before, 5)


async def test_leaving_ends_the_pause():
    paused = asyncio.Event()
    async with StoreOutages(Store(DOWN).check, paused) as outages:
        await outages.explains(monotonic())
        await asyncio.sleep(0)
        assert paused.is_set()
    assert not paused.is_set()


async def test_records_out_of_reach_have_the_store_asked():
    store, paused = Store(DOWN), asyncio.Event()
    async with StoreOutages(store.check, paused) as outages:
        world = Keeping(outages=outages, hold_s=60)
        down = True

        async def before(operation, what):
            await asyncio.sleep(0)
            if down:
                raise DOWN

        world.kept.before = before
        task = world.start(world.broker.deliver(BODY))
        await asked_again(store, 2)
        assert paused.is_set()
        down, store.error = False, None
        await task
    assert world.statuses == ["Running", "Succeeded"]
