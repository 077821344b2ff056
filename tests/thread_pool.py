"""A decoder pool without processes, as the port's contract has it: what captures do, in threads."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any, BinaryIO

from worker.errors import Code, TaskError
from worker.media.plan import CaptureEvent, CapturePlan, Report
from worker.ports import ByteSource


class ThreadPool:
    """A decoder pool without processes: runs each capture in a thread, step by step as its events are asked for.

    Unlike the real one it cannot end a capture that yields nothing and reads nothing.
    """

    def __init__(self, capture: Callable[[BinaryIO, CapturePlan], Iterator[CaptureEvent]], slots: int = 1) -> None:
        self._capture = capture
        self._free = asyncio.Semaphore(slots)

    async def capture(
        self, plan: CapturePlan, source: ByteSource, begun: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[CaptureEvent, None]:
        async with self._free:
            begun()
            reader = _SourceFile(source)
            steps = self._steps(reader, plan)
            step = asyncio.ensure_future(asyncio.to_thread(next, steps))
            try:
                while (event := await asyncio.shield(step)) is not None:
                    if isinstance(event, TaskError):
                        raise event
                    yield event
                    step = asyncio.ensure_future(asyncio.to_thread(next, steps))
            finally:
                reader.stop()
                await asyncio.wait({step})  # the thread is in it
                steps.close()

    def _steps(self, file: "_SourceFile", plan: CapturePlan) -> Generator[CaptureEvent | TaskError | None, None, None]:
        """Yield the events, the report last, or the error that the capture ends with; then None."""
        report: Report | None = None
        try:
            for event in self._capture(io.BufferedReader(file), plan):
                if isinstance(event, Report):
                    report = event
                else:
                    yield event
        except TaskError as error:
            yield error
        except Exception as error:  # noqa: BLE001  as the decoder process does it
            yield TaskError(
                Code.INTERNAL_ERROR, f"unexpected {type(error).__name__} while capturing: {error}", retryable=True
            )
        yield report or TaskError(Code.INTERNAL_ERROR, "the capture ended without a report")
        yield None


class _SourceFile(io.RawIOBase):
    """A `ByteSource` as a file, read in another thread than the loop's."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__()
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._position = 0
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}[whence] + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        if self._stopped:
            raise TaskError(Code.CANCELED, "nobody waits for this capture any more")
        wanted = min(len(buffer), max(self._source.size - self._position, 0))
        if not wanted:
            return 0
        read = asyncio.run_coroutine_threadsafe(self._source.read(self._position, wanted), self._loop)
        data = read.result()
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
