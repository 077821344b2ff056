"""A private Prometheus for tests and pictures: a free loopback port, its own directory, nothing left behind.

Owns its process and its data. Must not know what is scraped.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from devkit.interrupt import Hold, held
from devkit.ports import free_ports

READY_DEADLINE_S = 60
ANSWER_DEADLINE_S = 30

_open = build_opener(ProxyHandler({})).open


@dataclass(frozen=True, slots=True)
class Series:
    """One answer's series: its labels, and pairs of a Unix time and a value."""

    labels: dict[str, str]
    values: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str, **parameters: object) -> Any:
        """Ask the HTTP API; gives `data` of the answer. Raises `urllib.error.HTTPError`, also if the query is wrong."""
        with _open(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=ANSWER_DEADLINE_S) as answer:
            return json.load(answer)["data"]

    def range(self, expr: str, start: float, end: float, step_s: float) -> list[Series]:
        """Evaluate an expression from one Unix time to another."""
        data = self.get("query_range", query=expr, start=start, end=end, step=step_s)
        return [_series(each["metric"], each["values"]) for each in data["result"]]

    def now(self, expr: str) -> list[Series]:
        """Evaluate an expression once."""
        return [_series(each["metric"], [each["value"]]) for each in self.get("query", query=expr)["result"]]


def _series(labels: dict[str, str], values: Sequence[tuple[float, str]]) -> Series:
    return Series(labels, tuple((at, float(value)) for at, value in values))


@contextmanager
def prometheus(
    jobs: Sequence[dict[str, Any]], *, interval_s: float = 1, rules: Path | None = None
) -> Iterator[Prometheus]:
    """Run a server that scrapes `jobs`, as its configuration has them, for the duration of the block.

    `rules` is a file of recording and alerting rules. Raises `RuntimeError` where Prometheus is missing or unwilling.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise RuntimeError("prometheus was not found: install it (Debian: apt-get install prometheus)")
    interval = f"{round(interval_s * 1000)}ms"
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": list(jobs),
        "rule_files": [] if rules is None else [str(rules)],
    }
    with held() as hold, tempfile.TemporaryDirectory(prefix="frame-capture-prometheus-") as directory:
        home, (port,) = Path(directory), free_ports(1)
        (home / "prometheus.yml").write_text(json.dumps(config))
        command = [
            program,
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{port}/-/ready", home / "log", hold)
            with hold.released():
                yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, hold: Hold) -> None:
    deadline = time.monotonic() + READY_DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        hold.check()
        with suppress(OSError), _open(url, timeout=5):
            return
        time.sleep(0.05)
    state = "was not ready in time" if process.poll() is None else f"ended with status {process.returncode}"
    raise RuntimeError(f"Prometheus {state}:\n{log.read_text(errors='replace')[-3000:]}")
