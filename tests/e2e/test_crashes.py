"""What a task, and its neighbour, notice of a decoder or of a whole worker that is killed or told to stop."""

import hashlib
import io
import json
import os
from itertools import groupby
from signal import SIGKILL, SIGTERM

from PIL import Image

from tests.e2e.bus import TERMINAL, bus
from tests.e2e.media import BUCKET, LONG_FRAMES, long_task, task
from tests.e2e.worker_process import gone

WHOLE_EVENTS = {"events__inline_bytes": 2**20}  # with all frames of a long task in them


def steps(line, task_id: str) -> list[str]:
    """The statuses of a task in turn, repeated ones once."""
    return [status for status, _ in groupby(line.statuses(task_id))]


def starts(line, task_id: str) -> int:
    """How often a task was begun: progress is told only as more than 0."""
    return [each.data.get("Progress") for each in line.of(task_id)].count(0)


def over(line, *task_ids: str) -> bool:
    return any(each.status in TERMINAL for task_id in task_ids for each in line.of(task_id))


def assert_complete(buckets, told, *, after_kill=False):
    """All frames are there, each file is what the manifest says, and there is nothing else.

    What a killed worker was writing keeps its hidden name, which no task can read or write.
    """
    (snapshot,) = told.snapshots
    assert (told.status, snapshot["Count"]) == ("Succeeded", LONG_FRAMES)
    files = {buckets / frame["URI"].removeprefix("oss://"): frame for frame in snapshot["Frames"]}
    found = set(next(iter(files)).parent.iterdir())
    hidden = {path for path in found if path.name.startswith(".partial-")}
    assert found - hidden == set(files)
    assert after_kill or not hidden
    for path, frame in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == frame["Sha256"]


async def test_a_killed_decoder_costs_its_task_one_attempt_and_its_neighbour_nothing(local, broker, namespace, buckets):
    with local(namespace, pool__split=False, **WHOLE_EVENTS) as worker:
        async with bus(broker.url, namespace) as line:
            victim = await line.publish(long_task("victim"))
            await line.under_way(victim)
            worker.until(worker.only_busy_decoder, "a decoder to be at work")
            decoder = worker.only_busy_decoder()
            neighbour = await line.publish(long_task("neighbour"))
            await line.under_way(neighbour)
            assert not over(line, victim, neighbour)
            os.kill(decoder, SIGKILL)
            await line.ended([victim, neighbour])
            await line.settled(broker)
        metrics = worker.metrics()

    assert steps(line, victim) == ["Running", "Retrying", "Running", "Succeeded"]
    assert starts(line, victim) == 2
    retrying = next(each for each in line.of(victim) if each.status == "Retrying")
    assert retrying.routing_key == "default.demo.Retrying"
    assert (retrying.data["Code"], retrying.data["Attempt"], retrying.data["RetryAfter"]) == ("WorkerCrashed", 2, 1)
    assert "SIGKILL" in retrying.data["Message"]
    assert line.of(victim)[-1].data["Attempt"] == 2
    assert_complete(buckets, line.of(victim)[-1])

    assert steps(line, neighbour) == ["Running", "Succeeded"]
    assert starts(line, neighbour) == 1
    assert {each.data["Attempt"] for each in line.of(neighbour)} == {1}
    assert_complete(buckets, line.of(neighbour)[-1])

    assert metrics["tasks_total interval succeeded"] == 2
    assert metrics["tasks_total interval postponed"] == metrics["retries_total"] == 1
    assert metrics["task_failures_total WorkerCrashed"] == 1
    assert metrics["decoder_restarts crashed"] == 1
    assert metrics["decoders"] == 2


async def test_a_worker_told_to_stop_finishes_its_task_and_leaves_the_others(local, broker, namespace, buckets):
    with local(namespace, pool__slots=1, **WHOLE_EVENTS) as worker:
        async with bus(broker.url, namespace) as line:
            running = await line.publish(long_task("drained"))
            waiting = [await line.publish(task()) for _ in range(3)]
            await line.under_way(running)
            assert not over(line, running)
            worker.signal(SIGTERM)
            worker.until(lambda: worker.not_ready() != [], "the worker to say that it is not ready")
            assert "draining" in (worker.not_ready() or [])
            assert worker.wait() == 0
            await line.end_of(running)
            assert {each.task_id for each in line.told} == {running}
            assert worker.log()[-1]["in_time"] is True
            await line.settled(broker, tasks_main=(3, 0))

            with local(namespace, **WHOLE_EVENTS):
                await line.ended(waiting)
                await line.settled(broker)
    assert_complete(buckets, line.of(running)[-1])
    for task_id in waiting:
        assert steps(line, task_id) == ["Running", "Succeeded"]
        assert line.of(task_id)[-1].data["Attempt"] == 1


async def test_a_killed_worker_leaves_no_process_and_its_task_is_done_by_the_next(local, broker, namespace, buckets):
    with local(namespace, pool__slots=1, **WHOLE_EVENTS) as worker:
        async with bus(broker.url, namespace) as line:
            task_id = await line.publish(long_task("resumed"))
            worker.until(lambda: stored(buckets / BUCKET / "resumed"), "the first images to be stored")
            assert not over(line, task_id)
            family = worker.family()
            assert len(family) == 2
            worker.signal(SIGKILL)
            assert worker.wait() == -SIGKILL
            assert gone(family)
            assert_whole(buckets / BUCKET / "resumed")

            with local(namespace, **WHOLE_EVENTS):
                await line.end_of(task_id)
                await line.settled(broker)
    assert steps(line, task_id) == ["Running", "Succeeded"]
    assert starts(line, task_id) == 2
    assert {each.data["Attempt"] for each in line.of(task_id)} == {1}
    assert_complete(buckets, line.of(task_id)[-1], after_kill=True)


def stored(folder):
    """The images that are there under their own names."""
    return list(folder.glob("*.jpg"))


def assert_whole(folder):
    """There are images, and none of them is cut off."""
    images = stored(folder)
    assert images
    for path in images:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()


async def test_health_tells_of_a_lost_broker_and_work_goes_on_when_it_is_back(local, broker, namespace):
    with local(namespace) as worker:
        assert worker.get("/livez") == (200, json.dumps({"status": "alive"}))
        assert worker.get("/readyz") == (200, json.dumps({"status": "ready", "reasons": []}))
        try:
            broker.rabbitmqctl("stop_app")
            worker.until(lambda: "no connection to the broker" in (worker.not_ready() or []), "the loss to be noticed")
            assert "not consuming" in (worker.not_ready() or [])
            assert worker.metrics()["amqp_connected"] == worker.metrics()["consuming"] == 0
            assert worker.get("/livez")[0] == 200
        finally:
            broker.rabbitmqctl("start_app")
        worker.until_ready()
        async with bus(broker.url, namespace) as line:
            assert (await line.outcome(task())).status == "Succeeded"
        assert worker.metrics()["amqp_reconnects"] >= 2
