"""What a copy of a task message carries of its original: all that can be written again and that the broker takes.

A task must not become impossible to retry or park because of a header that nobody here looks at. Must not know what the
message says.
"""

import logging
import struct
import sys
from collections.abc import Collection, Mapping
from typing import cast

from aio_pika import DeliveryMode, Message
from aiormq.abc import DeliveredMessage
from pamqp import encode
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from worker.adapters.amqp_refusal import EXPIRATION
from worker.messages.headers import OF_THE_TASK

ADDED_BYTES = 1024  # of a text that we add
FRAME_BYTES = 8  # of each frame beside what it holds
NAMED = 5  # of the headers left out, in the log
# What the broker writes into a message, or obeys in one: on a copy it would be untrue, or send it elsewhere.
BROKER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
ROUTING_HEADERS = ("CC", "BCC")

log = logging.getLogger(__name__)


def copy_of(
    original: DeliveredMessage,
    task_id: str,
    added: Mapping[str, str | int],
    *,
    expiration_s: float | None = None,
    without: Collection[str] = (),
) -> Message:
    """Make a persistent copy under `task_id`, with `added` headers (texts cut to 1 KiB), and `without` some others.

    All properties go into one frame, which must not be larger than `frame_max`, or the broker closes the connection:
    what does not fit beside `added` is left out, the largest headers of others first, those about the task last.
    """
    theirs = original.header.properties
    ours = {name: _cut(value) if isinstance(value, str) else value for name, value in added.items()}
    copy = Message(
        original.body,
        headers=cast("FieldTable", ours),
        content_type=theirs.content_type,
        content_encoding=theirs.content_encoding,
        correlation_id=theirs.correlation_id,
        reply_to=theirs.reply_to,
        priority=theirs.priority,
        type=theirs.message_type,
        app_id=theirs.app_id,
        timestamp=theirs.timestamp,
        message_id=task_id,
        expiration=expiration_s,
        delivery_mode=DeliveryMode.PERSISTENT,
    )
    taken = len(ContentHeader(body_size=len(original.body), properties=copy.properties).marshal())
    limit = original.channel.connection.connection_tune.frame_max or sys.maxsize  # 0: no limit
    copy.headers = cast(
        "FieldTable", {**_kept(theirs.headers or {}, {*ours, *without}, limit - FRAME_BYTES - taken), **ours}
    )
    return copy


def _cut(text: str) -> str:
    return text.encode()[:ADDED_BYTES].decode(errors="ignore")


def _kept(headers: Mapping[str, object], without: Collection[str], room: int) -> Mapping[str, object]:
    """Choose the headers that a copy keeps, which take at most `room` bytes."""
    sizes = {
        name: size
        for name, value in headers.items()
        if name not in without and not name.startswith(BROKER_HEADERS) and name not in ROUTING_HEADERS
        if (size := _size(name, value))
    }
    excess, left_out = sum(sizes.values()) - room, []
    for name in sorted(sizes, key=lambda name: (name in (*OF_THE_TASK, EXPIRATION), -sizes[name])):
        if excess <= 0:
            break
        excess -= sizes.pop(name)
        left_out.append(name)
    if left_out:
        first = ", ".join(map(repr, left_out[:NAMED]))
        log.warning(
            "the broker takes no header as large, so the copy goes without %d of them: %s", len(left_out), first
        )
    return {name: headers[name] for name in sizes}


def _size(name: str, value: object) -> int:
    """Tell how many bytes a header takes; 0 for what this client could read but cannot write."""
    try:
        return len(encode.field_table(cast("FieldTable", {name: value}))) - len(encode.field_table({}))
    except (TypeError, ValueError, OverflowError, RecursionError, struct.error):
        log.warning("a header cannot be written again, so the copy goes without it: %r", name)
        return 0
