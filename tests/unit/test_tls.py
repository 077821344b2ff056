"""Files for TLS that cannot be used end the command at its start, with the file's or the setting's name."""

import pytest
from cryptography.hazmat.primitives import serialization

from devkit.certificates import certificates
from worker.cli.environment import UnusableSettingsError, load_settings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def loaded(monkeypatch):
    def load(**settings):
        for name, value in settings.items():
            monkeypatch.setenv(f"FRAME_CAPTURE_{name.upper()}", str(value))
        return load_settings()

    return load


def test_files_that_fit_together_are_taken(loaded, made):
    settings = loaded(
        amqp__url="amqps://guest:guest@broker/", amqp__ca_file=made.ca, amqp__cert_file=made.client,
        amqp__key_file=made.client_key, store__ca_file=made.ca, store__endpoint_url="https://store",
    )  # fmt: skip
    assert settings.amqp.ca_file == settings.store.ca_file == made.ca


def test_no_files_are_named_by_empty_values(loaded):
    assert loaded(amqp__ca_file="", store__ca_file="").amqp.ca_file is None


ENCRYPTED = {"amqp__url": "amqps://guest:guest@broker/"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"amqp__ca_file": "ca"}, "AMQP__URL is not amqps://"),
        ({"store__ca_file": "ca", "store__endpoint_url": "http://store"}, "STORE__ENDPOINT_URL is not https://"),
        (ENCRYPTED | {"amqp__ca_file": "absent"}, "FRAME_CAPTURE_AMQP__CA_FILE: path does not point to a file"),
        (ENCRYPTED | {"amqp__ca_file": "junk"}, "junk.pem holds no certificates in PEM form"),
        (ENCRYPTED | {"amqp__cert_file": "client"}, "set both …__CERT_FILE and …__KEY_FILE"),
        (
            ENCRYPTED | {"amqp__cert_file": "client", "amqp__key_file": "server-key"},
            "server-key.pem are no",
        ),
        (
            ENCRYPTED | {"amqp__cert_file": "client", "amqp__key_file": "locked"},
            "locked.pem are no",
        ),
        ({"store__ca_file": "junk"}, "junk.pem holds no certificates in PEM form"),
    ],
)
def test_what_cannot_be_used_is_told(loaded, made, settings, said):
    folder = made.ca.parent
    (folder / "junk.pem").write_text("-----BEGIN CERTIFICATE-----\nthis is none\n-----END CERTIFICATE-----\n")
    key = serialization.load_pem_private_key(made.client_key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    (folder / "locked.pem").write_bytes(locked)
    given = {name: folder / f"{value}.pem" if name.endswith("_file") else value for name, value in settings.items()}
    with pytest.raises(UnusableSettingsError) as refused:
        loaded(**given)
    assert said in str(refused.value)
