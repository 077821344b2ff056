"""What the worker counts and measures, for Prometheus. One registry in one process: decoders return facts instead.

Label values are closed sets and every series exists from the start, so that rates and alerts work from zero. Projects
are the exception: anybody who sends tasks can name new ones, so only so many have series of their own.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from worker.errors import Code
from worker.media.plan import Format, Mode

OUTCOMES = ("succeeded", "failed", "canceled", "postponed")
STAGES = ("stat", "probe", "decode", "encode", "upload", "announce")
RESTARTS = ("recycled", "crashed", "timeout", "memory", "canceled")
OPERATIONS = (
    "check", "stat", "read", "write", "write_if", "create_upload", "write_part", "complete_upload", "abort_upload",
)  # fmt: skip
# What a request came to, by its error code. That something is missing, or wanted no more, is no fault of the store's.
RESULTS = {"": "ok", Code.RESOURCE_NOT_FOUND: "missing", Code.CANCELED: "abandoned", "other": "error"}
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
WAITS = (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400)
SIZES = tuple(4.0**k * 16384 for k in range(10))
OTHER = "(other)"  # no project's name has parentheses


class Metrics:
    """All metrics, registered with `registry`. The first `projects` projects that come have series of their own."""

    def __init__(self, registry: CollectorRegistry, projects: int = 100) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=registry)
        self.registry = registry
        self.tasks = self._counter(
            "tasks",
            "Tasks by how they were settled, and the mode of their first entry.",
            outcome=OUTCOMES,
            mode=tuple(Mode),
        )
        self.failures = self._counter("task_failures", "Failed and postponed attempts by error code.", code=tuple(Code))
        self.parked = self._counter(
            "tasks_parked", "Messages put on the dead-letter exchange, by error code.", code=tuple(Code)
        )
        self.joined = self._counter("deliveries_joined", "Deliveries of a task that was under way here already.")
        self.deduplicated = self._counter(
            "deliveries_deduplicated", "Deliveries of a task that was over already, as its record told."
        )
        self.requeued = self._counter(
            "messages_requeued", "Messages given back unsettled: the broker confirmed nothing, or after a bug."
        )
        self.retries = self._counter("retries", "Tasks put on a delay queue to be tried again.")
        self.frames = self._counter("frames", "Images stored.", mode=tuple(Mode), format=tuple(Format))
        self.decoded = self._counter("frames_decoded", "Frames decoded to find those wanted.")
        self.bytes_in = self._counter("store_read_bytes", "Bytes read from the store.")
        self.bytes_out = self._counter("store_written_bytes", "Bytes written to the store.")
        self.requests = self._counter(
            "store_requests", "Requests to the store.", operation=OPERATIONS, result=tuple(RESULTS.values())
        )
        self.request_seconds = self._histogram(
            "store_request_seconds", "Time of one request to the store.", operation=OPERATIONS
        )
        self.task_seconds = self._histogram(
            "task_seconds", "Time from receiving a task to settling it.", outcome=OUTCOMES
        )
        self.stage_seconds = self._histogram("stage_seconds", "Time of one task in one stage.", stage=STAGES)
        self.wait_seconds = self._histogram(
            "queue_wait_seconds", "From the message's timestamp to its first receipt.", buckets=WAITS
        )
        self.source_bytes = self._histogram("source_bytes", "Size of sources.", buckets=SIZES)
        self.confirm_seconds = self._histogram(
            "publish_seconds", "Time until the broker confirmed a message, from the try that it confirmed."
        )
        self._project_tasks = self._counter(
            "project_tasks", "Tasks by project and how they were settled.", project=(OTHER,), outcome=OUTCOMES
        )
        self._project_frames = self._counter("project_frames", "Images stored, by project.", project=(OTHER,))
        self._projects: set[str] = set()
        self._max_projects = projects
        self.in_flight = Gauge("frame_capture_tasks_in_flight", "Tasks received and not settled.", registry=registry)
        self.last_success = Gauge(
            "frame_capture_last_success_timestamp_seconds", "When a task last succeeded (Unix time).", registry=registry
        )
        self.build = Info("frame_capture_build", "Versions of what runs.", registry=registry)

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Register a gauge that asks `read` for its value at each scrape."""
        Gauge(f"frame_capture_{name}", help_text, registry=self.registry).set_function(read)

    def watch_restarts(self, read: Callable[[str], float]) -> None:
        """Register the replaced decoder processes by reason, asked for at each scrape."""
        gauge = Gauge(
            "frame_capture_decoder_restarts",
            "Decoder processes replaced, by reason.",
            ("reason",),
            registry=self.registry,
        )
        for reason in RESTARTS:
            gauge.labels(reason).set_function(partial(read, reason))

    def observe_request(self, operation: str, seconds: float, bytes_in: int, bytes_out: int, code: str) -> None:
        """Count one request to the store; `code` is empty when it succeeded."""
        self.requests.labels(operation, RESULTS.get(code, RESULTS["other"])).inc()
        self.request_seconds.labels(operation).observe(seconds)
        self.bytes_in.inc(bytes_in)
        self.bytes_out.inc(bytes_out)

    def count_task(self, project: str, outcome: str, mode: str, seconds: float, frames: int) -> None:
        """Count one settled task, which took so long and stored so many images."""
        self.tasks.labels(outcome, mode).inc()
        self.task_seconds.labels(outcome).observe(max(seconds, 0))
        named = self._project(project)
        self._project_tasks.labels(named, outcome).inc()
        self._project_frames.labels(named).inc(frames)

    def _project(self, project: str) -> str:
        """Give the label's value for a project, after making all series of a new one."""
        if project in self._projects:
            return project
        if len(self._projects) == self._max_projects:
            return OTHER
        self._projects.add(project)
        for outcome in OUTCOMES:
            self._project_tasks.labels(project, outcome)
        return project

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count the time of one task in one stage."""
        self.stage_seconds.labels(stage).observe(seconds)

    def _counter(self, name: str, help_text: str, **labels: tuple[str, ...]) -> Counter:
        metric = Counter(f"frame_capture_{name}", help_text, tuple(labels), registry=self.registry)
        for values in product(*labels.values()) if labels else ():
            metric.labels(*values)
        return metric

    def _histogram(
        self, name: str, help_text: str, buckets: tuple[float, ...] = SECONDS, **labels: tuple[str, ...]
    ) -> Histogram:
        metric = Histogram(f"frame_capture_{name}", help_text, tuple(labels), registry=self.registry, buckets=buckets)
        for values in product(*labels.values()) if labels else ():
            metric.labels(*values)
        return metric


def code_label(code: str) -> str:
    """The value of a `code` label: all `Missing<Field>` count as one, and what is no code as ours."""
    if code.startswith(Code.MISSING):
        return Code.MISSING
    return code if code in set(Code) else Code.INTERNAL_ERROR
