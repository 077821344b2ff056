"""A server, a store behind a proxy that fails, and an object to read."""

import secrets
from contextlib import closing

import pytest

from tests.integration.s3.fault_proxy import FaultProxy
from tests.integration.s3.stores import BUCKET, DATA, opened
from worker.task import Location


@pytest.fixture(scope="session")
def server(seaweed_server):
    seaweed_server.create_bucket(BUCKET)
    return seaweed_server


@pytest.fixture
async def proxy(server):
    async with FaultProxy(server.endpoint).running() as proxy:
        yield proxy


@pytest.fixture
async def store(server, proxy):
    """A store behind the proxy, which tries everything twice."""
    async with opened(server, proxy.endpoint) as store:
        yield store


@pytest.fixture
def place(server):
    """An object of 100,000 bytes, 0 to 255 over and over."""
    key = secrets.token_hex(6)
    with closing(server.client()) as client:
        client.put_object(Bucket=BUCKET, Key=key, Body=DATA)
    return Location("oss", BUCKET, key)
