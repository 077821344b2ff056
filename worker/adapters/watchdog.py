"""What watches the slots of the decoder pool all the time: their limits, and decoders that die while they are idle.

Must not know captures, nor how processes are made.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from worker.adapters.decoder_slot import Slot
from worker.settings import Pool

SAMPLE_S = 0.5

log = logging.getLogger(__name__)


class Watchdog:
    """Watches `slots` once it is started. `replace` gives a slot a fresh decoder, for the reason that it is told.

    `died` is to be set when a decoder dies; `max_rss_bytes` is the largest resident size when last sampled. Where it
    ends by a bug, it ends the worker in order, by SIGTERM: no limit would be kept any more, and nobody would see it.
    """

    def __init__(self, limits: Pool, slots: Sequence[Slot], replace: Callable[[Slot, str], None]) -> None:
        self.max_rss_bytes = 0
        self.died = asyncio.Event()
        self._limits = limits
        self._slots = slots
        self._replace = replace
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to watch."""
        self._tasks = [asyncio.create_task(self._keep_limits()), asyncio.create_task(self._keep_alive())]
        for task in self._tasks:
            task.add_done_callback(_end_worker)

    async def stop(self) -> None:
        """Watch no more. Raises what it ended by, if it was a bug."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _keep_limits(self) -> None:
        """Keep the hard time limit and the memory limit; both kill within two samples."""
        while True:
            await asyncio.sleep(SAMPLE_S)
            now = asyncio.get_running_loop().time()
            self.max_rss_bytes = max([slot.keep_limits(self._limits, now) for slot in self._slots])

    async def _keep_alive(self) -> None:
        """Replace decoders that die while they are idle."""
        while True:
            with suppress(TimeoutError):  # then a pause may be over
                async with asyncio.timeout(SAMPLE_S):
                    await self.died.wait()
            self.died.clear()
            for slot in self._slots:
                await self._revive(slot, asyncio.get_running_loop().time())

    async def _revive(self, slot: Slot, now: float) -> None:
        """Replace an idle decoder that has died, or could not be started: at once, and then ever less often.

        A task that comes meanwhile does not wait: it tries a replacement of its own.
        """
        if not slot.idle or not slot.starting.done() or now < slot.revive_at:
            return
        if slot.child is None:
            log.warning("starting a decoder process failed, trying again: %s", slot.starting.exception())
        elif slot.child.exited.done():
            log.warning("an idle decoder process %s, another takes its place", await slot.child.end())
        else:
            return
        slot.pause_revivals(now)
        self._replace(slot, "crashed")


def _end_worker(watching: asyncio.Task[None]) -> None:
    if watching.cancelled():
        return
    log.critical("nobody watches the decoders any more, so the worker ends", exc_info=watching.exception())
    signal.raise_signal(signal.SIGTERM)
