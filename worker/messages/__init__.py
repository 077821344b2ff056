"""The wire: task messages in, events and results out, and the JSON Schemas of both."""

from worker.messages.event import Event, Running, build_event, build_result, invalid_message_event
from worker.messages.parse import Identity, identify, parse_task

__all__ = [
    "Event",
    "Identity",
    "Running",
    "build_event",
    "build_result",
    "identify",
    "invalid_message_event",
    "parse_task",
]
