"""HLS in the parent: a playlist's segments, checked, decrypted and presented as one virtual file.

FFmpeg opens no playlist: it would follow its addresses anywhere. The decoder gets the layout of `worker.media.segments`
and asks for bytes of segments; this finds them in the store. Nothing of a segment is requested, not even its size,
before its bytes are wanted. Keys stay here.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from posixpath import dirname

from worker.adapters.hls_playlist import MARK, MAX_BYTES, Piece, PlayedPiece, read_playlist
from worker.errors import Code, TaskError, over_limit
from worker.media.segments import LENGTH_BYTES, SLOT_BYTES, Segment, pack_table
from worker.ports import ObjectInfo, ObjectStore, OpenSource
from worker.read_budget import ReadBudget
from worker.source import CachedSource
from worker.task import Location

OPEN_OBJECTS = 4
AES_BYTES = 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@asynccontextmanager
async def open_source(
    store: ObjectStore,
    location: Location,
    info: ObjectInfo,
    *,
    cache_bytes: int,
    max_bytes: int,
    budget: ReadBudget | None = None,
) -> AsyncGenerator[OpenSource, None]:
    """Open a source for a decoder: what a playlist names, recognised by its bytes, or any other object as it is.

    `cache_bytes` bounds what is kept in memory, `max_bytes` what a playlist's segments that are read may add up to,
    `budget` what is read in all.
    """
    if budget is not None:
        budget.open(info.size)
    async with aclosing(CachedSource(store, location, info, cache_bytes=cache_bytes, budget=budget)) as source:
        head = await source.read(0, len(_BYTE_ORDER_MARK + MARK))
        if not head.removeprefix(_BYTE_ORDER_MARK).startswith(MARK):
            yield OpenSource(source, segmented=False)
            return
    pieces = await _follow(store, location, info)
    made = SegmentedSource(store, pieces, cache_bytes=cache_bytes, max_bytes=max_bytes, budget=budget)
    async with aclosing(made) as segmented:
        yield OpenSource(segmented, segmented=True)


async def _follow(store: ObjectStore, location: Location, info: ObjectInfo) -> tuple[PlayedPiece, ...]:
    """Read the playlist, and the best variant's if it is a master. Raises what `read_playlist` does."""
    root = dirname(location.key)
    first = await _read_playlist(store, location, info, root)
    if not isinstance(first, Location):
        return first
    second = await _read_playlist(store, first, await store.stat(first), root)
    if isinstance(second, Location):
        message = f"{location}: the master playlist's variant {first} is no list of segments, but a master again"
        raise TaskError(Code.CORRUPT_MEDIA, message)
    return second


async def _read_playlist(
    store: ObjectStore, location: Location, info: ObjectInfo, root: str
) -> Location | tuple[PlayedPiece, ...]:
    if info.size > MAX_BYTES:
        message = f"{location}: the playlist has {info.size} bytes; at most {MAX_BYTES} are allowed"
        raise TaskError(Code.LIMIT_EXCEEDED, message)
    data = await store.read(location, 0, info.size, info.etag)
    if not data.removeprefix(_BYTE_ORDER_MARK).startswith(MARK):
        raise TaskError(Code.CORRUPT_MEDIA, f"{location}: a playlist starts with {MARK.decode()}; this does not")
    return await asyncio.to_thread(read_playlist, data, location, root)


@dataclass(frozen=True, slots=True)
class _Slot:
    """An opened piece: as the store has it `stored_bytes` long, decrypted with `key` (if any) `size`."""

    piece: Piece
    stored_bytes: int
    size: int
    key: bytes = field(default=b"", repr=False)


class SegmentedSource:
    """Implements `ports.ByteSource` by the layout of `worker.media.segments`. Use `contextlib.aclosing`."""

    def __init__(
        self,
        store: ObjectStore,
        played: tuple[PlayedPiece, ...],
        *,
        cache_bytes: int,
        max_bytes: int,
        budget: ReadBudget | None = None,
    ) -> None:
        self._store = store
        self._cache_bytes = cache_bytes // OPEN_OBJECTS
        self._max_bytes = max_bytes
        self._opened_bytes = 0
        self._budget = budget
        self._pieces: list[Piece] = []
        self._table = pack_table(self._segments(played))
        self._slots: dict[int, _Slot] = {}
        self._infos: dict[Location, ObjectInfo] = {}
        self._keys: dict[Location, bytes] = {}
        self._objects: OrderedDict[Location, CachedSource] = OrderedDict()

    def _segments(self, played: tuple[PlayedPiece, ...]) -> list[Segment]:
        inits: dict[Piece, int] = {}
        segments = []
        for one in played:
            if one.init is not None and one.init not in inits:
                self._pieces.append(one.init)
                inits[one.init] = len(self._pieces)
            self._pieces.append(one.media)
            init_slot = 0 if one.init is None else inits[one.init]
            segments.append(Segment(len(self._pieces), init_slot, one.run, one.start_s, one.duration_s))
        return segments

    @property
    def size(self) -> int:
        """The number of bytes of the virtual file, most of which are never there."""
        return (len(self._pieces) + 1) * SLOT_BYTES

    async def read(self, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes, which must lie in one slot. Raises what the store raises, and `CorruptMedia`."""
        number, start = divmod(offset, SLOT_BYTES)
        slot = None if number == 0 else await self._slot(number)
        length = len(self._table) if slot is None else slot.size
        data = length.to_bytes(LENGTH_BYTES)[start : start + size]
        first = max(start - LENGTH_BYTES, 0)
        end = min(first + size - len(data), length)
        if first < end:
            data += self._table[first:end] if slot is None else await self._content(slot, first, end)
        return data.ljust(size, b"\0")

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Ignore what is announced: segments are read forwards."""

    def reader(self) -> AbstractContextManager["SegmentedSource"]:
        """Give itself: what is read is told by the segments' order."""
        return nullcontext(self)

    async def aclose(self) -> None:
        """Close all that is open. Nothing may be read afterwards."""
        while self._objects:
            await self._objects.popitem()[1].aclose()

    async def _slot(self, number: int) -> _Slot:
        if number not in self._slots:
            slot = await self._open(self._pieces[number - 1])
            self._opened_bytes += slot.stored_bytes
            if self._opened_bytes > self._max_bytes:
                what = f"the segments needed have {self._opened_bytes} bytes or more"
                raise over_limit(what, "LIMITS__SOURCE_BYTES", self._max_bytes)
            self._slots[number] = slot
        return self._slots[number]

    async def _open(self, piece: Piece) -> _Slot:
        whole = (await self._info(piece.location)).size
        size = whole - piece.offset if piece.size is None else piece.size
        if piece.offset + size > whole:
            message = f"{piece.location} has {whole} bytes; the playlist wants {size} from {piece.offset}"
            raise TaskError(Code.CORRUPT_MEDIA, message)
        if piece.key is None:
            return _Slot(piece, size, size)
        if size == 0 or size % AES_BYTES:
            message = f"{piece.location}: {size} bytes of AES-128 blocks; they come in multiples of {AES_BYTES}"
            raise TaskError(Code.CORRUPT_MEDIA, message)
        slot = _Slot(piece, size, size, await self._key(piece.key.location))
        last = await self._content(slot, size - AES_BYTES, size)
        padding = last[-1]
        if not 1 <= padding <= AES_BYTES or last[-padding:] != bytes([padding]) * padding:
            message = f"{piece.location} cannot be decrypted with {piece.key.location}: another key, or damaged data"
            raise TaskError(Code.CORRUPT_MEDIA, message)
        return _Slot(piece, size, size - padding, slot.key)

    async def _content(self, slot: _Slot, start: int, end: int) -> bytes:
        """Read bytes of a piece, decrypted: a block of AES-CBC needs the one before it, the first the vector."""
        piece, source = slot.piece, await self._object(slot.piece.location)
        if piece.key is None:
            return await source.read(piece.offset + start, end - start)
        first = start - start % AES_BYTES
        before = max(first - AES_BYTES, 0)
        stop = end + -end % AES_BYTES
        data = await source.read(piece.offset + before, stop - before)
        vector, blocks = (data[:AES_BYTES], data[AES_BYTES:]) if first else (piece.key.iv, data)
        return _decrypted(blocks, slot.key, vector)[start - first : end - first]

    async def _key(self, location: Location) -> bytes:
        if location not in self._keys:
            info = await self._info(location)
            if info.size != AES_BYTES:
                message = f"{location}: an AES-128 key has {AES_BYTES} bytes; this has {info.size}"
                raise TaskError(Code.CORRUPT_MEDIA, message)
            self._keys[location] = await self._store.read(location, 0, AES_BYTES, info.etag)
        return self._keys[location]

    async def _info(self, location: Location) -> ObjectInfo:
        """Tell an object's size and tag, asked once, so that all of its pieces are of one version."""
        if location not in self._infos:
            self._infos[location] = info = await self._store.stat(location)
            if self._budget is not None:
                self._budget.open(info.size)
        return self._infos[location]

    async def _object(self, location: Location) -> CachedSource:
        if location not in self._objects:
            if len(self._objects) >= OPEN_OBJECTS:
                await self._objects.popitem(last=False)[1].aclose()
            info = await self._info(location)
            source = CachedSource(self._store, location, info, cache_bytes=self._cache_bytes, budget=self._budget)
            self._objects[location] = source
        self._objects.move_to_end(location)
        return self._objects[location]


def _decrypted(blocks: bytes, key: bytes, vector: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher  # noqa: PLC0415 - few sources are encrypted
    from cryptography.hazmat.primitives.ciphers.algorithms import AES128  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.modes import CBC  # noqa: PLC0415

    return Cipher(AES128(key), CBC(vector)).decryptor().update(blocks)
