"""The child's side of a decoder process: takes plans off its socket, runs the capture, and streams out what it yields.

Plain blocking code with one descriptor. It must not log, count, open files or reach a network: bytes come from the
parent, and everything it has to say is a message to it.
"""

import io
import os
import signal
import socket
import time
import traceback
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from worker.adapters import wire
from worker.errors import Code, TaskError
from worker.media.plan import CapturePlan, PartEvent, Progress, Report
from worker.media.segments import SegmentStream

BLOCK_BYTES = wire.HEAD_BYTES
WINDOW_BYTES = 8 * BLOCK_BYTES
WINDOW_PIECES = 32
ALARM_REPEAT_S = 0.25
PROGRESS_S = 0.1

Capture = Callable[[io.RawIOBase, CapturePlan], Iterator[PartEvent]]


class Channel:
    """The socket to the parent. Once the parent is gone nobody can be told anything, so the process ends."""

    def __init__(self, sock: socket.socket) -> None:
        self._descriptor = sock.fileno()
        self._incoming = sock.makefile("rb")

    def send(self, message: wire.FromDecoder) -> None:
        """Send one message; blocks while the parent does not keep up."""
        for buffer in wire.pack(message):
            view = memoryview(buffer)
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except (BrokenPipeError, ConnectionResetError):
                    os._exit(0)

    def receive(self) -> wire.ToDecoder:
        """Wait for the next message."""
        prefix = self._read(wire.PREFIX.size)
        header_bytes, payload_bytes = wire.unpack_sizes(prefix, wire.MAX_READ_BYTES)
        message: wire.ToDecoder = wire.unpack(self._read(header_bytes), self._read(payload_bytes), wire.ToDecoder)
        return message

    def _read(self, size: int) -> bytes:
        try:
            data = self._incoming.read(size)
        except ConnectionResetError:
            os._exit(0)
        if len(data) < size:
            os._exit(0)
        return data


class RangeReader(io.RawIOBase):
    """The source as a seekable file without a name, read from the parent: as announced, else in aligned blocks.

    FFmpeg reads 32 KiB at a time and jumps between audio and video, so what came last is kept. It takes the
    name of a file object for a URL, and a read that gives more than was asked for overflows its heap. `head` is what
    is known already: the first bytes.
    """

    def __init__(self, channel: Channel, size: int, head: bytes = b"") -> None:
        super().__init__()
        self._channel = channel
        self._size = size
        self._head_bytes = len(head)
        self._position = 0
        self._pieces: OrderedDict[int, bytes] = OrderedDict({0: head})  # by offset; they may overlap
        self._kept_bytes = len(head)
        self._starts: list[int] = []  # of what was announced, by place; `_ends` has where each ends
        self._ends: list[int] = []

    def readable(self) -> bool:
        """Tell that reading works."""
        return True

    def seekable(self) -> bool:
        """Tell that seeking works."""
        return True

    def tell(self) -> int:
        """Tell the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move, also past the end, at no cost. Raises `ValueError` before the start."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"seek to {start + offset}; a position is at least 0")
        self._position = start + offset
        return self._position

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Announce ranges (offset, size) in the order in which they are going to be read; what is outside is cut."""
        inside = [(offset, min(size, self._size - offset)) for offset, size in ranges if 0 <= offset < self._size]
        told = tuple(one for one in inside if one[1] > 0)
        for offset, size in told:
            place = bisect_right(self._starts, offset)
            self._starts.insert(place, offset)
            self._ends.insert(place, offset + size)
        news = [(offset, size) for offset, size in told if offset + size > self._head_bytes]
        for at in range(0, len(news), wire.MAX_RANGES):
            offsets, sizes = zip(*news[at : at + wire.MAX_RANGES], strict=True)
            self._channel.send(wire.Expect(offsets, sizes))

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer, short at the end of the source, and of a range that was announced: FFmpeg wants no more."""
        view = memoryview(buffer).cast("B")
        end = max(self._position, min(self._position + len(view), self._announced_end() or self._size))
        filled = 0
        while self._position < end:
            offset, data = self._piece(end)
            piece = memoryview(data)[self._position - offset : end - offset]
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
            self._position += len(piece)
        return filled

    def _announced_end(self) -> int | None:
        """Where the announced range ends that the position is in."""
        place = bisect_right(self._starts, self._position) - 1
        return self._ends[place] if place >= 0 and self._position < self._ends[place] else None

    def _piece(self, end: int) -> tuple[int, bytes]:
        """Give bytes and where they start: those at the position, and up to `end` at best."""
        for offset in reversed(self._pieces):
            if offset <= self._position < offset + len(self._pieces[offset]):
                self._pieces.move_to_end(offset)
                return offset, self._pieces[offset]
        announced = self._announced_end()
        if announced is None:
            offset = self._position - self._position % BLOCK_BYTES
            until = min(end + -end % BLOCK_BYTES, self._size)
        else:
            offset = self._position
            until = min(max(end, offset + BLOCK_BYTES), announced)
        return offset, self._fetch(offset, min(until - offset, wire.MAX_READ_BYTES))

    def _fetch(self, offset: int, size: int) -> bytes:
        self._channel.send(wire.Read(offset, size))
        answer = self._channel.receive()
        if not isinstance(answer, wire.Block) or len(answer.data) != size:
            raise wire.WireError(f"the parent answered a read of {size} bytes with {answer!r:.80}")
        self._kept_bytes += size - len(self._pieces.pop(offset, b""))
        self._pieces[offset] = answer.data
        while self._kept_bytes > WINDOW_BYTES or len(self._pieces) > WINDOW_PIECES:
            self._kept_bytes -= len(self._pieces.popitem(last=False)[1])
        return answer.data


class SoftTimeLimitError(BaseException):
    """The soft time limit has passed. Not an `Exception`, so that no capture takes it for a damaged frame."""


# An exception in here would leave half a message on the socket, or vanish: PyAV calls the reader from C, and lets
# only subclasses of `Exception` through. The alarm repeats, so the next one finds the code elsewhere.
_UNINTERRUPTIBLE = frozenset(
    function.__code__
    for function in (
        *(Channel.send, RangeReader.expect, RangeReader.readinto, RangeReader.seek, RangeReader.tell),
        SegmentStream.readinto,
    )
)


class _Alarm:
    """What the alarm of a capture does: keeps the soft time limit, and tells the parent that there is life.

    It only runs where Python does: a library that hangs is silent.
    """

    def __init__(self, channel: Channel, request: wire.Begin) -> None:
        self._channel = channel
        self._alive_s = request.alive_s
        now = time.monotonic()
        self._end = now + request.soft_time_limit_s
        self._next = now + request.alive_s
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, min(request.soft_time_limit_s, request.alive_s), ALARM_REPEAT_S)

    def _ring(self, _signal: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code in _UNINTERRUPTIBLE:
                return
            frame = frame.f_back
        now = time.monotonic()
        if now >= self._end:
            raise SoftTimeLimitError
        if now >= self._next:
            self._next = now + self._alive_s
            self._channel.send(wire.Alive())


@contextmanager
def _timed(channel: Channel, request: wire.Begin) -> Iterator[None]:
    """Keep the limits on time. Of CPU time the kernel does: its signal, which nobody handles, ends the process."""
    signal.setitimer(signal.ITIMER_PROF, request.cpu_time_limit_s)
    _Alarm(channel, request)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def serve(channel: Channel, capture: Capture) -> NoReturn:
    """Run captures one after the other until the parent closes its end, which ends the process."""
    while True:
        request = channel.receive()
        if not isinstance(request, wire.Begin):
            raise wire.WireError(f"expected a plan, got {request!r:.80}")
        channel.send(wire.Started())
        channel.send(_run(channel, capture, request))


def _worth_telling(events: Iterator[PartEvent]) -> Iterator[PartEvent]:
    """Leave out most progress: each costs the parent a wake, and it is announced every few seconds."""
    next_s = 0.0
    for event in events:
        if isinstance(event, Progress):
            if event.fraction >= 1 or time.monotonic() < next_s:
                continue
            next_s = time.monotonic() + PROGRESS_S
        yield event


def _run(channel: Channel, capture: Capture, request: wire.Begin) -> Report | wire.Failure:
    """Run one capture and give what it ended with: its report, kept until all is done, or its error as a value.

    The soft limit is final: the decoder was at work all the time, and would be again. (A hard limit, which strikes
    where not even Python runs, is worth a second try.)
    """
    report: Report | None = None
    try:
        with _timed(channel, request):
            source = RangeReader(channel, request.source_bytes, request.data)
            for event in _worth_telling(capture(source, request.plan)):
                if isinstance(event, Report):
                    report = event
                else:
                    channel.send(event)
    except TaskError as error:
        return wire.failure(error)
    except SoftTimeLimitError:
        limit = f"decoding took longer than the soft time limit of {request.soft_time_limit_s:g} s"
        advice = "ask for fewer frames, or raise POOL__SOFT_TIME_LIMIT_S"
        return wire.failure(TaskError(Code.TIMEOUT, f"{limit}; {advice}", retryable=True))
    except MemoryError:
        message = "the decoder could not get the memory it asked for; use a source with smaller frames"
        return wire.failure(TaskError(Code.LIMIT_EXCEEDED, message), traceback.format_exc())
    except Exception as error:  # noqa: BLE001  the one place where an error of the child becomes a value
        message = f"unexpected {type(error).__name__} while capturing: {error}"
        return wire.failure(TaskError(Code.INTERNAL_ERROR, message, retryable=True), traceback.format_exc())
    if report is None:
        return wire.failure(TaskError(Code.INTERNAL_ERROR, "the capture ended without a report"))
    return report
