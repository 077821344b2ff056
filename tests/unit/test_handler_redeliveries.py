"""A message that is delivered again while its task runs joins it; another one under its id is refused."""

import asyncio
import json
from itertools import pairwise

from tests.corpus.messages import snapshot
from tests.handler_world import BODY, DOWN, Gate, turns


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
