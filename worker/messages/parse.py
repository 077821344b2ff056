"""From the bytes of a task message to a complete `Task`, or to one error that lists everything wrong with it.

Puts together what `task_message` (each field by itself), `rules` (fields together) and `headers` find.
"""

import codecs
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

import jiter
from pydantic import ValidationError

from worker.errors import Code, Problem
from worker.media.plan import EntryPlan, Mode, Rendition, ScaleType, Selection
from worker.messages import headers as head
from worker.messages import problems as found
from worker.messages.fields import NAME_PATTERN, TOPIC_PATTERN
from worker.messages.rules import Output, check_across, member, string_tags
from worker.messages.task_message import DEFAULT_TOPIC, FORMATS, SnapshotMessage, TaskMessage, is_user_data
from worker.settings import LimitSettings
from worker.task import Entry, Source, Task, Template

UNKNOWN_PROJECT = "unknown"
MAX_IDENTIFIED_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose task a message is, as far as it can be told of a message that may not be valid.

    `user_data` and `tags` are what its sender may know it by; `run` is empty for the first. `body_sha256` tells a
    message that is no task from others with its id; of a task it is empty.
    """

    task_id: str
    project: str
    topic: str
    user_data: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    body_sha256: str = ""


def parse_task(
    body: bytes,
    *,
    message_id: str | None,
    timestamp: datetime | None,
    headers: Mapping[str, object],
    limits: LimitSettings,
    received_at: datetime,
) -> Task:
    """Read a task message. Raises one `TaskError` with all its `problems`, under the code of the first."""
    raw = _load(body, limits)
    created_at = head.created_at(timestamp, headers, received_at)
    outputs, problems = check_across(raw, limits, created_at)
    try:
        message = TaskMessage.model_validate(raw)
    except ValidationError as error:
        count = error.error_count() + len(problems)
        raise found.as_error(found.of_validation(error, TaskMessage) + problems, count) from None
    if problems:
        raise found.as_error(problems, len(problems))
    traceparent, tracestate = head.trace(headers)
    source = message.sources[0]
    notification = message.notification
    return Task(
        id=head.task_id(body, message_id),
        project=message.project_name,
        source=Source(source.uri, source.start_time, source.duration),
        entries=tuple(_entries(message, outputs)),
        topic=notification.topic if notification else DEFAULT_TOPIC,
        extended_location=notification.extended_message_uri if notification else None,
        tags=tuple(message.tags.items()),
        created_at=created_at,
        attempt=head.count(headers, head.ATTEMPT, 1),
        crashes=head.count(headers, head.CRASHES, 0),
        outages=head.count(headers, head.OUTAGES, 0),
        run=head.run(headers),
        traceparent=traceparent,
        tracestate=tracestate,
        body=body,
    )


def identify(body: bytes, message_id: str | None, headers: Mapping[str, object] = MappingProxyType({})) -> Identity:
    """Tell whose task a message is, valid or not, so that its failure can be announced."""
    try:
        raw = jiter.from_json(body) if len(body) <= MAX_IDENTIFIED_BYTES else None
    except ValueError:
        raw = None
    notification = member(raw, "Notification")
    topics = [member(member(notification, kind), "TopicName") for kind in ("MNS", "RocketMQ")]
    topic = next((each for each in topics if _matches(TOPIC_PATTERN, each)), DEFAULT_TOPIC)
    project, user_data = member(raw, "ProjectName"), member(raw, "UserData")
    return Identity(
        head.task_id(body, message_id),
        project if _matches(NAME_PATTERN, project) else UNKNOWN_PROJECT,
        topic,
        user_data if is_user_data(user_data) else "",
        string_tags(raw),
        head.run(headers),
        hashlib.sha256(body).hexdigest(),
    )


def _load(body: bytes, limits: LimitSettings) -> Any:
    if len(body) > limits.body_bytes:
        what = f"the message has {len(body)} bytes: the limit LIMITS__BODY_BYTES is {limits.body_bytes}"
        raise found.as_error([Problem("$", Code.INVALID_ARGUMENT, what)], 1)
    try:
        return jiter.from_json(body, float_mode="decimal", allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise found.as_error([Problem("$", Code.INVALID_ARGUMENT, _unreadable(body, str(error)))], 1) from error


def _unreadable(body: bytes, reason: str) -> str:
    """Tell what keeps a message from being read: `reason` is jiter's."""
    if body.startswith(codecs.BOM_UTF8):
        return "the message begins with a byte order mark: send UTF-8 without one"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in body[:4]:
        return "the message is in UTF-16 or UTF-32: send UTF-8"
    if "duplicate key" in reason:
        return f"a name is given twice in one object: {reason}"
    # Out of decimal's own range, jiter reports an internal error.
    return f"the message is not JSON in UTF-8: {'a number is out of range' if 'InvalidOperation' in reason else reason}"


def _entries(message: TaskMessage, outputs: list[Output]) -> Iterator[Entry]:
    places = ((t, s, each) for t, target in enumerate(message.targets) for s, each in enumerate(target.image.snapshots))
    for (target, place, snapshot), output in zip(places, outputs, strict=True):
        yield Entry(target, place, _plan(snapshot, output.template), output.template)


def _plan(snapshot: SnapshotMessage, template: Template) -> EntryPlan:
    selection = Selection(
        Mode(snapshot.mode), snapshot.start_time, snapshot.interval, snapshot.number, snapshot.threshold
    )
    rendition = Rendition(
        FORMATS[snapshot.format], snapshot.width, snapshot.height, ScaleType(snapshot.scale_type), snapshot.quality
    )
    return EntryPlan(selection, rendition, last_only=not template.indexed and snapshot.number != 1)


def _matches(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
