"""Events as they come from the broker, for as long as none can be missed."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from worker.cli.told import Told, read_event
from worker.ports import BrokerLostError

CHECK_S = 1.0


async def told_by(events: AsyncIterator[tuple[str, bytes]], connected: Callable[[], bool]) -> AsyncGenerator[Told]:
    """Read events. Raises `BrokerLostError` once the connection is lost, since some may be missed then."""
    following: asyncio.Task[tuple[str, bytes]] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_next(events))
            await asyncio.wait({following}, timeout=CHECK_S)
            if following.done():
                key, body = following.result()
                following = None
                try:
                    yield read_event(body)
                except ValueError as error:
                    print(f"frame-capture: ignored what came with the routing key {key!r}: {error}", file=sys.stderr)
            elif not connected():
                raise BrokerLostError("the connection to the broker was lost, so events may have been missed")
    finally:
        if following is not None:
            following.cancel()


async def _next(events: AsyncIterator[tuple[str, bytes]]) -> tuple[str, bytes]:
    return await anext(events)
