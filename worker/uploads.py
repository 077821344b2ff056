"""Images on their way to the store while decoding goes on, at most so many bytes at a time."""

import asyncio
from time import perf_counter
from typing import Self

from worker.errors import TaskError, over_limit
from worker.limits import LimitSettings
from worker.media.plan import Image
from worker.ports import ObjectStore
from worker.task import Frame, Task
from worker.template import expand


class Uploads:
    """Uploads one task's images. `put` waits while `window_bytes` are under way, which in turn slows the decoder.

    `frames` has what is stored, a list per entry, in no order. An async context manager: leaving it waits for all, also
    on an error for good; any other error, and the first upload that fails, cancels the rest and comes out in an
    exception group. `seconds` is how long any were under way.
    """

    def __init__(self, store: ObjectStore, task: Task, window_bytes: int, limits: LimitSettings | None = None) -> None:
        self._limits = limits or LimitSettings()
        self._count = 0
        self._bytes = 0
        self.frames: list[list[Frame]] = [[] for _ in task.entries]
        self.seconds = 0.0
        self._store = store
        self._task = task
        self._window_bytes = window_bytes
        self._pending_bytes = 0
        self._busy_since = 0.0
        self._room = asyncio.Condition()
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, TaskError) and not error.retryable:  # it will be told what is stored, so that must be so
            await self._group.__aexit__(None, None, None)
        else:
            await self._group.__aexit__(kind, error, None)

    async def put(self, image: Image) -> None:
        """Start one upload as soon as there is room; a single image may exceed the window alone.

        Raises `LimitExceeded` where the images are too many, or too many bytes.
        """
        self._check(image)
        async with self._room:
            await self._room.wait_for(
                lambda: not self._pending_bytes or self._pending_bytes + len(image.data) <= self._window_bytes
            )
            if not self._pending_bytes:
                self._busy_since = perf_counter()
            self._pending_bytes += len(image.data)
        self._group.create_task(self._upload(image))

    def _check(self, image: Image) -> None:
        self._count += 1
        self._bytes += len(image.data)
        if self._count > self._limits.frames:
            what = f"the task gives more than {self._limits.frames} images, of which the first are stored"
            raise over_limit(what, "LIMITS__FRAMES", self._limits.frames)
        if self._bytes > self._limits.output_bytes:
            what = f"the images of the task have {self._bytes} bytes or more, and the first are stored"
            raise over_limit(what, "LIMITS__OUTPUT_BYTES", self._limits.output_bytes)

    async def _upload(self, image: Image) -> None:
        entry = self._task.entries[image.entry]
        location = expand(entry.template, image.index)
        etag = await self._store.write(location, image.data, entry.plan.rendition.format.content_type)
        self.frames[image.entry].append(
            Frame(
                image.index, str(location), image.time_s, image.source_pts, image.key_frame, image.width, image.height,
                len(image.data), image.sha256, etag, image.dhash, image.score, image.repeated,
            )
        )  # fmt: skip
        async with self._room:
            self._pending_bytes -= len(image.data)
            if not self._pending_bytes:
                self.seconds += perf_counter() - self._busy_since
            self._room.notify_all()
