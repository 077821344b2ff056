"""What travels with a task beside its body: its id, its clock, its attempts, its trace. All of it is untrusted.

Whatever is malformed here is ignored rather than refused: a task is judged by its body.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from worker.errors import Code, TaskError

ATTEMPT, CRASHES, CREATED, RUN, REPLAYED = "x-attempt", "x-crashes", "x-created", "x-run", "x-replayed"
ENDING, OUTAGES = "x-ending", "x-outages"
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
OF_THE_TASK = (ATTEMPT, CRASHES, CREATED, RUN, REPLAYED, ENDING, OUTAGES, TRACEPARENT, TRACESTATE)
NAMESPACE = uuid.UUID("0d0e1b1c-8d3f-5c0a-9a55-6a4b5a1f7c2e")
MAX_COUNT = 1000

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
_MESSAGE_ID = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_RUN = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def task_id(body: bytes, message_id: str | None) -> str:
    """Give the task's identity: the publisher's id, otherwise one made of the body, the same at each delivery."""
    if message_id and _MESSAGE_ID.fullmatch(message_id):
        return message_id
    digest = hashlib.sha1(NAMESPACE.bytes + body, usedforsecurity=False).digest()
    return f"MediaConvert-{uuid.UUID(bytes=digest[:16], version=5)}"


def created_at(timestamp: datetime | None, headers: Mapping[str, object], received_at: datetime) -> datetime:
    """Tell when the task was made: by the publisher's clock, or by that of the first attempt."""
    return timestamp or _instant(headers.get(CREATED)) or received_at


def count(headers: Mapping[str, object], name: str, lowest: int) -> int:
    """Read a counter of ours; `lowest` when it is absent or absurd."""
    value = headers.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= MAX_COUNT:
        return lowest
    return value


def run(headers: Mapping[str, object]) -> str:
    """Read which run of its task a message is for; empty for the first, which nobody has replayed."""
    value = _text(headers.get(RUN))
    return value if _RUN.fullmatch(value) else ""


def decided(headers: Mapping[str, object]) -> TaskError | None:
    """Read how a task is to end that only waits for its record: its error, as text. None for one still to be done."""
    code, _, message = _text(headers.get(ENDING)).partition(": ")
    return TaskError(Code(code), message) if code in set(Code) else None


def replayed_at(headers: Mapping[str, object]) -> datetime | None:
    """Tell when somebody asked for the run that a message is for, if it says so."""
    return _instant(headers.get(REPLAYED))


def trace(headers: Mapping[str, object]) -> tuple[str, str]:
    """Read W3C `traceparent` and `tracestate`; empty when there is no valid trace."""
    parent, state = _text(headers.get(TRACEPARENT)), _text(headers.get(TRACESTATE))
    if not _TRACEPARENT.fullmatch(parent):
        return "", ""
    return parent, state if _TRACESTATE.fullmatch(state) else ""


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("ascii", "replace")
    return value if isinstance(value, str) else ""


def _instant(value: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(_text(value))
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # the second for what UTC's first or last day cannot hold
        return None
