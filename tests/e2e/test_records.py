"""What becomes of tasks whose worker dies at the worst moments, and of those that somebody cancels or replays.

Workers are killed where `proxy` sees them arrive: nothing in them knows of tests.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL
from urllib.parse import urlsplit

import pytest

from tests.e2e.bus import TERMINAL, bus
from tests.e2e.media import BUCKET, copy_sources, long_task, task
from tests.e2e.proxy import proxy
from tests.e2e.store import store_settings
from tests.e2e.worker_process import COMMAND, environment, gone

ACK = b"\x00\x3c\x00\x50"  # class and method of Basic.Ack
SMALL = {"Number": 3, "Width": 32, "Height": 32}


@dataclass
class Site:
    """A store with records in it, whose workers reach it and the broker through proxies."""

    settings: dict
    namespace: str
    read: object  # of a key, its bytes
    keys: object  # of a prefix
    broker: object  # the proxy before it
    store: object  # the proxy before it, if it is a server
    start: object
    url: str

    def worker(self, **more):
        return self.start(self.namespace, **self.settings | more)

    @property
    def prefix(self):
        return f"own-{self.namespace}"

    @property
    def records(self):
        """Their keys; what is still being written on a disk has a hidden name."""
        keys = self.keys(f"{self.prefix}/")
        return [key for key in keys if not key.endswith("probe.json") and "/.partial-" not in key]

    def record(self, task_id):
        name = hashlib.sha256(task_id.encode()).hexdigest()
        return json.loads(self.read(f"{self.prefix}/{name[:2]}/{name}.json"))

    def account(self, line, task_id, status="Succeeded"):
        """One record; one outcome, told under one id, word by word as recorded; every image that it lists is there."""
        assert len(self.records) == 1
        record = self.record(task_id)
        ends = [each for each in line.of(task_id) if each.status in TERMINAL]
        assert ends
        assert {each.body["id"] for each in ends} == {record["Event"]["Id"]}
        assert all(each.body == json.loads(record["Event"]["Body"]) for each in ends)
        assert (record["TaskId"], record["Status"]) == (task_id, status)
        for target in record["About"]["Result"]["Targets"]:
            for frame in (frame for entry in target["Image"]["Snapshots"] for frame in entry.get("Frames", [])):
                data = self.read(frame["URI"].removeprefix(f"oss://{BUCKET}/"))
                assert hashlib.sha256(data).hexdigest() == frame["Sha256"]
        return record, ends


@pytest.fixture
def broker_proxy(broker):
    with proxy(urlsplit(broker.url).port) as one:
        yield one


def _through(url, one):
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{one.port}").geturl()


@pytest.fixture
def on_s3(broker, broker_proxy, bucket, seaweed_server, start, namespace):
    with proxy(urlsplit(seaweed_server.endpoint).port) as one:
        settings = store_settings(seaweed_server) | {
            "store__endpoint_url": _through(seaweed_server.endpoint, one),
            "store__max_attempts": 1,
            "amqp_url": _through(broker.url, broker_proxy),
            "records__uri": f"s3://{BUCKET}/own-{namespace}",
        }
        yield Site(
            settings, namespace, lambda key: bucket.get(key)["Body"], bucket.keys, broker_proxy, one, start, broker.url
        )


@pytest.fixture
def on_disk(broker, broker_proxy, sources, start, namespace, tmp_path):
    root = copy_sources(sources, tmp_path / "buckets")
    settings = {
        "store__root": root,
        "amqp_url": _through(broker.url, broker_proxy),
        "records__uri": f"file://{BUCKET}/own-{namespace}",
    }
    folder = root / BUCKET

    def keys(prefix):
        return [str(path.relative_to(folder)) for path in (folder / prefix).rglob("*") if path.is_file()]

    return Site(
        settings, namespace, lambda key: (folder / key).read_bytes(), keys, broker_proxy, None, start, broker.url
    )


@pytest.fixture(params=["s3", "disk"])
def site(request):
    return request.getfixturevalue(f"on_{request.param}")


def short_task(site, **snapshot):
    return task({"URI": f"oss://{BUCKET}/{site.namespace}/{{index}}.jpg", **SMALL, **snapshot})


def starts(line, task_id):
    return [each.data.get("Progress") for each in line.of(task_id)].count(0)


def settled(worker):
    """How many deliveries were settled as a task of their own or as one that was over."""
    counts = worker.metrics()
    tasks = sum(value for name, value in counts.items() if name.startswith("tasks_total"))
    return tasks + counts["deliveries_deduplicated_total"]


async def reached(trap, times=1):
    await asyncio.to_thread(trap.wait, times)


def kill(worker):
    worker.signal(SIGKILL)
    assert worker.wait() == -SIGKILL


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


# --- the worker dies


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


def cancel_by_command(site, task_id):
    settings = {"amqp__url": site.url, "amqp__namespace": site.namespace}
    return subprocess.run(
        [str(COMMAND), "cancel", task_id],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def endless_task(site):
    """Far more than can be done in the time of a test."""
    return task({"URI": f"oss://{BUCKET}/{site.namespace}-long/{{index}}.avif", "Format": "avif", "Quality": 100})


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
        worker.until(lambda: worker.not_ready() != [], "the loss to be noticed")
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


def _succeeded(line, task_id, times):
    return line.statuses(task_id).count("Succeeded") == times


def _has_settled(worker, count):
    return settled(worker) == count
