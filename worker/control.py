"""Obeys what is said to all workers at once. Knows neither the broker nor what a task is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from worker import logs
from worker.messages.control import read_cancel

AT_ONCE = 1000  # a request may wait for minutes where it cannot be recorded

log = logs.Log(__name__)


async def obey(messages: AsyncIterator[tuple[str, bytes]], cancel: Callable[[str], Awaitable[None]]) -> None:
    """Call `cancel` with each TaskId that a message names, up to `AT_ONCE` side by side, as long as messages come."""
    free = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as group:
        async for _, body in messages:
            await free.acquire()
            group.create_task(_obey_one(body, cancel)).add_done_callback(lambda _: free.release())


async def _obey_one(body: bytes, cancel: Callable[[str], Awaitable[None]]) -> None:
    try:
        await cancel(read_cancel(body))
    except ValueError as error:
        log.warning("ignored a message on the control exchange", error=str(error))
    except Exception:  # the next message must be heard all the same
        log.exception("unexpected error while obeying a message on the control exchange")
