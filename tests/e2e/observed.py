"""A worker and its broker at work under the eyes of a Prometheus, for tests of what is asked of it."""

import json
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import yaml

from devkit.broker import broker
from devkit.prometheus import Prometheus, prometheus
from tests.e2e.bus import Bus, bus
from tests.e2e.media import task
from tests.e2e.worker_process import WorkerProcess, serving

SCRAPE_S = 0.5
CONFIG = Path(__file__).parents[2] / "deploy" / "compose" / "prometheus.yaml"

# One task of each mode, some that fail, and one that nobody can do: by the name that its project has.
TASKS = {
    "shop": task({"Number": 5, "Interval": 2, "Width": 320}),
    "archive": task(
        {"Mode": "keyframe", "Number": 20, "Width": 640}, {"Mode": "average", "Number": 3, "Format": "png"}
    ),
    "news": task({"Mode": "dhash", "Interval": 1, "Threshold": 15, "Format": "webp"}),
    "forum": task(source="videos/no-such.mp4"),
    "mirror": task(source="videos/no-index.mp4"),
    "typo": {"Sources": "everything"},
}


@dataclass(frozen=True)
class Observed:
    """What is running."""

    url: str
    worker: WorkerProcess
    prometheus: Prometheus
    started: float

    async def work(self, line: Bus, tasks: int) -> None:
        """Send tasks of all kinds at once, and wait until they are over."""
        sent = [
            await line.publish(body | {"ProjectName": name}, timestamp=datetime.now(UTC))
            for name, body in islice(cycle(TASKS.items()), tasks)
        ]
        await line.ended(sent)

    def kill_a_decoder(self) -> None:
        """End a decoder as a crash would."""
        with suppress(ProcessLookupError):
            os.kill(self.worker.family()[-1], signal.SIGKILL)


@contextmanager
def observed(directory, buckets, rules):
    """Run all of it until the block ends; `rules` are the alerts', as a PrometheusRule's `spec` has them."""
    (directory / "rules.json").write_text(json.dumps(rules))
    with broker(metrics=True) as node:
        node.rabbitmqctl("eval", "application:set_env(rabbit, quorum_tick_interval, 500).")
        with serving(directory, amqp_url=node.url, namespace="frame-capture", store__root=buckets) as worker:
            own, theirs = yaml.safe_load(CONFIG.read_text())["scrape_configs"]
            jobs = [_job(own, worker.port), _job(theirs, node.metrics_port)]
            with prometheus(jobs, interval_s=SCRAPE_S, rules=directory / "rules.json") as server:
                yield Observed(node.url, worker, server, time.time())


def _job(configured, port):
    """Scrape what `deploy/compose.yaml` scrapes, but here."""
    kept = {name: value for name, value in configured.items() if name in ("job_name", "metrics_path", "params")}
    labels = {"namespace": "test", "pod": f"{configured['job_name']}-0"}
    return kept | {"static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": labels}]}


def listening(seen: Observed):
    return bus(seen.url, "frame-capture")
