"""The errors that a task can end with: what users see on the wire, and whether trying again may help.

Every layer raises `TaskError`; each adapter maps its library's exceptions to it at its own edge.
"""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The error codes of the specification (section 6). `MISSING` is the prefix of `Missing<Field>`."""

    INVALID_ARGUMENT = "InvalidArgument"
    MISSING = "Missing"
    LIMIT_EXCEEDED = "LimitExceeded"
    RESOURCE_NOT_FOUND = "ResourceNotFound"
    ACCESS_DENIED = "AccessDenied"
    UNSUPPORTED_MEDIA = "UnsupportedMedia"
    CORRUPT_MEDIA = "CorruptMedia"
    TIMEOUT = "Timeout"
    EXPIRED = "Expired"
    WORKER_CRASHED = "WorkerCrashed"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    CANCELED = "Canceled"
    INTERNAL_ERROR = "InternalError"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a message: where (a JSON path such as `$.Targets[0].Image`), which code, what."""

    path: str
    code: str
    message: str


class TaskError(Exception):
    """A task, or one of its entries, cannot be done.

    `code` is a `Code` value or `Missing<Field>`; `message` tells a person what was wrong, with which value, and
    what would be right. `retryable` says that the same task may succeed later, unchanged.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code = str(code)
        self.message = message
        self.retryable = retryable
        self.problems = problems


def over_limit(what: str, setting: str, value: object) -> TaskError:
    """Make the error of what is more than a setting allows: `what` it was, the setting's name without the prefix that

    all have, and its value.
    """
    return TaskError(Code.LIMIT_EXCEEDED, f"{what}: the limit {setting} is {value}")
