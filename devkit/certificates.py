"""Throw-away certificates of an authority that nobody else trusts, for servers of tests that speak TLS."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the authority, a server's certificate and key, and a client's."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def certificates(directory: Path, host: str = "127.0.0.1") -> Certificates:
    """Write them into `directory`. The server's is for `host`."""
    authority = trustme.CA()
    made = Certificates(*(directory / f"{name}.pem" for name in ("ca", "server", "server-key", "client", "client-key")))
    authority.cert_pem.write_to_path(str(made.ca))
    for issued, chain, key in (
        (authority.issue_cert(host), made.server, made.server_key),
        (authority.issue_cert("frame-capture@tests.invalid"), made.client, made.client_key),
    ):
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(chain), append=True)
        issued.private_key_pem.write_to_path(str(key))
    return made
