"""The fault tests use the end-to-end tests' broker, sources and workers."""

from urllib.parse import urlsplit

import pytest

from tests.e2e import conftest as e2e
from tests.e2e.proxy import proxy
from tests.e2e.store import store_settings
from tests.faults.kept import OnDisk
from tests.faults.ledger import Ledger

sources, broker, start, buckets, bucket, namespace = (
    e2e.sources, e2e.broker, e2e.start, e2e.buckets, e2e.bucket, e2e.namespace,
)  # fmt: skip


@pytest.fixture
def kept(buckets, namespace):
    """What the test's workers store."""
    return OnDisk(buckets, namespace)


@pytest.fixture
def local(start, buckets, kept):
    """Start workers on a directory of buckets, with their records in it."""

    def local(namespace: str, **settings: object):
        return start(namespace, **{"store__root": buckets, "records__uri": kept.records_uri} | settings)

    return local


@pytest.fixture
def way(seaweed_server):
    """The way of the workers to the S3 server."""
    with proxy(urlsplit(seaweed_server.endpoint).port) as one:
        yield one


@pytest.fixture
def remote(start, seaweed_server, kept, way):
    """Start workers on the S3 server, on that way. They try no request twice, so that a fault is seen at once."""
    usual = store_settings(seaweed_server) | {
        "store__endpoint_url": f"http://127.0.0.1:{way.port}",
        "store__max_attempts": 1,
        "store__timeout_s": 4,
        "records__uri": kept.records_uri,
    }

    def remote(namespace: str, **settings: object):
        return start(namespace, **usual | settings)

    return remote


@pytest.fixture
async def ledger(broker, namespace, kept):
    """What is accepted for the test's namespace, and what is heard of it."""
    book = Ledger(broker, namespace, kept)
    await book.open()
    yield book
    await book.close()
