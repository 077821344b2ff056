"""Whom the worker trusts, and as whom it comes, where it speaks TLS. Must not know to whom it speaks."""

import ssl
from pathlib import Path


def client_context(ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None) -> ssl.SSLContext:
    """Make a context that verifies the server's certificate and host name, and shows ours if there is one.

    All files are PEM. Without `ca_file` the machine's authorities are trusted, with it only those in it. Raises
    `ValueError`, which names the file, for one that cannot be read or is none of its kind.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"{ca_file} holds no certificates in PEM form that can be read: {_reason(error)}") from error
    if cert_file is not None:
        try:
            # Without a password OpenSSL asks for one on the terminal.
            context.load_cert_chain(cert_file, key_file, password="")
        except OSError as error:
            raise ValueError(
                f"{cert_file} and {key_file} are no certificate and its key, unencrypted and in PEM form, that can be "
                f"read: {_reason(error)}"
            ) from error
    return context


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
