"""The worker as users run it: a process of its own, seen only through its HTTP port, its log and `/proc`."""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from devkit.ports import free_ports

COMMAND = Path(sys.executable).with_name("frame-capture")
START_DEADLINE_S = 30
STOP_DEADLINE_S = 30
GONE_DEADLINE_S = 10


def environment(settings: dict[str, object]) -> dict[str, str]:
    """Make the environment of a command: `amqp__url` becomes `FRAME_CAPTURE_AMQP__URL`, and none is inherited."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAME_CAPTURE_")}
    return inherited | {f"FRAME_CAPTURE_{name.upper()}": str(value) for name, value in settings.items()}


@dataclass
class WorkerProcess:
    process: subprocess.Popen[bytes]
    port: int
    log_file: Path
    namespace: str

    def get(self, path: str) -> tuple[int, str]:
        """Ask the HTTP side; gives the status and the text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def not_ready(self) -> list[str] | None:
        """The reasons that `/readyz` gives, none when it is ready; None while nobody answers."""
        try:
            status, text = self.get("/readyz")
        except OSError:
            return None
        answer = json.loads(text)
        assert (status == 200) == (answer["reasons"] == []), text
        return list(answer["reasons"])

    def until_ready(self) -> None:
        self.until(lambda: self.not_ready() == [], "the worker to be ready")

    def until(self, holds, what: str, deadline_s: float = START_DEADLINE_S) -> None:
        """Ask `holds` again and again until it says yes."""
        deadline = time.monotonic() + deadline_s
        while not holds():
            assert self.process.poll() is None, f"the worker ended with {self.process.returncode}:\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"waited {deadline_s} s for {what}:\n{self.log_tail()}"
            time.sleep(0.02)  # a condition without an event of its own: the test goes on as soon as it holds

    def metrics(self) -> dict[str, float]:
        """All samples of `/metrics`, by name without prefix, and label values: `tasks_total interval succeeded`."""
        status, text = self.get("/metrics")
        assert status == 200, text
        return {
            " ".join([sample.name.removeprefix("frame_capture_"), *map(sample.labels.get, sorted(sample.labels))]): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def log(self) -> list[dict]:
        """All lines of the log. Every line must be JSON."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def log_tail(self) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-30:])

    def family(self) -> list[int]:
        """The ids of all processes that descend from the worker: the fork server first, then its decoders."""
        children: dict[int, list[int]] = {}
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                children.setdefault(_stat(directory)[1], []).append(int(directory.name))
        found = [self.process.pid]
        for pid in found:
            found += sorted(children.get(pid, []))
        return found[1:]

    def only_busy_decoder(self) -> int | None:
        """The decoder that used far more CPU time than any other; None while there is none."""
        ticks = {pid: sum(_stat(Path(f"/proc/{pid}"))[11:13]) for pid in self.family()[1:]}
        first, second = sorted(ticks, key=lambda pid: -ticks[pid])[:2]
        return first if ticks[first] > 3 * ticks[second] + 5 else None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(STOP_DEADLINE_S)


def gone(pids: list[int]) -> bool:
    """Wait until all these processes have ended; False when one still lives at the deadline."""
    deadline = time.monotonic() + GONE_DEADLINE_S
    return all(_ended(pid, deadline) for pid in pids)


def _ended(pid: int, deadline: float) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], max(deadline - time.monotonic(), 0))[0])
    finally:
        os.close(pidfd)


def _stat(directory: Path) -> list[int]:
    """The numbers of `/proc/PID/stat` after the command's name and state, at 1 the parent, at 11 and 12 CPU ticks."""
    return [0, *map(int, (directory / "stat").read_text().rpartition(")")[2].split()[1:])]


@contextmanager
def serving(directory: Path, *, amqp_url: str, namespace: str, **settings: object) -> Iterator[WorkerProcess]:
    """Run `frame-capture serve` until the block ends; ready when it begins. `settings` as `environment` takes them."""
    (port,) = free_ports(1)
    own = {"amqp__url": amqp_url, "amqp__namespace": namespace, "http__host": "127.0.0.1", "http__port": port}
    usual = {"retry__delays_s": "[1]", "pool__slots": 2, "log_format": "json"}
    log_file = directory / f"{namespace}-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [str(COMMAND), "serve"], env=environment(usual | own | settings), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, cwd=directory,
        )  # fmt: skip
    worker = WorkerProcess(process, port, log_file, namespace)
    try:
        worker.until_ready()
        yield worker
    finally:
        family = worker.family()
        process.kill()
        process.wait()
        assert gone(family), f"decoders outlived the worker: {family}"
