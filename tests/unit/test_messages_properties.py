"""What the properties and headers of a delivery tell: id, clock, counters, trace; none is believed unseen."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.corpus.messages import message
from tests.parsing import GOOD_TRACE, NOW, parse
from worker.messages import identify


def test_the_publishers_id_is_the_task_id():
    assert parse(message(), message_id="mine").id == "mine"


@pytest.mark.parametrize("message_id", [None, "", "a\nb", "x" * 256])
def test_without_a_usable_id_it_is_made_of_the_body(message_id):
    task_id = parse(message(), message_id=message_id).id
    assert task_id == parse(message()).id == identify(json.dumps(message()).encode(), message_id).task_id
    assert task_id.startswith("MediaConvert-")
    assert UUID(task_id.removeprefix("MediaConvert-")).version == 5
    assert task_id != parse(message(UserData="x")).id


def test_the_clock_is_the_publishers_then_the_first_attempts_then_ours():
    early, later = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
    headers = {"x-created": later.isoformat()}
    assert parse(message(), timestamp=early, headers=headers).created_at == early
    assert parse(message(), headers=headers).created_at == later
    assert parse(message(), headers={"x-created": "soon"}).created_at == NOW


@pytest.mark.parametrize(("value", "attempt"), [(3, 3), (0, 1), (-1, 1), (True, 1), ("3", 1), (2**63, 1), (None, 1)])
def test_counters_are_believed_only_when_sensible(value, attempt):
    task = parse(message(), headers={"x-attempt": value, "x-crashes": value, "x-delivery-count": 999})
    assert task.attempt == attempt
    assert task.crashes == (3 if attempt == 3 else 0)


@pytest.mark.parametrize(
    ("parent", "state", "expected"),
    [
        (GOOD_TRACE, "a=b", (GOOD_TRACE, "a=b")),
        (GOOD_TRACE.encode(), b"a=b", (GOOD_TRACE, "a=b")),
        (GOOD_TRACE, "a\r\nb", (GOOD_TRACE, "")),
        (GOOD_TRACE, 5, (GOOD_TRACE, "")),
        (GOOD_TRACE.upper(), "a=b", ("", "")),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", "a=b", ("", "")),
        (GOOD_TRACE + "\n", "a=b", ("", "")),
        (None, "a=b", ("", "")),
    ],
)
def test_traces_are_checked(parent, state, expected):
    task = parse(message(), headers={"traceparent": parent, "tracestate": state})
    assert (task.traceparent, task.tracestate) == expected
