"""A worker that speaks TLS to the broker, with a client certificate, and to the store: it works, or says why not."""

import contextlib
import socket
import subprocess

import pytest

from devkit.broker import broker as run_broker
from devkit.certificates import certificates
from devkit.s3 import moto_server
from tests.e2e.bus import bus
from tests.e2e.conftest import new_namespace
from tests.e2e.media import BUCKET, task
from tests.e2e.store import Bucket, store_settings
from tests.e2e.worker_process import COMMAND, environment, serving


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Certificates of another authority."""
    return certificates(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def node(made):
    with run_broker(tls=made) as node:
        yield node


@pytest.fixture(scope="module")
def store(made, sources):
    with moto_server(tls=made) as server:
        server.create_bucket(BUCKET)
        with contextlib.closing(server.client()) as client:
            bucket = Bucket(client)
            bucket.put("videos/sample.mp4", sources.bucket / "videos" / "sample.mp4")
            yield server, bucket


def trusting(made) -> dict[str, object]:
    return {"amqp__ca_file": made.ca, "amqp__cert_file": made.client, "amqp__key_file": made.client_key}


async def test_a_task_is_done_with_broker_and_store_behind_tls(node, store, made, tmp_path):
    server, bucket = store
    namespace = new_namespace()
    settings = store_settings(server) | trusting(made) | {"store__ca_file": made.ca}
    with serving(tmp_path, amqp_url=node.tls_url, namespace=namespace, **settings):
        async with bus(node.url, namespace) as line:
            told = await line.outcome(task())
    assert told.status == "Succeeded"
    assert bucket.keys("out/") == ["out/0/1.jpg"]


def start_only(url: str, **settings: object) -> str:
    """Run a command that needs the broker, which must fail; gives what it says."""
    given = {"amqp__url": url} | settings
    done = subprocess.run(
        [str(COMMAND), "topology", "--timeout", "2"], env=environment(given), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode not in (0, -9), done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_broker_whose_authority_is_unknown_is_not_spoken_to(node, made, stranger):
    for settings in ({}, trusting(made) | {"amqp__ca_file": stranger.ca}):
        said = start_only(node.tls_url, **settings)
        assert "certificate verify failed" in said.lower(), said


def test_a_url_cannot_turn_verification_off(node, stranger):
    said = start_only(f"{node.tls_url}?no_verify_ssl=1&cafile=other.pem", **trusting(stranger))
    assert "should not say cafile, no_verify_ssl: AMQP__CA_FILE" in said, said


def test_a_broker_under_another_name_is_not_spoken_to(node, made):
    said = start_only(node.tls_url.replace("127.0.0.1", "localhost"), **trusting(made))
    assert "hostname mismatch" in said.lower(), said


def test_a_broker_that_wants_a_certificate_refuses_a_worker_without_or_with_a_strangers(node, made, stranger):
    for own in ({}, {"amqp__cert_file": stranger.client, "amqp__key_file": stranger.client_key}):
        said = start_only(node.tls_url, amqp__ca_file=made.ca, **own)
        assert "not reachable" in said, said


async def test_a_store_whose_authority_is_unknown_gets_no_request(node, store, made, stranger, tmp_path):
    server, _ = store
    namespace = new_namespace()
    settings = store_settings(server) | {"store__ca_file": stranger.ca, "store__max_attempts": 1}
    with (
        pytest.raises(AssertionError) as refused,
        serving(tmp_path, amqp_url=node.url, namespace=namespace, amqp__startup_deadline_s=3, **settings),
    ):
        pass
    assert "certificate verify failed" in str(refused.value).lower()


def test_a_plain_broker_at_an_encrypted_url_is_told_as_such(node, made):
    with socket.create_connection(("127.0.0.1", node.port)):  # it is there
        said = start_only(node.tls_url.replace(str(node.tls_port), str(node.port)), **trusting(made))
    assert "ssl" in said.lower(), said
