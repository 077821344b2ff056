"""Messages as tests parse them, or have them refused."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.errors import TaskError
from worker.messages import parse_task
from worker.settings import LimitSettings
from worker.task import Task

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parse(body: Any, **given_properties: Any) -> Task:
    properties = {"message_id": None, "timestamp": None, "headers": {}, "limits": LimitSettings(), "received_at": NOW}
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return parse_task(body, **(properties | given_properties))


def refused(body: Any, **properties: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        parse(body, **properties)
    assert not caught.value.retryable
    return caught.value
