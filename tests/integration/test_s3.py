"""The S3 store against a real server that fails: a proxy before it answers errors, breaks off, stalls."""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path

import pytest

from devkit.ports import free_ports
from devkit.s3 import moto_server
from worker.adapters.s3 import S3Store
from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.settings import MIB, Store
from worker.source import CachedSource
from worker.stores import unobserved
from worker.task import Location

BUCKET = "faults"


class FaultProxy:
    """Passes requests on to a server, but for those that `faults` names: pairs of method and what befalls it.

    A status code is answered in place of the server; `cut` breaks off within the body, `reset` before any answer,
    `stall` never answers, `whole` answers 200 with more than was asked for.
    """

    def __init__(self, upstream):
        self.upstream_port = int(upstream.rpartition(":")[2])
        self.faults = deque()
        self.requests = []
        self.arrived = asyncio.Condition()
        self.open = self.most_open = 0
        self.hold = asyncio.Event()
        self.hold.set()

    @asynccontextmanager
    async def running(self):
        connections = set()

        async def serve(reader, writer):
            connections.add(asyncio.current_task())
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await self._serve(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
                connections.discard(asyncio.current_task())

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**17)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            under_way = tuple(connections)
            for connection in under_way:
                connection.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def wait_for(self, method, count=1):
        async with self.arrived:
            await self.arrived.wait_for(lambda: self.requests.count(method) >= count)

    async def _serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if b"100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = re.sub(rb"\r\nExpect: [^\r]*", b"", head, flags=re.IGNORECASE)
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1]) if length else 0)
        method = head.split()[0].decode()
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        async with self.arrived:
            self.requests.append(method)
            self.arrived.notify_all()
        await self.hold.wait()
        try:
            await self._answer(method, head, body, writer)
        finally:
            self.open -= 1

    async def _answer(self, method, head, body, writer):
        fault = self.faults.popleft()[1] if self.faults and self.faults[0][0] == method else None
        if fault == "stall":
            await asyncio.Event().wait()
        elif fault == "reset":
            reset(writer)
        elif fault == "whole":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n" + bytes(100))
        elif isinstance(fault, tuple):
            writer.write(error_answer(*fault, method))
        else:
            answer = await self._upstream(head, body)
            if fault == "cut":
                cut = answer.index(b"\r\n\r\n") + 4
                writer.write(answer[: (cut + len(answer)) // 2])
                await writer.drain()
                reset(writer)
            else:
                writer.write(answer)
        await writer.drain()

    async def _upstream(self, head, body):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        head = re.sub(rb"\r\nConnection: [^\r]*", b"", head, flags=re.IGNORECASE)
        writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
        try:
            return await reader.read()
        finally:
            writer.close()


def reset(writer):
    """Send RST, not FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def error_answer(status, code, method):
    body = f"<Error><Code>{code}</Code><Message>told by the test</Message></Error>" if method != "HEAD" else ""
    head = f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


SLOW_DOWN = (503, "SlowDown")
INTERNAL = (500, "InternalError")


@pytest.fixture(scope="session")
def server(seaweed_server):
    seaweed_server.create_bucket(BUCKET)
    return seaweed_server


@pytest.fixture
async def proxy(server):
    async with FaultProxy(server.endpoint).running() as proxy:
        yield proxy


def settings_of(server, endpoint, **overrides):
    values = {
        "kind": "s3",
        "endpoint_url": endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "max_attempts": 2,
        "multipart_bytes": 5 * MIB,
    }
    return Store(**(values | overrides))


@asynccontextmanager
async def opened(server, endpoint, on_request=unobserved, **overrides):
    async with S3Store(settings_of(server, endpoint, **overrides), on_request=on_request) as store:
        yield store


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


DATA = bytes(range(250)) * 400


async def refused(attempt, code, *, retryable):
    with pytest.raises(TaskError) as caught:
        await attempt
    assert caught.value.code == code, caught.value
    assert caught.value.retryable is retryable
    return caught.value.message


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


async def test_check_passes_with_the_least_rights(store, proxy):
    proxy.faults.append(("GET", (403, "AccessDenied")))
    await store.check()


@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
async def test_check_fails_with_wrong_credentials(server, wrong):
    async with opened(server, server.endpoint, **{wrong: "wrong"}) as store:
        await refused(store.check(), Code.ACCESS_DENIED, retryable=False)


@pytest.mark.parametrize("half", ["", "AKID"])
async def test_without_credentials_it_names_the_settings(server, monkeypatch, half):
    """None at all, or half a key in the environment: both are for an operator to set right."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/no/such/file")
    if half:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", half)

    async def check():
        async with opened(server, server.endpoint, access_key_id="", secret_access_key="") as store:
            await store.check()

    message = await refused(check(), Code.ACCESS_DENIED, retryable=False)
    assert "the worker has no credentials" in message
    assert "FRAME_CAPTURE_STORE__ACCESS_KEY_ID" in message


async def test_check_fails_while_the_store_does(store, proxy):
    proxy.faults.extend([("GET", SLOW_DOWN)] * 2)
    await refused(store.check(), Code.STORAGE_UNAVAILABLE, retryable=True)


async def test_a_malformed_endpoint_is_named(server):
    with pytest.raises(TaskError, match=r"endpoint_url is 'https://no url', not like"):
        async with opened(server, "https://no url"):
            pass


@pytest.mark.parametrize(
    ("addressing", "expected"),
    [("path", "https://s3.example.com/bucket/key"), ("virtual", "https://bucket.s3.example.com/key")],
)
async def test_the_bucket_goes_into_the_path_or_the_host(server, addressing, expected):
    async with opened(server, "https://s3.example.com", addressing=addressing) as store:
        url = await store._client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "key"})
    assert url.partition("?")[0] == expected
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url


async def test_no_secret_is_ever_logged(server, place, caplog):
    caplog.set_level(logging.DEBUG)
    async with opened(server, server.endpoint) as store:
        await store.stat(place)
    assert server.secret_key not in caplog.text
    assert server.access_key not in caplog.text
    assert server.secret_key not in repr(settings_of(server, server.endpoint))
    for name in ("botocore", "botocore.auth", "aiobotocore", "urllib3"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)


SERVE_UNTIL_CTRL_C = """
import signal
from devkit.s3 import seaweed
with seaweed() as server:
    print(server.endpoint, flush=True)
    signal.pause()
"""


def test_ctrl_c_leaves_no_server_and_no_files_behind(tmp_path):
    """Its sockets in `/tmp` are named by port, so others' are told apart."""
    command = [sys.executable, "-c", SERVE_UNTIL_CTRL_C]
    root = Path(__file__).parents[2]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root, env=environment
    ) as process:
        port = int(process.stdout.readline().rpartition(":")[2])
        grpc_socket = Path(f"/tmp/seaweedfs-s3-grpc-{port + 10_000}.sock")
        assert grpc_socket.exists()
        process.send_signal(signal.SIGINT)
        process.wait()
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))
    assert not grpc_socket.exists()
    assert list(tmp_path.iterdir()) == []


async def test_moto_serves_the_store_too():
    """The stand-in that fault-injection tests may use where no authentication matters."""
    with moto_server() as server:
        server.create_bucket(BUCKET)
        async with opened(server, server.endpoint) as store:
            place = Location("s3", BUCKET, "key")
            etag = await store.write(place, b"data", "")
            assert await store.read(place, 1, 2, etag) == b"at"
