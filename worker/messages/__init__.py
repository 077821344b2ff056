"""The wire: task messages in, events and results out, and the JSON Schemas of both."""

from worker.messages.parse import Identity, identify, parse_task

__all__ = ["Identity", "identify", "parse_task"]
