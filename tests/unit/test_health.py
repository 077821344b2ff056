"""Health and metrics over real HTTP."""

import asyncio

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from worker.health import serve_health


class Worker:
    """What `/readyz` asks."""

    def __init__(self):
        self.reasons = []
        self.registry = CollectorRegistry()
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.answer.set()

    async def not_ready(self):
        self.asked.set()
        await self.answer.wait()
        return self.reasons


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
async def get(worker):
    """Ask the server: `status, body = await get(path)`."""
    async with (
        serve_health("127.0.0.1", 0, worker.registry, worker.not_ready) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):

        async def get(path, **headers):
            async with session.get(path, headers=headers) as response:
                body = await (response.json() if "json" in response.content_type else response.text())
                return response.status, body

        yield get


async def test_alive_whatever_is_wrong(worker, get):
    worker.reasons = ["not consuming"]
    assert await get("/livez") == (200, {"status": "alive"})


async def test_ready_until_there_is_a_reason_not_to_be(worker, get):
    assert await get("/readyz") == (200, {"status": "ready", "reasons": []})
    worker.reasons = ["not consuming", "draining"]
    assert await get("/readyz") == (503, {"status": "not ready", "reasons": ["not consuming", "draining"]})
    worker.reasons = []
    assert (await get("/readyz"))[0] == 200


async def test_alive_while_readiness_waits(worker, get):
    """Asking a blocked broker takes time; nobody else waits for it."""
    worker.answer.clear()
    waiting = asyncio.create_task(get("/readyz"))
    await worker.asked.wait()
    assert (await get("/livez"))[0] == 200
    assert not waiting.done()
    worker.answer.set()
    assert (await waiting)[0] == 200


async def test_metrics_are_prometheus_text(worker, get):
    Gauge("some_metric", "Some metric.", registry=worker.registry).set(5)
    status, text = await get("/metrics", Accept="text/plain")
    assert status == 200
    assert "# HELP some_metric Some metric.\nsome_metric 5.0" in text.replace("# TYPE some_metric gauge\n", "")


async def test_nothing_else_is_served(get):
    assert (await get("/"))[0] == 404


async def test_the_port_is_free_again(worker):
    async with serve_health("127.0.0.1", 0, worker.registry, worker.not_ready) as port:
        pass
    async with serve_health("127.0.0.1", port, worker.registry, worker.not_ready) as again:
        assert again == port


async def test_a_port_that_is_taken_is_an_error(worker):
    async with serve_health("127.0.0.1", 0, worker.registry, worker.not_ready) as port:
        with pytest.raises(OSError, match="in use"):
            async with serve_health("127.0.0.1", port, worker.registry, worker.not_ready):
                pass
