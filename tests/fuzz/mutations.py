"""Changes to media that keep most of their structure, each a name and a number: the same bytes for the same of both.

A recipe is a seed's name and a row of such steps, so a finding is a line of text. Must not know what is done with the
outcome.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from tests.damage import damaged
from tests.fuzz.chunks import BY_SUFFIX, MOST, WALKERS, Chunk
from tests.fuzz.playlists import playlist_changed

MAX_BYTES = 2**21
ODD = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**62, 2**64 - 1)
"""Numbers at which parsers go wrong."""


@dataclass(frozen=True)
class Recipe:
    """A seed's name, the steps (mutation, number) that are taken with it, and the number that the task is made of.

    Of a playlist `member` is the file that is changed.
    """

    seed: str
    steps: tuple[tuple[str, int], ...]
    wanted: int = 0
    member: str = field(default="")


def mutated(data: bytes, steps: tuple[tuple[str, int], ...]) -> bytes:
    """Take all steps, one after the other."""
    for name, number in steps:
        walker, _, change = name.partition(".")
        rng = random.Random(number)
        if name == "damaged":
            data = damaged(data, rng) if data else data
        elif name == "playlist":
            data = playlist_changed(data, rng)
        else:
            data = _changed(data, walker, CHANGES[change], rng)
        data = data[:MAX_BYTES]
    return data


def steps_for(suffix: str, rng: random.Random) -> tuple[tuple[str, int], ...]:
    """Choose steps that suit a file."""
    if suffix == ".m3u8":
        names = ["playlist"] * 9 + ["damaged"]
    else:
        walkers = BY_SUFFIX.get(suffix, ("raw",))
        changes = [*CHANGES, *["value", "table", "bit"] * 4, "size"]  # the others leave little that can be shown
        names = [f"{walker}.{change}" for walker in walkers for change in changes] + ["damaged"] * 4 * len(walkers)
    count = rng.choice((1, 1, 1, 2, 2, 3, 5, 8))
    return tuple((rng.choice(names), rng.getrandbits(32)) for _ in range(count))


def _changed(
    data: bytes, walker: str, change: Callable[[bytes, Chunk, random.Random], bytes], rng: random.Random
) -> bytes:
    found = list(islice(WALKERS[walker](data), MOST))
    if not found:
        return data
    kinds = sorted({_kind(data, chunk) for chunk in found})  # so that the one index is hit as often as the many frames
    kind = rng.choice(kinds)
    return change(data, rng.choice([chunk for chunk in found if _kind(data, chunk) == kind]), rng)


def _kind(data: bytes, chunk: Chunk) -> bytes:
    at, width = chunk.kind
    return data[at : at + width]


def _put(data: bytes, at: int, new: bytes, width: int | None = None) -> bytes:
    return data[:at] + new + data[at + (len(new) if width is None else width) :]


def _grown(data: bytes, parents: tuple[Chunk, ...], by: int) -> bytes:
    """Let what holds a place that has grown tell its new size."""
    for chunk in parents:
        if chunk.coded is not None and chunk.size[1]:
            at, width = chunk.size
            data = _put(data, at, chunk.coded(chunk.end - chunk.body + by, width))
    return data


def _replaced(data: bytes, chunk: Chunk, new: bytes) -> bytes:
    data = _grown(data, chunk.parents, len(new) - (chunk.end - chunk.start))
    return data[: chunk.start] + new + data[chunk.end :]


def _number(old: int, width: int, rng: random.Random) -> bytes:
    chosen = rng.choice((
        rng.choice(ODD), rng.choice(ODD), old + rng.randint(-4, 4), old * 2, old ^ 1 << rng.randrange(8 * width),
        rng.getrandbits(8 * width), -old,
    ))  # fmt: skip
    return (chosen % 256**width).to_bytes(width, rng.choice(("big", "big", "little")))


def _size(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    at, width = chunk.size
    if not width:
        return _value(data, chunk, rng)
    return _put(data, at, _number(int.from_bytes(data[at : at + width]), width, rng))


def _kind_swapped(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    at, width = chunk.kind
    other = rng.randrange(max(len(data) - width, 1))
    return _put(data, at, rng.choice((_number(0, width, rng), data[other : other + width]))) if width else data


def _value(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    """Another number in a field, near the beginning of the chunk more often than not."""
    for _ in range(rng.choice((1, 1, 2, 6))):
        width = rng.choice((1, 2, 4, 4, 4, 8))
        room = chunk.end - chunk.body - width
        if room < 0:
            return data
        near = rng.choice((12, 64, room + 1))
        at = chunk.body + rng.randrange(min(room + 1, near))
        at -= (at - chunk.body) % width if rng.random() < 0.7 else 0
        data = _put(data, at, _number(int.from_bytes(data[at : at + width]), width, rng))
    return data


def _table_value(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    """The count of a table (behind version and flags), or one of its words."""
    words = (chunk.end - chunk.body - 4) // 4
    if words < 1:
        return data
    at = chunk.body + 4 + 4 * rng.choice((0, rng.randrange(words)))
    return _put(data, at, _number(int.from_bytes(data[at : at + 4]), 4, rng))


def _bit(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    if chunk.end <= chunk.body:
        return data
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        out[chunk.body + rng.randrange(min(chunk.end - chunk.body, rng.choice((24, 2**30))))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _dropped(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    return _replaced(data, chunk, b"")


def _repeated(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    piece = data[chunk.start : chunk.end]
    times = min(rng.choice((2, 2, 3, 20, 500)), max(2, MAX_BYTES // 2 // max(len(piece), 1)))
    return _replaced(data, chunk, piece * times)


def _moved(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    """To behind whatever follows it, which often is another of its kind: a reordered unit, packet or box."""
    piece = data[chunk.start : chunk.end]
    to = min(chunk.end + rng.choice((len(piece), 188, 188 * rng.randrange(1, 9), rng.randrange(4096))), len(data))
    return data[: chunk.start] + data[chunk.end : to] + piece + data[to:]


def _nested(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    """Into a chunk of its own kind, which is in one, and so on."""
    piece = data[chunk.start : chunk.end]
    head = data[chunk.start : chunk.body]
    if chunk.coded is None or not chunk.size[1]:
        return _repeated(data, chunk, rng)
    at, width = chunk.size[0] - chunk.start, chunk.size[1]
    if not 0 <= at <= len(head) - width:
        return _repeated(data, chunk, rng)
    for _ in range(rng.choice((1, 2, 20, 1000))):
        piece = _put(head, at, chunk.coded(len(piece), width)) + piece
    return _replaced(data, chunk, piece)


def _shortened(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    keep = chunk.start + rng.randrange(chunk.end - chunk.start + 1)
    return data[:keep] if rng.random() < 0.3 else _replaced(data, chunk, data[chunk.start : keep])


def _spliced(data: bytes, chunk: Chunk, rng: random.Random) -> bytes:
    """Over its bytes go others of the same file."""
    length = rng.randrange(1, max(2, min(chunk.end - chunk.body, 2000)))
    source = rng.randrange(max(len(data) - length, 1))
    return _put(data, chunk.body, data[source : source + length][: chunk.end - chunk.body])


CHANGES: dict[str, Callable[[bytes, Chunk, random.Random], bytes]] = {
    "size": _size, "kind": _kind_swapped, "value": _value, "table": _table_value, "bit": _bit, "drop": _dropped,
    "repeat": _repeated, "move": _moved, "nest": _nested, "shorten": _shortened, "splice": _spliced,
}  # fmt: skip
