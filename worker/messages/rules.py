"""The rules across the fields of a task message, checked on whatever of it is readable.

They run beside the check of each field by itself, so that one answer lists everything wrong. What a field may be by
itself is in `task_message`; which of these rules no JSON Schema can say is listed in `schema`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.errors import Code, Problem, TaskError, over_limit
from worker.media.plan import Format
from worker.messages.fields import is_empty
from worker.messages.task_message import FORMATS
from worker.settings import LimitSettings
from worker.task import Location, Template
from worker.template import clashes, parse_location, parse_template

MAX_SOURCES = 11
_STAND_IN = Location("oss", "unknown", "unknown/unknown.bin")


@dataclass(frozen=True, slots=True)
class Output:
    """Something the task writes: `count` is the highest index of its template."""

    path: str
    template: Template
    count: int


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the outputs of a task may refer to, and their bounds."""

    source: Location
    tags: Mapping[str, str]
    created_at: datetime
    limits: LimitSettings


def check_across(raw: Any, limits: LimitSettings, created_at: datetime) -> tuple[list[Output], list[Problem]]:
    """Parse the outputs, one for each valid entry in order, and find the problems across fields."""
    snapshots = list(_snapshots(raw))
    problems = [*_source_problems(raw), *_notification_problems(raw)]
    if len(snapshots) > limits.entries:
        what = over_limit(f"{len(snapshots)} Snapshots entries", "LIMITS__ENTRIES", limits.entries).message
        return [], [Problem("$.Targets", Code.LIMIT_EXCEEDED, what), *problems]
    source = _location(member(_first(member(raw, "Sources")), "URI"))
    scope = _Scope(source or _STAND_IN, string_tags(raw), created_at, limits)
    outputs: list[Output] = []
    for path, snapshot in snapshots:
        problems += _number_problems(path, snapshot, limits)
        try:
            outputs += _output(path, snapshot, scope)
        except TaskError as error:
            problems.append(Problem(f"{path}.URI", error.code, error.message))
    extended = _location(member(member(raw, "Notification"), "ExtendedMessageURI"))
    named = [("$.Notification.ExtendedMessageURI", extended), ("$.Sources[0].URI", source)]
    fixed = [Output(path, _constant(each), 1) for path, each in named if each]
    return outputs, problems + list(_clash_problems(outputs, fixed))


def _source_problems(raw: Any) -> Iterator[Problem]:
    count = len(_list(member(raw, "Sources")))
    if count > MAX_SOURCES:
        yield Problem("$.Sources", Code.LIMIT_EXCEEDED, f"{count} sources; the most is {MAX_SOURCES}")
    elif count > 1:
        what = f"{count} sources: joining them is a later step, so give one source for now"
        yield Problem("$.Sources", Code.INVALID_ARGUMENT, what)


def _notification_problems(raw: Any) -> Iterator[Problem]:
    notification = member(raw, "Notification")
    if member(notification, "MNS") and member(notification, "RocketMQ"):
        what = "MNS and RocketMQ are both given: events have one topic, so give one of them"
        yield Problem("$.Notification", Code.INVALID_ARGUMENT, what)


def _number_problems(path: str, snapshot: Any, limits: LimitSettings) -> Iterator[Problem]:
    number = member(snapshot, "Number")
    if _is_count(number) and number > limits.frames_per_entry:
        what = over_limit("Number asks for more images", "LIMITS__FRAMES_PER_ENTRY", limits.frames_per_entry).message
        yield Problem(f"{path}.Number", Code.LIMIT_EXCEEDED, what)
    if member(snapshot, "Mode") != "average":
        return
    if number is None:
        yield Problem(f"{path}.Number", f"{Code.MISSING}Number", "Mode average needs a Number of at least 1")
    elif _is_count(number) and number == 0:
        yield Problem(f"{path}.Number", Code.INVALID_ARGUMENT, "Mode average needs a Number of at least 1; got 0")


def _output(path: str, snapshot: Any, scope: _Scope) -> Iterator[Output]:
    """Parse the template of one entry, if it has one. Raises `InvalidArgument`."""
    text, number, image = (member(snapshot, name) for name in ("URI", "Number", "Format"))
    if not isinstance(text, str):
        return
    most = scope.limits.frames_per_entry
    count = min(number, most) if _is_count(number) and number > 0 else most
    template = parse_template(
        text,
        source=scope.source,
        tags=scope.tags,
        created_at=scope.created_at,
        image=FORMATS.get(image, Format.JPG) if isinstance(image, str) else Format.JPG,
        max_index=count,
    )
    yield Output(f"{path}.URI", template, count)


def _clash_problems(outputs: list[Output], fixed: list[Output]) -> Iterator[Problem]:
    """Find what could overwrite what; `fixed` are the objects that are named without a template."""
    both = outputs + fixed
    for one, other, name in clashes([(each.template, each.count) for each in both]):
        at, with_path = (one, both[other].path) if other >= len(outputs) else (other, both[one].path)
        what = f"this and {with_path} can both name {name}: each needs a key of its own"
        yield Problem(both[at].path, Code.INVALID_ARGUMENT, what)


def string_tags(raw: Any) -> dict[str, str]:
    """Give the tags of a message that are texts, valid or not as a whole."""
    tags = member(raw, "Tags")
    return {name: each for name, each in tags.items() if isinstance(each, str)} if isinstance(tags, dict) else {}


def _snapshots(raw: Any) -> Iterator[tuple[str, Any]]:
    for target, each in enumerate(_list(member(raw, "Targets"))):
        for place, snapshot in enumerate(_list(member(member(each, "Image"), "Snapshots"))):
            yield f"$.Targets[{target}].Image.Snapshots[{place}]", snapshot


def member(value: Any, name: str) -> Any:
    """Give a member of a JSON object; None if it is empty, or if there is no such object."""
    member = value.get(name) if isinstance(value, dict) else None
    return None if is_empty(member) else member


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> Any:
    return next(iter(_list(value)), None)


def _location(value: Any) -> Location | None:
    try:
        return parse_location(value) if isinstance(value, str) else None
    except TaskError:
        return None  # reported by the field itself


def _constant(location: Location) -> Template:
    return Template(location.scheme, location.bucket, (location.key,), ())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
