"""The result record: how a task ended, as it is committed to the store, once for each task.

Owns its JSON and what a record means for a message that comes later. Where records are kept is not known here.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from worker.errors import Code, TaskError
from worker.messages.event import Event
from worker.task import Canceled, Completed, Failed

Ended = Literal["Succeeded", "Failed", "Canceled"]


@dataclass(frozen=True, slots=True)
class Record:
    """How a task ended: with which event. `runs` are the task's runs so far, the one that ended last.

    `about` is what else there is to know, as a JSON object; of a record that was read it is empty. `canceled_at` is
    when somebody last asked for runs to be canceled that may be waiting since then.
    """

    task_id: str
    status: Ended
    code: str
    message: str
    body_sha256: str
    runs: tuple[str, ...]
    event: Event
    about: bytes = b"{}"
    canceled_at: datetime | None = None

    def answers(self, body_sha256: str, run: str) -> bool:
        """Tell whether a message of this task is answered by this record, so that nothing is left to do for it.

        Raises `InvalidArgument` for another message that has the same id.
        """
        if self.body_sha256 != body_sha256:
            raise used_for_another(self.task_id)
        return self.status == "Succeeded" or not run or run in self.runs

    def cancels(self, replayed_at: datetime | None) -> bool:
        """Tell whether a run that was asked for at that time was to be canceled; of other runs nobody knows."""
        return replayed_at is not None and self.canceled_at is not None and replayed_at < self.canceled_at

    def after(self, earlier: "Record") -> "Record":
        """Return this record with the runs of the one that it replaces."""
        return replace(self, runs=(*earlier.runs, *self.runs))


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Stands where a record will be: the task is to end as canceled, by whoever gets its message."""

    task_id: str


class _RecordContent(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, validate_by_name=True, extra="ignore", frozen=True)

    task_id: str
    status: Ended
    code: str = ""
    message: str = ""
    body_sha256: str = Field("", alias="BodySha256")
    runs: tuple[str, ...] = ()
    event: Event | None = None
    canceled_at: AwareDatetime | None = None


def ending(outcome: Completed | Failed | Canceled) -> tuple[Ended, TaskError | None]:
    """Tell the status of an end, and its error."""
    match outcome:
        case Completed():
            return "Succeeded", None
        case Failed(error):
            return "Failed", error
        case Canceled(error):
            return "Canceled", error


def digest(body: bytes) -> str:
    """Tell one message's body from another's."""
    return hashlib.sha256(body).hexdigest()


def used_for_another(task_id: str) -> TaskError:
    """Make the error of a message whose id another one has."""
    return TaskError(Code.INVALID_ARGUMENT, f"TaskId {task_id} was used for another message")


def write_record(content: Record | CancelRequest) -> bytes:
    """Write a record as JSON."""
    match content:
        case CancelRequest(task_id):
            written, about = _RecordContent(task_id=task_id, status="Canceled"), b""
        case Record(task_id, status, code, message, body_sha256, runs, event, about):
            names = {"code": code, "message": message, "body_sha256": body_sha256, "runs": runs, "event": event}
            written = _RecordContent(task_id=task_id, status=status, **names)
    head = written.model_dump_json(by_alias=True, exclude={"canceled_at"}).encode()
    return head[:-1] + b',"About":' + about + b"}" if about else head


def read_record(data: bytes, task_id: str) -> Record | CancelRequest:
    """Read a record of the task. Raises `InternalError` for what is none."""
    try:
        content = _RecordContent.model_validate_json(data)
    except ValidationError as error:
        raise _unreadable(task_id, f"{error.error_count()} errors") from error
    if content.task_id != task_id:
        raise _unreadable(task_id, f"it is of {content.task_id!r}")
    if content.event is None:
        return CancelRequest(task_id)
    names = (content.code, content.message, content.body_sha256, content.runs, content.event)
    return Record(task_id, content.status, *names, canceled_at=content.canceled_at)


def marked_canceled(data: bytes, at: datetime) -> bytes:
    """Write onto a record that runs asked for before `at` are to be canceled; a later end replaces it."""
    return json.dumps(json.loads(data) | {to_pascal("canceled_at"): at.isoformat()}).encode()


def write_about(result: bytes, **facts: str | int) -> bytes:
    """Write what else a record tells: `result` is JSON already."""
    head = json.dumps({to_pascal(name): value for name, value in facts.items()}).encode()
    return head[:-1] + b', "Result": ' + result + b"}"


def _unreadable(task_id: str, reason: str) -> TaskError:
    what = f"the record of the task {task_id!r} cannot be read ({reason}): restore or delete it, then replay the task"
    return TaskError(Code.INTERNAL_ERROR, what)
