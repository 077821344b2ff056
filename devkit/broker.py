"""A private RabbitMQ node for tests and the demo: free loopback ports, its own directories, nothing left behind.

Owns the processes it starts (the node and the Erlang port mapper) and nothing else on the machine. Must not know
what the node is used for.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from devkit.certificates import Certificates
from devkit.interrupt import held
from devkit.ports import free_ports

BOOT_DEADLINE_S = 90
COMMAND_DEADLINE_S = 60
DEBIAN_BIN = Path("/usr/lib/rabbitmq/bin")  # what is in /usr/sbin switches to the user `rabbitmq`


@dataclass
class Node:
    """One RabbitMQ node. Its data outlive `kill` and `start`, but not the `broker()` that made it."""

    home: Path
    bin: Path
    port: int
    management_port: int
    metrics_port: int
    tls_port: int
    env: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The AMQP URL, with the guest account."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def tls_url(self) -> str:
        """The AMQP URL for TLS; only with `broker(tls=…)`."""
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}/"

    @property
    def management_url(self) -> str:
        """The URL of the management API; only with `broker(management=True)`."""
        return f"http://127.0.0.1:{self.management_port}"

    def start(self) -> None:
        """Start the node and wait until it accepts AMQP connections. Raises `RuntimeError` with the log's end."""
        with held() as hold:
            # The port mapper is ours and in the foreground: the one that a node starts by itself would outlive it.
            self._spawn([_program("epmd"), "-address", "127.0.0.1", "-port", self.env["ERL_EPMD_PORT"]])
            node = self._spawn([str(self.bin / "rabbitmq-server")])
            deadline = time.monotonic() + BOOT_DEADLINE_S
            while not _speaks_amqp(self.port):
                hold.check()
                if node.poll() is not None:
                    raise RuntimeError(f"RabbitMQ exited with status {node.returncode} at start.\n{self.log_tail()}")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"RabbitMQ took no connection within {BOOT_DEADLINE_S} s.\n{self.log_tail()}")
                time.sleep(0.05)

    def kill(self) -> None:
        """End the node and its port mapper at once (SIGKILL), as a power failure would."""
        with held():
            while self.processes:
                process = self.processes.pop()
                # Each leads a process group of its own, which holds its helpers too.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def rabbitmqctl(self, *args: str) -> str:
        """Run `rabbitmqctl` against the node and return what it prints. Takes 1 to 3 seconds."""
        done = subprocess.run(
            [str(self.bin / "rabbitmqctl"), "--quiet", *args],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=COMMAND_DEADLINE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(args)}: exit status {done.returncode}\n{done.stderr}")
        return done.stdout

    def queues(self) -> dict[str, tuple[int, int]]:
        """Tell of every queue how many messages are ready and how many are delivered but unacknowledged."""
        columns = ("name", "messages_ready", "messages_unacknowledged")
        rows = json.loads(self.rabbitmqctl("list_queues", *columns, "--formatter", "json"))
        return {row["name"]: (row["messages_ready"], row["messages_unacknowledged"]) for row in rows}

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the node's logs and of what it printed."""
        logs = [*sorted(self.home.glob("log/*.log")), self.home / "output.txt"]
        return "\n".join(line for log in logs for line in log.read_text(errors="replace").splitlines()[-lines:])

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.home / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                command,
                env=self.env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is for us, and we then end the group
            )
        self.processes.append(process)
        return process


@contextmanager
def broker(*, management: bool = False, metrics: bool = False, tls: Certificates | None = None) -> Iterator[Node]:
    """Run a node for the duration of the block.

    `management` adds the management plugin and its HTTP API, `metrics` the exporter for Prometheus on `metrics_port`,
    `tls` a listener on `tls_port` that wants a certificate of its clients.
    """
    with held() as hold:
        home = Path(tempfile.mkdtemp(prefix="frame-capture-broker-"))
        try:
            node = _configure(home, management=management, metrics=metrics, tls=tls)
            try:
                node.start()
                with hold.released():
                    yield node
            finally:
                node.kill()
        finally:
            shutil.rmtree(home)


def _configure(home: Path, *, management: bool, metrics: bool, tls: Certificates | None) -> Node:
    """Write the node's files below `home`."""
    server = _program("rabbitmq-server", DEBIAN_BIN)
    amqp, distribution, mapper, http, exporter, encrypted = free_ports(6)
    plugins = []
    config = [f"listeners.tcp.1 = 127.0.0.1:{amqp}", "log.console = false", "disk_free_limit.absolute = 10MB"]
    if management:
        plugins.append("rabbitmq_management")
        config += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {http}"]
    if metrics:
        plugins.append("rabbitmq_prometheus")
        config += ["prometheus.tcp.ip = 127.0.0.1", f"prometheus.tcp.port = {exporter}"]
    if tls:
        config += [
            f"listeners.ssl.1 = 127.0.0.1:{encrypted}",
            f"ssl_options.cacertfile = {tls.ca}",
            f"ssl_options.certfile = {tls.server}",
            f"ssl_options.keyfile = {tls.server_key}",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
        ]
    (home / "rabbitmq.conf").write_text("\n".join(config) + "\n")
    (home / "enabled_plugins").write_text(f"[{', '.join(plugins)}].\n")
    (home / "rabbitmq-env.conf").touch()
    cookie = home / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(16))
    cookie.chmod(0o400)
    loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))},
        "HOME": str(home),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(mapper),
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": f"frame-capture-{amqp}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        # Together these make the script become the node instead of watching it: one process, and it is ours.
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput {loopback}",
        "RABBITMQ_CTL_ERL_ARGS": loopback,
        # Any free port: with the default range of eleven, concurrent commands on one machine can run out.
        "RABBITMQ_CTL_DIST_PORT_MIN": "0",
        "RABBITMQ_CTL_DIST_PORT_MAX": "0",
    }
    return Node(home, Path(server).parent, amqp, http, exporter, encrypted, env)


def _program(name: str, first: Path | None = None) -> str:
    found = shutil.which(name, path=first) or shutil.which(name)
    if found is None:
        raise RuntimeError(
            f"{name} was not found: install RabbitMQ 3.10 or later (Debian and Ubuntu: apt-get install "
            "--no-install-recommends rabbitmq-server; macOS: brew install rabbitmq) or put it on the PATH"
        )
    return found


def _speaks_amqp(port: int) -> bool:
    """Open an AMQP connection as far as the server's first frame, `connection.start` (class 10, method 10)."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        frame = connection.recv(11, socket.MSG_WAITALL)
        return frame[:1] == b"\x01" and frame[7:] == b"\x00\x0a\x00\x0a"
    return False
