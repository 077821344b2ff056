"""The messages between the worker and its decoder processes, and how they look on the socket.

Owns the framing (two sizes, a JSON header, raw bytes) and the checks on what comes in: a decoder works on hostile
media, so nothing of it is unpickled and no field has another type than declared. Knows no sockets and no processes.
"""

import json
import math
import struct
from collections.abc import Callable, Hashable
from dataclasses import dataclass, is_dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import cache, partial
from types import UnionType
from typing import Any, Never, cast, get_args, get_origin, get_type_hints

from worker.errors import Code, TaskError
from worker.media.plan import CapturePlan, Cuts, Image, Progress, Report

PREFIX = struct.Struct("<II")
MAX_HEADER_BYTES = 2**20
MAX_READ_BYTES = 2**20
HEAD_BYTES = 2**18
MAX_RANGES = 1024
MAX_TEXT = 16_384
MAX_BITS = 1000  # of a number: what has more overflows a float


class WireError(Exception):
    """What came over the socket is no message of this protocol, or is too large for it."""


@dataclass(frozen=True, slots=True)
class Begin:
    """To the decoder: capture this from a source of `source_bytes`, within `soft_time_limit_s` of wall time and

    `cpu_time_limit_s` of CPU time; while nothing else is to be said, say every `alive_s` that you are alive. `data` is
    the source's first `HEAD_BYTES` bytes, or all of it: what every decoder would ask for first.
    """

    plan: CapturePlan
    source_bytes: int
    soft_time_limit_s: float
    cpu_time_limit_s: float
    alive_s: float
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Block:
    """To the decoder: the bytes that it asked for with `Read`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """From the decoder, before it hears anything: what holds it, with 0 and False where its kernel has no such thing.

    `landlock_abi` is the version of Landlock, `seccomp` whether system calls are filtered.
    """

    landlock_abi: int
    seccomp: bool


@dataclass(frozen=True, slots=True)
class Started:
    """From the decoder, first of each capture: whatever goes wrong from now on, the task may have done it."""


@dataclass(frozen=True, slots=True)
class Alive:
    """From the decoder: it is at work, and comes out of its libraries' code now and then."""


@dataclass(frozen=True, slots=True)
class Read:
    """From the decoder: it waits for exactly these bytes of the source."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Expect:
    """From the decoder: it is going to read these ranges of the source, in this order. There is no answer."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


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
FromDecoder = Ready | Started | Alive | Read | Expect | Image | Progress | Cuts | Report | Failure
_WITH_PAYLOAD = Begin | Block | Image


def pack(message: ToDecoder | FromDecoder) -> tuple[bytes, bytes]:
    """Turn a message into the two buffers to send: sizes with header, and payload. Raises `WireError`."""
    payload = message.data if isinstance(message, _WITH_PAYLOAD) else b""
    header = _write_header([type(message).__name__, message]).encode()
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
    try:
        name, body = _read_header(header.decode())
        message = _readers(expected)[name](body)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise WireError(f"an unreadable header ({error!r}): {header[:80]!r}") from error
    if isinstance(message, _WITH_PAYLOAD):
        return replace(message, data=payload)
    if payload:
        raise WireError(f"{name} with {len(payload)} bytes of payload; it has none")
    return message


def failure(error: TaskError, traceback: str = "") -> Failure:
    """Make the value that carries an error over the socket, cut to a size that always fits."""
    return Failure(
        Code(error.code), _sayable(error.message)[:MAX_TEXT], error.retryable, _sayable(traceback)[-MAX_TEXT:]
    )


def _sayable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _refuse_constant(text: str) -> Never:
    raise ValueError(f"{text} is not a number")


_read_header = json.JSONDecoder(parse_constant=_refuse_constant).decode


@cache
def _readers(kinds: UnionType) -> dict[str, Callable[[Any], Any]]:
    return {kind.__name__: _reader(kind) for kind in get_args(kinds)}


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    """Give the fields of a dataclass with their types, which take long to find out."""
    return get_type_hints(kind)


def _plain(value: object) -> object:
    """Turn what JSON cannot say into what it can: fractions into `[numerator, denominator]`, and of bytes nothing."""
    if isinstance(value, Fraction):
        return [value.numerator, value.denominator]
    if isinstance(value, bytes):
        return None
    if not is_dataclass(value):
        raise TypeError(f"{value!r:.80} is nothing that a message can tell")
    return {name: getattr(value, name) for name in _hints(cast("Hashable", type(value)))}


_write_header = json.JSONEncoder(allow_nan=False, default=_plain).encode


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Find out, once for each type, how to rebuild a value of exactly that type from parsed JSON.

    What it gives raises `ValueError`, `TypeError` or `KeyError`.
    """
    if is_dataclass(kind):
        return partial(_dataclass, kind, {name: _reader(hint) for name, hint in _hints(cast("Hashable", kind)).items()})
    if isinstance(kind, UnionType):
        return partial(_one_of, kind, [_reader(each) for each in get_args(kind)])
    if get_origin(kind) is tuple:
        return partial(_tuple, _reader(get_args(kind)[0]))
    if get_origin(kind) is dict:
        return partial(_dict, _reader(get_args(kind)[1]))
    if issubclass(kind, StrEnum):
        return lambda data: kind(_exactly(str, data))
    return _SCALARS.get(kind) or partial(_exactly, kind)


def _dataclass(kind: Any, readers: dict[str, Callable[[Any], Any]], data: Any) -> Any:
    if _exactly(dict, data).keys() != readers.keys():
        raise ValueError(f"{kind.__name__} with the fields {sorted(data)}")
    return kind(*[read(data[name]) for name, read in readers.items()])


def _one_of(kind: Any, readers: list[Callable[[Any], Any]], data: Any) -> Any:
    for read in readers:
        try:
            return read(data)
        except (ValueError, TypeError):
            continue
    raise TypeError(f"{data!r:.80} is none of {kind}")


def _tuple(read: Callable[[Any], Any], data: Any) -> Any:
    return tuple([read(item) for item in _exactly(list, data)])


def _dict(read: Callable[[Any], Any], data: Any) -> Any:
    return {key: read(item) for key, item in _exactly(dict, data).items()}


def _bytes(data: Any) -> bytes:
    return _exactly(type(None), data) or b""


def _fraction(data: Any) -> Fraction:
    numerator, denominator = _exactly(list, data)
    if _exactly(int, denominator) <= 0:
        raise ValueError(f"the denominator {denominator}")
    if _exactly(int, numerator).bit_length() - denominator.bit_length() > MAX_BITS:
        raise ValueError(f"a fraction of more than {MAX_BITS} bits")
    return Fraction(numerator, denominator)


def _int(data: Any) -> int:
    number: int = _exactly(int, data)
    if number.bit_length() > MAX_BITS:
        raise ValueError(f"a number of {number.bit_length()} bits")
    return number


def _str(data: Any) -> str:
    text: str = _exactly(str, data)
    if len(text) > MAX_TEXT:
        raise ValueError(f"a text of {len(text)} characters")
    text.encode()  # refuses lone surrogates, which nothing can be told of later
    return text


def _float(data: Any) -> float:
    number = float(data) if type(data) is int else _exactly(float, data)
    if not math.isfinite(number):  # 1e999 parses as infinity
        raise ValueError(f"{data} is not finite")
    return cast("float", number)


def _exactly(kind: type[Any], data: Any) -> Any:
    if type(data) is not kind:  # not isinstance: True is no number here
        raise TypeError(f"{data!r:.80} is no {kind.__name__}")
    return data


_SCALARS: dict[Any, Callable[[Any], Any]] = {bytes: _bytes, Fraction: _fraction, float: _float, int: _int, str: _str}
