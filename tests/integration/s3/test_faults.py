"""The S3 store against a real server that fails: what passes is tried again, all else is told as what it is."""

import asyncio
from contextlib import aclosing, closing

import pytest

from devkit.ports import free_ports
from tests.integration.s3.fault_proxy import INTERNAL, SLOW_DOWN
from tests.integration.s3.stores import BUCKET, DATA, opened
from tests.refusals import refused
from worker.errors import Code
from worker.ports import ObjectInfo
from worker.settings import MIB
from worker.source import CachedSource
from worker.task import Location


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL, "reset", "cut"])
async def test_what_passes_is_tried_again(store, proxy, place, fault):
    info = await store.stat(place)
    proxy.faults.append(("GET", fault))
    assert await store.read(place, 100, 50_000, info.etag) == DATA[100:50_100]
    assert proxy.requests.count("GET") == 2


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL, "reset", "cut"])
async def test_a_head_whose_answer_breaks_off_is_asked_for_again(store, proxy, place, fault):
    proxy.faults.append(("GET", fault))
    assert await store.stat(place, 50_000) == ObjectInfo(len(DATA), (await store.stat(place)).etag, DATA[:50_000])
    assert (proxy.requests.count("GET"), proxy.requests.count("HEAD")) == (2, 1)


@pytest.mark.parametrize(("fault", "tries"), [(SLOW_DOWN, 2), (INTERNAL, 2), ("reset", 4), ("cut", 2)])
async def test_what_does_not_pass_in_time_is_storage_unavailable(store, proxy, place, fault, tries):
    """No more than `max_attempts`, but that aiohttp by itself repeats each that was reset before any answer."""
    info = await store.stat(place)
    proxy.faults.extend([("GET", fault)] * 9)
    await refused(store.read(place, 0, 50_000, info.etag), Code.STORAGE_UNAVAILABLE, retryable=True)
    assert proxy.requests.count("GET") == tries


@pytest.mark.parametrize("fault", [SLOW_DOWN, "reset"])
async def test_writes_are_tried_again_too(store, proxy, place, fault):
    proxy.faults.append(("PUT", fault))
    etag = await store.write(place, b"new", "image/png")
    assert await store.read(place, 0, 10, etag) == b"new"
    assert proxy.requests.count("PUT") == 2


async def test_a_store_that_does_not_answer_is_unavailable(server, proxy, place):
    async with opened(server, proxy.endpoint, timeout_s=0.2, max_attempts=1) as store:
        proxy.faults.append(("HEAD", "stall"))
        await refused(store.stat(place), Code.STORAGE_UNAVAILABLE, retryable=True)


async def test_a_store_that_is_not_there_is_unavailable(server, place):
    async with opened(server, f"http://127.0.0.1:{free_ports(1)[0]}", max_attempts=1) as store:
        await refused(store.stat(place), Code.STORAGE_UNAVAILABLE, retryable=True)
        await refused(store.write(place, b"", ""), Code.STORAGE_UNAVAILABLE, retryable=True)
        await refused(store.check(), Code.STORAGE_UNAVAILABLE, retryable=True)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_403_names_both_causes(store, proxy, place, method):
    proxy.faults.append((method, (403, "AccessDenied")))
    attempt = store.stat(place) if method == "HEAD" else store.read(place, 0, 1, "tag")
    message = await refused(attempt, Code.ACCESS_DENIED, retryable=False)
    assert "may not do this, or there is no such object" in message
    assert str(place) in message
    assert proxy.requests == [method], "nothing that is forbidden is tried again"


async def test_a_404_is_final(store, proxy):
    missing = Location("oss", BUCKET, "missing")
    await refused(store.stat(missing), Code.RESOURCE_NOT_FOUND, retryable=False)
    await refused(store.read(missing, 0, 1, "tag"), Code.RESOURCE_NOT_FOUND, retryable=False)
    proxy.faults.append(("PUT", (404, "NoSuchBucket")))  # SeaweedFS would create it
    await refused(store.write(missing, b"", ""), Code.RESOURCE_NOT_FOUND, retryable=False)
    assert proxy.requests == ["HEAD", "GET", "PUT"]


async def test_other_refusals_say_what_the_store_said(store, proxy, place):
    proxy.faults.append(("PUT", (400, "InvalidStorageClass")))
    message = await refused(store.write(place, b"", ""), Code.INVALID_ARGUMENT, retryable=False)
    assert "400 InvalidStorageClass: told by the test" in message


@pytest.mark.parametrize("answer", [(400, "ExpiredToken"), (429, "TooManyRequests"), (409, "OperationAborted")])
async def test_refusals_that_pass_are_for_a_later_attempt(store, proxy, place, answer):
    proxy.faults.extend([("GET", answer)] * 2)
    await refused(store.read(place, 0, 1, "tag"), Code.STORAGE_UNAVAILABLE, retryable=True)


async def test_an_expired_token_passes_though_head_cannot_name_it(store, proxy, place):
    proxy.faults.extend([("HEAD", (400, "ExpiredToken"))] * 2)
    await refused(store.stat(place), Code.STORAGE_UNAVAILABLE, retryable=True)


async def test_a_source_that_is_replaced_while_it_is_read_is_noticed(store, place):
    info = await store.stat(place)
    async with aclosing(CachedSource(store, place, info, cache_bytes=MIB, block_bytes=1000)) as source:
        assert await source.read(0, 10) == DATA[:10]
        await store.write(place, DATA[::-1], "")
        message = await refused(source.read(50_000, 10), Code.STORAGE_UNAVAILABLE, retryable=True)
    assert "changed while being read" in message


async def test_a_store_without_ranges_is_refused_before_its_body_is_read(store, proxy, place):
    proxy.faults.append(("GET", "whole"))
    message = await refused(store.read(place, 10, 10, "tag"), Code.STORAGE_UNAVAILABLE, retryable=False)
    assert "ignores the Range header" in message


async def test_a_failed_part_ends_and_removes_the_whole_upload(store, proxy, place, server):
    new = Location("oss", BUCKET, place.key + "-large")
    proxy.faults.extend([("PUT", (403, "AccessDenied"))])
    await refused(store.write(new, bytes(12 * MIB), ""), Code.ACCESS_DENIED, retryable=False)
    await refused(store.stat(new), Code.RESOURCE_NOT_FOUND, retryable=False)
    assert "DELETE" in proxy.requests
    assert uploads(server, new) == []


async def test_a_cancelled_upload_is_removed(store, proxy, place, server):
    new = Location("oss", BUCKET, place.key + "-large")
    proxy.faults.append(("PUT", "stall"))
    writing = asyncio.create_task(store.write(new, bytes(12 * MIB), ""))
    await proxy.wait_for("PUT")
    assert len(uploads(server, new)) == 1
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert uploads(server, new) == []
    await refused(store.stat(new), Code.RESOURCE_NOT_FOUND, retryable=False)


async def test_a_cancelled_upload_does_not_wait_for_a_store_that_fell_silent(server, proxy, place):
    reports = []
    async with opened(server, proxy.endpoint, on_request=lambda op, *rest: reports.append((op, rest[-1]))) as store:
        proxy.faults.extend([("PUT", "stall"), ("DELETE", "stall")])
        writing = asyncio.create_task(store.write(place, bytes(12 * MIB), ""))
        await proxy.wait_for("PUT")
        writing.cancel()
        async with asyncio.timeout(store._deadline_s / 2):  # that of each request; a moment is enough
            with pytest.raises(asyncio.CancelledError):
                await writing
    assert proxy.requests.count("DELETE") == 1
    assert ("abort_upload", "Canceled") in reports


async def test_a_failure_to_abort_does_not_hide_the_failure_before_it(server, proxy, place):
    reports = []
    async with opened(server, proxy.endpoint, on_request=lambda op, *rest: reports.append((op, rest[-1]))) as store:
        proxy.faults.extend([("PUT", (403, "AccessDenied")), ("DELETE", (403, "AccessDenied"))])
        await refused(store.write(place, bytes(6 * MIB), ""), Code.ACCESS_DENIED, retryable=False)
    assert ("abort_upload", "AccessDenied") in reports
    assert {code for operation, code in reports if operation == "write_part"} >= {"AccessDenied"}


def uploads(server, location):
    with closing(server.client()) as client:
        listed = client.list_multipart_uploads(Bucket=location.bucket, Prefix=location.key)
    return listed.get("Uploads", [])


async def test_requests_at_once_are_bounded(server, proxy, place):
    async with opened(server, proxy.endpoint, max_concurrency=3) as store:
        info = await store.stat(place)
        proxy.hold.clear()
        reads = [asyncio.create_task(store.read(place, n, 10, info.etag)) for n in range(20)]
        await proxy.wait_for("GET", 3)
        proxy.hold.set()
        assert await asyncio.gather(*reads) == [DATA[n : n + 10] for n in range(20)]
    assert proxy.most_open == 3


async def test_file_uris_are_refused_with_the_reason(store):
    location = Location("file", BUCKET, "a")
    for attempt in (store.stat(location), store.read(location, 0, 1, ""), store.write(location, b"", "")):
        message = await refused(attempt, Code.INVALID_ARGUMENT, retryable=False)
        assert message == "file://faults/a is a local file, but this worker's store is S3: write oss:// or s3://"
