"""What every object store promises of what it holds: on the local disk, on a real S3 server, and in memory."""

import asyncio
import random

import pytest

from tests.refusals import refused
from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.settings import MIB
from worker.source import CachedSource


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
