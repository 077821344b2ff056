"""Mutated task messages through the worker: their JSON, and the AMQP properties and headers beside it."""

import json
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic, Connection
from pamqp.header import ContentHeader

from tests.corpus.messages import VALID
from tests.fuzz.verdict import answer_of, kind_of
from tests.fuzz.world import Told, Watched, World
from worker.adapters.amqp_copy import FRAME_BYTES
from worker.adapters.amqp_delivery import AmqpDelivery
from worker.adapters.amqp_header import LenientHeader, install
from worker.adapters.topology import topology
from worker.errors import TaskError
from worker.messages import identify, parse_task
from worker.messages.examples import EXAMPLE_TASKS
from worker.messages.headers import decided
from worker.settings import Amqp, LimitSettings, Retry

VALUES = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, 2**31, 2**63, 2**64, 10**400, "", "x", "0", "1e999", [], {}, [[]],
    [{}], {"a": {}}, "\x00", "\ud800", "\udc00\ud800", "\u202e", "\x1b[31m", "\r\n", "é" * 2000, "x" * 5000,
    "../../etc/passwd", "oss://../x", "oss://fuzz/a/../b", "file:///etc/passwd", "file://fuzz/out/x.jpg", "http://127.0.0.1/",
    "oss://fuzz/out/", "oss://fuzz/out/{index}.jpg", "oss://fuzz/out/{index:>1000000000}", "oss://fuzz/out/{bucket.__class__}",
    "oss://fuzz/out/{index:99d}.jpg", "oss://fuzz/out/{", "oss://fuzz/out/}{", "oss://fuzz/out/{tags.x}", "%2e%2e",
    "{}", "oss://fuzz/out/{tags." + "a" * 500 + "}", "arn:aws:s3:::x", "oss://" + "b" * 300 + "/x",
    "oss://fuzz/" + "k" * 1100, "jpg", "dhash", "average", "keyframe", 4096, 4097, 1e-9, 101, 10_001, 20_001,
)  # fmt: skip
TEXTS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e999999999", b"-1e-999999999", b"9" * 5000,
    b"1." + b"0" * 5000 + b"1", b"0x10", b"01", b"+1", b".5", b"tru", b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"',
    b"[" * 300, b'{"a":' * 300, b"//x", b'"\\u0000"', b"\xef\xbb\xbf", b"\0", b"1 2", b"'x'", b"[1,]", b'{"a":1,"a":2}',
    b"-", b"1e", b'"', b"\\",
)  # fmt: skip
MOST_CPU_S = 2
MOST_BODY_BYTES = 2**20
SHORT = (
    "content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id", "message_type",
    "user_id", "app_id",
)  # fmt: skip
NAMES = (
    "x-attempt", "x-crashes", "x-created", "x-run", "x-replayed", "x-ending", "traceparent", "tracestate", "x-death",
    "x-delivery-count", "CC", "BCC", "x-expiration", "x-park-code", "x-first-death-queue", "", "a" * 255, "é",
)  # fmt: skip
NOW = datetime(2026, 1, 2, tzinfo=UTC)
TOPOLOGY = topology(Amqp(), Retry())
FRAME_MAX = (4096, 131_072, 0)
"""What brokers want of frames: the least that the protocol has, RabbitMQ's own, and no limit."""


@dataclass
class Said:
    """What one message came to."""

    number: int
    answer: str
    wrong: list[str] = field(default_factory=list)


def body_of(rng: random.Random) -> bytes:
    """Change a valid message in one to six places, most of them as JSON, others as text."""
    example = rng.choice((*EXAMPLE_TASKS.values(), *(json.loads(case.body) for case in VALID if case.name != "deep")))
    content = json.loads(json.dumps(example))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 6))):
        content = _changed(content, rng)
    text = json.dumps(content, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        text = _text_changed(text, rng)
    return text[:MOST_BODY_BYTES]


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """All (container, key) of a message."""
    stack = [content]
    while stack:
        each = stack.pop()
        for key, value in each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ():
            yield each, key
            stack.append(value)


def _changed(content: Any, rng: random.Random) -> Any:
    places = list(_places(content))
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind < 3:
        holder[key] = rng.choice(VALUES)
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        other, there = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[there])) if there in other or isinstance(other, list) else None
    elif kind == 5:
        holder[key] = rng.choice(([holder[key]], {"x": holder[key]}, _repeated(holder[key], rng)))
    elif kind == 6 and isinstance(holder, dict):
        holder[rng.choice(("x", "URI ", "uri", "\ud800", "__class__", "A" * 3000, "", str(key).lower()))] = holder[key]
    else:
        text = holder[key] if isinstance(holder[key], str) else str(holder[key])
        at = rng.randrange(len(text) + 1)
        extra = rng.choice([each for each in VALUES if isinstance(each, str)])
        holder[key] = text[:at] + extra + text[at + rng.choice((0, 1, 5)) :]
    return content


def _repeated(value: Any, rng: random.Random) -> list[Any]:
    """Repeat a value within what a message is cut to; as copies, or a change of one would be a change of all."""
    text = json.dumps(value)
    return [json.loads(text) for _ in range(min(rng.choice((2, 20, 3000)), max(MOST_BODY_BYTES // len(text), 2)))]


def _text_changed(text: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(text) + 1)
    kind = rng.randrange(5)
    if kind == 0:
        return text[:at] + rng.choice(TEXTS) + text[at + rng.choice((0, 1, 4)) :]
    if kind == 1:
        return text[:at]
    if kind == 2:
        return text[:at] + text[at : at + 40] * rng.choice((2, 100)) + text[at + 40 :]
    if kind == 3:
        return text.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-be")))
    out = bytearray(text or b"\0")
    for _ in range(rng.choice((1, 3))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def properties_of(rng: random.Random) -> bytes:
    """Write a content header as the broker sends it, with any values that the protocol lets through."""
    flags, data = 0, b""
    odd = rng.random() < 0.2  # nobody can read such a one, and then the body does not matter
    for name in Basic.Properties.__slots__:
        if name == "cluster_id" or rng.random() < 0.5:
            continue
        flags |= Basic.Properties.flags[name]
        if name in SHORT:
            data += _short(rng, odd=odd)
        elif name == "headers":
            table = b"".join(_field(rng, 0, odd=odd) for _ in range(rng.choice((0, 1, 3, 8))))
            data += struct.pack(">I", len(table)) + table
        elif name == "timestamp":
            times = (0, 1_760_000_000, 2**32, *((1_760_000_000_000, 2**63, 2**64 - 1) if odd else ()))
            data += struct.pack(">Q", rng.choice(times))
        else:  # priority, delivery mode
            data += bytes([rng.randrange(256)])
    return struct.pack(">HHQH", 60, 0, 0, flags) + data


def _short(rng: random.Random, *, odd: bool) -> bytes:
    text = rng.choice((
        b"", b"x", b"id-1", b"\0", b"a\nb", b"\x1b[31m", "é".encode() * 100, b"a" * 255, b"60000", b"-1",
        *((b"\xff\xfe", rng.randbytes(rng.randrange(40))) if odd else ()),
    ))  # fmt: skip
    return bytes([len(text)]) + text


def _field(rng: random.Random, depth: int, *, odd: bool) -> bytes:
    name = rng.randbytes(3) if odd and rng.random() < 0.1 else rng.choice(NAMES).encode()
    return bytes([len(name)]) + name + _value(rng, depth, odd=odd)


def _value(rng: random.Random, depth: int, *, odd: bool) -> bytes:
    kind = rng.choice("tbBsuIilfdDSxTVFA")
    if kind in "FA":
        inner = _inner(rng, kind, depth, odd=odd) if depth < (40 if odd else 4) else b""
        return kind.encode() + struct.pack(">I", len(inner)) + inner
    if kind in "Sx":
        text = rng.choice(
            (b"", b"1", b"x" * 3000, b"\xff", b"LimitExceeded: x", b"2026-01-02T03:04:05Z", b"Expired: \n")
        )
        return kind.encode() + struct.pack(">I", len(text)) + text
    widths = {"t": 1, "b": 1, "B": 1, "s": 2, "u": 2, "I": 4, "i": 4, "l": 8, "f": 4, "d": 8, "D": 5, "T": 8, "V": 0}
    width = widths[kind]
    return kind.encode() + rng.choice((bytes(width), bytes(width - 1) + b"\1" if width else b"", rng.randbytes(width)))


def _inner(rng: random.Random, kind: str, depth: int, *, odd: bool) -> bytes:
    make = _field if kind == "F" else _value
    return b"".join(make(rng, depth + 1, odd=odd) for _ in range(rng.choice((0, 1, 1, 2) if depth else (1, 2))))


def delivered(rng: random.Random, body: bytes) -> AmqpDelivery:
    """Give a message as it comes from the wire: parsed by the worker's own reader of properties."""
    install()
    header = LenientHeader()
    header.unmarshal(properties_of(rng))
    deliver = Basic.Deliver("", 1, False, TOPOLOGY.tasks, "main")
    # Neither the channel nor the publisher is asked for anything: only what was delivered is read, and how large the
    # frames of its connection may be.
    tune = Connection.Tune(frame_max=rng.choice(FRAME_MAX))
    channel: Any = SimpleNamespace(connection=SimpleNamespace(connection_tune=tune))
    publisher: Any = None
    message = DeliveredMessage(delivery=deliver, header=header, body=body, channel=channel)
    return AmqpDelivery(message, publisher, TOPOLOGY, 0.25)


async def said(world: World, seed_number: int, number: int) -> Said:
    """Have the worker take one message, and judge what it answers."""
    rng = random.Random(f"message {seed_number} {number}")
    body = body_of(rng)
    result = Said(number, "")
    try:
        delivery = delivered(rng, body)
        result.wrong += _copied(delivery)
        result.wrong += _parsed(delivery, world.settings.limits)
        told = await world.do(
            Watched(body, delivery.message_id, delivery.timestamp, delivery.headers, delivery.refusal)
        )
    except Exception as error:  # noqa: BLE001 - any at all is a finding
        result.wrong.append(f"error: {type(error).__name__}: {error}")
        return result
    result.answer = answer_of(told)
    ended_before = delivery.refusal is not None or decided(delivery.headers) is not None
    result.wrong += _judged(told, refused=ended_before)
    return result


def _copied(delivery: AmqpDelivery) -> Iterator[str]:
    """What a retry and a parking would publish has a header that fits into a frame of the connection."""
    limit = delivery._message.channel.connection.connection_tune.frame_max
    for added in ({"x-attempt": 2}, {"x-park-code": "Timeout", "x-park-reason": "x" * 5000}):
        copy = delivery._copy(added)
        size = len(ContentHeader(body_size=len(copy.body), properties=copy.properties).marshal()) + FRAME_BYTES
        if limit and size > limit:
            yield f"error: a copy has a header of {size} bytes where a frame may have {limit}"


def _parsed(delivery: AmqpDelivery, limits: LimitSettings) -> Iterator[str]:
    """Parsing gives a task or a `TaskError` that names a problem, soon."""
    before = time.process_time()
    try:
        identify(delivery.body, delivery.message_id, delivery.headers)
        parse_task(
            delivery.body, message_id=delivery.message_id, timestamp=delivery.timestamp, headers=delivery.headers,
            limits=limits, received_at=NOW,
        )  # fmt: skip
    except TaskError as error:
        if not error.problems or not all(each.message and each.code for each in error.problems):
            yield f"error: {error} names no problem"
        if error.code not in {"InvalidArgument", "LimitExceeded"} and not error.code.startswith("Missing"):
            yield f"error: {error} is no answer to a message"
    if (took := time.process_time() - before) > MOST_CPU_S:
        yield f"hang: parsing took {took:.1f} s of CPU time"


def _judged(told: Told, *, refused: bool) -> Iterator[str]:
    end = told.end
    if end.get("Status") not in {"Succeeded", "Failed"}:
        yield f"error: it ended with {end}, settled by {told.settled}"
        return
    if told.settled not in (["ack"], ["park", "ack"]):
        yield f"error: it was settled by {told.settled}"
    code, message = end["Code"], end["Message"]
    kind = "" if code.startswith("Missing") or refused else kind_of(code, message)
    if kind:
        yield f"{kind}: {code}: {message}"
    if len(message) > 2000:
        yield f"error: a message of {len(message)} characters"
