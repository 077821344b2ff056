"""One open source as a decoder reads it: a block cache and read-ahead over an object store's ranged reads.

Owns which ranges are requested, and when. A decoder reads a few scattered places of a large file, then runs forward for
a while: scattered reads fetch no more than the blocks they touch, and a run is read ahead while the decoder works, in
growing steps. Knows no storage technology and no media format.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from worker.errors import Code, TaskError
from worker.ports import ObjectInfo, ObjectStore
from worker.task import Location

BLOCK_BYTES = 2**20
MAX_AHEAD_BLOCKS = 8

_Block = asyncio.Future[bytes]


class CachedSource:
    """Implements `ports.ByteSource`. The object's tag is pinned: a changed object fails all further reads.

    `cache_bytes` bounds what is kept, least recently used first out; what is being fetched counts too. `on_read` is
    called with the size of each range that came from the store. Use `contextlib.aclosing`.
    """

    def __init__(
        self,
        store: ObjectStore,
        location: Location,
        info: ObjectInfo,
        *,
        cache_bytes: int,
        block_bytes: int = BLOCK_BYTES,
        on_read: Callable[[int], None] | None = None,
    ) -> None:
        self.bytes_read = 0
        self.requests = 0
        self._store = store
        self._location = location
        self._info = info
        self._block_bytes = block_bytes
        self._on_read = on_read
        self._count = -(-info.size // block_bytes)
        self._capacity = max(cache_bytes // block_bytes, 1)
        # Blocks that are here and blocks on their way, so that whoever wants one on its way waits for the same request.
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._fetches: set[asyncio.Task[bytes]] = set()
        self._run = _Run(min(MAX_AHEAD_BLOCKS, self._capacity // 2))

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._info.size

    async def read(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset`: fewer at the end, none past it. Raises what the store raises."""
        end = min(offset + size, self._info.size)
        if offset < 0 or end <= offset:
            return b""
        first, last = offset // self._block_bytes, (end - 1) // self._block_bytes
        blocks = self._obtain(first, last)
        self._obtain(*self._run.advance(first, last))
        # Waiting, unlike awaiting, leaves the blocks alone when this reader is cancelled.
        if not all(block.done() for block in blocks):
            await asyncio.wait(blocks)
        data = b"".join([block.result() for block in blocks]) if len(blocks) > 1 else blocks[0].result()
        start = first * self._block_bytes
        return data[offset - start : end - start]

    async def aclose(self) -> None:
        """Cancel what is under way and wait for its end. Nothing may be read afterwards."""
        fetches = tuple(self._fetches)
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        self._blocks.clear()

    def _obtain(self, first: int, last: int) -> list[_Block]:
        """Give the blocks from `first` to `last`, requesting each gap between those at hand as one range."""
        blocks = []
        missing: list[int] = []
        for index in range(first, min(last + 1, self._count)):
            if index in self._blocks:
                self._blocks.move_to_end(index)
                self._fetch(missing)
                missing = []
            else:
                self._blocks[index] = asyncio.get_running_loop().create_future()
                missing.append(index)
            blocks.append(self._blocks[index])
        self._fetch(missing)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)
        return blocks

    def _fetch(self, indexes: list[int]) -> None:
        """Request adjacent blocks, which are already listed, in the background."""
        if not indexes:
            return
        blocks = {index: self._blocks[index] for index in indexes}
        offset = indexes[0] * self._block_bytes
        size = min(len(indexes) * self._block_bytes, self._info.size - offset)
        fetch = asyncio.create_task(self._read_range(offset, size))
        self._fetches.add(fetch)
        fetch.add_done_callback(lambda done: self._settle(blocks, done))

    async def _read_range(self, offset: int, size: int) -> bytes:
        self.requests += 1
        data = await self._store.read(self._location, offset, size, self._info.etag)
        self.bytes_read += len(data)
        if self._on_read:
            self._on_read(len(data))
        if len(data) != size:
            raise TaskError(
                Code.STORAGE_UNAVAILABLE,
                f"{self._location}: the store gave {len(data)} bytes of the {size} from {offset}: try again",
                retryable=True,
            )
        return data

    def _settle(self, blocks: dict[int, _Block], fetch: asyncio.Task[bytes]) -> None:
        """Hand a finished request's data, or its failure, to whoever waits; forget blocks that failed."""
        self._fetches.discard(fetch)
        closed = TaskError(Code.CANCELED, f"{self._location} was closed while being read")
        failure = closed if fetch.cancelled() else fetch.exception()
        for place, (index, block) in enumerate(blocks.items()):
            if failure is None:
                block.set_result(fetch.result()[place * self._block_bytes : (place + 1) * self._block_bytes])
                continue
            if self._blocks.get(index) is block:
                del self._blocks[index]
            block.set_exception(failure)
            block.exception()  # nobody may be waiting for what was read ahead; a reader asks again and is told


class _Run:
    """Detects a decoder that runs forward, and how far to read ahead of it: 1, 2, 4 … blocks."""

    def __init__(self, max_ahead: int) -> None:
        self._max_ahead = max_ahead
        self._ahead = 0
        self._front = -2  # the furthest block of the run; nothing is next to it at first
        self._requested = 0  # the first block not yet read ahead

    def advance(self, first: int, last: int) -> tuple[int, int]:
        """Note a read of blocks `first` to `last`; give the first and last block to read ahead (none: last < first)."""
        near = self._front - 1 <= first <= self._front + 1
        if not near:
            self._ahead = 0
            self._front, self._requested = last, last + 1
        elif last > self._front:
            self._front, self._requested = last, max(self._requested, last + 1)
            if self._requested - last - 1 <= self._ahead // 2:
                return self._extend()
        return 0, -1

    def _extend(self) -> tuple[int, int]:
        """Double the distance once half of it is used up: so a steady run makes few, large requests."""
        self._ahead = min(max(2 * self._ahead, 1), self._max_ahead)
        first = self._requested
        self._requested = max(first, self._front + 1 + self._ahead)
        return first, self._requested - 1
