"""A source made of segments (HLS), as one virtual file: its layout, and the stream of bytes from a segment on.

The parent presents it so that nobody needs a segment's size before the segment itself is read: slot n starts at byte
n * `SLOT_BYTES`, with 8 bytes that tell how many follow; after those there are zeros without end. Slot 0 lists the
segments; each other slot is a segment, or what must come before it (an MP4's initialisation section). Knows no playlist
and no media format.
"""

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any, BinaryIO

SLOT_BYTES = 2**40
LENGTH_BYTES = 8

_ROW = struct.Struct("<IIIdd")


@dataclass(frozen=True, slots=True)
class Segment:
    """A media segment in `slot`, to be preceded by that in `init_slot` (0: none), and where it plays at about.

    Timestamps are continuous within a `run`; runs count from 0.
    """

    slot: int
    init_slot: int
    run: int
    start_s: float
    duration_s: float


def pack_table(segments: Iterable[Segment]) -> bytes:
    """Make the content of slot 0."""
    return b"".join(_ROW.pack(*astuple(segment)) for segment in segments)


def read_table(file: BinaryIO) -> tuple[Segment, ...]:
    """Read the list of segments from slot 0 of a virtual file."""
    file.seek(0)
    size = int.from_bytes(file.read(LENGTH_BYTES))
    return tuple(Segment(*row) for row in _ROW.iter_unpack(file.read(size)))


class SegmentStream(io.RawIOBase):
    """Segments one after the other, each initialisation section once, as a file that is read forwards.

    It goes back only to its start: FFmpeg would look at the end of a seekable file, and so at segments that nobody
    wants. `place` is the index in `segments` of the one that was read last.
    """

    def __init__(self, file: BinaryIO, segments: Sequence[Segment], place: int) -> None:
        super().__init__()
        self._file = file
        self._segments = segments
        self._first = place
        self._rewind()

    def _rewind(self) -> None:
        self.place = self._first
        self._position = 0
        self._left = 0
        self._slots = self._slots_ahead()

    def _slots_ahead(self) -> Iterator[int]:
        init_slot = 0
        for place in range(self._first, len(self._segments)):
            segment = self._segments[place]
            self.place = place
            if segment.init_slot not in (0, init_slot):
                init_slot = segment.init_slot
                yield init_slot
            yield segment.slot

    def readable(self) -> bool:
        """Tell that reading works."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go back to the start. Raises `io.UnsupportedOperation` for any other place."""
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation(f"seek to {offset} (whence {whence}); segments are only read forwards")
        self._rewind()
        return 0

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer from one slot; nothing only at the end."""
        while not self._left and (slot := next(self._slots, None)) is not None:
            self._file.seek(slot * SLOT_BYTES)
            self._left = int.from_bytes(self._file.read(LENGTH_BYTES))
            self._position = slot * SLOT_BYTES + LENGTH_BYTES
        view = memoryview(buffer).cast("B")[: self._left]
        self._file.seek(self._position)  # other streams of the same file may have moved it
        data = self._file.read(len(view))
        view[: len(data)] = data
        self._position += len(data)
        self._left -= len(data)
        return len(data)
