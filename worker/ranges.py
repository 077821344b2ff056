"""The bytes of one stored object that are in memory or on their way there, in pieces of any place and size.

Owns the requests to the store, and what is kept. Knows no readers and no order of reading.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

from worker.errors import Code, TaskError
from worker.ports import ObjectInfo, ObjectStore
from worker.read_budget import ReadBudget
from worker.task import Location

PIECE_BYTES = 2**20
REQUEST_BYTES = 4 * 2**20


@dataclass(slots=True, eq=False)
class Piece:
    """The bytes from `start` to before `end`. `pins` counts those who still need it; `announced`: somebody told of it

    before it was read.
    """

    start: int
    end: int
    content: asyncio.Future[bytes]
    pins: int = 0
    announced: bool = False

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.end - self.start


class RangeCache:
    """Pieces that never overlap. The object's tag is pinned: a changed object fails all further requests.

    `capacity_bytes` bounds what is kept, least recently used first out, but never what is pinned; what is being
    fetched counts too. What is over `budget` is not requested, and fails.
    """

    def __init__(
        self,
        store: ObjectStore,
        location: Location,
        info: ObjectInfo,
        *,
        capacity_bytes: int,
        budget: ReadBudget | None = None,
    ) -> None:
        self.bytes_read = 0
        self.requests = 0
        self.kept_bytes = 0
        self.pinned_bytes = 0
        self.size = info.size
        self.capacity_bytes = capacity_bytes
        self._store = store
        self._location = location
        self._etag = info.etag
        self._budget = budget
        self._pieces: list[Piece] = []  # by place
        self._recent: OrderedDict[Piece, None] = OrderedDict()  # the same, least recently used first
        self._fetches: set[asyncio.Task[bytes]] = set()
        if info.head:
            self._new(0, len(info.head)).content.set_result(info.head)
            self.requests += 1
            self.bytes_read += len(info.head)

    @property
    def under_way(self) -> int:
        """The number of requests that have no answer yet."""
        return len(self._fetches)

    def obtain(self, start: int, end: int, grain_bytes: int = 1) -> list[Piece]:
        """Give the pieces that cover `start` to `end`, requesting what is missing of them.

        What is missing at the ends is rounded outwards to multiples of `grain_bytes`, up to the next piece at hand.
        """
        low = bisect_right(self._pieces, start, key=lambda piece: piece.end)
        high = bisect_left(self._pieces, end, key=lambda piece: piece.start)
        known = self._pieces[low:high]
        if not known or known[0].start > start:
            start = max(start - start % grain_bytes, self._pieces[low - 1].end if low else 0)
        if not known or known[-1].end < end:
            after = self._pieces[high].start if high < len(self._pieces) else self.size
            end = min(end + -end % grain_bytes, after)
        found = []
        for piece in known:
            found += self._request(start, piece.start)
            found.append(piece)
            self._recent.move_to_end(piece)
            start = piece.end
        found += self._request(start, end)
        self._shrink()
        return found

    def pin(self, piece: Piece) -> None:
        """Keep a piece until it is unpinned as often."""
        self.pinned_bytes += piece.size if not piece.pins else 0
        piece.pins += 1

    def unpin(self, piece: Piece) -> None:
        """Take back one pin."""
        piece.pins -= 1
        self.pinned_bytes -= piece.size if not piece.pins else 0

    async def aclose(self) -> None:
        """Cancel what is under way and wait for its end. Nothing may be obtained afterwards."""
        fetches = tuple(self._fetches)
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        self._pieces.clear()
        self._recent.clear()

    def _request(self, start: int, end: int) -> list[Piece]:
        """Request bytes that are missing, in the background; large ranges in parts at the same time."""
        pieces = []
        for part in range(start, end, REQUEST_BYTES):
            part_end = min(part + REQUEST_BYTES, end)
            made = [self._new(at, min(at + PIECE_BYTES, part_end)) for at in range(part, part_end, PIECE_BYTES)]
            fetch = asyncio.create_task(self._read(part, part_end - part))
            self._fetches.add(fetch)
            fetch.add_done_callback(partial(self._settle, made))
            pieces += made
        return pieces

    def _new(self, start: int, end: int) -> Piece:
        piece = Piece(start, end, asyncio.get_running_loop().create_future())
        self._pieces.insert(bisect_left(self._pieces, start, key=lambda other: other.start), piece)
        self._recent[piece] = None
        self.kept_bytes += piece.size
        return piece

    def _shrink(self) -> None:
        while self.kept_bytes > self.capacity_bytes:
            oldest = next((piece for piece in self._recent if not piece.pins), None)
            if oldest is None:
                return
            self._forget(oldest)

    def _forget(self, piece: Piece) -> None:
        if piece in self._recent:
            del self._recent[piece]
            del self._pieces[bisect_left(self._pieces, piece.start, key=lambda other: other.start)]
            self.kept_bytes -= piece.size

    async def _read(self, offset: int, size: int) -> bytes:
        self.requests += 1
        if self._budget is not None:
            self._budget.spend(size)
        data = await self._store.read(self._location, offset, size, self._etag)
        self.bytes_read += len(data)
        if len(data) != size:
            raise TaskError(
                Code.STORAGE_UNAVAILABLE,
                f"{self._location}: the store gave {len(data)} bytes of the {size} from {offset}: try again",
                retryable=True,
            )
        return data

    def _settle(self, pieces: list[Piece], fetch: asyncio.Task[bytes]) -> None:
        """Hand a finished request's data, or its failure, to whoever waits; forget pieces that failed."""
        self._fetches.discard(fetch)
        closed = TaskError(Code.CANCELED, f"{self._location} was closed while being read")
        failure = closed if fetch.cancelled() else fetch.exception()
        for piece in pieces:
            if failure is None:
                data, start = fetch.result(), piece.start - pieces[0].start
                piece.content.set_result(data if len(pieces) == 1 else data[start : start + piece.size])
                continue
            self._forget(piece)
            piece.content.set_exception(failure)
            piece.content.exception()  # nobody may wait for what was read ahead; a reader asks again and is told
