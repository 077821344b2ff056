"""The worker's life: starting, consuming, draining, giving up."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from itertools import count

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from devkit.ports import free_ports
from tests.fakes import MemoryBroker
from worker import service
from worker.adapters.amqp import Broker
from worker.adapters.files import LocalStore
from worker.adapters.pool import DecoderPool
from worker.adapters.s3 import S3Store
from worker.errors import Code, TaskError
from worker.metrics import Metrics
from worker.settings import Amqp, Http, Pool, Retry, Settings, Store
from worker.stores import unobserved

DOWN = TaskError(Code.STORAGE_UNAVAILABLE, "the store is down", retryable=True)
DENIED = TaskError(Code.ACCESS_DENIED, "not yours")


class Handling:
    """A handler whose tasks end when they are told to; what is cancelled stays unsettled."""

    def __init__(self):
        self.begun = asyncio.Queue()
        self.may_end = asyncio.Event()

    async def handle(self, delivery):
        self.begun.put_nowait(delivery)
        await self.may_end.wait()
        await delivery.ack()


class Consuming:
    """`service._consume` at work on a broker in memory."""

    def __init__(self, **settings):
        self.broker, self.handler = MemoryBroker(), Handling()
        self.signals, self.draining = asyncio.Queue(), asyncio.Event()
        self.settings = Settings(**settings)

    def start(self):
        stop = asyncio.create_task(self.signals.get())
        return asyncio.create_task(
            service._consume(
                self.settings, self.broker, self.handler, stop=stop, stopping=self.signals, draining=self.draining
            )
        )

    async def begin(self):
        self.broker.inbox.put_nowait(self.broker.deliver(b"x"))
        return await self.handler.begun.get()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(service, "SUPERVISE_S", 0.001)


async def test_tasks_run_side_by_side_and_finish_before_the_end():
    worker = Consuming()
    exit_status = worker.start()
    first, second = await worker.begin(), await worker.begin()
    worker.signals.put_nowait(None)
    await worker.draining.wait()
    assert not exit_status.done()
    worker.handler.may_end.set()
    assert await exit_status == 0
    assert worker.broker.journal == ["stop consuming", "ack 1", "ack 2"]
    assert (first.settled, second.settled) == ("acked", "acked")


async def test_an_idle_worker_stops_at_once():
    worker = Consuming()
    exit_status = worker.start()
    worker.signals.put_nowait(None)
    assert await exit_status == 0


async def test_what_does_not_finish_in_time_stays_unsettled():
    worker = Consuming(drain_timeout_s=0.01)
    exit_status = worker.start()
    delivery = await worker.begin()
    worker.signals.put_nowait(None)
    assert await exit_status == 0
    assert delivery.settled == ""


async def test_told_twice_it_does_not_wait():
    worker = Consuming(drain_timeout_s=1000)
    exit_status = worker.start()
    delivery = await worker.begin()
    worker.signals.put_nowait(None)
    await worker.draining.wait()
    worker.signals.put_nowait(None)
    assert await exit_status == 143
    assert delivery.settled == ""


async def test_not_consuming_for_too_long_ends_the_worker_after_its_tasks():
    worker = Consuming(amqp=Amqp(recovery_deadline_s=0.01))
    exit_status = worker.start()
    delivery = await worker.begin()
    worker.broker.consuming = False
    await worker.draining.wait()
    worker.handler.may_end.set()
    assert await exit_status == 1
    assert delivery.settled == "acked"


def test_the_defaults_leave_no_worker_alive_but_deaf():
    """Not ready within 60 s: a dead peer is noticed after three heartbeats. Gone within 10 minutes after that."""
    settings = Amqp()
    assert 3 * (settings.heartbeat_s + 1) + service.SUPERVISE_S < 60
    assert settings.recovery_deadline_s <= 600
    assert settings.startup_deadline_s <= 600


async def test_what_is_paused_for_the_store_is_not_deaf_unless_the_connection_is_gone(monkeypatch):
    seconds, long_after = count(), asyncio.Event()

    def clock():
        second = next(seconds)
        if second == 50:
            long_after.set()
        return float(second)

    monkeypatch.setattr(service, "monotonic", clock)
    worker = Consuming(amqp=Amqp(recovery_deadline_s=5))
    worker.broker.consuming = False
    worker.broker.paused.set()
    exit_status = worker.start()
    await long_after.wait()
    assert not exit_status.done()
    worker.broker.connected = False
    assert await exit_status == 1


async def test_a_broken_loop_of_deliveries_is_not_hushed_up():
    worker = Consuming()
    worker.handler.handle = None
    exit_status = worker.start()
    worker.broker.inbox.put_nowait(worker.broker.deliver(b"x"))
    with pytest.raises(ExceptionGroup):
        await exit_status


async def test_a_store_that_comes_up_late_is_waited_for():
    answers = [DOWN, DOWN, None]

    async def check():
        if (answer := answers.pop(0)) is not None:
            raise answer

    await service._usable(check, 1000)
    assert answers == []


@pytest.mark.parametrize(("error", "deadline_s"), [(DOWN, 0.01), (DENIED, 1000)])
async def test_a_store_that_stays_down_or_refuses_ends_the_start(error, deadline_s):
    async def check():
        raise error

    with pytest.raises(TaskError) as caught:
        await service._usable(check, deadline_s)
    assert caught.value is error


@pytest.mark.parametrize(("kind", "expected"), [("local", LocalStore), ("s3", S3Store)])
async def test_the_settings_name_the_store(kind, expected, tmp_path):
    settings = Settings(store=Store(kind=kind, root=tmp_path, access_key_id="x", secret_access_key="y"))
    async with service.open_store(settings, unobserved) as store:
        assert isinstance(store, expected)


async def test_before_it_starts_it_is_not_ready_and_says_why():
    pool, broker, draining = DecoderPool(Pool(slots=1)), Broker(Amqp(), Retry()), asyncio.Event()
    metrics = Metrics(CollectorRegistry())
    service.watch_gauges(metrics, pool, broker)
    assert list(metrics.registry.collect()), "a scrape works before anything is connected"
    reasons = ["no connection to the broker", "not consuming", "no decoder process"]
    assert await service._not_ready(broker, pool, draining) == reasons
    draining.set()
    assert await service._not_ready(broker, pool, draining) == ["draining", *reasons]


# --- the whole, without a broker


def unreachable(tmp_path, **amqp):
    broker, http = free_ports(2)
    return Settings(
        amqp=Amqp(url=f"amqp://127.0.0.1:{broker}/", **amqp),
        store=Store(root=tmp_path),
        pool=Pool(slots=1),
        http=Http(host="127.0.0.1", port=http),
    )


@asynccontextmanager
async def http_of(settings):
    """A client of the worker's HTTP side, once that is up."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{settings.http.port}") as session, asyncio.timeout(20):
        while True:
            try:
                async with session.get("/livez"):
                    break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
        yield session


async def test_while_it_waits_for_the_broker_it_is_alive_not_ready_and_can_be_stopped(tmp_path):
    settings = unreachable(tmp_path)
    serving = asyncio.create_task(service.serve(settings))
    async with http_of(settings) as session:
        async with session.get("/readyz") as response:
            assert response.status == 503
            assert "not consuming" in (await response.json())["reasons"]
        async with session.get("/metrics") as response:
            assert "frame_capture_consuming 0.0" in await response.text()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await serving == 0


async def test_without_a_broker_it_gives_up(tmp_path):
    assert await service.serve(unreachable(tmp_path, startup_deadline_s=0.1)) == 1


async def test_without_a_store_it_gives_up(tmp_path):
    (tmp_path / "file").touch()
    settings = unreachable(tmp_path, startup_deadline_s=0.1)
    settings = settings.model_copy(update={"store": Store(root=tmp_path / "file" / "root")})
    assert await service.serve(settings) == 1


async def test_with_its_port_taken_it_gives_up(tmp_path):
    settings = unreachable(tmp_path)
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", settings.http.port)
    async with taken:
        assert await service.serve(settings) == 1
