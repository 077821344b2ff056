"""The messages between the worker and its decoder processes, and how they look on the socket.

Owns the framing (two sizes, a JSON header, raw bytes) and the checks on what comes in: a decoder works on hostile
media, so nothing of it is unpickled and no field has another type than declared. Knows no sockets and no processes.
"""

import json
import math
import struct
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from fractions import Fraction
from types import UnionType
from typing import Any, Never, cast, get_args, get_origin, get_type_hints

from worker.errors import Code, TaskError
from worker.media.plan import CapturePlan, Image, Progress, Report

PREFIX = struct.Struct("<II")
MAX_HEADER_BYTES = 2**20
MAX_READ_BYTES = 2**20
MAX_TEXT = 16_384


class WireError(Exception):
    """What came over the socket is no message of this protocol, or is too large for it."""


@dataclass(frozen=True, slots=True)
class Begin:
    """To the decoder: capture this from a source of `source_bytes`, within `soft_time_limit_s` of wall time."""

    plan: CapturePlan
    source_bytes: int
    soft_time_limit_s: float


@dataclass(frozen=True, slots=True)
class Block:
    """To the decoder: the bytes that it asked for with `Read`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Started:
    """From the decoder, first of all: whatever goes wrong from now on, the task may have done it."""


@dataclass(frozen=True, slots=True)
class Read:
    """From the decoder: it waits for exactly these bytes of the source."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Failure:
    """From the decoder, instead of the report: the capture raised this.

    `traceback` is for the log, empty for a foreseen error.
    """

    code: Code
    message: str
    retryable: bool
    traceback: str = ""


ToDecoder = Begin | Block
FromDecoder = Started | Read | Image | Progress | Report | Failure


def pack(message: ToDecoder | FromDecoder) -> tuple[bytes, bytes]:
    """Turn a message into the two buffers to send: sizes with header, and payload. Raises `WireError`."""
    payload = message.data if isinstance(message, Image | Block) else b""
    header = json.dumps([type(message).__name__, _plain(message)], allow_nan=False).encode()
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(
            f"a {type(message).__name__} header of {len(header)} bytes; at most {MAX_HEADER_BYTES} are sent"
        )
    return PREFIX.pack(len(header), len(payload)) + header, payload


def unpack_sizes(prefix: bytes, max_payload_bytes: int) -> tuple[int, int]:
    """Read header and payload size off the first 8 bytes of a message. Raises `WireError` when beyond bounds."""
    header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > max_payload_bytes:
        raise WireError(
            f"a message of {header_bytes} + {payload_bytes} bytes; "
            f"at most {MAX_HEADER_BYTES} + {max_payload_bytes} are taken"
        )
    return header_bytes, payload_bytes


def unpack(header: bytes, payload: bytes, expected: UnionType) -> Any:
    """Rebuild a message of one of the `expected` types. Raises `WireError` for anything else."""
    types = {kind.__name__: kind for kind in get_args(expected)}
    try:
        name, body = json.loads(header, parse_constant=_refuse_constant)
        message = _typed(types[name], body)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WireError(f"an unreadable header ({error!r}): {header[:80]!r}") from error
    if isinstance(message, Image | Block):
        return replace(message, data=payload)
    if payload:
        raise WireError(f"{name} with {len(payload)} bytes of payload; it has none")
    return message


def failure(error: TaskError, traceback: str = "") -> Failure:
    """Make the value that carries an error over the socket, cut to a size that always fits."""
    return Failure(Code(error.code), error.message[:MAX_TEXT], error.retryable, traceback[-MAX_TEXT:])


def _refuse_constant(text: str) -> Never:
    raise ValueError(f"{text} is not a number")


def _plain(value: object) -> object:
    """Turn a value of plain dataclasses into what JSON can say; fractions as `[numerator, denominator]`."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Fraction):
        return [value.numerator, value.denominator]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, bytes) else value


def _typed(kind: Any, data: Any) -> Any:
    """Rebuild a value of exactly the type `kind` from parsed JSON. Raises `ValueError`, `TypeError`, `KeyError`."""
    if is_dataclass(kind):
        return _dataclass(cast("type[Any]", kind), data)
    if isinstance(kind, UnionType):
        return _one_of(get_args(kind), data)
    if get_origin(kind) is tuple:
        return tuple(_typed(get_args(kind)[0], item) for item in _exactly(list, data))
    if get_origin(kind) is dict:
        return {key: _typed(get_args(kind)[1], item) for key, item in _exactly(dict, data).items()}
    return _scalar(kind, data)


def _dataclass(kind: type[Any], data: Any) -> Any:
    hints = get_type_hints(kind)
    if _exactly(dict, data).keys() != hints.keys():
        raise ValueError(f"{kind.__name__} with the fields {sorted(data)}")
    return kind(**{name: _typed(hint, data[name]) for name, hint in hints.items()})


def _one_of(kinds: tuple[Any, ...], data: Any) -> Any:
    for kind in kinds:
        try:
            return _typed(kind, data)
        except (ValueError, TypeError):
            continue
    raise TypeError(f"{data!r:.80} is none of {kinds}")


def _scalar(kind: Any, data: Any) -> Any:
    if kind is bytes:
        return _exactly(type(None), data) or b""
    if kind is Fraction:
        numerator, denominator = _exactly(list, data)
        if _exactly(int, denominator) <= 0:
            raise ValueError(f"the denominator {denominator}")
        return Fraction(_exactly(int, numerator), denominator)
    if kind is float and type(data) in {int, float}:
        if not math.isfinite(number := float(data)):  # 1e999 parses as infinity
            raise ValueError(f"{data} is not finite")
        return number
    if issubclass(kind, StrEnum):
        return kind(_exactly(str, data))
    return _exactly(kind, data)


def _exactly(kind: type[Any], data: Any) -> Any:
    if type(data) is not kind:  # not isinstance: True is no number here
        raise TypeError(f"{data!r:.80} is no {kind.__name__}")
    return data
