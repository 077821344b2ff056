"""What comes beside a message: AMQP properties and headers that lie, or that nobody can read."""

from tests.e2e.media import task
from tests.hostile.rows import Bad
from tests.integration.test_amqp_refusal import POISON

FORGED = {
    "count of deliveries": {"x-delivery-count": 999},
    "deaths": {
        "x-death": [{"count": 999, "reason": "rejected", "queue": "q"}],
        "x-first-death-reason": "delivery_limit",
    },
    "attempt of a text": {"x-attempt": "many"},
    "attempt of a million": {"x-attempt": 1_000_000},
    "attempt below zero": {"x-attempt": -5},
    "attempt in a table": {"x-attempt": {"a": [1]}},
    "run of a path": {"x-run": "../../etc"},
    "clock of the year 1": {"x-created": "0001-01-01T00:00:00+14:00"},
    "trace of zeros": {"traceparent": f"00-{'0' * 32}-{'0' * 16}-00"},
    "trace with a line feed": {"traceparent": "00-\n", "tracestate": "a=\x1b[31m"},
    "park code": {"x-park-code": "Succeeded", "x-park-reason": "none"},
}
"""Headers with which a task is done as if they were not there."""

UNREADABLE = {name: (prop, value, Bad(task(), says=says, paths=("$",))) for name, (prop, value, says) in POISON.items()}
"""Properties as bytes that no library writes."""
