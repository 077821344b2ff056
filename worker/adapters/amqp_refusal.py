"""Which messages are no tasks to do, and why: unreadable ones, outdated ones, and those that the broker gave up.

Must not know what the messages say.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from aiormq.abc import DeliveredMessage

from worker.adapters.amqp_header import problems
from worker.adapters.topology import Topology
from worker.errors import Code, TaskError

EXPIRATION = "x-expiration"  # on a retry: what the publisher set, since the property holds the delay then
MAX_EXPIRATION_DIGITS = 12
REASON_CHARS = 40


def refusal(message: DeliveredMessage, names: Topology, now: datetime | None = None) -> TaskError | None:
    """Tell why no attempt may be made at a task; None where one may."""
    headers: Mapping[str, object] = message.header.properties.headers or {}
    if message.exchange == names.dead and message.routing_key == names.dropped_key:
        return _dropped(headers, names)
    if unreadable := problems(message.header):
        return TaskError(Code.INVALID_ARGUMENT, "; ".join(unreadable))
    waited_s, allowed_s = _waited_s(headers, names, now or datetime.now(UTC)), _expiration_s(headers.get(EXPIRATION))
    if allowed_s is not None and waited_s > allowed_s:
        return TaskError(Code.EXPIRED, f"the task waited {waited_s:.0f} s for its next attempt; {_allowed(allowed_s)}")
    return None


def _dropped(headers: Mapping[str, object], names: Topology) -> TaskError:
    """Tell why the broker took a message out of the task queue."""
    reason = next((death.get("reason") for death in _deaths(headers, names.task_queue)), None)
    match reason:
        case "delivery_limit":
            times = f"more than {names.delivery_limit} deliveries of the task ended without an answer"
            return TaskError(Code.WORKER_CRASHED, f"{times}: workers or their connections died while they had it")
        case "expired":
            return TaskError(
                Code.EXPIRED, f"no worker took the task in time; {_allowed(_first_expiration_s(headers, names))}"
            )
        case "maxlen":
            return TaskError(
                Code.LIMIT_EXCEEDED, f"the queue {names.task_queue} was full, so the broker dropped the task"
            )
        case "rejected":
            return TaskError(Code.INTERNAL_ERROR, "a consumer that is none of our workers rejected the task")
    return TaskError(
        Code.INTERNAL_ERROR, f"the broker dropped the task for a reason unknown here: {str(reason)[:REASON_CHARS]!r}"
    )


def _allowed(allowed_s: float | None) -> str:
    if allowed_s is None:
        return "a policy of the broker limits how long tasks may wait"
    return f"its publisher allowed {allowed_s:g} s (expiration)"


def _deaths(headers: Mapping[str, object], queue: str) -> Iterator[Mapping[str, object]]:
    """Give the broker's notes on why a message left a queue, the latest first."""
    notes = headers.get("x-death")
    for note in notes if isinstance(notes, list) else []:
        if isinstance(note, dict) and note.get("queue") == queue:
            yield note


def _first_expiration_s(headers: Mapping[str, object], names: Topology) -> float | None:
    deaths = _deaths(headers, names.task_queue)
    return next((_expiration_s(death.get("original-expiration")) for death in deaths), None)


def _expiration_s(value: object) -> float | None:
    """Read an AMQP expiration, a text of milliseconds."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_EXPIRATION_DIGITS:
        return int(value) / 1000
    return None


def _waited_s(headers: Mapping[str, object], names: Topology, now: datetime) -> float:
    """Tell how long ago a retry came back to the task queue, by the broker's clock, which counts seconds."""
    for delay_s in names.delays_s:
        for death in _deaths(headers, f"{names.retry}.{names.retry_key(delay_s)}"):
            moment = death.get("time")
            if isinstance(moment, datetime):
                return max((now - moment - timedelta(seconds=1)).total_seconds(), 0)
    return 0
