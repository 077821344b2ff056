"""What an S3 store is set up with: its endpoint, its credentials, its checks at the start; and the servers of tests."""

import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devkit.s3 import moto_server
from tests.integration.s3.fault_proxy import SLOW_DOWN
from tests.integration.s3.stores import BUCKET, opened, settings_of
from tests.refusals import refused
from worker.errors import Code, TaskError
from worker.task import Location


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
    root = Path(__file__).parents[3]
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
