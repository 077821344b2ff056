"""A task under way in this process, and what is known of it so far."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from worker.errors import TaskError
from worker.media.plan import CapturePlan, EntryReport, Limits
from worker.messages.headers import task_id, trace
from worker.ports import BrokerLostError, Delivery
from worker.settings import LimitSettings
from worker.task import EntryResult, Location, Task
from worker.template import expand
from worker.uploads import Uploads

FEW_FRAMES = 100  # which are written down in a few milliseconds
_Built = TypeVar("_Built")


@dataclass(slots=True)
class Attempt:
    """One attempt. `deliveries` are all copies of its message that were delivered meanwhile, to be settled with it;

    `told_s` is when progress was last announced, on the performance counter; `source_etag` what was read. `scope` is
    what a request to cancel ends; `given_up` why nothing more is to be tried.
    """

    task: Task
    deliveries: list[Delivery]
    started_at: datetime
    uploads: Uploads
    given_up: TaskError | None = None
    told_s: float = 0.0
    source_etag: str = ""
    scope: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))

    def cancel(self) -> None:
        """End what goes on inside `scope`; once that is over, this does nothing."""
        with suppress(RuntimeError):
            self.scope.reschedule(asyncio.get_running_loop().time())

    def check_wanted(self) -> None:
        """Raise `BrokerLostError` where all its deliveries are gone, so that it would be work that another one does."""
        if all(delivery.stale for delivery in self.deliveries):
            raise BrokerLostError("the connection was lost while the task waited for a decoder")

    async def written(self, build: Callable[[], _Built]) -> _Built:
        """Write down what came of the attempt, in a thread if it is long: the loop has heartbeats to answer."""
        few = sum(map(len, self.uploads.frames)) <= FEW_FRAMES
        return build() if few else await asyncio.to_thread(build)

    def results(self, reports: tuple[EntryReport, ...] = ()) -> tuple[EntryResult, ...]:
        """Tell what is stored of each entry, in order; with the decoder's reports once there are any."""
        known = reports or tuple(
            EntryReport(len(frames), entry.plan.selection.number)
            for entry, frames in zip(self.task.entries, self.uploads.frames, strict=True)
        )
        return tuple(
            EntryResult(
                report.requested,
                tuple(sorted(frames, key=lambda frame: frame.index)),
                report.warnings,
                TaskError(report.error_code, report.error_message) if report.error_code else None,
            )
            for report, frames in zip(known, self.uploads.frames, strict=True)
        )


def outputs(task: Task) -> list[Location]:
    """Tell where the task writes: of each entry the first image, whose bucket is that of all, and the result."""
    extended = [task.extended_location] if task.extended_location else []
    return [expand(entry.template, 1) for entry in task.entries] + extended


def capture_plan(task: Task, bounds: LimitSettings) -> CapturePlan:
    """Make what the decoder is told of the task."""
    limits = Limits(
        max_frames_per_entry=bounds.frames_per_entry,
        max_pixels=bounds.pixels,
        max_side=bounds.side,
        max_streams=bounds.streams,
        max_decoded_frames=bounds.decoded_frames,
        max_image_bytes=bounds.image_bytes,
        max_opening_bytes=bounds.opening_bytes,
        max_allocation_bytes=bounds.allocation_bytes,
        codecs=bounds.codecs,
    )
    source = task.source
    return CapturePlan(tuple(entry.plan for entry in task.entries), source.start_s, source.duration_s, limits)


def log_names(delivery: Delivery) -> dict[str, str]:
    """Tell what each log line about a message carries, valid or not."""
    traceparent, _ = trace(delivery.headers)
    trace_id = traceparent.split("-")[1] if traceparent else ""
    return {"task_id": task_id(delivery.body, delivery.message_id), "trace_id": trace_id}
