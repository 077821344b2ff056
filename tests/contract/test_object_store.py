"""What every object store promises: on the local disk, on a real S3 server, and in memory."""

import asyncio
import random
import re
import secrets
from contextlib import asynccontextmanager

import pytest

from tests.fakes import MemoryStore
from worker.adapters.files import LocalStore
from worker.adapters.s3 import S3Store
from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.settings import MIB, Store
from worker.source import CachedSource
from worker.stores import AllowedBuckets, unobserved
from worker.task import Location

BUCKET = "contract"
OTHER = "contract-other"


@pytest.fixture(scope="session")
def buckets(seaweed_server):
    seaweed_server.create_bucket(BUCKET, OTHER)
    return seaweed_server


@pytest.fixture(params=["local", "s3", "memory"])
def new_store(request, tmp_path):
    """Make stores of one kind, which share their objects: `async with new_store() as store`."""
    if request.param == "local":
        return _local(tmp_path)
    if request.param == "memory":
        return _memory({})
    return _s3(request.getfixturevalue("buckets"))


def _local(root):
    @asynccontextmanager
    async def new(*, sources=(), targets=(), reserved=None, on_request=unobserved):
        yield LocalStore(root, allowed=AllowedBuckets(sources, targets, reserved), on_request=on_request)

    return new


def _memory(objects):
    @asynccontextmanager
    async def new(*, sources=(), targets=(), reserved=None, on_request=unobserved):
        yield MemoryStore(objects, allowed=AllowedBuckets(sources, targets, reserved), on_request=on_request)

    return new


def _s3(server):
    @asynccontextmanager
    async def new(*, sources=(), targets=(), reserved=None, on_request=unobserved):
        settings = Store(
            kind="s3",
            endpoint_url=server.endpoint,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            multipart_bytes=5 * MIB,
        )
        allowed = AllowedBuckets(sources, targets, reserved)
        async with S3Store(settings, allowed=allowed, on_request=on_request) as store:
            yield store

    return new


@pytest.fixture
async def store(new_store):
    async with new_store() as store:
        yield store


@pytest.fixture
def at():
    """Name objects that no other test uses."""
    prefix = secrets.token_hex(6)
    return lambda key="object.bin", bucket=BUCKET, scheme="oss": Location(scheme, bucket, f"{prefix}/{key}")


async def refused(attempt, code, *, retryable=False):
    with pytest.raises(TaskError) as caught:
        await attempt
    assert caught.value.code == code, caught.value
    assert caught.value.retryable is retryable
    return caught.value.message


async def test_what_is_written_is_read_back(store, at):
    etag = await store.write(at(), b"0123456789", "image/jpeg")
    assert await store.stat(at()) == ObjectInfo(10, etag)
    assert await store.read(at(), 0, 10, etag) == b"0123456789"


async def test_oss_and_s3_are_the_same_place(store, at):
    etag = await store.write(at(scheme="oss"), b"data", "image/png")
    assert await store.read(at(scheme="s3"), 0, 4, etag) == b"data"


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0, 1, b"0"), (3, 4, b"3456"), (9, 1, b"9"), (8, 100, b"89"), (10, 5, b""), (1000, 5, b"")],
)
async def test_ranges_end_with_the_object(store, at, offset, size, expected):
    etag = await store.write(at(), b"0123456789", "")
    assert await store.read(at(), offset, size, etag) == expected


async def test_an_empty_object(store, at):
    etag = await store.write(at(), b"", "")
    assert await store.stat(at()) == ObjectInfo(0, etag)
    assert await store.read(at(), 0, 10, etag) == b""


@pytest.mark.parametrize(("head_bytes", "head"), [(4, b"0123"), (10, b"0123456789"), (1000, b"0123456789")])
async def test_the_head_comes_with_the_size_at_one_request(new_store, at, head_bytes, head):
    reported = []
    async with new_store(on_request=lambda *args: reported.append(args)) as store:
        etag = await store.write(at(), b"0123456789", "")
        await store.write(at("empty"), b"", "")
        reported.clear()
        assert await store.stat(at(), head_bytes) == ObjectInfo(10, etag, head)
        ((operation, _, bytes_in, _, code),) = reported
        assert (operation, bytes_in, code) == ("stat", len(head), "")
        assert (await store.stat(at("empty"), head_bytes)).head == b""
        await refused(store.stat(at("none"), head_bytes), Code.RESOURCE_NOT_FOUND)
        await refused(store.stat(at(bucket="no-such-bucket"), head_bytes), Code.RESOURCE_NOT_FOUND)


@pytest.mark.parametrize(
    "key",
    ["plain", "a/b/c/d", "with space+plus&amp;", "ünïcode/动画-🎬.jpg", "100%.mp4", "a%2Fb", ".hidden", "x" * 200],
)
async def test_keys_are_taken_literally(store, at, key):
    etag = await store.write(at(key), key.encode(), "")
    assert await store.read(at(key), 0, 1000, etag) == key.encode()
    await refused(store.stat(at(key + "x")), Code.RESOURCE_NOT_FOUND)


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


async def test_what_is_not_there_is_not_found(store, at):
    message = await refused(store.stat(at("none.mp4")), Code.RESOURCE_NOT_FOUND)
    assert str(at("none.mp4")) in message
    await refused(store.read(at("none.mp4"), 0, 10, "tag"), Code.RESOURCE_NOT_FOUND)


async def test_a_bucket_that_is_not_there_is_not_found(store, at):
    await refused(store.stat(at(bucket="no-such-bucket")), Code.RESOURCE_NOT_FOUND)


async def test_a_replaced_object_is_no_longer_read_under_its_old_tag(store, at):
    old = await store.write(at(), b"a" * 100, "")
    new = await store.write(at(), b"b" * 100, "")
    assert old != new
    message = await refused(store.read(at(), 0, 10, old), Code.STORAGE_UNAVAILABLE, retryable=True)
    assert "changed while being read" in message
    assert await store.read(at(), 0, 10, new) == b"b" * 10


async def test_a_large_object_is_whole(store, at):
    data = random.Random(1).randbytes(12 * MIB + 1)
    etag = await store.write(at(), data, "video/mp4")
    assert await store.stat(at()) == ObjectInfo(len(data), etag)
    source = CachedSource(store, at(), await store.stat(at()), cache_bytes=4 * MIB)
    pieces = [await source.read(offset, 777_777) for offset in range(0, len(data), 777_777)]
    await source.aclose()
    assert b"".join(pieces) == data


async def test_many_at_once(store, at):
    tags = await asyncio.gather(*(store.write(at(f"{n:03}.bin"), bytes([n]) * 1000, "") for n in range(64)))
    read = await asyncio.gather(*(store.read(at(f"{n:03}.bin"), 0, 2000, tag) for n, tag in enumerate(tags)))
    assert read == [bytes([n]) * 1000 for n in range(64)]


async def test_a_reader_sees_whole_objects_only(store, at):
    """While an object is replaced over and over, each read gives one version or says that it changed."""
    versions = [bytes([n]) * (6 * MIB + n) for n in range(6)]  # in several parts on S3
    await store.write(at(), versions[0], "")
    writing = asyncio.create_task(_write_all(store, at(), versions[1:]))
    seen = set()
    while not writing.done():
        info = await store.stat(at())
        try:
            data = await store.read(at(), 0, 7 * MIB, info.etag)
        except TaskError as error:
            assert "changed while being read" in error.message
            continue
        assert data in versions
        seen.add(data[0])
    await writing
    assert seen, "at least one version was read"


async def _write_all(store, location, versions):
    for data in versions:
        await store.write(location, data, "")


async def test_of_those_who_create_an_object_at_once_one_does(store, at):
    stored = await asyncio.gather(
        *(store.write_if(at("a/new"), bytes([n]) * 100, "text/plain", None) for n in range(8))
    )
    assert sorted(stored) == [False] * 7 + [True]
    info = await store.stat(at("a/new"))
    data = await store.read(at("a/new"), 0, 200, info.etag)
    assert data == bytes([stored.index(True)]) * 100
    assert not await store.write_if(at("a/new"), b"late", "", None)
    assert await store.stat(at("a/new")) == info


async def test_of_those_who_replace_an_object_at_once_one_does(store, at):
    etag = await store.write(at("new"), b"old", "")
    stored = await asyncio.gather(*(store.write_if(at("new"), bytes([n]) * 100, "", etag) for n in range(8)))
    assert sorted(stored) == [False] * 7 + [True]
    info = await store.stat(at("new"))
    assert info.etag != etag
    assert await store.read(at("new"), 0, 200, info.etag) == bytes([stored.index(True)]) * 100


async def test_an_object_that_is_not_there_is_not_replaced(store, at):
    assert not await store.write_if(at("none"), b"data", "", "d41d8cd98f00b204e9800998ecf8427e")
    await refused(store.stat(at("none")), Code.RESOURCE_NOT_FOUND)


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


async def test_requests_are_reported(new_store, at):
    reports = []

    def on_request(operation, seconds, bytes_in, bytes_out, code):
        assert 0 < seconds < 60
        reports.append((operation, bytes_in, bytes_out, code))

    async with new_store(on_request=on_request) as store:
        etag = await store.write(at(), bytes(1000), "")
        await store.stat(at())
        await store.read(at(), 900, 300, etag)
        await refused(store.stat(at("none")), Code.RESOURCE_NOT_FOUND)
        await refused(store.read(at(), 0, 10, "other"), Code.STORAGE_UNAVAILABLE, retryable=True)
    assert reports == [
        ("write", 0, 1000, ""),
        ("stat", 0, 0, ""),
        ("read", 100, 0, ""),
        ("stat", 0, 0, "ResourceNotFound"),
        ("read", 0, 0, "StorageUnavailable"),
    ]


async def test_check_passes(store):
    await store.check()
