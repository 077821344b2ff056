"""What the handler needs of the world, by role. Adapters implement these; tests have fakes that do too.

All errors that cross a port are `worker.errors.TaskError`, but `BrokerLostError`, which only the AMQP side raises.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from worker.errors import TaskError
from worker.media.plan import CaptureEvent, CapturePlan
from worker.task import Location


class BrokerLostError(Exception):
    """The broker could not be reached or did not confirm in time: acknowledge nothing on the strength of it."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Size in bytes and entity tag of a stored object, as they were when it was opened.

    `head` has its first bytes, as far as they were asked for.
    """

    size: int
    etag: str
    head: bytes = b""


class ObjectStore(Protocol):
    """Objects in buckets. A write is visible under its key as a whole or not at all."""

    async def stat(self, location: Location, head_bytes: int = 0) -> ObjectInfo:
        """Tell an object's size and tag, and in the same request give its first `head_bytes` bytes, or all it has.

        Raises `ResourceNotFound`, `AccessDenied`, `StorageUnavailable`.
        """
        ...

    async def read(self, location: Location, offset: int, size: int, etag: str) -> bytes:
        """Read `size` bytes from `offset`, fewer only at the object's end.

        Raises `StorageUnavailable` (retryable) when the object is no longer the one with `etag`.
        """
        ...

    def check_write(self, location: Location) -> None:
        """Raise what `write` would for a location where no task may write, before there is anything to store."""
        ...

    async def write(self, location: Location, data: bytes, content_type: str) -> str:
        """Store an object, replacing any other under its key; returns its entity tag."""
        ...

    async def write_if(self, location: Location, data: bytes, content_type: str, etag: str | None) -> bool:
        """Store an object only if the one under its key has `etag`, or with None only if there is none.

        Tells whether it was stored. Of several at once that expect the same, one stores. Raises `InvalidArgument` where
        the store says that it cannot do this; some that cannot store the object all the same and do not say so.
        """
        ...


class ByteSource(Protocol):
    """The bytes of one open source, as a decoder reads them."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset`: fewer at the end, none past it."""
        ...

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Be told which ranges (offset, size) will be read next, in that order: a hint, and never an error."""
        ...

    def reader(self) -> AbstractContextManager["ByteSource"]:
        """Open another way through the same bytes, for a decoder that goes its own way."""
        ...


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source that is open: its bytes, and whether they are laid out as `worker.media.segments` tells."""

    content: ByteSource
    segmented: bool


class SourceOpener(Protocol):
    """The way from a stored object to what a decoder reads: its own bytes, or those of the segments that it lists."""

    def __call__(self, location: Location, info: ObjectInfo) -> AbstractAsyncContextManager[OpenSource]:
        """Open the object that was found to be as `info` says. Raises `TaskError` for a playlist that cannot be."""
        ...


class DecoderPool(Protocol):
    """Decoder processes, one per slot."""

    def capture(
        self, plan: CapturePlan, source: ByteSource, begun: Callable[[], None]
    ) -> AsyncGenerator[CaptureEvent, None]:
        """Run one capture in a free slot: images as they are encoded, then exactly one report.

        `begun` is called once it is its turn; what that raises ends it before a decoder has anything to do with it.
        Closing the iterator early kills the decoder. Raises `TaskError`: what the capture itself raised, or
        `WorkerCrashed`, `Timeout`, `LimitExceeded` (memory) for what befell the process at its work, `InternalError`
        for one that could not be started.
        """
        ...


class Delivery(Protocol):
    """One task message as it was received, and the ways to be done with it."""

    @property
    def body(self) -> bytes:
        """The message body, unparsed."""
        ...

    @property
    def message_id(self) -> str | None:
        """The AMQP property, where the publisher set it."""
        ...

    @property
    def timestamp(self) -> datetime | None:
        """When the publisher says the message was made (UTC)."""
        ...

    @property
    def headers(self) -> Mapping[str, object]:
        """The AMQP headers, untrusted."""
        ...

    @property
    def refusal(self) -> TaskError | None:
        """Why no attempt may be made, which `InvalidArgument` says of a message that nobody can read; else None."""
        ...

    @property
    def stale(self) -> bool:
        """Whether the broker delivers the message again, since the way to settle this delivery is gone."""
        ...

    async def ack(self) -> None:
        """Settle: the broker may forget the message. A lost connection makes this a no-op: it comes again."""
        ...

    async def retry(self, delay_s: int, headers: Mapping[str, str | int]) -> None:
        """Publish a copy, with `headers` added, to the delay queue for `delay_s`, confirmed. Does not ack."""
        ...

    async def give_back(self) -> None:
        """Return the message to its queue untouched, to be delivered again."""
        ...

    async def park(self, code: str, reason: str, run: str = "") -> None:
        """Publish a copy to the dead-letter exchange, with the reason, confirmed. Does not ack.

        `run` is of which run it is told to be, where that is another than its own.
        """
        ...


class Announcer(Protocol):
    """The notification exchange."""

    async def announce(self, routing_key: str, body: bytes, content_type: str, *, confirm: bool = True) -> None:
        """Publish one event. With `confirm`, returns once the broker has it and raises `BrokerLostError` otherwise;

        without, it is best effort: dropped when the broker does not take it at once.
        """
        ...
