"""F30: faults at random, one after the other, for as long as `SOAK` says (minutes). `SOAK_SEED` repeats a mix."""

import asyncio
import os
import random
import time
from contextlib import ExitStack
from signal import SIGKILL, SIGTERM
from urllib.parse import urlsplit

import pytest

from tests.e2e.proxy import proxy
from tests.faults.test_faults import impatient, longer, quick

FAULTS = ("cut", "close", "kill worker", "stop worker", "kill decoder")


@pytest.mark.slow
@pytest.mark.timeout(float(os.environ.get("SOAK", "0.5")) * 60 + 240)
async def test_f30_a_random_mix(local, broker, ledger, namespace):
    seed = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 10**6)))
    print(f"SOAK_SEED={seed}")  # noqa: T201 - shown by `pytest -s` and with a failure
    chance = random.Random(seed)
    end = time.monotonic() + float(os.environ.get("SOAK", "0.5")) * 60
    injected = []
    with proxy(urlsplit(broker.url).port) as way, ExitStack() as stack:

        def started():
            return stack.enter_context(local(namespace, retry__crash_attempts=20, retry__max_attempts=20, **usual))

        usual = impatient(way, broker)
        workers = [started()]
        while time.monotonic() < end:
            for _ in range(5):
                name = f"task-{len(ledger.tried)}"
                await ledger.submit(name, chance.choice((quick, longer))(name))
            await ledger.until_ended(len(ledger.accepted) - 4)
            injected.append(chance.choice(FAULTS))
            match injected[-1]:
                case "cut":
                    trap = way.set(b"", "cut")
                    trap.wait()
                    way.open(trap)
                case "close":
                    await asyncio.to_thread(broker.rabbitmqctl, "close_all_connections", "soak")
                case "kill decoder":
                    for decoder in workers[-1].family()[1:2]:
                        os.kill(decoder, SIGKILL)
                case fault:
                    workers[-1].signal(SIGKILL if fault == "kill worker" else SIGTERM)
                    assert await asyncio.to_thread(workers[-1].wait) == (-SIGKILL if fault == "kill worker" else 0)
                    workers.append(started())
        print(f"{len(injected)} faults: {injected}")  # noqa: T201 - as above
        account = await ledger.balance()
    assert injected
    assert {each[0] for each in account.ends.values()} == {"Succeeded"}
