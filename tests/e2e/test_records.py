"""What records do for tasks while their store is out of reach, and for those that are replayed or published anew."""

import os
from functools import partial
from pathlib import Path

from tests.e2e.bus import bus
from tests.e2e.media import BUCKET
from tests.e2e.site import reached, settled, short_task, starts

# --- the store of records is out of reach


async def test_while_records_are_out_of_reach_tasks_wait_at_no_attempts_cost(on_s3, broker):
    site = on_s3
    with site.worker() as worker:
        async with bus(site.url, site.namespace) as line:
            trap = site.store.set(f" /{BUCKET}/{site.prefix}/".encode(), "cut")
            tasks = [
                await line.publish(short_task(site, URI=f"oss://{BUCKET}/{site.namespace}/{n}-{{index}}.jpg"))
                for n in range(3)
            ]
            await reached(trap, 6)
            assert line.told == []
            site.store.open(trap)
            await line.ended(tasks)
            await line.settled(broker)
            assert worker.metrics()["retries_total"] == 0
    assert {each.data["Attempt"] for each in line.told} == {1}
    assert [starts(line, each) for each in tasks] == [1, 1, 1]


# --- replayed, or taken for another


async def test_a_failed_task_is_replayed_as_a_new_run_only(on_disk, broker):
    site = on_disk
    source = Path(site.settings["store__root"]) / BUCKET / "videos" / "late.mp4"
    message = short_task(site) | {"Sources": [{"URI": f"oss://{BUCKET}/videos/late.mp4"}]}
    with site.worker() as worker:
        async with bus(site.url, site.namespace) as line:
            task_id = await line.publish(message)
            first = await line.end_of(task_id)
            worker.until(lambda: settled(worker) == 1, "the acknowledgement")  # else the next would join it
            assert first.data["Code"] == "ResourceNotFound"
            os.link(source.with_name("sample.mp4"), source)
            await line.publish(message, task_id)
            await line.until(lambda: line.statuses(task_id).count("Failed") == 2, "the same failure again")
            assert line.of(task_id)[-1].body == first.body
            for times in (1, 2):
                await line.publish(message, task_id, headers={"x-run": "again"})
                succeeded = partial(_succeeded, line, task_id, times)
                await line.until(succeeded, "success")
                worker.until(partial(_has_settled, worker, times + 2), "the acknowledgement")
            await line.settled(broker, dead_main=(2, 0))
    assert starts(line, task_id) == 1
    record = site.record(task_id)
    assert (record["Status"], record["Runs"], len(site.records)) == ("Succeeded", ["", "again"], 1)


async def test_another_message_with_the_id_of_a_finished_task_is_parked(on_disk, broker):
    site = on_disk
    with site.worker():
        async with bus(site.url, site.namespace) as line:
            task_id = await line.publish(short_task(site))
            await line.end_of(task_id)
            before = site.record(task_id)
            await line.publish(short_task(site, Number=1), task_id)
            await line.until(lambda: "Failed" in line.statuses(task_id), "the refusal")
            await line.settled(broker, dead_main=(1, 0))
    told = line.of(task_id)[-1].data
    assert (told["Code"], told["Message"]) == ("InvalidArgument", f"TaskId {task_id} was used for another message")
    assert site.record(task_id) == before


# --- cancelled


def _succeeded(line, task_id, times):
    return line.statuses(task_id).count("Succeeded") == times


def _has_settled(worker, count):
    return settled(worker) == count
