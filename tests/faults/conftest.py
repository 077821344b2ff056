"""The fault tests use the end-to-end tests' broker, sources and workers."""

import pytest

from tests.e2e import conftest as e2e
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
async def ledger(broker, namespace, kept):
    """What is accepted for the test's namespace, and what is heard of it."""
    book = Ledger(broker, namespace, kept)
    await book.open()
    yield book
    await book.close()
