"""The HTTP side: is it alive, can it work, and how much does it do."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

Reasons = Callable[[], Awaitable[list[str]]]


@asynccontextmanager
async def serve_health(host: str, port: int, registry: CollectorRegistry, not_ready: Reasons) -> AsyncIterator[int]:
    """Serve `/livez`, `/readyz` and `/metrics` while entered; gives the port that is listened on.

    `/livez` answers while the event loop turns, whatever broker and store do. `/readyz` answers 503 with the reasons
    that `not_ready` lists, if any.
    """

    async def livez(_request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_request: web.Request) -> web.Response:
        reasons = await not_ready()
        status = "not ready" if reasons else "ready"
        return web.json_response({"status": status, "reasons": reasons}, status=503 if reasons else 200)

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", make_aiohttp_handler(registry))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
