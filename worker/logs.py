"""How the worker logs: one line per event, JSON unless on a terminal, with the task and its trace on every line."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Literal, TextIO

_bound: ContextVar[MappingProxyType[str, object]] = ContextVar("bound", default=MappingProxyType({}))


class Log:
    """Writes events and what they are about through the standard library's logger of a `name`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """Log what only who debugs wants to know."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what happens as it should."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """Log what somebody may have to look at."""
        self._log(logging.WARNING, event, fields, exc_info)

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """Log what somebody has to look at."""
        self._log(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, **fields: object) -> None:
        """Log an error with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, event, fields, sys.exception())

    def _log(self, level: int, event: str, fields: dict[str, object], exc_info: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=exc_info, extra={"fields": fields})


@contextmanager
def bound(**names: object) -> Iterator[None]:
    """Put names on each line that is written in this context meanwhile, whoever writes it."""
    token = _bound.set(MappingProxyType(_bound.get() | names))
    try:
        yield
    finally:
        _bound.reset(token)


def bind(**names: object) -> None:
    """Put names on each further line of the innermost `bound`."""
    _bound.set(MappingProxyType(_bound.get() | names))


def configure(form: Literal["auto", "json", "console"], level: str, stream: TextIO = sys.stderr) -> None:
    """Send the worker's and its libraries' logs to `stream`, from `level` up."""
    readable = form == "console" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lazy(readable=readable, colours=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiormq", "aio_pika", "asyncio", "botocore", "aiobotocore", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class _Lazy(logging.Formatter):
    """Writes records down by what the first one makes: many a command ends without one."""

    def __init__(self, *, readable: bool, colours: bool) -> None:
        super().__init__()
        self._looks = {"readable": readable, "colours": colours}
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            from worker.log_lines import formatter  # noqa: PLC0415 - takes long

            self._formatter = formatter(**self._looks)
        record.fields = {**_bound.get(), **getattr(record, "fields", {})}
        return self._formatter.format(record)
