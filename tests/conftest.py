"""Servers that tests share, one for the whole run each."""

import logging
import secrets
from pathlib import Path

import aiormq
import hypothesis
import pytest

from devkit.broker import broker as run_broker
from devkit.s3 import seaweed
from tests import formats
from worker.adapters.topology import topology
from worker.settings import Amqp, Retry

# A time limit for each example fails on a busy machine only; what may not take long has a test that counts CPU time.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")


def pytest_addoption(parser):
    parser.addoption("--write-formats", type=Path, help="write the table of compared captures to this file")
    parser.addoption("--draw-dashboard", type=Path, help="draw the dashboard after three minutes' work into this file")


def pytest_sessionfinish(session, exitstatus):
    path = session.config.getoption("--write-formats")
    if path is not None and exitstatus == 0:
        formats.write(path)


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Take back what a command that runs within a test did to logging."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def seaweed_server():
    """Run a private S3 server; tests make buckets of their own in it."""
    with seaweed() as server:
        yield server


@pytest.fixture(scope="session")
def broker():
    """Run a private RabbitMQ node."""
    with run_broker() as node:
        yield node


@pytest.fixture
async def amqp(broker):
    """Settings with a namespace of the test's own, which is deleted from the broker afterwards."""
    settings = Amqp(url=broker.url, namespace=f"test-{secrets.token_hex(4)}", publish_deadline_s=20)
    yield settings
    connection = await aiormq.connect(broker.url)
    channel = await connection.channel()
    mine = topology(settings, Retry(delays_s=(1, *Retry().delays_s)))
    for queue in mine.queues:
        await channel.queue_delete(queue.name)
    for exchange in mine.exchanges:
        await channel.exchange_delete(exchange.name)
    await connection.close()
