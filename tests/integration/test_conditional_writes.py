"""Which conditions on writes real servers honour, and what the worker finds out of it at its start.

Those who honour neither, or refuse conditions, are in tests/unit/test_records_store.py.
"""

import asyncio
import logging
import secrets

import pytest

from devkit.s3 import moto_server, seaweed
from worker.adapters.s3 import S3Store
from worker.records import NO_TAG, StoredRecords
from worker.settings import Store
from worker.stores import AllowedBuckets
from worker.task import Location

SERVERS = {"seaweedfs": seaweed, "moto": moto_server}


@pytest.fixture(scope="module", params=SERVERS)
def server(request):
    with SERVERS[request.param]() as one:
        yield one


@pytest.fixture
async def place(server):
    """A prefix in a bucket of its own."""
    bucket = f"own-{secrets.token_hex(4)}"
    server.create_bucket(bucket)
    return Location("s3", bucket, "records")


@pytest.fixture
async def store(server, place):
    settings = Store(
        kind="s3",
        endpoint_url=server.endpoint,
        addressing="path",
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
    )
    async with S3Store(settings, allowed=AllowedBuckets((place.bucket,), (place.bucket,))) as one:
        yield one


async def test_the_probe_tells_that_both_conditions_hold(store, place, caplog):
    """It finds no reason to warn, and what it found is so: nothing was replaced."""
    caplog.set_level(logging.INFO)
    records = StoredRecords(store, place, 0)
    await records.prepare()
    await records.prepare()  # of the next worker: the probe's object is there already
    assert (records._creates, records._replaces) == (True, True)
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]
    probe = Location("s3", place.bucket, f"{place.key}/probe.json")
    there = await store.stat(probe)
    assert not await store.write_if(probe, b"other", "text/plain", None)
    assert not await store.write_if(probe, b"other", "text/plain", NO_TAG)
    assert await store.read(probe, 0, there.size, there.etag) == b"{}"
    assert await store.write_if(probe, b"newer", "text/plain", there.etag)


async def test_of_many_who_create_one_object_at_once_one_does(store, place):
    one = Location("s3", place.bucket, f"{place.key}/one.json")
    bodies = [str(number).encode() for number in range(8)]
    created = await asyncio.gather(*(store.write_if(one, body, "text/plain", None) for body in bodies))
    assert created.count(True) == 1
    there = await store.stat(one)
    assert await store.read(one, 0, there.size, there.etag) == bodies[created.index(True)]
