"""An object store of each kind, and places of a test's own in it."""

import secrets

import pytest

from tests.contract.stores import BUCKET, OTHER, local, memory, s3
from worker.task import Location


@pytest.fixture(scope="session")
def buckets(seaweed_server):
    seaweed_server.create_bucket(BUCKET, OTHER)
    return seaweed_server


@pytest.fixture(params=["local", "s3", "memory"])
def new_store(request, tmp_path):
    """Make stores of one kind, which share their objects: `async with new_store() as store`."""
    if request.param == "local":
        return local(tmp_path)
    if request.param == "memory":
        return memory({})
    return s3(request.getfixturevalue("buckets"))


@pytest.fixture
async def store(new_store):
    async with new_store() as store:
        yield store


@pytest.fixture
def at():
    """Name objects that no other test uses."""
    prefix = secrets.token_hex(6)
    return lambda key="object.bin", bucket=BUCKET, scheme="oss": Location(scheme, bucket, f"{prefix}/{key}")
