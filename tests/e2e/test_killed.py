"""What becomes of tasks whose worker dies at the worst moments.

Workers are killed where `proxy` sees them arrive: nothing in them knows of tests.
"""

import contextlib
import os
from signal import SIGKILL

from tests.e2e.bus import TERMINAL, bus
from tests.e2e.media import BUCKET, long_task, task
from tests.e2e.site import kill, reached, short_task, starts

ACK = b"\x00\x3c\x00\x50"  # class and method of Basic.Ack


@contextlib.asynccontextmanager
async def killed_at(site, where, word, how="hold", message=None):
    """Kill a worker that has come to where it says `word`; another one has begun to serve inside the block."""
    with site.worker() as worker:
        async with bus(site.url, site.namespace) as line:
            trap = where.set(word, how)
            task_id = await line.publish(message or short_task(site))
            await reached(trap)
            if how == "silent":
                await line.end_of(task_id)
            kill(worker)
            where.open(trap, drop=True)
            with site.worker() as next_one:
                yield line, task_id, next_one


async def test_killed_between_images_and_record_the_task_is_done_anew(on_s3, broker):
    site = on_s3
    word = f"PUT /{BUCKET}/{site.prefix}/".encode()
    async with killed_at(site, site.store, word) as (line, task_id, _):
        await line.end_of(task_id)
        await line.settled(broker)
        _, ends = site.account(line, task_id)
    assert (len(ends), starts(line, task_id)) == (1, 2)


async def test_killed_between_record_and_event_only_the_event_is_left_to_tell(site, broker):
    async with killed_at(site, site.broker, b".Succeeded") as (line, task_id, worker):
        assert site.record(task_id)["Status"] == "Succeeded"
        assert "Succeeded" not in line.statuses(task_id)
        await line.end_of(task_id)
        await line.settled(broker)
        _, ends = site.account(line, task_id)
        assert worker.metrics()["deliveries_deduplicated_total"] == 1
    assert (len(ends), starts(line, task_id)) == (1, 1)


async def test_killed_before_the_event_is_confirmed_it_is_told_twice_under_one_id(site, broker):
    async with killed_at(site, site.broker, b".Succeeded", "silent") as (line, task_id, _):
        await line.until(lambda: line.statuses(task_id).count("Succeeded") == 2, "the event to be told again")
        await line.settled(broker)
        _, ends = site.account(line, task_id)
    assert (len(ends), starts(line, task_id)) == (2, 1)


async def test_killed_before_the_acknowledgement_the_event_is_told_twice_under_one_id(site, broker):
    async with killed_at(site, site.broker, ACK) as (line, task_id, _):
        await line.until(lambda: line.statuses(task_id).count("Succeeded") == 2, "the event to be told again")
        await line.settled(broker)
        _, ends = site.account(line, task_id)
    assert (len(ends), starts(line, task_id)) == (2, 1)


async def test_killed_between_a_failures_record_and_its_parking_it_is_parked(on_s3, broker):
    site = on_s3
    message = task(source="videos/nowhere.mp4")
    async with killed_at(site, site.broker, b".Failed", message=message) as (line, task_id, _):
        await line.end_of(task_id)
        await line.settled(broker, dead_main=(1, 0))
        site.account(line, task_id, "Failed")
        (parked,) = await line.parked()
    assert parked.message_id == task_id


async def test_killed_between_retry_copy_and_acknowledgement_one_of_the_two_counts(site, broker):
    with site.worker(pool__slots=1) as worker:
        async with bus(site.url, site.namespace) as line:
            trap = site.broker.set(ACK)
            task_id = await line.publish(long_task(site.namespace))
            await line.under_way(task_id)
            worker.until(worker.only_busy_decoder, "a decoder to be at work") if len(worker.family()) > 2 else None
            os.kill(worker.family()[1], SIGKILL)
            await reached(trap)
            kill(worker)
            site.broker.open(trap, drop=True)
            with site.worker():
                await line.end_of(task_id)
                await line.settled(broker)
                site.account(line, task_id)
    assert "Retrying" in line.statuses(task_id)


async def test_two_workers_that_do_the_same_task_at_once_commit_it_once(on_s3, broker):
    site = on_s3
    with site.worker(pool__slots=1), site.worker(pool__slots=1):
        async with bus(site.url, site.namespace) as line:
            trap = site.store.set(f"PUT /{BUCKET}/{site.prefix}/".encode())
            message = short_task(site)
            task_id = await line.publish(message)
            await line.until(lambda: starts(line, task_id) == 1, "the first to begin")
            await line.publish(message, task_id)
            await reached(trap, 2)
            site.store.open(trap)
            await line.until(lambda: line.statuses(task_id).count("Succeeded") == 2, "both to tell the end")
            await line.settled(broker)
            _, ends = site.account(line, task_id)
    assert (len(ends), starts(line, task_id)) == (2, 2)


async def test_without_records_a_killed_workers_task_is_done_anew_with_the_same_event_id(on_disk, broker):
    site = on_disk
    site.settings["records__uri"] = ""
    async with killed_at(site, site.broker, ACK) as (line, task_id, _):
        await line.until(lambda: line.statuses(task_id).count("Succeeded") == 2, "the second run to end")
        await line.settled(broker)
    ends = [each for each in line.of(task_id) if each.status in TERMINAL]
    assert (len({each.body["id"] for each in ends}), starts(line, task_id)) == (1, 2)
    assert site.records == []
