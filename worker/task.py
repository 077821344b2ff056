"""A task after validation, how an attempt at it can end, and when to try again. Pure values and rules."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from worker.errors import Code, TaskError
from worker.media.plan import EntryPlan, Warn


@dataclass(frozen=True, slots=True)
class Location:
    """An object in a store. `scheme` is `oss`, `s3` or `file`; all three name a bucket and a key."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Source:
    """A media file and the part of it that counts: `duration_s` 0 means to its end."""

    location: Location
    start_s: Fraction
    duration_s: Fraction


@dataclass(frozen=True, slots=True)
class Entry:
    """One `Snapshots` entry: what to capture, and the parsed output template (see `worker.template`)."""

    target: int
    snapshot: int
    plan: EntryPlan
    template: "Template"


@dataclass(frozen=True, slots=True)
class Template:
    """An output URI with everything but `{index}` filled in (see `worker.template`).

    The key is `pieces` with the image's index between each two of them, formatted by the `specs` in turn.
    """

    scheme: str
    bucket: str
    pieces: tuple[str, ...]
    specs: tuple[str, ...]

    @property
    def indexed(self) -> bool:
        """Whether each image gets a key of its own."""
        return bool(self.specs)


@dataclass(frozen=True, slots=True)
class Task:
    """A valid task. `body` is the message as received, which events echo; `created_at` feeds `{t_*}` (UTC);

    `run` tells one replay of the task from another, and is empty for the first run.
    """

    id: str
    project: str
    source: Source
    entries: tuple[Entry, ...]
    topic: str
    extended_location: Location | None
    tags: tuple[tuple[str, str], ...]
    created_at: datetime
    attempt: int
    crashes: int
    outages: int
    run: str
    traceparent: str
    tracestate: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """One stored image, as the manifest lists it. Times in exact seconds, `bytes` its size."""

    index: int
    uri: str
    time_s: Fraction
    source_pts: int
    key_frame: bool
    width: int
    height: int
    bytes: int
    sha256: str
    etag: str
    dhash: int | None
    score: Fraction | None
    repeated: bool


@dataclass(frozen=True, slots=True)
class EntryResult:
    """What became of one entry: the frames that were written, and its error if it failed."""

    requested: int
    frames: tuple[Frame, ...]
    warnings: tuple[Warn, ...]
    error: TaskError | None


@dataclass(frozen=True, slots=True)
class Completed:
    """Every entry succeeded, with at least one frame each."""

    entries: tuple[EntryResult, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The task is over without full success. `entries` lists what was written all the same."""

    error: TaskError
    entries: tuple[EntryResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Canceled:
    """Someone asked for the task to end. `entries` lists what was written all the same."""

    error: TaskError
    entries: tuple[EntryResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Postponed:
    """The attempt failed in a way that may pass: try again in about `delay_s` seconds, as attempt `attempt`.

    `outages` counts the times in a row that the store as a whole was out of reach meanwhile.
    """

    error: TaskError
    delay_s: int
    attempt: int
    crashes: int
    outages: int = 0


Outcome = Completed | Failed | Canceled | Postponed

CRASHES = frozenset({Code.WORKER_CRASHED, Code.TIMEOUT})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again: at most `max_attempts` in all, of which at most `crash_attempts` may kill a decoder."""

    delays_s: tuple[int, ...] = (5, 30, 120, 600, 1800)
    max_attempts: int = 5
    crash_attempts: int = 2

    def judge(self, error: TaskError, attempt: int, crashes: int) -> Postponed | Failed:
        """Decide what follows `error` in attempt number `attempt` (from 1) after `crashes` earlier crashes."""
        crashes += error.code in CRASHES
        if not error.retryable or attempt >= self.max_attempts or crashes >= self.crash_attempts:
            return Failed(error)
        delay_s = self.delays_s[min(attempt, len(self.delays_s)) - 1]
        return Postponed(error, delay_s, attempt + 1, crashes)
