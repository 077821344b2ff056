"""How the worker logs: one line per event, JSON unless on a terminal, with the task and its trace on every line."""

import logging
import sys
import traceback
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

MAX_VALUE = 1000
# By default both forms show the variables of each frame: credentials, signed requests, whole messages.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure(form: Literal["auto", "json", "console"], level: str, stream: TextIO = sys.stderr) -> None:
    """Send the worker's and its libraries' logs to `stream`, from `level` up."""
    readable = form == "console" or (form == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    last: list[Processor] = (
        [_tame, structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=_write_traceback)]
        if readable
        else [_TRACEBACKS, _tame, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiormq", "aio_pika", "asyncio", "botocore", "aiobotocore", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


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
