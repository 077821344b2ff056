"""A store with records whose workers reach it and the broker through proxies, and what tests do with such workers.

Nothing in the workers knows of tests: they are held up, cut off and killed where a proxy sees them arrive.
"""

import asyncio
import hashlib
import json
import subprocess
from dataclasses import dataclass
from signal import SIGKILL
from urllib.parse import urlsplit

from tests.e2e.bus import TERMINAL
from tests.e2e.media import BUCKET, task
from tests.e2e.worker_process import COMMAND, environment

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


def through(url, one):
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{one.port}").geturl()


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
