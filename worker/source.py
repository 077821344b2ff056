"""One open source as decoders read it: what to request of an object before it is asked for.

A decoder that knows the container's index announces what it is going to read: that is requested ahead of it, several
ranges at a time, and nothing else. Elsewhere it reads a few scattered places, then runs forward for a while: scattered
reads fetch no more than the blocks they touch, and a run is read ahead, the further the longer it lasts. Knows no
storage technology and no media format.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from worker.errors import Code, TaskError
from worker.ports import ByteSource, ObjectInfo, ObjectStore
from worker.ranges import PIECE_BYTES, REQUEST_BYTES, Piece, RangeCache
from worker.read_budget import ReadBudget
from worker.task import Location

BLOCK_BYTES = 2**18
PARALLEL = 8
MAX_AHEAD_BYTES = 8 * 2**20
NEAR_BYTES = 2**20
AHEAD_PART = 4
GAP_PART = 8
MAX_WAITING = 4096


class CachedSource:
    """Implements `ports.ByteSource`, with a cache of `cache_bytes` that all its readers share.

    The object's tag is pinned: a changed object fails all further reads. Use `contextlib.aclosing`.
    """

    def __init__(
        self,
        store: ObjectStore,
        location: Location,
        info: ObjectInfo,
        *,
        cache_bytes: int,
        block_bytes: int = BLOCK_BYTES,
        budget: ReadBudget | None = None,
    ) -> None:
        self._cache = RangeCache(store, location, info, capacity_bytes=cache_bytes, budget=budget)
        self._block_bytes = block_bytes
        self._own = _Reader(self._cache, block_bytes)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._cache.size

    @property
    def bytes_read(self) -> int:
        """How many bytes came from the store."""
        return self._cache.bytes_read

    @property
    def requests(self) -> int:
        """How many ranges were requested of the store."""
        return self._cache.requests

    async def read(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset`: fewer at the end, none past it. Raises what the store raises."""
        return await self._own.read(offset, size)

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Request ranges (offset, size) ahead of the reads that will come, in that order."""
        self._own.expect(ranges)

    @contextmanager
    def reader(self) -> Iterator["_Reader"]:
        """Open another way through the source: with its own order of reading, but the same cache."""
        reader = _Reader(self._cache, self._block_bytes)
        try:
            yield reader
        finally:
            reader.close()

    async def aclose(self) -> None:
        """Cancel what is under way and wait for its end. Nothing may be read afterwards."""
        self._own.close()
        await self._cache.aclose()


class _Reader:
    """Implements `ports.ByteSource` for one decoder."""

    def __init__(self, cache: RangeCache, block_bytes: int) -> None:
        self._cache = cache
        self._block_bytes = block_bytes
        self._run = _Run(block_bytes, min(MAX_AHEAD_BYTES, cache.capacity_bytes // 4))
        self._announced = _Announced(cache)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._cache.size

    async def read(self, offset: int, size: int) -> bytes:
        """See `CachedSource`."""
        end = min(offset + size, self._cache.size)
        if offset < 0 or end <= offset:
            return b""
        self._announced.reach(offset)
        pieces = self._cache.obtain(offset, end, self._block_bytes)
        self._run.note(offset, end)
        if not all(piece.announced for piece in pieces):
            first, last = self._run.ahead(self._cache.size)
            if first < last:
                self._cache.obtain(first, last)
        # Waiting, unlike awaiting, leaves the pieces alone when this reader is cancelled.
        waiting = [piece.content for piece in pieces if not piece.content.done()]
        if waiting:
            await asyncio.wait(waiting)
        return _joined(pieces, offset, end)

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """See `CachedSource`."""
        self._announced.add(ranges)

    @contextmanager
    def reader(self) -> Iterator["_Reader"]:
        """Give itself: it is a reader."""
        yield self

    def close(self) -> None:
        """Give up what was announced and not read."""
        self._announced.close()


async def read_exactly(source: ByteSource, offset: int, size: int) -> bytes:
    """Read bytes that the source says it has. Raises what it raises, and for fewer bytes `StorageUnavailable`."""
    data = await source.read(offset, size)
    if len(data) != size:
        text = f"the source gave {len(data)} bytes instead of {size} at {offset} of {source.size}"
        raise TaskError(Code.STORAGE_UNAVAILABLE, text, retryable=True)
    return data


def _joined(pieces: Sequence[Piece], start: int, end: int) -> bytes:
    parts = []
    for piece in pieces:
        data = piece.content.result()
        whole = start <= piece.start and piece.end <= end
        parts.append(data if whole else data[max(start - piece.start, 0) : end - piece.start])
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Announced:
    """What one reader is going to read, in its order: requested ahead within half the cache, and kept until then."""

    def __init__(self, cache: RangeCache) -> None:
        self._cache = cache
        self._share = cache.capacity_bytes // 2
        self._waiting: deque[tuple[int, int]] = deque()  # not requested yet: start, end
        self._kept: deque[Piece] = deque()  # requested; the first one is being read

    def add(self, ranges: Sequence[tuple[int, int]]) -> None:
        for offset, size in ranges:
            start, end = offset, min(offset + size, self._cache.size)
            if self._waiting and self._waiting[-1][0] <= start:
                before, until = self._waiting[-1]
                if start - until <= (until - before) // GAP_PART:  # one request instead of two, for a few more bytes
                    self._waiting.pop()
                    start, end = before, max(until, end)
            if start < end and len(self._waiting) < MAX_WAITING:
                self._waiting.append((start, end))
        self._advance()

    def reach(self, offset: int) -> None:
        """Note that a read begins at `offset`: what was to come before is not waited for any more."""
        place = next((place for place, piece in enumerate(self._kept) if piece.start <= offset < piece.end), None)
        if place is None and any(start <= offset < end for start, end in self._waiting):
            place = len(self._kept)
            while not self._waiting[0][0] <= offset < self._waiting[0][1]:
                self._waiting.popleft()
            self._waiting[0] = (offset, self._waiting[0][1])
            self._request()
        for _ in range(place or 0):
            self._cache.unpin(self._kept.popleft())
        self._advance()

    def close(self) -> None:
        self._waiting.clear()
        while self._kept:
            self._cache.unpin(self._kept.popleft())

    def _advance(self) -> None:
        while (
            self._waiting and self._cache.under_way < PARALLEL and self._cache.pinned_bytes + PIECE_BYTES <= self._share
        ):
            self._request()

    def _request(self) -> None:
        """Request the next range, or the first part of a large one."""
        start, end = self._waiting.popleft()
        room = max(self._share - self._cache.pinned_bytes, PIECE_BYTES)
        until = min(start + min(room, REQUEST_BYTES), end)
        if until < end:
            self._waiting.appendleft((until, end))
        for piece in self._cache.obtain(start, until):
            piece.announced = True
            self._cache.pin(piece)
            self._kept.append(piece)
            if not piece.content.done():
                piece.content.add_done_callback(lambda _: self._advance())


class _Run:
    """Detects a decoder that runs forward, and how far to read ahead of it: a quarter of the way it has come.

    So what nobody reads in the end is never much beside what was read.
    """

    def __init__(self, block_bytes: int, max_ahead_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._max_ahead_bytes = max_ahead_bytes
        self._start = self._front = self._requested = -NEAR_BYTES - 1  # nothing is near it at first

    def note(self, start: int, end: int) -> None:
        """Note a read."""
        if abs(start - self._front) > NEAR_BYTES:
            self._start, self._front, self._requested = start, end, end
        self._front = max(self._front, end)

    def ahead(self, size: int) -> tuple[int, int]:
        """Give the start and end of what to request now, if anything (else end <= start).

        The next step comes once half of the last one is used up: so a steady run makes few, large requests.
        """
        first = max(self._requested, self._front)
        far = min((self._front - self._start) // AHEAD_PART, self._max_ahead_bytes)
        if first - self._front > far // 2:
            return first, first
        self._requested = max(min(self._front + far, size) // self._block_bytes * self._block_bytes, first)
        return first, self._requested
