"""What the end-to-end tests share: the sources, on disk and in S3, runs of all examples, one worker on S3, and
workers behind proxies."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from devkit.broker import Node
from tests.e2e.bus import bus
from tests.e2e.examples import Expected, Run, by_aio_pika, by_submit, expected_of, perform
from tests.e2e.media import BUCKET, Sources, copy_sources, make_sources
from tests.e2e.proxy import proxy
from tests.e2e.site import Site, through
from tests.e2e.store import Bucket, store_settings
from tests.e2e.worker_process import WorkerProcess, serving


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Sources:
    return make_sources(tmp_path_factory.mktemp("buckets"))


@pytest.fixture(scope="session")
def expected(sources) -> dict[str, Expected]:
    return expected_of(sources)


@pytest.fixture(scope="session")
def bucket(seaweed_server, sources) -> Iterator[Bucket]:
    """The sources' bucket, uploaded."""
    seaweed_server.create_bucket(BUCKET)
    with contextlib.closing(seaweed_server.client()) as client:
        bucket = Bucket(client)
        for path in sources.bucket.glob("*/*"):
            bucket.put(str(path.relative_to(sources.bucket)), path)
        yield bucket


@pytest.fixture(scope="session")
def broker(broker) -> Node:
    """The node, whose queues made from now on refresh their counts twice a second instead of every five."""
    broker.rabbitmqctl("eval", "application:set_env(rabbit, quorum_tick_interval, 500).")
    return broker


@pytest.fixture(scope="session")
def start(broker, tmp_path_factory):
    """Start workers: `with start(namespace, slots=1, …) as worker`."""

    def start(namespace: str, **settings: object):
        usual = {"amqp_url": broker.url, "events__progress_interval_s": 0.1}
        return serving(tmp_path_factory.mktemp(namespace), namespace=namespace, **usual | settings)

    return start


@pytest.fixture
def buckets(sources, tmp_path) -> Path:
    """A directory of buckets of the test's own, with the sources in it."""
    return copy_sources(sources, tmp_path / "buckets")


@pytest.fixture
def local(start, buckets):
    """Start workers on that directory."""

    def local(namespace: str, **settings: object):
        return start(namespace, store__root=buckets, **settings)

    return local


@pytest.fixture
def namespace() -> str:
    return new_namespace()


def new_namespace() -> str:
    return f"e2e-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def worker(start, bucket, seaweed_server) -> Iterator[WorkerProcess]:
    """A worker on S3 for all tests that leave it working."""
    with start(new_namespace(), **store_settings(seaweed_server)) as worker:
        yield worker


@pytest.fixture
async def line(broker, worker):
    """What goes to the shared worker and comes from it."""
    worker.until_ready()
    async with bus(broker.url, worker.namespace) as line:
        yield line


@pytest.fixture(scope="session")
def published(broker, bucket, start, seaweed_server) -> Run:
    """All examples, published with aio-pika."""
    with start(new_namespace(), **store_settings(seaweed_server)) as worker:
        return asyncio.run(perform(by_aio_pika, broker, bucket, worker))


@pytest.fixture(scope="session")
def submitted(broker, bucket, start, seaweed_server) -> Run:
    """All examples, published with `frame-capture submit`."""
    with start(new_namespace(), **store_settings(seaweed_server)) as worker:
        return asyncio.run(perform(by_submit, broker, bucket, worker))


@pytest.fixture
def broker_proxy(broker):
    with proxy(urlsplit(broker.url).port) as one:
        yield one


@pytest.fixture
def on_s3(broker, broker_proxy, bucket, seaweed_server, start, namespace) -> Iterator[Site]:
    """Workers on S3, behind proxies."""
    with proxy(urlsplit(seaweed_server.endpoint).port) as one:
        settings = store_settings(seaweed_server) | {
            "store__endpoint_url": through(seaweed_server.endpoint, one),
            "store__max_attempts": 1,
            "amqp_url": through(broker.url, broker_proxy),
            "records__uri": f"s3://{BUCKET}/own-{namespace}",
        }
        yield Site(
            settings, namespace, lambda key: bucket.get(key)["Body"], bucket.keys, broker_proxy, one, start, broker.url
        )


@pytest.fixture
def on_disk(broker, broker_proxy, sources, start, namespace, tmp_path) -> Site:
    """Workers on a directory, behind a proxy to the broker."""
    root = copy_sources(sources, tmp_path / "buckets")
    settings = {
        "store__root": root,
        "amqp_url": through(broker.url, broker_proxy),
        "records__uri": f"file://{BUCKET}/own-{namespace}",
    }
    folder = root / BUCKET

    def keys(prefix):
        return [str(path.relative_to(folder)) for path in (folder / prefix).rglob("*") if path.is_file()]

    return Site(
        settings, namespace, lambda key: (folder / key).read_bytes(), keys, broker_proxy, None, start, broker.url
    )


@pytest.fixture(params=["s3", "disk"])
def site(request) -> Site:
    """Either."""
    return request.getfixturevalue(f"on_{request.param}")
