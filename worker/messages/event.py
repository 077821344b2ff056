"""From what became of a task to the bytes that tell of it: events, and the result file.

Owns ids, routing keys, envelopes and what is left out of a long event. Publishes nothing.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import jiter

from worker.errors import Problem, TaskError
from worker.messages.content import (
    EventMessage,
    FrameContent,
    ImmEnvelope,
    ProblemContent,
    Result,
    Status,
    WarningContent,
)
from worker.messages.headers import NAMESPACE
from worker.messages.parse import Identity
from worker.settings import Events
from worker.task import Canceled, Completed, EntryResult, Failed, Frame, Outcome, Postponed, Task

FRAMES_OMITTED = "FramesOmitted"
TERMINAL = frozenset({"Succeeded", "Failed", "Canceled"})


@dataclass(frozen=True, slots=True)
class Running:
    """The task is under way: `percent` of it is done."""

    percent: int


@dataclass(frozen=True, slots=True)
class Event:
    """One message for the notification exchange. `id` is the same for each copy of a terminal event."""

    routing_key: str
    body: bytes
    content_type: str
    id: str


def build_event(
    task: Task, state: Outcome | Running, *, settings: Events, started_at: datetime, now: datetime
) -> Event:
    """Tell what the task is doing or how it ended. `started_at` is when this attempt started."""
    result = _result(task, state, started_at, now, with_frames=True)
    content = _json(result)
    if len(content) > settings.inline_bytes and _entry_results(state):
        result = _result(task, state, started_at, now, with_frames=False)
        content = _json(result)
    identity = Identity(task.id, task.project, task.topic, run=task.run)
    trace = (task.traceparent, task.tracestate)
    return _envelope(identity, result, content, settings=settings, now=now, trace=trace)


def build_result(task: Task, outcome: Outcome, *, started_at: datetime, now: datetime) -> bytes:
    """Write the file at `ExtendedMessageURI`: the same content as the terminal event's, always with all frames."""
    return _json(_result(task, outcome, started_at, now, with_frames=True))


def invalid_message_event(
    identity: Identity, error: TaskError, *, settings: Events, now: datetime, trace: tuple[str, str] = ("", "")
) -> Event:
    """Tell of a message that is no task, with all that is wrong with it; `trace` is its `traceparent`, `tracestate`."""
    result = Result(
        project_name=identity.project,
        task_id=identity.task_id,
        status="Failed",
        code=error.code,
        message=error.message,
        start_time=_instant(now),
        end_time=_instant(now),
        user_data=identity.user_data or None,
        tags=dict(identity.tags) or None,
        problems=_problems(error.problems),
    )
    return _envelope(identity, result, _json(result), settings=settings, now=now, trace=trace)


def _envelope(
    identity: Identity, result: Result, content: bytes, *, settings: Events, now: datetime, trace: tuple[str, str]
) -> Event:
    """Put a result, and `content`, which is that result as JSON, into the envelope that the settings name."""
    stable = f"{result.task_id}/{result.status}/{result.code}" + (f"/{identity.run}" if identity.run else "")
    stable += f"#{identity.body_sha256}" if identity.body_sha256 else ""
    event_id = str(uuid.uuid5(NAMESPACE, stable) if result.status in TERMINAL else uuid.uuid4())
    common = {"id": event_id, "source": settings.source, "subject": result.task_id, "time": _instant(now)}
    routing_key = f"{identity.topic}.{identity.project}.{result.status}"
    if settings.envelope == "imm":
        body = _json(ImmEnvelope(**common, content=content.decode()))
        return Event(routing_key, body, "application/json", event_id)
    parent, state = trace
    message = EventMessage(**common, traceparent=parent or None, tracestate=state or None, data=result)
    head = message.model_dump_json(exclude_none=True, exclude={"data"}).encode()
    body = head[:-1] + b',"data":' + content + b"}"  # written once only, since it may be long
    return Event(routing_key, body, "application/cloudevents+json", event_id)


def _result(task: Task, state: Outcome | Running, started_at: datetime, now: datetime, *, with_frames: bool) -> Result:
    sent = jiter.from_json(task.body)
    status, error = _status(state)
    terminal = status in TERMINAL
    targets = sent["Targets"]
    _add_results(task, targets, _entry_results(state), with_frames=with_frames)
    return Result.model_validate(
        {
            "ProjectName": task.project,
            "TaskId": task.id,
            "Status": status,
            "Code": error.code if error else "",
            "Message": error.message if error else "",
            "StartTime": _instant(started_at),
            "EndTime": _instant(now) if terminal else None,
            "Attempt": state.attempt if isinstance(state, Postponed) else task.attempt,
            "RetryAfter": state.delay_s if isinstance(state, Postponed) else None,
            "Progress": state.percent if isinstance(state, Running) else None,
            "UserData": sent.get("UserData") or None,
            "Tags": sent.get("Tags") or None,
            "Sources": sent["Sources"],
            "Targets": targets,
            "ExtendedMessageURI": str(task.extended_location) if terminal and task.extended_location else None,
            "Problems": _problems(error.problems) if error and error.problems else None,
        }
    )


def _status(state: Outcome | Running) -> tuple[Status, TaskError | None]:
    match state:
        case Running():
            return "Running", None
        case Completed():
            return "Succeeded", None
        case Postponed():
            return "Retrying", state.error
        case Canceled():
            return "Canceled", state.error
        case Failed():
            return "Failed", state.error


def _entry_results(state: Outcome | Running) -> tuple[EntryResult, ...]:
    return state.entries if isinstance(state, Completed | Failed | Canceled) else ()


def _add_results(task: Task, targets: list[Any], results: tuple[EntryResult, ...], *, with_frames: bool) -> None:
    """Write what became of each entry into the entry itself, as it was sent."""
    for entry, result in zip(task.entries, results, strict=True) if results else ():
        snapshot = targets[entry.target]["Image"]["Snapshots"][entry.snapshot]
        warnings = [WarningContent(code=each.code, message=each.message) for each in result.warnings]
        if with_frames:
            snapshot["Frames"] = [_frame(each) for each in result.frames]
        elif not task.extended_location:
            what = "the list of images is too long for an event; give Notification.ExtendedMessageURI to get it"
            warnings.append(WarningContent(code=FRAMES_OMITTED, message=what))
        snapshot |= {"Count": len(result.frames), "Requested": result.requested, "Warnings": warnings}
        if result.error:
            snapshot |= {"Code": result.error.code, "Message": result.error.message}


def _frame(frame: Frame) -> FrameContent:
    return FrameContent(
        index=frame.index,
        uri=frame.uri,
        time=_micro(frame.time_s),
        source_pts=frame.source_pts,
        key_frame=frame.key_frame,
        width=frame.width,
        height=frame.height,
        bytes=frame.bytes,
        sha256=frame.sha256,
        e_tag=frame.etag,
        d_hash=None if frame.dhash is None else f"{frame.dhash:016x}",
        score=None if frame.score is None else _micro(frame.score),
        repeated=frame.repeated,
    )


def _problems(problems: Sequence[Problem]) -> list[ProblemContent]:
    return [ProblemContent(path=each.path, code=each.code, message=each.message) for each in problems]


def _micro(value: Fraction) -> float:
    """Round to six decimals: such a float is written without binary noise, as its shortest decimal."""
    return float(round(value, 6))


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(model: Result | ImmEnvelope) -> bytes:
    return model.model_dump_json(by_alias=True, exclude_none=True).encode()
