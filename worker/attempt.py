"""A task under way in this process, and what is known of it so far."""

from dataclasses import dataclass
from datetime import datetime

from worker.errors import TaskError
from worker.media.plan import EntryReport
from worker.ports import Delivery
from worker.task import EntryResult, Task
from worker.uploads import Uploads


@dataclass(slots=True)
class Attempt:
    """One attempt. `deliveries` are all copies of its message that were delivered meanwhile, to be settled with it;

    `told_s` is when progress was last announced, on the performance counter.
    """

    task: Task
    deliveries: list[Delivery]
    started_at: datetime
    uploads: Uploads
    told_s: float = 0.0

    @property
    def names(self) -> dict[str, object]:
        """What each of its log lines carries."""
        trace_id = self.task.traceparent.split("-")[1] if self.task.traceparent else ""
        return {
            "task_id": self.task.id,
            "project": self.task.project,
            "attempt": self.task.attempt,
            "trace_id": trace_id,
        }

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
