"""Whether the store as a whole is out of reach, which is no task's fault, and the pause until it is back.

Knows no storage technology, no tasks and no broker: it is told how to ask the store, and how to have work paused.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol, Self

from worker import logs
from worker.errors import TaskError

ANSWER_S = 10.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0

log = logs.Log(__name__)


class Outages(Protocol):
    """What is known of the store as a whole."""

    async def explains(self, since_s: float) -> bool:
        """Tell whether a failure of something begun at `since_s` (monotonic clock) befell all that used the store."""
        ...


class NoOutages:
    """Takes every failure for the object's own. Implements `Outages`, for who makes one attempt only."""

    async def explains(self, since_s: float) -> bool:
        """Tell that it was not the store."""
        del since_s
        return False


class StoreOutages:
    """Asks the store, and while it does not answer has work paused. Implements `Outages` while entered.

    `check` raises `TaskError` where the store as a whole is unusable; `pause` is set as long as an outage lasts.
    """

    def __init__(self, check: Callable[[], Awaitable[None]], pause: asyncio.Event) -> None:
        self._check = check
        self._pause = pause
        self._probing: asyncio.Task[None] | None = None
        self._last_s = float("-inf")  # when the store was last found to be out of reach

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._probing is not None:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing

    @property
    def active(self) -> bool:
        """Whether the store is out of reach now, as far as is known."""
        return self._probing is not None and not self._probing.done()

    async def explains(self, since_s: float) -> bool:
        """Ask the store once, if nobody found it out of reach since then; so one object's failure is told apart."""
        if self.active or self._last_s >= since_s:
            return True
        problem = await self._problem()
        if problem and not self.active:
            log.error("the store is out of reach: no more tasks are taken until it answers", error=problem)
            self._probing = asyncio.create_task(self._until_back())
        return bool(problem)

    async def _until_back(self) -> None:
        """Have work paused, and ask again and again with growing random pauses."""
        started = monotonic()
        bound_s = FIRST_PAUSE_S
        self._pause.set()
        try:
            while True:
                await asyncio.sleep(random.uniform(bound_s / 2, bound_s))  # noqa: S311 - nothing secret
                if not await self._problem():
                    break
                bound_s = min(bound_s * 2, LONGEST_PAUSE_S)
            log.warning("the store answers again", outage_s=round(monotonic() - started, 1))
        finally:
            self._pause.clear()

    async def _problem(self) -> str:
        """Ask the store; gives what is wrong with it as a whole, empty if nothing."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._check()
        except TimeoutError:
            problem = f"no answer within {ANSWER_S:g} s"
        except TaskError as error:
            problem = error.message
        except Exception as error:  # who asks again and again must go on, and tasks must not come back at once
            log.exception("unexpected error while asking the store")
            problem = f"unexpected {type(error).__name__}"
        else:
            return ""
        self._last_s = monotonic()
        return problem
