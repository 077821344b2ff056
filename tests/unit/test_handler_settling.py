"""When a delivery is given back or left alone, not acknowledged: a lost broker, bugs of ours, the end of the drain."""

import asyncio
from datetime import datetime

import pytest

from tests.handler_world import BODY, DENIED, DOWN, Gate, turns

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


async def test_a_bug_in_naming_a_message_for_the_log_gives_it_back(world, monkeypatch, caplog):
    """It would end the worker, and the next one that gets the message."""
    monkeypatch.setattr("worker.handler.log_names", lambda delivery: 1 / 0)
    await world.do()
    assert world.journal == ["give back 1"]
    assert "unexpected error, the message goes back" in caplog.text
