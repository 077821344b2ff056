"""What a line of the log looks like: JSON, or for people. Its library takes long to import, so `logs` waits for a line.

A record's `fields`, if it has any, are what its event is about.
"""

import logging
import traceback
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

MAX_VALUE = 1000
# By default both forms show the variables of each frame: credentials, signed requests, whole messages.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def formatter(*, readable: bool, colours: bool) -> logging.Formatter:
    """Make what writes records down."""
    first: list[Processor] = [
        _add_fields,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = (
        [_tame, structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=_write_traceback)]
        if readable
        else [_TRACEBACKS, _tame, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=first, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )


def _add_fields(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event.update(getattr(event["_record"], "fields", {}))
    return event


def _tame(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
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


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    lines = "".join(traceback.format_exception(*exc_info)).splitlines()
    stream.write("\n" + "\n".join(map(_plain, lines)))
