"""The image at work, with the manifests' settings: it does tasks of a real broker and store, and drains at SIGTERM."""

import contextlib
import os
import secrets
from signal import SIGTERM

import pytest

from devkit import image
from devkit.ports import free_ports
from tests.deploy.manifests import built, worker_environment
from tests.e2e.bus import bus
from tests.e2e.media import BUCKET, LONG_FRAMES, long_task, make_sources
from tests.e2e.store import Bucket, store_settings
from tests.e2e.worker_process import WorkerProcess
from worker.adapters import landlock
from worker.cli.environment import PREFIX, SECRETS_DIR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
NOBODY = 65534


@pytest.fixture(scope="module")
def bucket(seaweed_server, tmp_path_factory):
    sources = make_sources(tmp_path_factory.mktemp("buckets"))
    seaweed_server.create_bucket(BUCKET)
    with contextlib.closing(seaweed_server.client()) as client:
        bucket = Bucket(client)
        bucket.put("videos/sample.mp4", sources.video.path)
        yield bucket


@pytest.fixture
def worker(built_image, broker, seaweed_server, tmp_path):
    """The worker in its image, set up as a pod of the production overlay, but for its broker, store and port."""
    (port,) = free_ports(1)
    namespace = f"image-{secrets.token_hex(4)}"
    store = store_settings(seaweed_server)
    hidden = {"amqp__url": broker.url} | {name: store.pop(name) for name in list(store) if "_key" in name}
    own = {"amqp__namespace": namespace, "http__host": "127.0.0.1", "http__port": str(port), "pool__slots": "2"} | store
    environment = worker_environment(built("production"))
    environment |= {f"{PREFIX}{name}".upper(): value for name, value in own.items()}
    environment[f"{PREFIX}EVENTS__PROGRESS_INTERVAL_S"] = "0.1"
    # What this kernel has must also be had by nobody without capabilities, behind the runtime's own filter.
    environment[f"{PREFIX}POOL__SANDBOX"] = "required" if landlock.version() else "best_effort"
    at, log = environment[SECRETS_DIR], tmp_path / "log"
    with image.serving(environment, secrets_from=secret(tmp_path, hidden), secrets_at=at, log=log) as process:
        worker = WorkerProcess(process, port, log, namespace)
        worker.until_ready()
        yield worker


def secret(directory, values):
    """Lay out a Secret as the kubelet does: readable by the pod's group only."""
    place = directory / "secrets"
    place.mkdir(mode=0o750)
    for name, value in values.items():
        path = place / f"{PREFIX.lower()}{name}"
        path.write_text(value)
        path.chmod(0o440)
        os.chown(path, 0, NOBODY)
    os.chown(place, 0, NOBODY)
    return place


async def test_a_task_that_runs_at_sigterm_is_finished_and_the_exit_status_is_0(worker, broker, bucket):
    async with bus(broker.url, worker.namespace) as line:
        first = await line.outcome(long_task("first"))
        task_id = await line.publish(long_task("drained"))
        await line.under_way(task_id)
        worker.signal(SIGTERM)
        last = await line.end_of(task_id)
        assert worker.wait() == 0, worker.log_tail()
        assert await line.settled(broker)
    for told, folder in ((first, "first"), (last, "drained")):
        assert told.status == "Succeeded", told.data
        assert len(bucket.keys(f"{folder}/")) == LONG_FRAMES
    assert {each["level"] for each in worker.log()} == {"info"} or not landlock.version()
    held = f"landlock_abi={landlock.version()} seccomp=True"
    assert any(held in each["event"] for each in worker.log()), worker.log_tail()
