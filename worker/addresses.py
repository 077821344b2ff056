"""What the addresses in the settings have to look like: of the broker, the store, buckets, and the files for TLS.

Each check raises `PydanticCustomError`, which never shows a URL, since that may hold a password. Knows of the settings
only the names that it tells.
"""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, FilePath, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from worker.limits import json_list

TlsFiles = tuple[Path | None, Path | None, Path | None]  # authorities, certificate, its key

_TLS_OPTIONS = {"cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl"}  # of aiormq
_PLACE = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[^/\\\x00-\x1f\x7f]+)*/?"


def _is_url(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        url = urlsplit(value)
        return url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number, a half IPv6 address
        return False


def _amqp_url(value: SecretStr) -> SecretStr:
    if not _is_url(value.get_secret_value(), ("amqp", "amqps")):
        raise PydanticCustomError("url", "should be like amqp://user:password@host:5672/vhost, or amqps://")
    if options := _TLS_OPTIONS & parse_qs(urlsplit(value.get_secret_value()).query).keys():
        raise PydanticCustomError(
            "url", "should not say {options}: AMQP__CA_FILE, AMQP__CERT_FILE and AMQP__KEY_FILE name files for TLS, "
            "and what they say is always verified", {"options": ", ".join(sorted(options))},
        )  # fmt: skip
    return value


def _endpoint_url(value: str) -> str:
    if not value:
        return value
    if not _is_url(value, ("http", "https")):
        raise PydanticCustomError("url", "should be like https://host:port, or empty for AWS")
    url = urlsplit(value)
    if url.username is not None or url.query or url.fragment:  # with which no request arrives
        raise PydanticCustomError(
            "url", "should have no user, password, query or fragment: STORE__ACCESS_KEY_ID and "
            "STORE__SECRET_ACCESS_KEY tell who asks",
        )  # fmt: skip
    return value


def _place(value: str) -> str:
    if not re.fullmatch(_PLACE, value):
        raise PydanticCustomError("place", "should be a bucket, or a bucket and a prefix such as videos/incoming")
    return value


AmqpUrl = Annotated[SecretStr, AfterValidator(_amqp_url)]
EndpointUrl = Annotated[str, AfterValidator(_endpoint_url)]
Places = Annotated[
    tuple[Annotated[str, AfterValidator(_place)], ...],
    NoDecode,
    BeforeValidator(json_list('["photos", "videos/incoming"]')),
]
PemFile = Annotated[FilePath | None, BeforeValidator(lambda value: None if value == "" else value)]


def check_tls(files: TlsFiles, *, encrypted: bool, url: str, scheme: str) -> None:
    """Refuse files for TLS that cannot be used, and those that would be without effect: `url` names the setting that

    should begin with `scheme`.
    """
    if files == (None, None, None):
        return
    if not encrypted:
        raise PydanticCustomError("tls", "files for TLS are without effect: {url} is not {scheme}://…", {
            "url": url, "scheme": scheme,
        })  # fmt: skip
    from worker.tls import client_context  # noqa: PLC0415 - most have no such files, and it takes long to import

    try:
        client_context(*files)
    except ValueError as error:
        raise PydanticCustomError("tls", "{reason}", {"reason": str(error)}) from error
