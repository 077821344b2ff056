"""What becomes of tasks that somebody cancels: running, queued, finished, or with nobody there to hear it."""

import asyncio
import time

from tests.e2e.bus import bus
from tests.e2e.site import cancel_by_command, endless_task, kill, short_task
from tests.e2e.worker_process import gone


async def test_a_running_task_is_cancelled_within_a_second(site, broker):
    with site.worker(pool__slots=1) as worker:
        async with bus(site.url, site.namespace) as line:
            task_id = await line.publish(endless_task(site))
            await line.under_way(task_id)
            decoder = worker.family()[1]
            asked = time.monotonic()
            await line.cancel(task_id)
            told = await line.end_of(task_id)
            assert time.monotonic() - asked < 1
            assert gone([decoder])
            assert time.monotonic() - asked < 1
            await line.settled(broker)
            record, _ = site.account(line, task_id, "Canceled")
            assert (told.status, told.data["Code"], told.routing_key) == (
                "Canceled",
                "Canceled",
                "default.demo.Canceled",
            )
            (snapshot,) = told.snapshots
            listed = {
                frame["URI"] for frame in record["About"]["Result"]["Targets"][0]["Image"]["Snapshots"][0]["Frames"]
            }
            assert snapshot["Count"] == len(listed) > 0
            assert (await line.outcome(short_task(site))).status == "Succeeded"
            assert worker.metrics()["tasks_total interval canceled"] == 1


async def test_a_queued_task_is_cancelled_by_command_before_it_begins(on_disk, broker):
    site = on_disk
    with site.worker(pool__slots=1):
        async with bus(site.url, site.namespace) as line:
            running = await line.publish(endless_task(site))
            await line.under_way(running)
            waiting = await line.publish(short_task(site))
            done = await asyncio.to_thread(cancel_by_command, site, waiting)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            assert waiting in done.stdout
            await line.cancel(running)
            await line.ended([running, waiting])
            await line.settled(broker)
    assert line.statuses(waiting) == ["Canceled"]


async def test_a_request_outlives_the_workers_that_heard_it(on_disk, broker):
    site = on_disk
    with site.worker(pool__slots=1) as worker:
        async with bus(site.url, site.namespace) as line:
            running = await line.publish(endless_task(site))
            await line.under_way(running)
            waiting = await line.publish(short_task(site))
            await line.cancel(waiting)
            worker.until(lambda: site.records, "the request to be on record")
            kill(worker)
            with site.worker():
                await line.end_of(waiting)
                assert line.statuses(waiting) == ["Canceled"]
                await line.cancel(running)
                await line.end_of(running)
                await line.settled(broker)


async def test_cancelling_a_finished_task_changes_nothing(on_disk, broker):
    site = on_disk
    with site.worker():
        async with bus(site.url, site.namespace) as line:
            message = short_task(site)
            task_id = await line.publish(message)
            await line.end_of(task_id)
            before = site.record(task_id)
            done = await asyncio.to_thread(cancel_by_command, site, task_id)
            assert done.returncode == 0
            await line.publish(message, task_id)
            await line.until(lambda: line.statuses(task_id).count("Succeeded") == 2, "the end to be told again")
            await line.settled(broker)
            site.account(line, task_id)
    assert site.record(task_id) == before


async def test_requests_are_heard_again_after_the_broker_was_away(on_disk, broker):
    site = on_disk
    with site.worker(pool__slots=1) as worker:
        async with bus(site.url, site.namespace) as line:
            broker.rabbitmqctl("close_all_connections", "test")
        worker.until(lambda: worker.metrics()["amqp_reconnects"] >= 2, "both connections to be back")
        worker.until_ready()
        async with bus(site.url, site.namespace) as line:
            task_id = await line.publish(endless_task(site))
            await line.under_way(task_id)
            await line.cancel(task_id)
            assert (await line.end_of(task_id)).status == "Canceled"
            await line.settled(broker)


async def test_a_command_that_no_worker_hears_says_so(on_disk):
    site = on_disk
    with site.worker():
        pass
    done = await asyncio.to_thread(cancel_by_command, site, "task-1")
    assert done.returncode == 1
    assert done.stderr == f"frame-capture: no worker listens to the exchange {site.namespace}.control\n"
