"""The parts of one capture at work at once, and what they give in order.

Owns which part may begin, and how much of what later parts give is kept in memory meanwhile. Must not know slots, nor
how a part is captured.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from worker.media.bounds import JOINED_BYTES, is_ranked
from worker.media.parts import Joined, parts_of
from worker.media.plan import CaptureEvent, CapturePlan, Cuts, Image, Part, PartEvent

Begun = Callable[[], None]
Start = Callable[[int, Begun], AsyncGenerator[PartEvent, None]]
EVENT_BYTES = 1024  # that one takes at most beside an image's data: without end they would fill the memory too


async def run_parts(
    plan: CapturePlan,
    cuts: Cuts,
    first: AsyncGenerator[PartEvent, None],
    start: Callable[[Part, Begun], AsyncGenerator[PartEvent, None]],
    max_bytes: int,
) -> AsyncGenerator[CaptureEvent, None]:
    """Run the parts between the cuts, of which the `first` is at work already, and yield what the whole would.

    `start` gives the events of a part, and calls `Begun` once it is its turn. For `max_bytes` see `PartsAtWork`.
    """
    parts = parts_of(cuts)

    def begin(number: int, begun: Begun) -> AsyncGenerator[PartEvent, None]:
        if number:
            return start(parts[number], begun)
        begun()
        return first

    joined = Joined(plan)
    if any(is_ranked(entry.selection) for entry in plan.entries):  # of which `joined` keeps the best
        max_bytes = max(max_bytes - JOINED_BYTES, max_bytes // 2)
    async with aclosing(PartsAtWork(len(parts), begin, max_bytes).events()) as events:
        async for event in events:
            for each in joined.add(event):
                yield each
            if joined.is_complete:  # then what is still at work is for nothing
                break
    for each in joined.finish():
        yield each


class PartsAtWork:
    """Runs `number` parts. `start(part, begun)` gives the events of one; it calls `begun` once it is its turn.

    Parts begin in order, each when the one before has begun. What parts give before their turn is kept, up to
    `max_bytes`: then those parts wait, and no other begins.
    """

    def __init__(self, number: int, start: Start, max_bytes: int) -> None:
        self._start = start
        self._max_bytes = max_bytes
        self._kept: list[deque[PartEvent]] = [deque() for _ in range(number)]
        self._bytes = 0
        self._head = 0
        self._begun = 0
        self._failed = False
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def events(self) -> AsyncGenerator[PartEvent, None]:
        """Yield the events of all parts, part after part. Raises what the first failing part raises, in its place."""
        self._tasks = [asyncio.create_task(self._run(part)) for part in range(len(self._kept))]
        for task in self._tasks:
            task.add_done_callback(self._note_end)
        try:
            for part, task in enumerate(self._tasks):
                self._head = part
                self._changed.set()
                while (event := await self._next(part)) is not None:
                    yield event
                task.result()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, part: int) -> None:
        await self._until(lambda: self._begun == part and self._bytes < self._max_bytes and not self._failed)
        async with aclosing(self._start(part, self._note_begin)) as events:
            async for event in events:
                await self._keep(part, event)

    async def _keep(self, part: int, event: PartEvent) -> None:
        size = _size(event)
        kept = self._kept[part]
        await self._until(lambda: self._bytes + size <= self._max_bytes or (part == self._head and not kept))
        kept.append(event)
        self._bytes += size
        self._changed.set()

    async def _next(self, part: int) -> PartEvent | None:
        """Wait for the part's next event; None at its end."""
        kept, task = self._kept[part], self._tasks[part]
        await self._until(lambda: bool(kept) or task.done())
        if not kept:
            return None
        event = kept.popleft()
        self._bytes -= _size(event)
        self._changed.set()
        return event

    def _note_begin(self) -> None:
        self._begun += 1
        self._changed.set()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._failed |= task.cancelled() or task.exception() is not None
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def _size(event: PartEvent) -> int:
    return EVENT_BYTES + (len(event.data) if isinstance(event, Image) else 0)
