"""What no object store reads or writes: other names, and places that are not allowed."""

import re

import pytest

from tests.contract.stores import BUCKET, OTHER
from tests.refusals import refused
from worker.errors import Code, TaskError
from worker.task import Location


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "a/", "/a", "a//b", "../a", "a/../b", "a/./b", "..", "a%2F..%2Fb", "%2e%2e/a"),
        *("a\0b", "a\nb", "a\\b", "é" * 600, "\ud800"),
    ],
)
async def test_keys_that_could_lead_elsewhere_are_invalid(store, key):
    location = Location("oss", BUCKET, key)
    for attempt in (store.stat(location), store.read(location, 0, 1, ""), store.write(location, b"", "")):
        message = await refused(attempt, Code.INVALID_ARGUMENT)
        assert repr(key) in message


@pytest.mark.parametrize(
    "bucket", ["", ".", "..", "Bucket", "a", "a/b", "arn:aws:s3:us-east-1:1:accesspoint/x", "x" * 64]
)
async def test_bucket_names_are_checked(store, bucket):
    location = Location("oss", bucket, "key")
    for attempt in (store.stat(location), store.read(location, 0, 1, ""), store.write(location, b"", "")):
        message = await refused(attempt, Code.INVALID_ARGUMENT)
        assert repr(bucket) in message


async def test_what_is_the_workers_own_is_for_no_task(new_store, at):
    own = at("records")
    async with new_store(reserved=own) as store:
        for key in ("records", "records/ab/c.json"):
            for attempt in (
                store.stat(at(key)),
                store.read(at(key), 0, 1, ""),
                store.write(at(key), b"", ""),
                store.write_if(at(key), b"", "", None),
            ):
                assert "the worker keeps its records" in await refused(attempt, Code.ACCESS_DENIED)
        await store.write(at("records-of-mine/x"), b"", "")


async def test_only_allowed_buckets_are_read_and_written(new_store, at):
    async with new_store() as store:
        await store.write(at(bucket=OTHER), b"data", "")
    reports = []
    async with new_store(
        sources=(BUCKET,), targets=(OTHER,), on_request=lambda operation, *_: reports.append(operation)
    ) as store:
        for attempt in (store.stat(at(bucket=OTHER)), store.read(at(bucket=OTHER), 0, 1, "")):
            message = await refused(attempt, Code.ACCESS_DENIED)
            assert re.search(r"//contract-other/.* may not be read.*STORE__SOURCE_BUCKETS allows contract$", message)
        message = await refused(store.write(at(), b"", ""), Code.ACCESS_DENIED)
        assert re.search(r"//contract/.* may not be written.*STORE__TARGET_BUCKETS allows contract-other$", message)
        with pytest.raises(TaskError) as caught:
            store.check_write(at())
        assert (caught.value.code, caught.value.message) == (Code.ACCESS_DENIED, message)
        store.check_write(at(bucket=OTHER))
        assert reports == [], "what is refused makes no request"
        etag = await store.write(at(bucket=OTHER), b"data", "")
        assert etag
        await refused(store.stat(at("none")), Code.RESOURCE_NOT_FOUND)


async def test_only_what_lies_below_an_allowed_prefix_is_read_and_written(new_store, at):
    async with new_store() as store:
        etag = await store.write(at("in/new/a.mp4"), b"data", "")
    below = f"{BUCKET}/{at('x').key.removesuffix('x')}"
    async with new_store(sources=(f"{below}in/new", OTHER), targets=(f"{below}out/",)) as store:
        assert await store.read(at("in/new/a.mp4"), 0, 4, etag) == b"data"
        for key in ("in/news.mp4", "in/newer/a.mp4", "in/a.mp4", "a.mp4", "out/in/new/a.mp4"):
            assert f"{key} may not be read" in await refused(store.stat(at(key)), Code.ACCESS_DENIED)
        for key in ("in/new/../a.mp4", "in/new/%2e%2e/a.mp4", "in/new//a.mp4"):
            await refused(store.stat(at(key)), Code.INVALID_ARGUMENT)
        store.check_write(at("out/b/1.jpg"))
        for key in ("outer/1.jpg", "b/out/1.jpg", "in/new/1.jpg"):
            assert f"{key} may not be written" in await refused(store.write(at(key), b"", ""), Code.ACCESS_DENIED)
        await refused(store.stat(at("none", bucket=OTHER)), Code.RESOURCE_NOT_FOUND)
