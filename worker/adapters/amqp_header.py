"""Message properties as RabbitMQ sends them, read so that no message can end the connection.

pamqp raises for what it cannot read, and aiormq then drops the connection: again at every redelivery, for all workers,
with all that is in flight. Here such a property is left out, and the header tells of it. Must not know what is done
with the message.
"""

import struct
from collections.abc import Callable, Mapping
from datetime import datetime

from pamqp import frame
from pamqp.commands import Basic
from pamqp.common import FieldValue
from pamqp.decode import METHODS, TABLE_MAPPING, field_table, octet, short_str, timestamp
from pamqp.header import ContentHeader

SHORT_STRING_BYTES = 255
SHOWN_BYTES = 40
HEADERS_DEPTH = 32
UNREADABLE = (ValueError, OverflowError, OSError, RecursionError, struct.error)


class LenientHeader(ContentHeader):
    """A content header. `problems` tells in words which of its properties could not be read, and why."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: tuple[str, ...] = ()

    def unmarshal(self, data: bytes) -> None:
        """Read all properties that can be read. Raises `ValueError` only for what is no header at all."""
        self.class_id, self.weight, self.body_size = struct.unpack(">HHQ", data[:12])
        offset, flags = self._get_flags(data[12:])
        data = data[12 + offset :]
        for name in Basic.Properties.__slots__:
            if flags & Basic.Properties.flags[name]:
                length, value = self._read(name, data)
                setattr(self.properties, name, value)
                data = data[length:]

    def _read(self, name: str, data: bytes) -> tuple[int, FieldValue]:
        kind = Basic.Properties.amqp_type(name)
        try:
            length, value = STRICT[kind](data)
            if kind == "table":
                _check_depth(value)
            return length, value
        except UNREADABLE as error:
            what = "the AMQP headers" if kind == "table" else f"the AMQP property {name}"
            self.problems += (f"{what} cannot be read: {_told(kind, data, error)}",)
            return LENIENT[kind](data)


STRICT: Mapping[str, Callable[[bytes], tuple[int, FieldValue]]] = {
    "shortstr": short_str,
    "timestamp": timestamp,
    "octet": octet,
    "table": field_table,
}


def _check_depth(headers: FieldValue) -> None:
    """Raise `ValueError` for tables in tables in tables, which nobody can write again, or print."""
    level: list[FieldValue] = [headers]
    for _ in range(HEADERS_DEPTH):
        inner = [
            list(each.values() if isinstance(each, dict) else each) for each in level if isinstance(each, dict | list)
        ]
        level = [value for values in inner for value in values]
        if not level:
            return
    raise ValueError(f"tables are nested more than {HEADERS_DEPTH} deep")


def _told(kind: str, data: bytes, error: Exception) -> str:
    match kind:
        case "shortstr":
            return f"{data[1 : 1 + min(data[0], SHOWN_BYTES)]!r} is not UTF-8"
        case "timestamp":
            return f"{int.from_bytes(data[:8], 'big')} is no time in seconds since 1970"
    if isinstance(error, RecursionError):
        return f"tables are nested more than {HEADERS_DEPTH} deep"
    if isinstance(error, UnicodeDecodeError):
        return f"the name {error.object[:SHOWN_BYTES]!r} is not UTF-8"
    return str(error)


def _lenient_timestamp(data: bytes) -> tuple[int, datetime | None]:
    try:
        return timestamp(data)
    except UNREADABLE:
        return 8, None


def _lenient_short_string(data: bytes) -> tuple[int, str]:
    try:
        return short_str(data)
    except UnicodeDecodeError:
        end = 1 + data[0]
        text = data[1:end].decode(errors="backslashreplace").encode()
        return end, text[:SHORT_STRING_BYTES].decode(errors="ignore")  # longer than it was, and copies must hold it


def _no_table(data: bytes) -> tuple[int, FieldValue]:
    return 4 + int.from_bytes(data[:4], "big"), None


LENIENT: Mapping[str, Callable[[bytes], tuple[int, FieldValue]]] = {
    "shortstr": _lenient_short_string,
    "timestamp": _lenient_timestamp,
    "octet": lambda _: (1, None),
    "table": _no_table,
}


def _header(frame_data: bytes) -> ContentHeader:
    header = LenientHeader()
    header.unmarshal(frame_data)
    return header


def install() -> None:
    """Make pamqp read headers like this, and the short strings of methods (a routing key that is not UTF-8)."""
    METHODS["timestamp"] = TABLE_MAPPING[b"T"] = _lenient_timestamp
    METHODS["shortstr"] = _lenient_short_string
    frame._unmarshal_header_frame = _header  # noqa: SLF001 - there is no other place where one can step in


def problems(header: ContentHeader) -> tuple[str, ...]:
    """Tell what could not be read of a message's properties."""
    return header.problems if isinstance(header, LenientHeader) else ()
