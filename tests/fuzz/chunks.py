"""Where the pieces of a media file lie, found so that no damage can end the search. Must not know what is done to them.

A chunk is a box, an element, a tag, a packet: something with a kind, often a size, and bytes. Every walker takes any
bytes at all and gives the chunks that it recognises, which may be none.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

MOST = 4000
"""Chunks that are looked for in one file."""


@dataclass(frozen=True)
class Chunk:
    """One piece, as places in the file: `kind` and `size` are (place, bytes), (0, 0) where there is no such field.

    `coded` writes the size of a body of so many bytes in so many; `parents` are what it lies in, the outermost first.
    """

    start: int
    body: int
    end: int
    kind: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    coded: Callable[[int, int], bytes] | None = None
    parents: tuple["Chunk", ...] = ()


def _with_header(header: int) -> Callable[[int, int], bytes]:
    return lambda body, width: ((body + header) % 256**width).to_bytes(width)


def _little(body: int, width: int) -> bytes:
    return (body % 256**width).to_bytes(width, "little")


BOXED = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"mvex", b"moof", b"traf", b"udta", b"ilst",
         b"covr", b"mfra", b"sinf", b"schi"}  # fmt: skip
FIELDS = {b"meta": 4, b"stsd": 8, b"dref": 8, b"avc1": 78, b"hvc1": 78, b"hev1": 78, b"vp09": 78, b"av01": 78,
          b"mp4v": 78, b"jpeg": 78}  # fmt: skip
"""Bytes of fields before the boxes inside."""


def boxes(data: bytes, at: int = 0, end: int | None = None, parents: tuple[Chunk, ...] = ()) -> Iterator[Chunk]:
    """Boxes of MP4 and MOV (ISO/IEC 14496-12)."""
    end = len(data) if end is None else end
    while at + 8 <= end and len(parents) < 20:
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        header, field = 8, (at, 4)
        if size == 1 and at + 16 <= end:
            size, header, field = int.from_bytes(data[at + 8 : at + 16]), 16, (at + 8, 8)
        stop = end if size == 0 else at + size
        if (size and size < header) or stop > end:
            return
        chunk = Chunk(at, at + header, stop, (at + 4, 4), field, _with_header(header), parents)
        yield chunk
        if kind in BOXED or kind in FIELDS:
            yield from boxes(data, at + header + FIELDS.get(kind, 0), stop, (*parents, chunk))
        at = stop


MASTERS = {
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\x16\x54\xae\x6b", b"\xae", b"\xe0",
    b"\x1c\x53\xbb\x6b", b"\xbb", b"\xb7", b"\x11\x4d\x9b\x74", b"\x4d\xbb", b"\x15\x49\xa9\x66", b"\xa0",
    b"\x19\x41\xa4\x69", b"\x61\xa7", b"\x12\x54\xc3\x67", b"\x55\xb0",
}  # fmt: skip


def _vint(body: int, width: int) -> bytes:
    return (body % (1 << 7 * width) | 1 << 7 * width).to_bytes(width)


def elements(data: bytes, at: int = 0, end: int | None = None, parents: tuple[Chunk, ...] = ()) -> Iterator[Chunk]:
    """Elements of Matroska and WebM (RFC 8794)."""
    end = len(data) if end is None else end
    while at + 2 <= end and data[at] and len(parents) < 20:
        start = at + 9 - data[at].bit_length()
        if start >= end or not data[start]:
            return
        width = 9 - data[start].bit_length()
        size = int.from_bytes(data[start : start + width]) & ((1 << 7 * width) - 1)
        body = start + width
        stop = end if size == (1 << 7 * width) - 1 else body + size
        if body > end or stop > end:
            return
        chunk = Chunk(at, body, stop, (at, start - at), (start, width), _vint, parents)
        yield chunk
        if data[at:start] in MASTERS:
            yield from elements(data, body, stop, (*parents, chunk))
        at = stop


def riff(data: bytes, at: int = 0, end: int | None = None, parents: tuple[Chunk, ...] = ()) -> Iterator[Chunk]:
    """Chunks of AVI, WAV and WebP."""
    end = len(data) if end is None else end
    while at + 8 <= end and len(parents) < 20:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        stop = at + 8 + size
        if stop > end:
            return
        chunk = Chunk(at, at + 8, stop, (at, 4), (at + 4, 4), _little, parents)
        yield chunk
        if data[at : at + 4] in {b"RIFF", b"LIST"}:
            yield from riff(data, at + 12, stop, (*parents, chunk))
        at = stop + size % 2


def _row(
    data: bytes, at: int, kind: tuple[int, int], size: tuple[int, int], head: int, tail: int, order: str = "big"
) -> Iterator[Chunk]:
    """Chunks one after the other: places of kind and size within one, bytes before its body, and after it."""
    inclusive = head if order == "little" else 0  # of ASF only
    while at + head <= len(data):
        length = (
            int.from_bytes(data[at + size[0] : at + size[0] + size[1]], "little" if inclusive else "big") - inclusive
        )
        stop = at + head + length + tail
        if length < 0 or stop > len(data):
            return
        yield Chunk(
            at, at + head, stop, (at + kind[0], kind[1]), (at + size[0], size[1]),
            (lambda body, width: _little(body + 24, width)) if inclusive else _with_header(-tail),
        )  # fmt: skip
        at = stop


def flv(data: bytes) -> Iterator[Chunk]:
    """Tags of FLV."""
    return _row(data, 13, (0, 1), (1, 3), 11, 4)


def asf(data: bytes) -> Iterator[Chunk]:
    """Objects of ASF, and those of its header."""
    yield from _row(data, 0, (0, 16), (16, 8), 24, 0, "little")
    yield from _row(data, 30, (0, 16), (16, 8), 24, 0, "little")


def png(data: bytes) -> Iterator[Chunk]:
    """Chunks of the first PNG in a file, which may be a cover."""
    start = data.find(b"\x89PNG\r\n\x1a\n")
    return iter(()) if start < 0 else _row(data, start + 8, (4, 4), (0, 4), 8, 4)


def id3(data: bytes) -> Iterator[Chunk]:
    """Frames of an ID3v2.3 tag; its header is the first chunk."""
    if data.startswith(b"ID3") and len(data) > 10:
        yield Chunk(0, 10, min(len(data), 100), (3, 1), (6, 4), lambda body, width: _little(body, width)[::-1])
        yield from _row(data, 10, (0, 4), (4, 4), 10, 0)


def _found(data: bytes, pattern: bytes, head: int, kind: tuple[int, int], size: tuple[int, int]) -> Iterator[Chunk]:
    """Chunks that begin with a pattern and end where the next begins."""
    starts = [match.start() for match in re.finditer(pattern, data, re.DOTALL)]
    for start, end in pairwise([*starts, len(data)]):
        yield Chunk(start, min(start + head, end), end, (start + kind[0], kind[1]), (start + size[0], size[1]), _little)


def ogg(data: bytes) -> Iterator[Chunk]:
    """Pages of Ogg; the number of a page's segments counts as its size."""
    return _found(data, b"OggS", 6, (5, 1), (26, 1))


def jpeg(data: bytes) -> Iterator[Chunk]:
    """Segments of JPEGs, covers too."""
    return _found(data, rb"\xff[\xc0-\xfe]", 2, (1, 1), (2, 2))


def gif(data: bytes) -> Iterator[Chunk]:
    """Images and extensions of a GIF; its header is the first chunk."""
    yield Chunk(0, min(6, len(data)), min(13, len(data)))
    yield from _found(data, rb"\x00(?:\x2c|\x21[\xf9\xfe\xff])", 2, (1, 1), (2, 1))


def start_codes(data: bytes) -> Iterator[Chunk]:
    """Units of H.264, HEVC, MPEG video and program streams, which begin with 00 00 01."""
    return _found(data, rb"\x00\x00\x01", 4, (3, 1), (4, 2))


def packets(data: bytes) -> Iterator[Chunk]:
    """Packets of MPEG-TS: the kind is the PID, the bytes those of the packet's own header and of the PES header."""
    for at in range(0, len(data) - 187, 188):
        yield Chunk(at, at + 3, at + 188, (at + 1, 2))


def units(data: bytes) -> Iterator[Chunk]:
    """NAL units of H.264 and HEVC in MP4 and Matroska, each behind its length in four bytes."""
    for chunk in (*(each for each in boxes(data) if data[each.start + 4 : each.body] == b"mdat"), *elements(data)):
        at = chunk.body + (4 if data[chunk.start] == 0xA3 else 0)
        while at + 5 <= chunk.end and 0 < (size := int.from_bytes(data[at : at + 4])) <= chunk.end - at - 4:
            yield Chunk(at, at + 4, at + 4 + size, (at + 4, 1), (at, 4), _with_header(0), (*chunk.parents, chunk))
            at += 4 + size


def raw(data: bytes) -> Iterator[Chunk]:
    """The file's beginning and the rest, of a format that no other walker knows."""
    yield Chunk(0, 0, min(len(data), 512))
    if len(data) > 512:
        yield Chunk(512, 512, len(data))


WALKERS: dict[str, Callable[[bytes], Iterator[Chunk]]] = {
    "boxes": boxes, "elements": elements, "riff": riff, "flv": flv, "asf": asf, "png": png, "id3": id3, "ogg": ogg,
    "jpeg": jpeg, "gif": gif, "start_codes": start_codes, "packets": packets, "units": units, "raw": raw,
}  # fmt: skip
BY_SUFFIX = {
    **dict.fromkeys((".mp4", ".mov", ".3gp", ".m4a", ".m4s"), ("boxes", "boxes", "units", "png", "jpeg")),
    **dict.fromkeys((".mkv", ".webm"), ("elements", "elements", "units")),
    **dict.fromkeys((".avi", ".wav"), ("riff", "start_codes")),
    **dict.fromkeys((".ts", ".m2ts"), ("packets", "packets", "start_codes")),
    **dict.fromkeys((".mpg", ".vob", ".h264", ".264", ".h265", ".mpeg2"), ("start_codes",)),
    **dict.fromkeys((".ogg", ".ogv", ".opus"), ("ogg", "raw")),
    **dict.fromkeys((".asf", ".wmv", ".wma"), ("asf", "raw")),
    ".flv": ("flv",), ".gif": ("gif",), ".mp3": ("id3", "id3", "png", "jpeg"), ".aiff": ("id3", "raw"),
}  # fmt: skip
"""Walkers that find much in files of that name; `raw` for all others."""
