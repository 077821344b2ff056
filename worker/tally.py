"""What is counted of a task once its message is settled. Knows nothing of how it came about."""

from datetime import datetime

from worker.attempt import Attempt
from worker.errors import TaskError
from worker.metrics import Metrics, code_label
from worker.task import Canceled, Completed, Failed, Outcome, Postponed

LABELS = {Completed: "succeeded", Failed: "failed", Canceled: "canceled", Postponed: "postponed"}


def count_refused(metrics: Metrics, error: TaskError) -> None:
    """Count a message that is no task."""
    metrics.parked.labels(code_label(error.code)).inc()
    metrics.failures.labels(code_label(error.code)).inc()


def count_attempt(metrics: Metrics, attempt: Attempt, outcome: Outcome, now: datetime) -> None:
    """Count an attempt that was told at `now`, and its images."""
    label = LABELS[type(outcome)]
    task, stored = attempt.task, sum(map(len, attempt.uploads.frames))
    spent_s = (now - attempt.started_at).total_seconds()
    metrics.count_task(task.project, label, task.entries[0].plan.selection.mode, spent_s, stored)
    for entry, frames in zip(task.entries, attempt.uploads.frames, strict=True):
        labels = (entry.plan.selection.mode, entry.plan.rendition.format)
        metrics.frames.labels(*labels).inc(len(frames))
    match outcome:
        case Postponed():
            metrics.retries.inc()
        case Failed(error):
            metrics.parked.labels(code_label(error.code)).inc()
        case Completed():
            metrics.last_success.set_to_current_time()
