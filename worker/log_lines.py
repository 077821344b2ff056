"""What a line of the log looks like: JSON, or for people.

A record's `fields`, if it has any, are what its event is about. What draws lines for people, and tracebacks, takes long
to import, and waits until there is one.
"""

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from structlog.typing import EventDict, ExcInfo, WrappedLogger

MAX_VALUE = 1000

_write = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def formatter(*, readable: bool, colours: bool) -> logging.Formatter:
    """Make what writes records down."""
    return _readable(colours=colours) if readable else _JsonLines()


class _JsonLines(logging.Formatter):
    """Writes each record as a JSON object: one for each task at least, so this is part of what a task costs."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            line["exception"] = _frames(record.exc_info)
        return _write(_tamed(line))


def _frames(exc_info: "ExcInfo | tuple[None, None, None]") -> object:
    """Take a traceback apart; without the variables of each frame: credentials, signed requests, whole messages."""
    import structlog.tracebacks  # noqa: PLC0415 - takes long

    return structlog.tracebacks.ExceptionDictTransformer(show_locals=False)(exc_info) if exc_info[0] else None


def _readable(*, colours: bool) -> logging.Formatter:
    import structlog  # noqa: PLC0415 - takes long

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            _add_fields,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _tame,
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=_write_traceback),
        ],
    )


def _add_fields(_logger: "WrappedLogger", _name: str, event: "EventDict") -> "EventDict":
    event.update(getattr(event["_record"], "fields", {}))
    return event


def _tame(_logger: "WrappedLogger", _name: str, event: "EventDict") -> "EventDict":
    """Take control and direction-changing characters out of texts, which come from strangers, and shorten them."""
    return {name: _tamed(value) for name, value in event.items()}


def _tamed(value: object) -> object:
    match value:
        case str():
            return _plain(value)
        case dict():
            return {name: _tamed(item) for name, item in value.items()}
        case list():
            return [_tamed(item) for item in value]
    return value


def _plain(text: str) -> str:
    shown = (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    )
    return shown if len(shown) <= MAX_VALUE else f"{shown[:MAX_VALUE]}…"


def _write_traceback(stream: TextIO, exc_info: "ExcInfo") -> None:
    lines = "".join(traceback.format_exception(*exc_info)).splitlines()
    stream.write("\n" + "\n".join(map(_plain, lines)))
