"""The fault tests use the end-to-end tests' broker, sources and workers."""

import pytest

from tests.e2e import conftest as e2e
from tests.faults.ledger import Ledger

sources, broker, start, buckets, local, namespace = (
    e2e.sources, e2e.broker, e2e.start, e2e.buckets, e2e.local, e2e.namespace,
)  # fmt: skip


@pytest.fixture
async def ledger(broker, namespace):
    """What is accepted for the test's namespace, and what is heard of it."""
    book = Ledger(broker, namespace)
    await book.open()
    yield book
    await book.close()
