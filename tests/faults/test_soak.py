"""F30: faults at random, one after the other, for as long as `SOAK` says (minutes). `SOAK_SEED` repeats a mix.

Of two workers one is killed and told to stop again and again; the other one lives on, and must not grow.
"""

import asyncio
import os
import random
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from statistics import median
from urllib.parse import urlsplit

import pytest

from tests.e2e.proxy import proxy
from tests.faults.kept import InS3
from tests.faults.test_faults import impatient, longer, quick
from tests.faults.test_store_faults import INTERNAL_ERROR

MINUTES = float(os.environ.get("SOAK", "0.5"))
FAULTS = (
    "cut", "close", "kill worker", "stop worker", "kill decoder", "store away", "store answers 500", "store cuts off",
)  # fmt: skip
KILL_BROKER_EVERY = 12  # faults: it takes half a minute to come back
FEWEST_SAMPLES = 12  # of which thirds can be compared
MAX_GROWTH = 1.2
SPARE_FDS = 4


@dataclass
class Sampled:
    """What a process used, over time."""

    pid: int
    rss_bytes: list[int] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def sample(self) -> None:
        home = Path(f"/proc/{self.pid}")
        self.rss_bytes.append(int((home / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        self.fds.append(len(list((home / "fd").iterdir())))
        self.threads.append(len(list((home / "task").iterdir())))

    def thirds(self, values: list[int]) -> tuple[float, float]:
        """The medians of the first and of the last third, without what the start takes."""
        third = len(values) // 3
        return median(values[1:third]), median(values[-third:])

    def __str__(self) -> str:
        parts = {"rss_bytes": self.rss_bytes, "fds": self.fds, "threads": self.threads}
        return ", ".join(f"{name} {each[0]} -> {each[-1]} (at most {max(each)})" for name, each in parts.items())


@pytest.fixture
def kept(bucket, namespace):
    return InS3(bucket, namespace)


class Mix:
    """One fault after the other."""

    def __init__(self, broker, broker_way, store_way, start, feed):
        self.injected = Counter()
        self._feed = feed
        self._broker, self._broker_way, self._store_way, self._start = broker, broker_way, store_way, start
        self.steady, self.mortal = start(), start()

    async def inject(self, fault):
        self.injected[fault] += 1
        match fault:
            case "cut":
                with self._broker_way.trapping(b"", "cut") as trap:
                    await asyncio.to_thread(trap.wait)
            case "close":
                await asyncio.to_thread(self._broker.rabbitmqctl, "close_all_connections", "soak")
            case "kill broker":
                await asyncio.to_thread(self._broker.kill)
                await asyncio.to_thread(self._broker.start)
            case "kill decoder":
                for decoder in self.steady.family()[1:2]:
                    os.kill(decoder, SIGKILL)
            case "store away":
                with self._store_way.refusing():
                    await self._feed()
                    await asyncio.to_thread(self.steady.until, self._paused, "the worker to pause")
            case "store answers 500" | "store cuts off":
                answering = fault == "store answers 500"
                answer = INTERNAL_ERROR if answering else b""
                with self._store_way.trapping(b"", "answer" if answering else "break", answer) as trap:
                    await self._feed()
                    await asyncio.to_thread(trap.wait)
            case _:
                await self._replace(SIGKILL if fault == "kill worker" else SIGTERM)

    def _paused(self):
        return self.steady.metrics()["store_outage"] == 1

    async def _replace(self, number):
        self.mortal.signal(number)
        assert await asyncio.to_thread(self.mortal.wait) == (-SIGKILL if number == SIGKILL else 0)
        self.mortal = await asyncio.to_thread(self._start)


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 90 + 300)
async def test_f30_a_random_mix(remote, broker, ledger, namespace, way):
    seed = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 10**6)))
    print(f"SOAK_SEED={seed}")  # noqa: T201 - shown by `pytest -s` and with a failure
    chance = random.Random(seed)
    end = time.monotonic() + MINUTES * 60
    with proxy(urlsplit(broker.url).port) as broker_way, ExitStack() as stack:
        # Faults are far more often here than attempts are meant for.
        usual = impatient(broker_way, broker) | {"retry__crash_attempts": 99, "retry__max_attempts": 99}

        async def feed():
            for _ in range(5):
                name = f"task-{len(ledger.tried)}"
                await ledger.submit(name, chance.choice((quick, longer))(name))

        mix = Mix(broker, broker_way, way, lambda: stack.enter_context(remote(namespace, **usual)), feed)
        steady = Sampled(mix.steady.process.pid)
        while time.monotonic() < end:
            await feed()
            # With tasks under way, so that the store is asked for something.
            await ledger.until_ended(len(ledger.accepted) - 4)
            steady.sample()
            last = sum(mix.injected.values()) % KILL_BROKER_EVERY == KILL_BROKER_EVERY - 1
            await mix.inject("kill broker" if last else chance.choice(FAULTS))
        account = await ledger.balance()
        steady.sample()
        assert mix.steady.process.poll() is None
    print(f"{mix.injected.total()} faults: {dict(mix.injected)}\nthe worker that lived on: {steady}")  # noqa: T201 - as above
    assert mix.injected
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}
    if len(steady.fds) >= FEWEST_SAMPLES:
        before, after = steady.thirds(steady.rss_bytes)
        assert after <= before * MAX_GROWTH, f"resident memory grew: {steady.rss_bytes}"
        before, after = steady.thirds(steady.fds)
        assert after <= before + SPARE_FDS, f"open files grew: {steady.fds}"
