"""How the AMQP adapter gets its connection: how long it tries, what it tells of refusals, whom it trusts."""

import asyncio
import re
import secrets
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from tests.integration.connected import RETRY, connected, until
from worker.adapters.amqp import Broker, BrokerRefusedError
from worker.ports import BrokerLostError
from worker.settings import Amqp


async def test_without_a_broker_the_start_ends_at_its_deadline():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"amqp://guest:secret@127.0.0.1:{nobody.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(BrokerLostError, match="FRAME_CAPTURE_AMQP__URL") as caught:
            await Broker(Amqp(url=url, startup_deadline_s=1), RETRY).start()
        assert time.monotonic() - started < 2
        assert "secret" not in str(caught.value)


def elsewhere(amqp: Amqp, old: str, new: str, path: str, deadline_s: float) -> Amqp:
    url = SecretStr(amqp.url.get_secret_value().replace(old, new) + path)
    return amqp.model_copy(update={"url": url, "startup_deadline_s": deadline_s})


LOGIN = r"refused the login; are user and password in FRAME_CAPTURE_AMQP__URL right\? It says: ACCESS_REFUSED - Login"
PATH = (
    r"refused the virtual host; is the path of FRAME_CAPTURE_AMQP__URL right\? It says: NOT_ALLOWED - vhost nowhere not"
)


@pytest.mark.parametrize(
    ("old", "new", "says"), [("/guest:", "/stranger:", LOGIN), (":guest@", ":hunter2@", LOGIN), ("@", "@", PATH)]
)
async def test_a_refusal_is_told_in_the_brokers_words_at_once(amqp, old, new, says):
    settings = elsewhere(amqp, old, new, "nowhere" if says == PATH else "", 60)
    async with asyncio.timeout(20):
        with pytest.raises(BrokerRefusedError, match=says) as caught:
            await Broker(settings, RETRY, patient=False).start()
    assert "hunter2" not in str(caught.value)


async def test_the_patient_try_until_the_deadline_and_then_tell_the_refusal(amqp, caplog):
    with pytest.raises(BrokerRefusedError, match="vhost nowhere not found"):
        await Broker(elsewhere(amqp, "", "", "nowhere", 0.5), RETRY).start()
    assert caplog.messages
    assert all("trying again in 0." in text and "vhost nowhere not found" in text for text in caplog.messages)


async def test_the_patient_get_in_once_the_virtual_host_is_made(amqp, broker, caplog):
    name = f"late-{secrets.token_hex(4)}"
    latecomer = Broker(elsewhere(amqp, "", "", name, 60), RETRY)
    starting = asyncio.create_task(latecomer.start())
    await until(lambda: any(f"vhost {name} not found" in text for text in caplog.messages))
    await asyncio.to_thread(broker.rabbitmqctl, "add_vhost", name)
    await asyncio.to_thread(broker.rabbitmqctl, "set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    await starting
    assert latecomer.connected
    await latecomer.close()
    await asyncio.to_thread(broker.rabbitmqctl, "delete_vhost", name)


async def test_a_failed_try_to_connect_is_logged_once(caplog):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"amqp://guest:guest@127.0.0.1:{nobody.getsockname()[1]}/"
        with pytest.raises(BrokerLostError):
            await Broker(Amqp(url=url, startup_deadline_s=1), RETRY).start()
    pauses = [re.fullmatch(r"trying again in (\d\.\d) s: .*Connect call failed.*", text) for text in caplog.messages]
    assert pauses
    assert all(match is not None and float(match[1]) > 0 for match in pauses)


async def test_a_server_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(BrokerLostError):
            await Broker(Amqp(url=url, startup_deadline_s=1, connect_timeout_s=0.3), RETRY).start()
        assert time.monotonic() - started < 2


@pytest.fixture
async def tls(broker, tmp_path):
    """A TLS listener before the broker, with a certificate of its own; gives the port and the certificate's file."""
    key, authority = ec.generate_private_key(ec.SECP256R1()), tmp_path / "ca.pem"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority.write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(private)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, tmp_path / "key.pem")

    async def pipe(source, target):
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def serve(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", broker.port)
        await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], authority
    server.close()
    await server.wait_closed()


async def test_tls_trusts_the_authority_given_and_no_other(amqp, tls):
    port, authority = tls
    url = f"amqps://guest:guest@localhost:{port}/"
    trusting = amqp.model_copy(update={"url": SecretStr(url), "ca_file": authority})
    async with connected(trusting) as broker:
        await broker.announce("default.p.Succeeded", b"x", "application/json")
    doubting = amqp.model_copy(update={"url": SecretStr(url), "startup_deadline_s": 0.5})
    with pytest.raises(BrokerLostError, match="CERTIFICATE_VERIFY_FAILED"):
        await Broker(doubting, RETRY).start()
